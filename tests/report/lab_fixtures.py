"""Made-up results of the labs: real decompositions of random matrices, invented accuracies."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.report.fixtures import ENVIRONMENT, around
from tinylm.experiments.lab_svd.losses import group_of
from tinylm.experiments.lab_svd.measure import (
    competition,
    random_effective_rank,
    spectrum,
    worked_example,
)
from tinylm.finetuning.factorisation import break_even_rank, decompose

RANKS = (1, 2, 4, 8)
SHAPES = {
    "embedding": (40, 8),
    "layers.0.attention.query_key_value": (24, 8),
    "layers.0.attention.output": (8, 8),
    "layers.0.feed_forward.expand": (32, 8),
    "layers.1.attention.query_key_value": (24, 8),
    "layers.1.feed_forward.expand": (32, 8),
    "unembedding": (40, 8),
}


def lab_svd() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    matrices, found = [], {}
    for name, shape in SHAPES.items():
        weight = torch.randn(shape, generator=generator, dtype=torch.float64)
        low = torch.randn((shape[0], 2), generator=generator, dtype=torch.float64)
        update = 0.02 * (low @ torch.randn((2, shape[1]), generator=generator, dtype=torch.float64))
        update += 0.002 * torch.randn(shape, generator=generator, dtype=torch.float64)
        found[name] = weight, decompose(weight)
        changed = decompose(update)
        matrices.append(
            {
                "name": name,
                "group": group_of(name),
                "rows": shape[0],
                "columns": shape[1],
                "break_even_rank": break_even_rank(*shape),
                "random_effective_rank": random_effective_rank(weight, 0),
                "weight": spectrum(found[name][1], torch.float32),
                "update": spectrum(changed, torch.float32),
                "relative_norm": float(changed.values.norm() / found[name][1].values.norm()),
            }
        )
    subject = "layers.0.feed_forward.expand"
    rows = competition(*found[subject], RANKS, 5, 0)
    return {
        "example": worked_example(),
        "best": {"matrix": subject, "rows": rows, "competitors": 5},
        "matrices": matrices,
        "cut": {
            "loss": 2.05,
            "groups": {
                group: {
                    "parameters": parameters,
                    "matrices": number,
                    "rows": [
                        {
                            "rank": rank,
                            "loss": 2.05 + worst * (1 - rank / 8),
                            "before": around(-worst / 8) if rank > 1 else None,
                            "relative_error": (1 - rank / 8) ** 0.5,
                            "stored": parameters if rank == 8 else rank * parameters // 6,
                        }
                        for rank in RANKS
                    ],
                }
                for group, parameters, number, worst in (
                    ("attention", 448, 3, 3.3),
                    ("feed-forward", 512, 2, 2.6),
                    ("all", 960, 5, 4.1),
                )
            },
        },
        "update": {
            "kind": "dialogue",
            "description": "the share of quotation marks among their tokens",
            "train_stories": 5_000,
            "validation_stories": {"chosen": 60, "others": 60},
            "shares": {"chosen": 0.071, "others": 0.002},
            "steps": 150,
            "batch_size": 32,
            "learning_rate": 6e-5,
            "seconds": 41.5,
            "before": {"chosen": 2.111, "others": 2.034},
            "after": {"chosen": 2.011, "others": 2.074},
            "change": {"chosen": around(-0.1), "others": around(0.04)},
            "ranks": [
                {
                    "rank": rank,
                    "stored": 200 * rank,
                    "losses": {"chosen": 2.111 - 0.1 * kept, "others": 2.034 + 0.04 * kept**2},
                    "whole": {
                        "chosen": around(0.1 * (1 - kept)),
                        "others": around(0.04 * (kept**2 - 1)),
                    },
                }
                for rank, kept in ((0, 0.02), (1, 0.55), (2, 0.93), (4, 0.98), (8, 1.0))
            ],
        },
        **_common(93.0),
    }


def lab_mnist() -> dict[str, Any]:
    base = np.array([0.96, 0.97, 0.83, 0.85, 0.79, 0.69, 0.91, 0.87, 0.86, 0.88])
    methods = {
        # parameters, bytes, rate, gain of hard and of other classes, seconds
        "head": (650, 2_752, 0.03, 0.08, -0.01, 0.21),
        "lora-1": (1_050, 4_824, 0.03, 0.1, 0.0, 0.52),
        "lora-2": (2_100, 9_024, 0.03, 0.11, 0.01, 0.53),
        "lora-4": (4_200, 17_440, 0.03, 0.14, 0.02, 0.54),
        "lora-8": (8_400, 34_240, 0.01, 0.145, 0.025, 0.55),
        "full": (55_050, 220_656, 0.01, 0.16, 0.03, 0.47),
        "full-ordinary": (55_050, 220_656, 0.01, 0.13, 0.035, 0.46),
    }
    hard = np.isin(np.arange(10), [2, 4, 5])

    def tests(classes: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
        found = []
        for shift in (-0.004, 0.0, 0.004):
            moved = np.clip(classes + shift, 0, 1)
            found.append({"all": float(moved.mean() + 0.001), "classes": moved.tolist(),
                          "mean": float(moved.mean())})  # fmt: skip
        return found

    def confusion(classes: np.ndarray[Any, Any]) -> list[list[int]]:
        table = np.diag(np.round(600 * classes)).astype(int)
        for true in range(10):
            table[true, (true + 5) % 10] += 600 - table[true, true]
        return table.tolist()  # type: ignore[no-any-return]

    lifted = base + np.where(hard, 0.14, 0.02)
    lifted[1] -= 0.03
    rows = [
        {
            "name": name,
            "parameters": parameters,
            "bytes": size,
            "learning_rate": rate,
            "test": tests(lifted if name == "lora-4" else base + np.where(hard, on, off)),
            "seconds": [took, took, took],
        }
        for name, (parameters, size, rate, on, off, took) in methods.items()
    ]
    square = (np.arange(64).reshape(8, 8) // 3).tolist()
    return {
        "data": {
            "name": "MNIST",
            "description": "MNIST's own splits: 60,000 training and 10,000 test images",
            "fingerprint": "0123456789abcdef",
            "shape": [28, 28],
            "images": {"fit": 45_000, "validation": 15_000, "test": 10_000},
            "test_counts": [1_000] * 10,
        },
        "network": {
            "sizes": [784, 64, 64, 10],
            "parameters": 55_050,
            "steps": 150,
            "batch_size": 64,
            "learning_rate": 1e-3,
            "seconds": [0.3, 0.3, 0.3],
        },
        "seeds": [0, 1, 2],
        "baseline": {
            "validation": tests(base - 0.01),
            "confusion": confusion(base),
            "hard": [2, 4, 5],
            "confusions": [
                {"true": 4, "predicted": 9, "count": 126, "share": 0.21},
                {"true": 5, "predicted": 3, "count": 60, "share": 0.1},
            ],
            "test": tests(base),
        },
        "settings": {
            "steps": 300,
            "rank": 4,
            "hard_share": 0.4,
            "learning_rates": [3e-3, 1e-2, 3e-2],
        },
        "methods": rows,
        "check": {
            "images": 10_000,
            "largest_logit": 28.8,
            "merged": 5.7e-6,
            "folded": 5.7e-6,
            "same_predictions": True,
            "unmerged_identical": True,
            "inactive_identical": True,
            "reloaded_identical": True,
        },
        "confusion": {"before": confusion(base), "after": confusion(lifted)},
        "flips": {"gained": [171, 180, 166], "lost": [66, 55, 56]},
        "examples": [
            {"pixels": square, "true": 4, "before": 9, "after": 4},
            {"pixels": square, "true": 5, "before": 3, "after": 3},
        ],
        **_common(64.0),
    }


def results() -> dict[str, dict[str, Any]]:
    return {"lab-svd": lab_svd(), "lab-mnist": lab_mnist()}


def _common(seconds: float) -> dict[str, Any]:
    return {"environment": dict(ENVIRONMENT), "seconds": seconds}
