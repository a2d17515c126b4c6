"""What a rank does in the experiment on ZeRO: trains a small decoder by every stage, and measures.

The tokens are random: neither memory nor traffic nor rounding depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.experiments.zero.settings import ZeroExperiment
from tinylm.model.base import GenerativeModel, build
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.training.zero import STAGES, Settings, Stage, Stage0
from tinylm.training.zero.collectives import Collectives, Sent, total
from tinylm.training.zero.stage import GRADIENTS, PARAMETERS

FORMATS = {"fp64": torch.float64, "fp32": torch.float32, "bf16": torch.float32}
"""Format of parameters and gradients -> what the optimizer keeps."""
Row = dict[str, Any]


def shape(settings: ZeroExperiment) -> ModelConfig:
    """Return the sizes of the decoder."""
    return ModelConfig(
        vocab_size=settings.vocab_size,
        context_length=settings.context_length,
        num_layers=settings.num_layers,
        hidden_size=settings.hidden_size,
        num_heads=settings.num_heads,
        dropout=0.0,
    )


def work(collectives: Collectives, settings: ZeroExperiment) -> list[Row]:
    """Return a row for each format, number of micro-batches and stage, as this rank has it.

    Returns:
        ``held`` and ``most``, bytes by part, after the last backward passes and at the most;
        ``sent``, numbers in the last step by purpose; ``padding``, zeros in all ``buckets``;
        ``difference`` from one process with the rows of all ranks after the last step, of the
        ``loss`` and, at the most, of ``parameters``, which training ``moved`` so far at the most
        (on the first rank alone); ``same``, the lower stages that end with the same bits.
    """
    rows: list[Row] = []
    for precision in FORMATS:
        for micro_batches in sorted(set(settings.micro_batches)):
            how = (settings, precision, micro_batches)
            alone = None
            if collectives.rank == 0:
                alone = _trained(Stage0, *how, Collectives.alone(), range(collectives.ranks))
            ended: list[dict[str, Tensor]] = []
            for kind in STAGES:
                trained = _trained(kind, *how, collectives, [collectives.rank])
                ended.append(trained.whole)
                rows.append(
                    {
                        "precision": precision,
                        "micro_batches": micro_batches,
                        **_measured(trained),
                        "difference": alone and _difference(trained, alone),
                        "same": [
                            number
                            for number, other in enumerate(ended[:-1])
                            if all(torch.equal(ended[-1][name], other[name]) for name in other)
                        ],
                    }
                )
    return rows


@dataclass(frozen=True)
class _Trained:
    """After the last step."""

    stage: Stage[GenerativeModel]
    loss: float
    """A target, in nats."""
    sent: list[Sent]
    start: dict[str, Tensor]
    """Parameters before the first step."""
    whole: dict[str, Tensor]
    """And after the last one."""


def _trained(
    kind: type[Stage[GenerativeModel]],
    settings: ZeroExperiment,
    precision: str,
    micro_batches: int,
    collectives: Collectives,
    readers: Sequence[int],
) -> _Trained:
    """Train with the rows that these ranks read."""
    torch.manual_seed(settings.seed)
    stage = kind(
        build(shape(settings)).to(FORMATS[precision]),
        next_token_loss,
        collectives,
        Settings(learning_rate=settings.learning_rate, bf16=precision == "bf16"),
    )
    start = stage.whole()
    for step in range(settings.steps):
        collectives.take()
        summed = stage.backward(
            [_rows(settings, step, number, readers) for number in range(micro_batches)]
        )
        stage.update()
    sent, whole = collectives.take(), stage.whole()
    return _Trained(stage, summed.loss / max(1, summed.num_targets), sent, start, whole)


def _rows(settings: ZeroExperiment, step: int, number: int, readers: Sequence[int]) -> Batch:
    """Return the rows of a micro-batch: random tokens, of which a random number are targets."""
    ids, labels = [], []
    for rank in readers:
        seeds = np.random.SeedSequence((settings.seed, step, number, rank))
        generator = np.random.default_rng(seeds)
        shape = (2, settings.batch_size, settings.context_length)
        tokens = generator.integers(len(SPECIAL_TOKENS), settings.vocab_size, shape)
        ends = generator.integers(0, settings.context_length + 1, settings.batch_size)
        places = np.arange(settings.context_length)
        ids.append(tokens[0])
        labels.append(np.where(places < ends[:, None], tokens[1], IGNORED))
    return Batch(torch.from_numpy(np.concatenate(ids)), torch.from_numpy(np.concatenate(labels)))


def _measured(trained: _Trained) -> Row:
    stage = trained.stage
    numbers = {each: float(total(trained.sent, each)[0]) for each in (GRADIENTS, PARAMETERS)}
    return {
        "stage": stage.number,
        "buckets": len(stage.buckets),
        "padding": sum(bucket.padding for bucket in stage.buckets),
        "held": stage.meter.after_backward,
        "most": stage.meter.most,
        "sent": numbers,
    }


def _difference(trained: _Trained, alone: _Trained) -> dict[str, float]:
    return {
        "parameters": _largest(trained.whole, alone.whole),
        "loss": abs(trained.loss - alone.loss),
        "moved": _largest(alone.whole, alone.start),
    }


def _largest(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    return max(float((some[name] - others[name]).abs().max()) for name in others)
