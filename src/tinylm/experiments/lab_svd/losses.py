"""What a lower rank of the weights, or of a fine-tuning update, costs in validation loss.

Nothing is trained after a cut: the loss is that of the model with the matrices replaced by their
best approximations (``finetuning.factorisation``). Two losses are compared window by window, or
story by story, and the difference is kept with its interval.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config import RunConfig
from tinylm.data.windows import Windows
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.lab_svd.settings import SvdLab
from tinylm.experiments.lab_texts import Kinds, Story, stories_loss, tune
from tinylm.finetuning.factorisation import Decomposition, factor_parameters, frobenius_error
from tinylm.measurement import Replicates, paired
from tinylm.model.base import GenerativeModel

_EVERYTHING = "all"
Losses = dict[str, Replicates]
"""Kind of stories -> the loss on them."""


def group_of(path: str) -> str:
    """Return what a matrix belongs to: attention, feed-forward, embedding or output."""
    for word, group in ((".attention.", "attention"), (".feed_forward.", "feed-forward")):
        if word in path:
            return group
    return "output" if path == "unembedding" else "embedding"


def cut_weights(
    model: GenerativeModel,
    decompositions: Mapping[str, Decomposition],
    ranks: Sequence[int],
    config: RunConfig,
    windows: Windows,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Measure validation loss with groups of weights cut to each rank, nothing trained after.

    Args:
        model: left alone.
        decompositions: path -> decomposition of its weights.
        ranks: to cut at; a matrix of a smaller full rank stays whole.
        config: of the run.
        windows: the validation split.
        progress: told the share that is done.

    Returns:
        ``loss`` of the whole weights, in nats a token, and ``groups``: group -> its ``parameters``
        and ``rows``, one a rank: loss, how much more it is than at the rank ``before`` (None at the
        first), relative error of the group, and the numbers ``stored`` in factors, which above the
        break-even rank are more than the matrices' own.
    """
    subset = windows.fixed_subset(config.experiments.lab_svd.validation_windows)

    def loss(candidate: GenerativeModel) -> Replicates:
        return split_loss(candidate, windows, config.evaluation.batch_size, subset).replicates()

    projections = [
        path for path in decompositions if group_of(path) in ("attention", "feed-forward")
    ]
    groups = {
        group: [path for path in projections if group in (_EVERYTHING, group_of(path))]
        for group in ("attention", "feed-forward", _EVERYTHING)
    }
    result: dict[str, Any] = {}
    for number, (group, paths) in enumerate(groups.items()):
        rows: list[dict[str, Any]] = []
        before = None
        for place, rank in enumerate(ranks):
            cut = copy.deepcopy(model)
            wanted = {path: min(rank, decompositions[path].full_rank) for path in paths}
            with torch.no_grad():
                for path, kept in wanted.items():
                    if kept < decompositions[path].full_rank:
                        _weight_at(cut, path).copy_(decompositions[path].truncated(kept))
            error = sum(
                frobenius_error(decompositions[path].values, wanted[path]) ** 2 for path in paths
            )
            whole = sum(float(decompositions[path].values.norm()) ** 2 for path in paths)
            now = loss(cut)
            rows.append(
                {
                    "rank": rank,
                    "loss": now.value,
                    "before": None if before is None else paired(now, before).as_result(),
                    "relative_error": math.sqrt(error / whole),
                    "stored": sum(
                        _stored(decompositions[path], kept) for path, kept in wanted.items()
                    ),
                }
            )
            before = now
            progress((number + (place + 1) / len(ranks)) / len(groups))
        parameters = sum(_weight_at(model, path).numel() for path in paths)
        result[group] = {"parameters": parameters, "matrices": len(paths), "rows": rows}
    return {"loss": loss(model).value, "groups": result}


def fine_tuned(
    model: GenerativeModel, kinds: Kinds, config: RunConfig, progress: Callable[[float], None]
) -> tuple[GenerativeModel, dict[str, Any]]:
    """Train all of a copy of a model on the chosen kind of stories.

    Returns:
        The copy, and what was done: losses on both kinds ``before`` and ``after``, how much they
        ``change``, steps, seconds.
    """
    settings: SvdLab = config.experiments.lab_svd
    rate = settings.learning_rate or config.training.learning_rate / 5
    training = replace(
        config.training,
        learning_rate=rate,
        schedule="linear",
        min_learning_rate_ratio=0.0,
        warmup_steps=min(config.training.warmup_steps, settings.steps // 10),
        precision="fp32",
        compile=False,
        accumulation_steps=1,
    )
    before = _losses(model, kinds, config)
    began = time.perf_counter()
    tuned = tune(model, kinds.train, training, settings.steps, progress)
    seconds = time.perf_counter() - began
    after = _losses(tuned, kinds, config)
    return tuned, {
        "kind": kinds.name,
        "description": kinds.description,
        "train_stories": len(kinds.train),
        "validation_stories": {"chosen": len(kinds.chosen), "others": len(kinds.others)},
        "shares": kinds.shares,
        "steps": settings.steps,
        "batch_size": training.batch_size,
        "learning_rate": rate,
        "seconds": seconds,
        "before": _means(before),
        "after": _means(after),
        "change": _more(after, before),
    }


def cut_update(
    model: GenerativeModel,
    tuned: GenerativeModel,
    updates: Mapping[str, Decomposition],
    ranks: Sequence[int],
    kinds: Kinds,
    config: RunConfig,
    progress: Callable[[float], None],
) -> list[dict[str, Any]]:
    """Measure the losses with the update of every matrix cut to each rank, from 0 on.

    Vectors (biases, norms) keep their whole update at every rank.

    Returns:
        A row a rank: losses on both kinds, how much more they are than with the ``whole`` update,
        and the numbers that the factors hold.
    """
    rows = []
    whole = _losses(tuned, kinds, config)
    for number, rank in enumerate((0, *ranks)):
        cut = copy.deepcopy(tuned)
        stored = 0
        with torch.no_grad():
            for path, update in updates.items():
                base = _weight_at(model, path)
                used = min(rank, update.full_rank)
                stored += _stored(update, used)
                if used < update.full_rank:
                    _weight_at(cut, path).copy_(base.double() + update.truncated(used))
        losses = _losses(cut, kinds, config)
        rows.append(
            {
                "rank": rank,
                "stored": stored,
                "losses": _means(losses),
                "whole": _more(losses, whole),
            }
        )
        progress((number + 1) / (len(ranks) + 1))
    return rows


def _stored(decomposition: Decomposition, rank: int) -> int:
    """Return the numbers that stand for a matrix: its factors', or its own at the full rank."""
    rows, columns = len(decomposition.left), decomposition.right.shape[1]
    whole = rank == decomposition.full_rank
    return rows * columns if whole else factor_parameters(rank, rows, columns)


def _losses(model: GenerativeModel, kinds: Kinds, config: RunConfig) -> Losses:
    def loss(stories: Sequence[Story]) -> Replicates:
        measured = stories_loss(model, stories, config.evaluation.batch_size)
        return measured.replicates(len(stories))

    return {"chosen": loss(kinds.chosen), "others": loss(kinds.others)}


def _means(losses: Losses) -> dict[str, float]:
    return {kind: loss.value for kind, loss in losses.items()}


def _more(first: Losses, second: Losses) -> dict[str, list[float | None]]:
    return {kind: paired(first[kind], second[kind]).as_result() for kind in first}


def _weight_at(model: nn.Module, path: str) -> Tensor:
    weight = model.get_submodule(path).weight
    assert isinstance(weight, Tensor)
    return weight
