"""What an experiment is given, and where its result is kept.

An experiment is a function ``run(context) -> dict``; its result is kept as JSON in
``RUN/results/NAME.json`` with a key of the settings it depends on, so that a finished one is not
run again.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch

import tinylm
from tinylm.atomic import write_text
from tinylm.checkpoint import find_checkpoint
from tinylm.config import RunConfig, dump_yaml, load_config, to_dict
from tinylm.errors import CheckpointError, ConfigError, DataError, shown
from tinylm.evaluation.memory import resident_peak
from tinylm.experiments.results import read_result, write_result
from tinylm.names import nearest_folder
from tinylm.planning.limits import machine_memory
from tinylm.registry import EXPERIMENTS
from tinylm.training.allocator import give_back_freed_memory
from tinylm.training.loop import Listener, StepRecord, ValidationRecord


class Console(Protocol):
    """How an experiment talks to whoever started it; it never prints."""

    def note(self, text: str) -> None:
        """Say one line."""

    def warn(self, text: str) -> None:
        """Say one line that needs attention."""

    def task(
        self, description: str, total: float | None = None
    ) -> AbstractContextManager[Callable[[float], None]]:
        """Show a progress bar; the function given takes how much is done."""

    def training(self) -> AbstractContextManager[Listener]:
        """Show training's own bar."""


class SilentListener:
    """Is told what happens during training and does nothing."""

    def on_start(self, step: int, total_steps: int) -> None:
        """Do nothing."""

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        """Do nothing."""

    def on_log(self, record: StepRecord) -> None:
        """Do nothing."""

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        """Do nothing."""

    def on_checkpoint(self, path: Path) -> None:
        """Do nothing."""


class SilentConsole:
    """A console that shows nothing and remembers notes and warnings."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []

    def note(self, text: str) -> None:
        """Remember one line."""
        self.notes.append(text)

    def warn(self, text: str) -> None:
        """Remember one warning."""
        self.warnings.append(text)

    def task(
        self, description: str, total: float | None = None
    ) -> AbstractContextManager[Callable[[float], None]]:
        """Return a function that does nothing."""
        return nullcontext(lambda done: None)

    def training(self) -> AbstractContextManager[Listener]:
        """Return a listener that does nothing."""
        return nullcontext(SilentListener())


class WithoutNotes:
    """Shows bars and warnings, but not the notes of runs within an experiment."""

    def __init__(self, console: Console) -> None:
        self.warn = console.warn
        self.task = console.task
        self.training = console.training

    def note(self, text: str) -> None:
        """Drop one line."""


@dataclass(frozen=True)
class Context:
    """One run: its folder, its resolved configuration and who watches."""

    folder: Path
    config: RunConfig
    console: Console = field(default_factory=SilentConsole)

    @property
    def results(self) -> Path:
        """Folder of the experiments' results."""
        return self.folder / "results"

    @property
    def figures(self) -> Path:
        """Folder of the experiments' figures."""
        return self.folder / "figures"


# What an experiment's result depends on: parts of the configuration, and the checkpoint measured.
_WEIGHTS = "weights"
_DATA = ("data", "tokenizer", "vectors", "model")
_DEPENDS_ON: dict[str, Sequence[str]] = {
    "data": _DATA,
    "training": (*_DATA, "training"),
    "kv-cache": (
        *(*_DATA, "training", "generation"),
        *("experiments.kv_cache", "report.prompts", _WEIGHTS),
    ),
    "beam-search": (*_DATA, "training", "evaluation", "experiments.beam_search", _WEIGHTS),
    "accumulation": (*_DATA, "training", "experiments.accumulation"),
    "gradient-checkpointing": (*_DATA, "training", "experiments.gradient_checkpointing"),
    "efficiency": ("model", "training", "experiments.efficiency"),
    "precision": (*_DATA, "training", "experiments.precision"),
    "finetuning": (
        *(*_DATA, "training", "generation"),
        *("experiments.finetuning", "report.prompts", _WEIGHTS),
    ),
    "attention": (
        *(*_DATA, "training"),
        *("experiments.attention", "report.attention_sentences", _WEIGHTS),
    ),
    "lab-svd": (*_DATA, "training", "experiments.lab_svd", _WEIGHTS),
    "lab-mnist": ("experiments.lab_mnist",),
}
_DEFAULT = (
    *(*_DATA, "training", "evaluation", "generation"),
    *("report.prompts", _WEIGHTS),
)

_FORM = 3
"""Of results. A version that stores other values counts up, so that older ones are made again."""


