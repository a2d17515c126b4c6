"""A compressed run: a smaller model made of a run's own, in a folder that is a run again.

The folder holds config.yaml, whose section ``model`` is the smaller model's, one checkpoint, and
``compression.json``, which says what was done to which weights and what became of their number and
their bytes; both are counted (``records``). The checkpoint appears whole, then config.yaml: a
folder that a killed process left is no run yet, and the same command writes it anew. Where what is
left is still to be trained, the checkpoint is the start of that training (``pruned``).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.checkpoint import (
    TrainingState,
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    point,
)
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.quantizing import CHANGE as QUANTIZE
from tinylm.config import DataConfig, dump_yaml
from tinylm.data.windows import TokenWindows
from tinylm.errors import CompressionError, ConfigError, DataError
from tinylm.experiments.context import Console, Context
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.records import (
    CHECKPOINTS,
    COMPRESSION,
    DISTILLATION,
    WEIGHTS,
    Compressed,
    Retraining,
    Size,
    Source,
    history,
    read_compression,
    source_of,
)
from tinylm.experiments.starts import START, write_start
from tinylm.experiments.teacher_corpus import CORPUS
from tinylm.finetuning.adapters import adapters
from tinylm.language_model import LanguageModel
from tinylm.locks import LOCK, locked, refuse_lost
from tinylm.model.changes import NAME
from tinylm.names import checked_path
from tinylm.numbers.quantized import QuantizedWeight
from tinylm.reading import signed
from tinylm.tokenizers.base import Tokenizer

_CONFIG = "config.yaml"
_RECORDS = {COMPRESSION, DISTILLATION}
_UNBEGUN = {CORPUS, START, CHECKPOINTS, "metrics.jsonl", "tensorboard"}
"""What may stand beside a record when a command is killed before its folder is a run."""


@dataclass(frozen=True)
class Before:
    """What is written of the weights that a compressed run is made of.

    It is read when they are: they may be gone, or others, when the work is done.
    """

    source: Source
    size: Size
    step: int
    """Optimizer steps that made them."""
    numbers: Mapping[str, Any]
    """Of their training, what is as true of the compressed run."""
    earlier: list[dict[str, Any]]
    """As of ``records.Compressed``."""


@dataclass(frozen=True)
class Compression:
    """What was done to a run's model."""

    command: str
    """Of the command line: prune, quantize, compress or merge."""
    method: str
    """Name in the command's registry; of a merge, of the adapter's method."""
    settings: Mapping[str, Any]
    """Of the method, as JSON values."""
    before: Before
    """What it was done to."""
    calibration: Mapping[str, Any] | None = None
    """The texts that it looked at, as JSON values; None: none."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else a reader should know of what came of it, as JSON values."""

    def written(self, after: Size) -> Compressed:
        """Return what compression.json says of it, with the size of what came of it."""
        return Compressed(
            command=self.command,
            method=self.method,
            settings=dict(self.settings),
            calibration=None if self.calibration is None else dict(self.calibration),
            details=dict(self.details),
            source=self.before.source,
            before=self.before.size,
            after=after,
            earlier=self.before.earlier,
        )


def before(context: Context, lm: LanguageModel) -> Before:
    """Return what is written of a run's model before anything is done to it.

    Args:
        context: the run.
        lm: its model, as it was loaded.

    Raises:
        CheckpointError: if the checkpoint that it was loaded from is gone.
        CompressionError: if the run has a record that cannot be read.
    """
    source = (lm.source or find_checkpoint(context.folder)).resolve()
    state = load_training_state(source)
    return Before(
        source=source_of(context.folder, source),
        size=size_of(lm.model, source),
        step=state.step,
        numbers={key: state.numbers[key] for key in ("corpus",) if key in state.numbers},
        earlier=history(context.folder),
    )


