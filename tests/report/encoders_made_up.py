"""A made-up result of the experiment on families of models, whose every number is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

KINDS = {
    "decoder": ("decoder", "whole"),
    "decoder-rest": ("decoder", "rest"),
    "prefix-lm": ("prefix-lm", "rest"),
    "lstm": ("lstm", "whole"),
}
"""Variant -> kind, and what it predicts."""
LOSS = [2.0, 2.1, 1.9]
"""Of three seeds, where no other is given."""

CHANCE = [0.5, 0.52, 0.48]
"""Right answers by guessing, of each seed."""


def timing(seconds: float) -> dict[str, Any]:
    """Return a timing of three equal rounds."""
    return {
        "median_s": seconds, "min_s": seconds, "max_s": seconds, "spread": 0.0, "rounds": 3,
        "seconds": [seconds] * 3,
    }  # fmt: skip


def training(
    name: str,
    loss: Sequence[float],
    accuracy: Sequence[float] | None = None,
    steps: int = 400,
    step_seconds: float = 0.01,
) -> dict[str, Any]:
    """Return a training with points after 100, 200 and ``steps`` steps, the loss falling to it.

    Args:
        name: of the variant.
        loss: at the end, a value a seed; 1 more after 200 steps, 2 more after 100.
        accuracy: at the end; less by a half after 200 steps.
        steps: all of them.
        step_seconds: of a step.
    """
    curve = [
        {"step": step, "loss": [value + more for value in loss]}
        for step, more in ((100, 2.0), (200, 1.0), (steps, 0.0))
    ]
    if accuracy is not None:
        for point, share in zip(curve, (0.0, 0.5, 1.0), strict=True):
            point["accuracy"] = [share * value for value in accuracy]
    return {
        "name": name, "hidden_size": 64, "parameters": 100_000, "flops_per_token": 1e6,
        "steps": steps, "seconds": [10.0] * len(loss), "curve": curve,
        "quick": timing(step_seconds), "plain": timing(2 * step_seconds),
        "targets": 1.0 if KINDS[name][1] == "whole" else 0.5,
    }  # fmt: skip


def costs(kept: Sequence[int], seconds: float = 0.004) -> list[dict[str, Any]]:
    """Return rows for 64 and 4,096 tokens, of which the second is planned.

    Args:
        kept: bytes of one text at both lengths.
        seconds: of eight tokens at its end.
    """
    return [
        {
            "context": context, "step_flops": 1e6, "decoding_flops": 3e5,
            "planned_step_bytes": 3 * 2**20, "planned_state_bytes": size, "tokens": 1024,
            "step": step, "step_bytes": None if step is None else 2**20, "state_bytes": size,
            "decoding": timing(seconds), "decoded": 8,
        }
        for context, size, step in zip((64, 4096), kept, (timing(0.1), None), strict=True)
    ]  # fmt: skip


def text(
    name: str,
    names: Sequence[str],
    losses: Mapping[str, Sequence[float]],
    accuracies: Mapping[str, Sequence[float]] | None = None,
    steps: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return one of the two texts; equal tokens are 200 steps, equal operations the last."""
    return {
        "name": name, "context": 64, "tokens_per_step": 1024, "common_steps": 200,
        "vocab_size": 100, "train_tokens": 10_000, "asked": 0 if accuracies is None else 20,
        "guess": None if accuracies is None else 0.001,
        "trainings": [
            training(
                each,
                losses.get(each, LOSS),
                None if accuracies is None else accuracies.get(each, [0.5, 0.6, 0.4]),
                (steps or {}).get(each, 400),
            )
            for each in names
        ],
    }  # fmt: skip


def result(
    losses: Mapping[str, Sequence[float]] | None = None,
    names: Sequence[str] = tuple(KINDS),
    *,
    accuracies: Mapping[str, Sequence[float]] | None = None,
    steps: Mapping[str, int] | None = None,
    kept: Mapping[str, Sequence[int]] | None = None,
    given: Sequence[int] = (16, 64, 4096),
    contexts: Mapping[str, Sequence[Sequence[float]]] | None = None,
    right: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Return a result in which all variants are alike but for what is given.

    Args:
        losses: variant -> loss at the end of its trainings, on both texts.
        names: variants, the first kind's first.
        accuracies: variant -> right translations at the end.
        steps: variant -> steps.
        kept: kind -> bytes that it keeps of 64 and of 4,096 tokens.
        given: tokens from which others are predicted.
        contexts: variant -> loss for each of these, a value a seed.
        right: variant -> right answers to questions of the form *recall*.
    """
    kinds = list(dict.fromkeys(KINDS[name][0] for name in names))
    return {
        "seeds": [0, 1, 2],
        "held_out": 64,
        "variants": [
            {
                "name": name, "kind": KINDS[name][0], "label": "a model",
                "predicts": KINDS[name][1], "needs_source": False,
            }
            for name in names
        ],
        "texts": [
            text("stories", names, losses or {}, steps=steps),
            text("translation", names, losses or {}, accuracies or {}, steps),
        ],
        "contexts": {
            "given": list(given), "tail": 8, "places": 4,
            "losses": {
                name: (contexts or {}).get(name, [LOSS for _ in given]) for name in names
            },
        },
        "questions": {
            "asked": 400,
            "forms": [
                {
                    "name": form,
                    "text": "Tim had a ball. ",
                    "answer": "Tim",
                    "right": {
                        name: (right or {}).get(name, CHANCE) if form == "recall" else CHANCE
                        for name in names
                    },
                }
                for form in ("recall", "binding")
            ],
        },
        "costs": {kind: costs((kept or {}).get(kind, (2**10, 2**16))) for kind in kinds},
    }  # fmt: skip