def result_key(name: str, config: RunConfig, weights: str = "") -> str:
    """Return a hash of what the result of an experiment depends on.

    Args:
        name: the experiment.
        config: the run's configuration.
        weights: names the checkpoint that is measured; no matter to what makes it.
    """
    values = to_dict(config)
    relevant: dict[str, Any] = {"form": _FORM}
    for part in _DEPENDS_ON.get(name, _DEFAULT):
        section, _, key = part.partition(".")
        if part == _WEIGHTS:
            relevant[part] = weights
        else:
            relevant[part] = values[section][key] if key else values[section]
    text = json.dumps(relevant, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_experiment(name: str, context: Context, again: bool = False) -> dict[str, Any]:
    """Return an experiment's result, running it only if it is not there yet.

    Args:
        name: a name of the registry.
        context: the run.
        again: run it even if its result is there.

    Raises:
        ConfigError: for an unknown name.
    """
    run = EXPERIMENTS.load(name)
    path = context.results / f"{name}.json"
    key = result_key(name, context.config, _weights_of(context.folder))
    if not again and (kept := _kept(path, context.console)) is not None and kept.get("key") == key:
        return kept
    started = time.perf_counter()
    give_back_freed_memory()  # of the experiment before
    with resident_peak() as memory:
        result: dict[str, Any] = run(context)
    result = {
        "experiment": name,
        "key": key,
        "seconds": time.perf_counter() - started,
        "peak_resident_bytes": memory.bytes,
        "environment": environment()
        | {"threads": context.config.training.threads or torch.get_num_threads()},
        **result,
    }
    write_result(path, result)
    return result


def _kept(path: Path, console: Console) -> dict[str, Any] | None:
    """Return a result that is there and as it was written."""
    try:
        return read_result(path)
    except DataError as error:
        console.warn(f"{error}: this is done now")
        return None


def _weights_of(folder: Path) -> str:
    """Name the checkpoint of a run by its manifest; empty where there is none yet."""
    try:
        manifest = find_checkpoint(folder) / "manifest.json"
        return hashlib.sha256(manifest.read_bytes()).hexdigest()
    except (CheckpointError, OSError):
        return ""


def environment() -> dict[str, Any]:
    """Return the hardware and software that a result was made with."""
    has_gpu = torch.cuda.is_available()
    return {
        "tinylm": tinylm.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": metadata.version("numpy"),
        "platform": platform.platform(terse=True),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(machine_memory() / 2**30, 1),
        "device": torch.cuda.get_device_name() if has_gpu else "cpu",
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def create_run(folder: Path, config: RunConfig, console: Console) -> Context:
    """Start a run in a new folder, or go on with one of the same configuration.

    Raises:
        ConfigError: if the folder holds a run with other settings, naming the first that differs.
    """
    path = folder / "config.yaml"
    if path.exists():
        before = load_config(path)
        difference = _difference(to_dict(before), to_dict(config))
        if difference is not None:
            key, old, new = difference
            raise ConfigError(
                f"{folder} holds a run with {key} = {shown(old)}, not {shown(new)}: "
                "choose another --name, or delete that folder"
            )
    write_text(path, dump_yaml(config))
    return Context(folder, config, console)


def run_of(path: Path) -> Path | None:
    """Return the run that a run's folder, or a folder below its ``checkpoints``, belongs to."""
    checkpoints = path.absolute().parent
    for folder in (path, checkpoints.parent if checkpoints.name == "checkpoints" else path):
        if (folder / "config.yaml").exists():
            return folder
    return None


def open_run(folder: Path, console: Console, overrides: Sequence[str] = ()) -> Context:
    """Open a run's folder.

    Args:
        folder: holds config.yaml.
        console: who watches.
        overrides: ``key=value`` settings of how to evaluate, generate and report.

    Raises:
        ConfigError: if it is no run, or an override would change what was trained.
    """
    path = folder / "config.yaml"
    if not folder.exists():
        hint = nearest_folder(folder) or "; `tinylm train` makes a run"
        raise ConfigError(f"{folder} does not exist{hint}")
    if not path.exists():
        what = "no run: it has no config.yaml; `tinylm train` makes one"
        if (folder / "checkpoints").exists() or (folder / "manifest.json").exists():
            what = (
                "a model alone, without the settings and data of a run: give the run that it was "
                "made from"
            )
        raise ConfigError(f"{folder} is {what}")
    for override in overrides:
        section = override.partition(".")[0]
        if section in ("data", "tokenizer", "vectors", "model"):
            raise ConfigError(
                f"-o {override}: {section} is fixed once a run exists; train a new one"
            )
    return Context(folder, load_config(path, overrides=overrides), console)


def keep_overrides(context: Context) -> None:
    """Write the configuration of an opened run back, so that the next resume goes on with it."""
    write_text(context.folder / "config.yaml", dump_yaml(context.config))


def _difference(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    for key, value in new.items():
        if isinstance(value, dict):
            found = _difference(old[key], value, f"{prefix}{key}.")
            if found is not None:
                return found
        # What only experiments and the report depend on may change from one to the next.
        elif old[key] != value and not prefix.startswith(("report", "experiments")):
            return f"{prefix}{key}", old[key], value
    return None


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use ``count`` CPU threads inside the block; 0 leaves torch's choice."""
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
