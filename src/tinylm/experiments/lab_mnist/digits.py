"""The classifier of digits: its network, its training, and every way to fine-tune it."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from tinylm.config.finetuning import LoraConfig
from tinylm.data.images import NUM_CLASSES, ImageSet
from tinylm.errors import ConfigError
from tinylm.finetuning.adapters import (
    activate,
    attach,
    fold,
    merge,
    trained_parameters,
    unmerge,
)
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.planning.limits import refuse_beyond_memory
from tinylm.training.optimizers import Adam

LAYERS = ("first", "second", "output")
METHODS = SimpleNamespace(head="head", full="full", ordinary="full-ordinary", lora="lora-")
"""Names of the methods; LoRA's is followed by its rank."""
_ADAPTER = "hard"


@dataclass(frozen=True)
class Pixels:
    """Images as a network takes them."""

    images: Tensor
    """(count, pixels), 0 to 1."""
    labels: Tensor
    """(count,), int64."""

    @classmethod
    def of(cls, images: ImageSet, levels: int) -> Pixels:
        """Scale images whose largest value is ``levels``."""
        flat = images.images.reshape(len(images), -1).astype(np.float32) / levels
        return cls(torch.from_numpy(flat), torch.from_numpy(images.labels.astype(np.int64)))


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned network, and what it cost."""

    model: nn.Module
    parameters: int
    """Numbers trained."""
    num_bytes: int
    """Of the file that holds what was trained."""
    seconds: float
    """Of its training."""


def network(inputs: int, hidden: int, seed: int) -> nn.Module:
    """Return a network of two hidden layers with ReLU, (batch, inputs) to (batch, 10)."""
    parts = {"weights": 4 * hidden * (inputs + hidden + NUM_CLASSES)}
    refuse_beyond_memory("the network", parts, "experiments.lab_mnist.hidden_size")
    torch.manual_seed(seed)
    return nn.Sequential(
        OrderedDict(
            first=nn.Linear(inputs, hidden),
            first_activation=nn.ReLU(),
            second=nn.Linear(hidden, hidden),
            second_activation=nn.ReLU(),
            output=nn.Linear(hidden, NUM_CLASSES),
        )
    )


def draw_batches(
    labels: Tensor,
    steps: int,
    batch_size: int,
    seed: int,
    hard: Sequence[int] = (),
    hard_share: float = 0.0,
) -> Tensor:
    """Draw the images of every step, with replacement.

    Args:
        labels: (count,).
        steps: optimizer steps.
        batch_size: images in each.
        seed: of the draw.
        hard: classes that together get ``hard_share`` of the draws, the same each; the others
            share the rest alike. None: every image is as likely.
        hard_share: between 0 and 1.

    Returns:
        Indices, (steps, batch_size).
    """
    change = "experiments.lab_mnist.batch_size or steps"
    refuse_beyond_memory(f"{steps:,} batches", {"indices": 8 * steps * batch_size}, change)
    weights = torch.ones(len(labels), dtype=torch.float64)
    if hard:
        counts = torch.bincount(labels, minlength=NUM_CLASSES)
        for digit in range(NUM_CLASSES):
            same = digit in hard
            share = hard_share / len(hard) if same else (1 - hard_share) / (10 - len(hard))
            weights[labels == digit] = share / int(counts[digit])
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(weights, steps * batch_size, replacement=True, generator=generator)
    return drawn.reshape(steps, batch_size)


def train(model: nn.Module, digits: Pixels, batches: Tensor, rate: float) -> None:
    """Train what requires a gradient by Adam on the cross-entropy.

    Args:
        model: changed in place; left in training mode.
        digits: the images that ``batches`` point into.
        batches: (steps, batch).
        rate: learning rate of the first step; it falls to 0 in a straight line.
    """
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = Adam([{"params": trained}], lr=rate)
    for step, chosen in enumerate(batches):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / len(batches))
        loss = nn.functional.cross_entropy(model(digits.images[chosen]), digits.labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def method_names(ranks: Iterable[int]) -> list[str]:
    """Return the methods that are compared, those that train fewest numbers first."""
    lora = [f"{METHODS.lora}{rank}" for rank in sorted(ranks)]
    return [METHODS.head, *lora, METHODS.full, METHODS.ordinary]


def finetune(
    base: nn.Module, name: str, digits: Pixels, batches: Tensor, rate: float, seed: int
) -> Tuned:
    """Fine-tune a copy of a network.

    Args:
        base: left alone.
        name: of ``method_names``.
        digits: the images that ``batches`` point into.
        batches: (steps, batch).
        rate: learning rate.
        seed: of the adapter's start.

    Raises:
        ConfigError: if the rank is above that of the output layer.
    """
    model = copy.deepcopy(base)
    if name.startswith(METHODS.lora):
        rank = int(name.removeprefix(METHODS.lora))
        if rank > NUM_CLASSES:
            raise ConfigError(
                f"rank {rank}: the output layer has {NUM_CLASSES} rows; set ranks of 1 to "
                f"{NUM_CLASSES} in experiments.lab_mnist"
            )
        torch.manual_seed(seed)
        model = attach(model, "lora", LoraConfig(rank, 2.0 * rank, targets=LAYERS), _ADAPTER)
        trained = trained_parameters(model, _ADAPTER)
    else:
        for path, module in model.named_children():
            module.requires_grad_(name != METHODS.head or path == "output")
        trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    began = time.perf_counter()
    train(model, digits, batches, rate)
    seconds = time.perf_counter() - began
    parameters = sum(parameter.numel() for parameter in trained.values())
    return Tuned(model.eval(), parameters, _bytes(model, name, trained), seconds)


def _bytes(model: nn.Module, name: str, trained: dict[str, nn.Parameter]) -> int:
    """Return the bytes of the file of what was trained, as safetensors."""
    if name.startswith(METHODS.lora):
        with TemporaryDirectory() as folder:
            return save_adapter(model, _ADAPTER, folder)
    return len(safetensors.torch.save({key: p.detach() for key, p in trained.items()}))


@torch.no_grad()
def confusion(model: nn.Module, digits: Pixels) -> list[list[int]]:
    """Count images by true class (row) and predicted class (column)."""
    predicted = model(digits.images).argmax(1)
    places = digits.labels * NUM_CLASSES + predicted
    counts = torch.bincount(places, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES)
    table: list[list[int]] = counts.tolist()
    return table


def accuracies(model: nn.Module, digits: Pixels) -> dict[str, Any]:
    """Return the accuracy on all images, of each class, and the mean over the classes."""
    counts = np.array(confusion(model, digits))
    classes = counts.diagonal() / counts.sum(1)
    return {
        "all": float(counts.trace() / counts.sum()),
        "classes": classes.tolist(),
        "mean": float(classes.mean()),
    }


@torch.no_grad()
def adapter_check(base: nn.Module, tuned: nn.Module, digits: Pixels) -> dict[str, Any]:
    """Compare the logits of an adapted network in every form that it can take.

    Args:
        base: without adapter.
        tuned: the same with an adapter; as before afterwards.
        digits: the images.

    Returns:
        Largest differences of logits, ``merged`` and ``folded`` against attached; whether
        predictions agree; whether ``unmerged``, ``inactive`` (against the base) and ``reloaded``
        from its file are the same bits.
    """
    logits = tuned(digits.images)
    merge(tuned)
    merged = tuned(digits.images)
    unmerge(tuned)
    unmerged = tuned(digits.images)
    activate(tuned, [])
    inactive = tuned(digits.images)
    activate(tuned, [_ADAPTER])
    folded = fold(copy.deepcopy(tuned))(digits.images)
    with TemporaryDirectory() as folder:
        save_adapter(tuned, _ADAPTER, Path(folder))
        reloaded = load_adapter(copy.deepcopy(base), folder).eval()(digits.images)
    return {
        "images": len(digits.labels),
        "largest_logit": float(logits.abs().max()),
        "merged": float((merged - logits).abs().max()),
        "folded": float((folded - logits).abs().max()),
        "same_predictions": bool((merged.argmax(1) == logits.argmax(1)).all()),
        "unmerged_identical": bool(torch.equal(unmerged, logits)),
        "inactive_identical": bool(torch.equal(inactive, base(digits.images))),
        "reloaded_identical": bool(torch.equal(reloaded, logits)),
    }