def calibration_windows(
    context: Context,
    count: int,
    seed: int,
    *,
    tokenizer: Tokenizer | None = None,
    data: DataConfig | None = None,
) -> Tensor:
    """Return windows of the training split to calibrate by.

    Args:
        context: the run; the windows are as long as its context.
        count: windows, each another one; those that padding fills up are left out.
        seed: decides which.
        tokenizer: of the run, where it is read already; empty: that of its checkpoint.
        data: another text, of which the training split is taken.

    Returns:
        Token ids, (count, context_length), int64.

    Raises:
        ConfigError: if the text has fewer windows.
        DataError: if it cannot be used, has none, or holds no word that the model knows.
    """
    tokenizer = tokenizer or load_checkpoint(context.folder).tokenizer
    source = data or context.config.data
    split = encoded_split(source, tokenizer, "train", context.console)
    length = context.config.model.context_length
    if split.header.unknown_rate == 1:
        raise DataError(
            f"the training split of {source.path or source.corpus} holds no word that the model "
            "knows: calibrate by text of its language"
        )
    whole = (split.header.num_tokens - 1) // length
    if not 0 < count <= whole:
        what = f"the training split of {source.path or source.corpus} has "
        if not whole:
            raise DataError(
                f"{what}{split.header.num_tokens:,} tokens, and a text to calibrate by must have "
                f"{length + 1} at least, one more than the model's context: give a longer one, or "
                "take a method that reads none"
            )
        raise ConfigError(
            f"calibration windows = {count}: {what}{whole:,} of {length} tokens; give 1 to "
            f"{whole:,}, or more text"
        )
    chosen = np.random.default_rng(seed).choice(whole, count, replace=False)
    return TokenWindows(split, length).batch(np.sort(chosen)).ids


def refuse_adapted(context: Context, lm: LanguageModel) -> None:
    """Refuse a run whose model has adapters.

    Raises:
        CompressionError: saying what to do.
    """
    if adapters(lm.model):
        raise CompressionError(
            f"{context.folder} holds a model with adapters: write the merged one with `tinylm "
            "merge RUN ADAPTER --out FOLDER`, and give that"
        )


@contextmanager
def new_run(
    out: Path, console: Console, own: Collection[str] = (), within: Path | None = None
) -> Iterator[None]:
    """Be the only process that writes to a folder in which a run of another will be made.

    Entered before the work begins, it refuses at once what cannot be; what a command left there
    that was killed before its folder was a run is deleted. Where the work fails or is interrupted
    before the folder is a run, nothing is left of it.

    Args:
        out: the folder.
        console: who watches.
        own: names of what the command goes on with, if it is there.
        within: the run inside of which it stands, whose experiment makes it.

    Raises:
        ConfigError: if it is no folder, or inside of a run, or not empty.
        LockedError: if another process writes there.
    """
    refuse_place(out, within)
    with locked(out, console.warn):
        names = {path.name for path in out.iterdir()} - {LOCK, *own}
        records = names & _RECORDS
        if names and (not records or names - _RECORDS - _UNBEGUN):
            advice = "give --out a new folder"
            if _CONFIG in names and (START in names or DISTILLATION in names):
                advice += f", or go on: {shlex.join(['tinylm', 'train', '--resume', str(out)])}"
            raise ConfigError(f"{out} is not empty: {advice}")
        _clear(out, own)
        try:
            yield
        except BaseException:  # Ctrl-C too
            if not (out / _CONFIG).exists():
                refuse_lost(out / COMPRESSION)
                _clear(out, own)
            raise


