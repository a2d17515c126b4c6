"""The experiment on subsets of heads: the model is run with every one of them."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from tinylm.data.pairs import BEHAVIOURS, EncodedPair, readable_pairs
from tinylm.errors import ConfigError
from tinylm.experiments.context import Context, threads
from tinylm.experiments.head_subsets.settings import HeadSubsetsExperiment
from tinylm.interpretability.pair_runs import right_answers
from tinylm.interpretability.shapley import (
    best_subsets,
    greedy_subsets,
    interactions,
    members,
    ranked_subsets,
    shapley_values,
)
from tinylm.interpretability.subsets import (
    estimates,
    gradients_of_heads,
    mixed_of,
    refuse_many_heads,
    subset_values,
)
from tinylm.interpretability.trace import trace
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.training.precision import resolve_device

_INTERACTIONS = 5
"""Pairs of heads whose interaction is kept."""


def run(context: Context) -> dict[str, Any]:
    """Run the run's best checkpoint with every subset of its heads.

    Returns:
        ``heads``: Shapley value of each by pair of prompts and in the mean; ``methods``: what
        cheaper ones say, and the rank correlation with the exact values; ``subsets``: by size what
        the best, the greedy and the ranked subsets reach; ``interactions``: the greatest;
        ``right_by_pair``: how much of each pair the whole model answers right.

    Raises:
        CheckpointError: if there is no checkpoint.
        ConfigError: if the model has too many heads, or can read too few pairs.
        DataError: if there is no such behaviour.
    """
    settings: HeadSubsetsExperiment = context.config.experiments.head_subsets
    lm = LanguageModel.load(context.folder, resolve_device(context.config.training.device))
    refuse_many_heads(lm.model)
    pairs = readable_pairs(
        settings.behaviour,
        settings.seed,
        settings.pairs,
        lm.tokenizer,
        lm.model.config.context_length,
    )
    if len(pairs) < settings.pairs:
        raise ConfigError(
            f"experiments.head_subsets.pairs: {settings.pairs} are needed and {len(pairs)} can be "
            "read with the model's vocabulary and context"
        )
    by_pair, by_method, right = [], [], []
    with (
        threads(context.config.training.threads),
        context.console.task("Running every subset of heads", len(pairs)) as done,
    ):
        for number, (_, pair) in enumerate(pairs):

            def progress(share: float, before: int = number) -> None:
                done(before + share)

            values, scores, corrupted = _of_pair(lm.model, pair, progress)
            by_pair.append(values)
            by_method.append(scores)
            right += right_answers(values[-1:], corrupted)
    values = torch.stack(by_pair)  # (pairs, 2^heads)
    mean = values.mean(0)
    exact = shapley_values(values)  # (pairs, heads)
    methods = {
        name: torch.stack([scores[name] for scores in by_method]).mean(0) for name in by_method[0]
    }
    return {
        "behaviour": settings.behaviour,
        "asks": BEHAVIOURS[settings.behaviour].asks,
        "example": vars(pairs[0][0]),
        "pairs": settings.pairs,
        "right_by_pair": right,
        "num_heads": lm.model.config.num_heads,
        "whole": float(mean[-1]),
        "none": float(mean[0]),
        "heads": [
            {"value": float(exact[:, head].mean()), "by_pair": exact[:, head].tolist()}
            for head in range(exact.shape[1])
        ],
        "methods": {
            name: {
                "scores": scores.tolist(),
                "rank_correlation": _rank_correlation(scores, exact.mean(0)),
            }
            for name, scores in methods.items()
        },
        "subsets": _by_size(mean, exact.mean(0), methods),
        "interactions": _greatest(interactions(values)),
    }


def _of_pair(
    model: GenerativeModel, pair: EncodedPair, progress: Any
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Return the logit difference with every subset, (2^heads,), and other methods' scores.

    The last is the logit difference after the corrupted prompt, (1,).
    """

    def measure(logits: Tensor) -> Tensor:
        return logits[:, pair.answer] - logits[:, pair.wrong]

    ids = torch.tensor([pair.clean], device=model.embedding.weight.device)
    corrupted = trace(model, [pair.corrupted])
    replacements = mixed_of(corrupted)
    values = subset_values(model, ids, replacements, measure, progress)
    mixed, gradients = gradients_of_heads(model, ids, measure)
    scores = estimates(values, mixed, gradients, replacements)
    by_name = {name: score[0].double().cpu() for name, score in scores.items()}
    return values[:, 0].double().cpu(), by_name, measure(corrupted.logits[:, -1]).cpu()


def _rank_correlation(scores: Tensor, exact: Tensor) -> float | None:
    """Return Spearman's rank correlation; None where all scores are the same."""
    if bool((scores == scores[0]).all() | (exact == exact[0]).all()):
        return None
    return float(spearmanr(scores.numpy(), exact.numpy()).statistic)


def _by_size(mean: Tensor, exact: Tensor, methods: dict[str, Tensor]) -> dict[str, list[float]]:
    """Return what the subsets of 0, 1, … heads reach, by how they were chosen."""
    chosen = {
        "best": best_subsets(mean),
        "greedy": greedy_subsets(mean),
        "Shapley": ranked_subsets(exact.tolist()),
        **{name: ranked_subsets(scores.tolist()) for name, scores in methods.items()},
    }
    reached = {name: mean[subsets].tolist() for name, subsets in chosen.items()}
    return {**reached, "members": [members(subset) for subset in chosen["best"]]}


def _greatest(by_pair: Tensor) -> list[dict[str, Any]]:
    """Return the pairs of heads that interact most; of (pairs of prompts, heads, heads)."""
    index = by_pair.mean(0)
    count = len(index)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    pairs.sort(key=lambda pair: -abs(float(index[pair])))
    return [
        {"heads": [j, i], "value": float(index[i, j]), "by_pair": by_pair[:, i, j].tolist()}
        for i, j in pairs[:_INTERACTIONS]
    ]
