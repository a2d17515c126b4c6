"""A run that never was: the example results that lie beside the experiments."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

from tinylm.config import RunConfig, dump_yaml, from_dict
from tinylm.experiments.results import write_result
from tinylm.registry import EXPERIMENTS

WRITTEN = 1_760_000_000
"""When the results were written, in seconds since 1970: 9 October 2025."""


def config() -> RunConfig:
    return from_dict(
        RunConfig,
        {
            "model": {"vocab_size": 4812},
            "training": {"warmup_steps": 200, "schedule": "cosine"},
            "report": {"author": "Ada Student"},
        },
        "test",
    )


def example_path(name: str) -> Path:
    """Return where the example result of an experiment lies."""
    module, _, _ = EXPERIMENTS[name].partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).with_name("example.json")


@functools.cache
def _text(name: str) -> str:
    return example_path(name).read_text("utf-8")


def example(name: str) -> dict[str, Any]:
    """Return the example result of an experiment, of its own so that a test may change it."""
    result: dict[str, Any] = json.loads(_text(name))
    return result


def results() -> dict[str, dict[str, Any]]:
    return {name: example(name) for name in EXPERIMENTS}


ENVIRONMENT = example("data")["environment"]


def write_run(
    folder: Path, results: dict[str, dict[str, Any]], run: RunConfig | None = None
) -> Path:
    """Write a run's folder as the experiments leave it."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_yaml(run or config()), "utf-8")
    os.utime(folder / "config.yaml", (WRITTEN, WRITTEN))
    for name, values in results.items():
        path = folder / "results" / f"{name}.json"
        write_result(path, values)
        os.utime(path, (WRITTEN, WRITTEN))
    return folder
