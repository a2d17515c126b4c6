"""Made-up results of the experiment on fine-tuning."""

from __future__ import annotations

from typing import Any

from tests.report.fixtures import ENVIRONMENT
from tests.report.method_fixtures import timing
from tinylm.config import to_dict
from tinylm.config.finetuning import LoraConfig
from tinylm.registry import METHODS

WEIGHTS = 6_000_000
PROJECTIONS = 3 * (300 * 912 + 304 * 300 + 2 * 300 * 1200)
BEFORE = {"target_loss": 2.90, "base_loss": 2.40}
# trained, target loss, base loss, peak in MiB, seconds a step, tokens a second unmerged and merged
_METHODS: dict[str, tuple[int, float, float, float, float, float, float | None]] = {
    "full": (WEIGHTS, 2.60, 2.52, 148.0, 0.210, 5_000, None),
    "lora": (110_000, 2.62, 2.46, 96.0, 0.170, 3_900, 4_990),
    "lora+": (110_000, 2.59, 2.48, 96.0, 0.171, 3_890, 5_010),
    "dylora": (110_000, 2.66, 2.44, 96.5, 0.172, 3_850, 4_980),
    "qlora": (110_000, 2.63, 2.47, 99.0, 0.190, 2_800, 5_000),
    "longlora": (1_480_000, 2.61, 2.49, 112.0, 0.185, 4_100, 4_970),
    "bottleneck": (59_000, 2.64, 2.45, 97.0, 0.169, 4_300, None),
    "prefix": (274_000, 2.70, 2.43, 95.0, 0.165, 4_200, None),
    "prompt": (2_400, 2.79, 2.40, 101.0, 0.180, 4_700, None),
    "intrinsic": (1_024, 2.75, 2.41, 120.0, 0.240, 2_100, 4_960),
}


def finetuning() -> dict[str, Any]:
    return {
        "target": {
            "name": "letters",
            "description": "4,000 training and 100 validation letters of children.",
            "train_texts": 4_000,
            "validation_texts": 100,
            "unknown_rate": 0.0123,
        },
        "own_texts": 90,
        "steps": 300,
        "batch_size": 16,
        "step_tokens": 812,
        "new_tokens": 40,
        "precision": "bf16",
        "before": dict(BEFORE),
        "methods": [_row(name) for name in _METHODS],
        "repeats": {"target_loss": [2.62, 2.622, 2.618], "base_loss": [2.46, 2.464, 2.456]},
        "samples": [
            {
                "prompt": prompt,
                "kind": kind,
                "texts": {way: f"{prompt} and {way} goes on." for way in ("base", "full", "lora")},
            }
            for prompt, kind in (("Dear Grandma,", "target"), ("Once upon a time", "own"))
        ],
        "ranks": [
            {"rank": rank, "trained": 13_750 * rank, "target_loss": 2.62 + 0.08 / rank,
             "base_loss": 2.47 - 0.02 / rank}
            for rank in (1, 2, 4, 8, 16)
        ],
        "dylora": [
            {"rank": rank, "target_loss": 2.66 + 0.06 / rank, "base_loss": 2.45 - 0.01 / rank}
            for rank in range(1, 9)
        ],
        "dimensions": {
            "rows": [
                {"dimension": 32, "target_loss": 2.87, "base_loss": 2.40},
                {"dimension": 256, "target_loss": 2.79, "base_loss": 2.41},
                {"dimension": 2_048, "target_loss": 2.70, "base_loss": 2.43},
                {"dimension": 8_192, "target_loss": 2.62, "base_loss": 2.45},
            ],
            "d90": 8_192,
        },
        "long": {
            "context_length": 64,
            "extended": 256,
            "steps": 100,
            "batch_size": 4,
            "windows": 61,
            "rows": [
                {"method": "none", **places(2.88, 3.91)},
                _long("lora", 110_000, 2.71, 2.93, 131.0, 0.260),
                _long("longlora", 1_480_000, 2.66, 2.74, 118.0, 0.240),
            ],
        },
        "environment": dict(ENVIRONMENT),
        "seconds": 512.0,
    }  # fmt: skip


def _row(name: str) -> dict[str, Any]:
    trained, target, base, peak, step, plain, merged = _METHODS[name]
    method = "lora" if name == "lora+" else name
    settings: Any = None
    if name == "lora+":
        settings = LoraConfig(learning_rate_ratio=16)
    elif name != "full":
        settings = METHODS.load(name).Settings()
    return {
        "name": name,
        "method": method,
        "settings": None if settings is None else to_dict(settings),
        "learning_rate": 3e-4 if name == "full" else 2e-3,
        "trained": trained,
        "bytes": 4 * trained + (0 if name == "full" else 2_000),
        "quantized": _quantized() if name == "qlora" else None,
        "peak_bytes": round(peak * 2**20),
        "target_loss": target,
        "base_loss": base,
        "step": timing(step),
        "generation": _speed(plain),
        "generation_merged": None if merged is None else _speed(merged),
    }


def _quantized() -> dict[str, int]:
    constants = PROJECTIONS // 64 + 4 * (PROJECTIONS // (64 * 256)) + 4 * 12
    return {
        "weights": PROJECTIONS,
        "code_bytes": PROJECTIONS // 2,
        "constant_bytes": constants,
        "float_bytes": 4 * PROJECTIONS,
    }


def _speed(tokens_per_second: float) -> dict[str, Any]:
    return {**timing(320 / tokens_per_second, 0.01), "tokens_per_second": tokens_per_second}


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


def _long(
    method: str, trained: int, within: float, beyond: float, peak: float, step: float
) -> dict[str, Any]:
    return {
        "method": method,
        **places(within, beyond),
        "trained": trained,
        "peak_bytes": round(peak * 2**20),
        "step": timing(step),
    }


def results() -> dict[str, dict[str, Any]]:
    return {"finetuning": finetuning()}