def refuse_place(out: Path, within: Path | None = None) -> None:
    """Refuse a place where no folder of a command's own can be.

    Args:
        out: the folder.
        within: as of ``new_run``.

    Raises:
        ConfigError: if it is no folder, or inside of a run.
    """
    checked_path(out, "--out")
    for above in (out, *out.parents):
        if above.exists() and not above.is_dir():
            raise ConfigError(f"{above} is no folder: give --out a new one")
    for above in out.resolve().parents:
        if within is not None and above == within.resolve():
            break
        if is_run(above):
            raise ConfigError(f"{out} is inside of the run {above}: give --out a folder elsewhere")


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run with checkpoints."""
    return (folder / _CONFIG).exists() and (folder / CHECKPOINTS).is_dir()


def _clear(out: Path, own: Collection[str]) -> None:
    """Delete what is in a folder that is no run yet, but for what is a command's own.

    The records go last.
    """
    names = {path.name for path in out.iterdir()} - {LOCK, *own}
    records = names & _RECORDS
    for name in (*sorted(names - records), *sorted(records)):
        place = out / name
        folders.remove(place) if place.is_dir() else place.unlink()


def write_compressed(
    out: Path,
    context: Context,
    lm: LanguageModel,
    record: Compression,
    own: Collection[str] = (),
    within: Path | None = None,
) -> Compressed:
    """Write a run whose model is a compressed one.

    Args:
        out: the run's folder, new or empty.
        context: the run that the model was made of; nothing of its folder is read.
        lm: the compressed model.
        record: what was done.
        own: names that may be in the folder (``new_run``).
        within: as there.

    Returns:
        What compression.json holds.

    Raises:
        ConfigError: if the folder is not empty.
        CheckpointError: if the checkpoint cannot be written.
        LockedError: if another process writes there.
    """
    state = TrainingState(record.before.step, dict(record.before.numbers))
    with new_run(out, context.console, own, within):
        with folders.whole(out / CHECKPOINTS) as checkpoints:
            path = save_checkpoint(checkpoints, lm.model, lm.tokenizer, state)
            point(checkpoints, "best", path)
            written = write_record(out, record.written(size_of(lm.model, path)))
        write_text(out / _CONFIG, dump_yaml(replace(context.config, model=lm.model.config)))
        return written


def write_unfinished(
    out: Path, lm: LanguageModel, record: Compression, retraining: Retraining
) -> None:
    """Write what a compressed model is trained on from; the folder is a run once that has begun.

    Args:
        out: the run's folder, in which this process alone writes (``new_run``).
        lm: the compressed model.
        record: what was done.
        retraining: what is to be done.

    Raises:
        CheckpointError: if the weights cannot be written.
    """
    with folders.whole(out / START) as start:
        path = write_start(start, lm.model, lm.tokenizer)
        written = record.written(size_of(lm.model, path))
        write_record(out, {**written, "retraining": retraining})


def write_record(run: Path, written: Compressed) -> Compressed:
    """Write compression.json, and return what it holds."""
    write_text(run / COMPRESSION, json.dumps(signed(written), indent=1))
    return written


def has_training(folder: Path) -> bool:
    """Whether a run has a training of its own, which one that was made of another has not.

    Raises:
        CompressionError: if compression.json cannot be read.
    """
    return read_compression(folder) is None


def refuse_training(folder: Path) -> None:
    """Refuse to go on with the training of a compressed run: there is no state to go on from.

    Raises:
        ConfigError: saying how its weights are trained.
    """
    done = read_compression(folder)
    if done is None or "retraining" in done:
        return
    changes = load_checkpoint(folder).changes
    if any(change[NAME] == QUANTIZE for change in changes):
        what, method = "to adapt it, since quantized weights are not trained: ", "lora"
    else:
        what, method = "to train its weights: ", "full"
    raise ConfigError(
        f"{folder} was made by `tinylm {done['command']}` of {done['source']['run']} and has "
        f"no training to go on with; {what}"
        + shlex.join(["tinylm", "finetune", str(folder), "--method", method])
    )


def size_of(model: nn.Module, checkpoint: Path) -> Size:
    """Return the size of a model and of the file that holds it."""
    weights, nonzero = count_weights(model)
    return Size(weights=weights, nonzero=nonzero, bytes=(checkpoint / WEIGHTS).stat().st_size)


@torch.no_grad()
def count_weights(model: nn.Module) -> tuple[int, int]:
    """Return the numbers that a model computes with, and how many of them are not 0.

    A quantized weight counts with the numbers that its codes stand for.
    """
    quantized = (module() for module in model.modules() if isinstance(module, QuantizedWeight))
    counts = [(x.numel(), int(x.count_nonzero())) for x in (*model.parameters(), *quantized)]
    return sum(numbers for numbers, _ in counts), sum(nonzero for _, nonzero in counts)
