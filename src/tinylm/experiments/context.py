"""What an experiment is given, and where its result is kept.

An experiment is a function ``run(context) -> dict``; its result is kept as JSON in
``RUN/results/NAME.json`` with a key of the settings it depends on, so that a finished one is not
run again.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import torch

import tinylm
from tinylm.atomic import write_text
from tinylm.checkpoint import text_of_run
from tinylm.config import RunConfig, dump_yaml, load_config, to_dict, with_absolute_paths
from tinylm.config.places import MOVABLE
from tinylm.data.corpora import open_corpus
from tinylm.data.windows import Windows
from tinylm.errors import ConfigError, DataError, shown
from tinylm.evaluation.memory import resident_peak
from tinylm.experiments.experiment import Experiment
from tinylm.experiments.origins import Origin, made_by, measured_text, origin, unlike
from tinylm.experiments.results import read_result, write_result
from tinylm.locks import LockedError, locked
from tinylm.model.base import refuse_without_attention
from tinylm.names import nearest_folder
from tinylm.planning.limits import machine_memory
from tinylm.registry import EXPERIMENTS
from tinylm.training.allocator import give_back_freed_memory
from tinylm.training.commands import Commands
from tinylm.training.events import Listener, StepRecord, ValidationRecord
from tinylm.training.processes.group import ALONE, Processes


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

    def on_measures(self, measures: Mapping[str, float]) -> None:
        """Do nothing."""

    def on_log(self, record: StepRecord) -> None:
        """Do nothing."""

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        """Do nothing."""

    def on_saving(self, step: int) -> None:
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
    keeps: bool = False
    """Whether the configuration becomes the run's with the next checkpoint or result."""
    reports: bool = False
    """Whether its experiments are run by `tinylm report`."""
    commands: Commands | None = None
    """What to type when its training stops before its end; empty: `tinylm train --resume`."""
    processes: Processes = ALONE
    """That its training is shared out among; this one writes if it is the first."""
    within: Context | None = None
    """The run whose experiment trains this one."""
    warned: set[str] = field(default_factory=set)
    """Warnings that were given already."""

    def warn_once(self, text: str) -> None:
        """Say one line that needs attention, unless it was said."""
        if text not in self.warned:
            self.warned.add(text)
            self.console.warn(text)

    @property
    def results(self) -> Path:
        """Folder of the experiments' results."""
        return self.folder / "results"

    @property
    def figures(self) -> Path:
        """Folder of the experiments' figures."""
        return self.folder / "figures"


def run_experiment(name: str, context: Context, again: bool = False) -> dict[str, Any]:
    """Return an experiment's result, running it only if it is not there yet.

    Args:
        name: a name of the registry.
        context: the run.
        again: run it even if its result is there.

    Raises:
        ConfigError: for an unknown name.
        LockedError: if another process writes to the run, and there is something to run.
        DataError: if text, vectors or images that it depends on cannot be read.
        CheckpointError: if the checkpoint that it measures is damaged.
    """
    EXPERIMENTS.check(name)
    if not again and (kept := kept_result(name, context)) is not None:
        if context.keeps:
            keep_configuration(context)
        return kept
    with writing(context.folder, context.console):
        result = measure(name, context)
        if context.keeps:
            keep_configuration(context)
        write_result(context.results / f"{name}.json", result)
    return result


def run_or_measure(name: str, context: Context, again: bool = False) -> dict[str, Any]:
    """Return an experiment's result as ``run_experiment`` does, also while the run is written to.

    It is not kept then, and that is told.
    """
    try:
        return run_experiment(name, context, again)
    except LockedError as error:
        context.console.note(f"{error.problem}: the result is shown and not kept")
        return measure(name, context)


def measure(name: str, context: Context) -> dict[str, Any]:
    """Run an experiment and return its result, with what it came from; it is not kept.

    Raises:
        ConfigError: for an unknown name.
    """
    experiment: Experiment = EXPERIMENTS.load(name)
    if not experiment.suits(context.config):
        refuse_without_attention(context.config.model, f"the experiment {name}")
    came_from = origin(name, context.config, context.folder)
    _warn_of_other_text(came_from, context)
    started = time.perf_counter()
    give_back_freed_memory()  # of the experiment before
    with resident_peak() as memory:
        result = experiment.run(context)
    return {
        "experiment": name,
        # Training makes what its result is compared with later; all else is as it was before.
        "from": came_from | made_by(name, context.config, context.folder),
        "seconds": time.perf_counter() - started,
        "peak_resident_bytes": memory.bytes,
        "environment": environment()
        | {"threads": context.config.training.threads or torch.get_num_threads()},
        **result,
    }


