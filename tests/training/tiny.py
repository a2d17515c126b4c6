"""A model and a text so small that a training run takes a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tinylm.config import (
    ModelConfig,
    RunConfig,
    TrainingConfig,
    dump_yaml,
    load_config,
)
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.windows import TokenWindows
from tinylm.experiments.context import Context, SilentConsole, SilentListener, create_run
from tinylm.experiments.preparation import prepare_data, resolve
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.training.commands import Commands
from tinylm.training.events import StepRecord, ValidationRecord
from tinylm.training.loop import Trainer
from tinylm.training.processes.group import ALONE
from tinylm.training.processes.group import Processes as ProcessGroup

TEXTS = [
    "the cat sat on the mat . the dog saw the cat .",
    "a dog ran to the red ball and the cat ran too .",
    "the girl had a red ball . she was happy .",
    "the boy saw the girl and the dog . he was sad .",
    "the mat was red and the ball was blue .",
]

SETTINGS = (
    "data.train_stories=40",
    "data.validation_stories=6",
    "vectors.source=none",
    "model.context_length=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.hidden_size=16",
    "model.dropout=0.1",
    "training.threads=1",
    "training.tensorboard=false",
    "training.batch_size=4",
    "training.max_steps=12",
    "training.validation_windows=8",
)
"""A whole run on the embedded stories, as overrides."""

COMMANDS = Commands("GO ON", "LOWER THE RATE")
CHANGING = ("seconds", "tokens_per_second", "checksum")
"""Fields of a metrics line that depend on the clock."""


def tiny_config(cache: Path, *overrides: str) -> RunConfig:
    """A run's configuration: the settings above, then ``overrides``."""
    return load_config(overrides=[*SETTINGS, f"data.cache_folder={cache}", *overrides])


def tiny_run(folder: Path, cache: Path, *overrides: str) -> Context:
    """A run that is ready to be trained by ``run_experiment("training", context)``."""
    console = SilentConsole()
    wanted = tiny_config(cache, *overrides)
    return create_run(folder, resolve(wanted, prepare_data(wanted, console)), console)


def write_config(path: Path, cache: Path, *overrides: str) -> Path:
    path.write_text(dump_yaml(tiny_config(cache, *overrides)), "utf-8")
    return path


def tiny_tokenizer() -> WordTokenizer:
    return WordTokenizer.train(TEXTS, WordSettings(min_frequency=1))


def tiny_windows(folder: Path, context_length: int = 8, repeats: int = 1) -> TokenWindows:
    """Windows over the texts above, framed and joined."""
    path = folder / "train.tokens"
    tokenizer = tiny_tokenizer()
    write_token_file(path, TEXTS * repeats, tokenizer, "texts", "train")
    return TokenWindows(TokenFile(path, tokenizer, "texts"), context_length)


def tiny_model(seed: int = 0, **settings: Any) -> DecoderLM:
    """A model of hidden size 16 for the texts above."""
    sizes: dict[str, Any] = {
        "vocab_size": tiny_tokenizer().vocab_size,
        "context_length": 8,
        "num_layers": 1,
        "num_heads": 2,
        "hidden_size": 16,
        "dropout": 0.0,
    }
    torch.manual_seed(seed)
    return DecoderLM(ModelConfig(**{**sizes, **settings}))


class Recorder(SilentListener):
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.start: tuple[int, int] | None = None
        self.steps: list[tuple[int, float]] = []
        self.logs: list[StepRecord] = []
        self.validations: list[tuple[ValidationRecord, bool]] = []
        self.checkpoints: list[str] = []

    def on_start(self, step: int, total_steps: int) -> None:
        self.start = (step, total_steps)

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        self.steps.append((step, loss))

    def on_log(self, record: StepRecord) -> None:
        self.logs.append(record)

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        self.validations.append((record, best))

    def on_checkpoint(self, path: Path) -> None:
        self.checkpoints.append(path.name)


class TinyTask(LanguageModelling):
    """Language modelling whose validation is any function."""

    measure: Callable[[DecoderLM], float]

    def validate(self, model: DecoderLM) -> float:
        return self.measure(model)


def tiny_trainer(
    folder: Path,
    model: DecoderLM | None = None,
    windows: TokenWindows | None = None,
    validate: Callable[[DecoderLM], float] = lambda model: 1.0,
    listener: Recorder | None = None,
    processes: ProcessGroup = ALONE,
    **settings: Any,
) -> Trainer:
    """A trainer on the texts above, writing to ``folder/checkpoints``."""
    chosen: dict[str, Any] = {
        "device": "cpu",
        "batch_size": 4,
        "max_steps": 6,
        "checkpoint_interval": 0,
        "learning_rate": 1e-2,
    }
    data = windows or tiny_windows(folder)
    task = TinyTask(tiny_tokenizer(), data, data, 4)
    task.measure = validate
    return Trainer(
        model or tiny_model(),
        task,
        TrainingConfig(**{**chosen, **settings}),
        folder / "checkpoints",
        listener or Recorder(),
        commands=COMMANDS,
        processes=processes,
    )


def step_names(checkpoints: Path) -> list[str]:
    """The checkpoints of a folder, oldest first; anything unexpected in it is listed too."""
    names = [path.name for path in checkpoints.iterdir() if path.name not in ("last", "best")]
    return sorted(names, key=lambda name: (len(name), name))


def metrics_without_clock(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without the fields that depend on the clock."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in CHANGING}
        for line in lines
    ]


def state_without_clock(checkpoint: Path) -> dict[str, Any]:
    """training.json of a checkpoint without what depends on the clock."""
    numbers: dict[str, Any] = json.loads((checkpoint / "training.json").read_text("utf-8"))
    del numbers["seconds"], numbers["session_seconds"], numbers["pending"]["seconds"]
    return numbers


def stop_training(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Let a signal stop training number so many after one step; return where each began."""
    started: list[int] = []
    run = Trainer.run

    def stopping(self: Trainer) -> Any:
        started.append(self.step)
        if len(started) == number:
            self.total_steps = 1
            return replace(run(self), reason="SIGTERM")
        return run(self)

    monkeypatch.setattr(Trainer, "run", stopping)
    return started
