"""Parts of results, made up for tests that need others than the examples hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinylm.measurement import Measurement


def timing(median: float, spread: float = 0.01, rounds: int = 3) -> dict[str, Any]:
    """A timing whose rounds span ``spread`` of the median, in an order that the median decides."""
    seconds = median * (1 + spread * np.linspace(-0.5, 0.5, rounds))
    np.random.default_rng(round(1e6 * median)).shuffle(seconds)
    return Measurement.of(seconds).as_result()


def way(step_ms: list[float], total_s: list[float], exponent: float) -> dict[str, Any]:
    """How generation with the cache, or without it, grows."""
    return {
        "step_ms": step_ms,
        "total_s": total_s,
        "steps": [timing(ms / 1000, 0.03) for ms in step_ms],
        "totals": [timing(seconds, 0.03) for seconds in total_s],
        "exponent": [exponent, exponent - 0.02, exponent + 0.02],
    }


def places(within: float, beyond: float, spread: float = 0.02) -> dict[str, Any]:
    """Losses of eight windows around these means."""
    offsets = [spread * (i - 3.5) for i in range(8)]
    return {
        "within": within,
        "beyond": beyond,
        "windows": {
            "within": [within + offset for offset in offsets],
            "beyond": [beyond + offset for offset in (*offsets[1:], offsets[0])],
        },
    }


def differences(values: dict[str, float], reach: float) -> dict[str, dict[str, list[float]]]:
    """Differences of named values, each uncertain by a share ``reach`` of the largest."""
    around = reach * max(map(abs, values.values()))
    names = list(values)
    return {
        name: {
            other: [(gap := values[name] - values[other]), gap - around, gap + around]
            for other in names[i + 1 :]
        }
        for i, name in enumerate(names)
    }


def sample_differences(
    metrics: dict[str, dict[str, float]], reference: dict[str, float], reach: float = 0.03
) -> dict[str, Any]:
    """Differences of settings, each uncertain by a share ``reach`` of the largest value."""
    both = {**metrics, "true": reference}

    def distance(of: dict[str, float]) -> float:
        return sum(abs(of[key] - reference[key]) for key in ("distinct_2", "repetition"))

    values = {
        **{key: {name: of[key] for name, of in both.items()}
           for key in ("distinct_1", "distinct_2", "repetition")},
        "log_probability_per_token": {
            name: -math.log(of["perplexity"]) for name, of in both.items()
        },
        "distance": {name: distance(of) for name, of in metrics.items()},
    }  # fmt: skip
    return {measure: differences(of, reach) for measure, of in values.items()}


def beam_differences(
    rows: list[dict[str, Any]], true: dict[str, Any], reach: float = 0.03
) -> dict[str, Any]:
    """Differences of strategies, each uncertain by a share ``reach`` of the largest value."""
    both = {**{row["name"]: row for row in rows}, "true": true}

    def distance(row: dict[str, Any]) -> float:
        return float(
            abs(row["distinct"]["2"] - true["distinct"]["2"])
            + abs(row["repetition"] - true["repetition"])
        )

    values = {
        "log_probability": {name: row["log_probability"] for name, row in both.items()},
        "log_probability_per_token": {
            name: row["log_probability_per_token"] for name, row in both.items()
        },
        "length": {name: row["mean_length"] for name, row in both.items()},
        "repetition": {name: row["repetition"] for name, row in both.items()},
        "distinct_2": {name: row["distinct"]["2"] for name, row in both.items()},
        "bleu": {row["name"]: row["bleu_corpus"] for row in rows},
        "distance": {row["name"]: distance(row) for row in rows},
    }
    return {measure: differences(of, reach) for measure, of in values.items()}