def kept_result(name: str, context: Context) -> dict[str, Any] | None:
    """Return the result of an experiment if it is there and came from what is there now.

    Where text, vectors or images are gone, that is told, and they count as they were.

    Raises:
        DataError: if text, vectors or images are there and cannot be read.
        CheckpointError: if the checkpoint that it measured is damaged.
    """
    try:
        kept = read_result(context.results / f"{name}.json")
    except DataError as error:
        context.console.warn(f"{error}: this is done now")
        return None
    if kept is None:
        return None
    before = kept.get("from")

    def gone(part: str, error: DataError) -> Any:
        context.warn_once(f"{error}; results count as made from the {part} that was there")
        return before.get(part) if isinstance(before, dict) else None

    now = origin(name, context.config, context.folder, gone)
    _warn_of_other_text(now, context)
    reason = unlike(before, now)
    if reason is not None:
        context.console.note(f"{name} is done again: {reason}")
        return None
    return kept


def _warn_of_other_text(now: Origin, context: Context) -> None:
    measured, trained = measured_text(now), text_of_run(context.folder)
    if None not in (measured, trained) and measured != trained:
        context.warn_once(
            f"{context.folder} was trained on other text ({trained}) than there is now ({measured})"
        )


def tell_fewer(console: Console, setting: str, wanted: int, there: int) -> None:
    """Say that an experiment takes all texts that there are, where a setting asks for more."""
    if there < wanted:
        console.note(f"{setting} = {wanted}: there are {there:,} that fit, all of them are taken")


def tell_left_out(console: Console, windows: Windows) -> None:
    """Say how many pairs of a split are longer than the context, if any are."""
    there = len(windows.tokens)
    if left_out := there - len(windows.texts):
        header = windows.tokens.header
        console.warn(
            f"{left_out:,} of {there:,} {header.split} {header.nouns} are longer than "
            f"model.context_length = {windows.context_length} and are left out"
        )


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


def create_run(
    folder: Path, config: RunConfig, console: Console, option: str = "--name"
) -> Context:
    """Start a run in a new folder, or go on with one of the same configuration.

    Nothing is written: the configuration is kept with the first checkpoint or result. Paths in it
    are absolute from now on.

    Args:
        folder: of the run.
        config: resolved.
        console: who watches.
        option: of the command line, that chooses the folder.

    Raises:
        ConfigError: if the folder holds a trained run with other settings, naming the first that
            differs.
    """
    config = with_absolute_paths(config)
    path = folder / "config.yaml"
    trained = text_of_run(folder)
    if path.exists() and trained is not None:
        before = to_dict(load_config(path))
        # The same text may have moved.
        if open_corpus(config.data).fingerprint() == trained:
            before["data"] = to_dict(config.data)
        different = _difference(before, to_dict(config))
        if different is not None:
            key, old, new = different
            raise ConfigError(
                f"{folder} holds a run with {key} = {shown(old)}, not {shown(new)}: "
                f"choose another {option}, or delete that folder"
            )
    return Context(folder, config, console, keeps=True)


def run_of(path: Path) -> Path | None:
    """Return the run that a folder, one of its checkpoints or one of its snapshots belongs to."""
    around = path.absolute().parent
    for folder in (path, around.parent if around.name in ("checkpoints", "snapshots") else path):
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
    config = load_config(refuse_no_run(folder), overrides=overrides)
    for override in overrides:
        key = override.partition("=")[0].strip()
        section = key.partition(".")[0]
        if section in ("data", "tokenizer", "vectors", "model") and key not in MOVABLE:
            raise ConfigError(
                f"-o {override}: {section} is fixed once a run exists; train a new one"
            )
        if key == "data.path" and (trained := text_of_run(folder)) is not None:
            given = open_corpus(config.data).fingerprint()
            if given != trained:
                raise ConfigError(
                    f"-o {override}: {folder} was trained on text {trained}, and that is {given}; "
                    "give the place where the same text is now"
                )
    return Context(folder, with_absolute_paths(config), console)


def refuse_no_run(folder: Path) -> Path:
    """Return the configuration file of a run.

    Raises:
        ConfigError: if the folder is no run's.
    """
    path = folder / "config.yaml"
    if not folder.exists():
        hint = nearest_folder(folder) or "; `tinylm train` makes a run"
        raise ConfigError(f"{folder} does not exist{hint}")
    if not path.exists():
        what = "no run: it has no config.yaml; `tinylm train` makes one"
        alone = ("checkpoints", "manifest.json", "last")
        if any((folder / name).exists() for name in alone):
            what = (
                "a model alone, without the settings and data of a run: give the run that it was "
                "made from"
            )
        raise ConfigError(f"{folder} is {what}")
    return path


def writing(folder: Path, console: Console) -> AbstractContextManager[None]:
    """Be the only process that writes to a run.

    Raises:
        LockedError: if another one does.
    """
    return locked(folder, console.warn, clear=("", "results"))


def keep_configuration(context: Context) -> None:
    """Write the configuration down as the run's, if it is another than is there.

    That of a run within whose experiment it is trained, too.
    """
    path, text = context.folder / "config.yaml", dump_yaml(context.config)
    if not path.exists() or path.read_text("utf-8") != text:
        with writing(context.folder, context.console):
            write_text(path, text)
    if context.within is not None and context.within.keeps:
        keep_configuration(context.within)


def _difference(
    old: dict[str, Any], new: dict[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    for key, value in new.items():
        if isinstance(value, dict):
            inner = _difference(old[key], value, f"{prefix}{key}.")
            if inner is not None:
                return inner
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
