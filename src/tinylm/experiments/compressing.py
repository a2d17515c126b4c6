"""A compressed run: a smaller model made of a run's own, in a folder that is a run again.

The folder holds config.yaml, whose section ``model`` is the smaller model's, one checkpoint, and
``compression.json``, which says what was done to which weights and what became of their number and
their bytes; both are counted. The checkpoint appears whole, then config.yaml: a folder that a
killed process left is no run yet, and the same command writes it anew.
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
from pydantic import with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.checkpoint import (
    TrainingState,
    find_checkpoint,
    load_checkpoint,
    load_training_state,
    point,
    save_checkpoint,
)
from tinylm.compression.quantizing import CHANGE as QUANTIZE
from tinylm.config import DataConfig, dump_yaml
from tinylm.data.windows import TokenWindows
from tinylm.errors import CompressionError, ConfigError, DataError
from tinylm.experiments.context import Console, Context
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.starts import START
from tinylm.experiments.teacher_corpus import CORPUS
from tinylm.fingerprints import file_sha256
from tinylm.language_model import LanguageModel
from tinylm.locks import LOCK, locked, refuse_lost
from tinylm.model.changes import NAME
from tinylm.names import checked_path
from tinylm.numbers.quantized import QuantizedWeight
from tinylm.reading import read_signed, signed
from tinylm.tokenizers.base import Tokenizer

RECORD = "compression.json"
DISTILLED = "distillation.json"
"""What says of a run that it has a teacher (``experiments.distilling``)."""
_CHECKPOINTS = "checkpoints"
_CONFIG = "config.yaml"
_WEIGHTS = "model.safetensors"
_RECORDS = {RECORD, DISTILLED}
_UNBEGUN = {CORPUS, START, _CHECKPOINTS, "metrics.jsonl", "tensorboard"}
"""What may stand beside a record when a command is killed before its folder is a run."""


@dataclass(frozen=True)
class Compression:
    """What was done to a run's model."""

    command: str
    """Of the command line: prune, quantize, compress or merge."""
    method: str
    """Name in the command's registry; of a merge, of the adapter's method."""
    settings: Mapping[str, Any]
    """Of the method, as JSON values."""
    calibration: Mapping[str, Any] | None = None
    """The texts that it looked at, as JSON values; None: none."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else a reader should know of what came of it, as JSON values."""
    steps: int = 0
    """Optimizer steps since the weights that it started from."""


@with_config(extra="forbid")
class Source(TypedDict):
    """The weights that a compressed run was made of."""

    run: str
    """Its folder, absolute."""
    checkpoint: str
    """Its folder's name, such as step-500."""
    sha256: str
    """Of its model.safetensors."""


@with_config(extra="forbid")
class Size(TypedDict):
    """The size of a model."""

    weights: int
    """Numbers that it computes with, biases and norms included; those of tied maps count once."""
    nonzero: int
    """How many of them are not 0."""
    bytes: int
    """Of model.safetensors."""


@with_config(extra="forbid")
class Written(TypedDict):
    """What compression.json holds."""

    command: str
    method: str
    settings: dict[str, Any]
    calibration: dict[str, Any] | None
    details: dict[str, Any]
    source: Source
    before: Size
    after: Size
    earlier: list[dict[str, Any]]
    """What the records of the runs hold that it was made of, the last one first, each without its
    own ``earlier``: a list, since a run may be pruned dozens of times."""


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


@contextmanager
def new_run(out: Path, console: Console, own: Collection[str] = ()) -> Iterator[None]:
    """Be the only process that writes to a folder in which a run of another will be made.

    Entered before the work begins, it refuses at once what cannot be; what a command left there
    that was killed before its folder was a run is deleted. Where the work fails or is interrupted
    before the folder is a run, nothing is left of it.

    Args:
        out: the folder.
        console: who watches.
        own: names of what the command goes on with, if it is there.

    Raises:
        ConfigError: if it is no folder, or inside of a run, or not empty.
        LockedError: if another process writes there.
    """
    checked_path(out, "--out")
    for above in (out, *out.parents):
        if above.exists() and not above.is_dir():
            raise ConfigError(f"{above} is no folder: give --out a new one")
    for above in out.resolve().parents:
        if (above / _CONFIG).exists() and (above / _CHECKPOINTS).is_dir():
            raise ConfigError(f"{out} is inside of the run {above}: give --out a folder elsewhere")
    with locked(out, console.warn):
        names = {path.name for path in out.iterdir()} - {LOCK, *own}
        records = names & _RECORDS
        if names and (not records or names - _RECORDS - _UNBEGUN):
            advice = "give --out a new folder"
            if records and _CONFIG in names and not made_at_once(out):
                advice += f", or go on: {shlex.join(['tinylm', 'train', '--resume', str(out)])}"
            raise ConfigError(f"{out} is not empty: {advice}")
        _clear(out, own)
        try:
            yield
        except BaseException:  # Ctrl-C too
            if not (out / _CONFIG).exists():
                refuse_lost(out / RECORD)
                _clear(out, own)
            raise


def _clear(out: Path, own: Collection[str]) -> None:
    """Delete what is in a folder that is no run yet, but for what is a command's own.

    The records go last.
    """
    names = {path.name for path in out.iterdir()} - {LOCK, *own}
    records = names & _RECORDS
    for name in (*sorted(names - records), *sorted(records)):
        place = out / name
        folders.remove(place) if place.is_dir() else place.unlink()


def made_at_once(run: Path) -> bool:
    """Whether a run came out of a compression whole, with no training that could go on."""
    return (run / RECORD).exists() and not (run / START).exists()


def write_compressed(
    out: Path,
    context: Context,
    lm: LanguageModel,
    record: Compression,
    own: Collection[str] = (),
) -> Written:
    """Write a run whose model is a compressed one.

    Args:
        out: the run's folder, new or empty.
        context: the run that the model was made of.
        lm: the compressed model; its ``source`` is the checkpoint that was loaded.
        record: what was done.
        own: names that may be in the folder (``new_run``).

    Returns:
        What compression.json holds.

    Raises:
        ConfigError: if the folder is not empty.
        CheckpointError: if the source is gone, or the new checkpoint cannot be written.
        LockedError: if another process writes there.
    """
    with new_run(out, context.console, own):
        source = (lm.source or find_checkpoint(context.folder)).resolve()
        before = load_checkpoint(source)
        state = load_training_state(source)
        known = {key: state.numbers[key] for key in ("corpus",) if key in state.numbers}
        with folders.whole(out / _CHECKPOINTS) as checkpoints:
            path = save_checkpoint(
                checkpoints,
                lm.model,
                lm.tokenizer,
                TrainingState(state.step + record.steps, known),
            )
            point(checkpoints, "best", path)
            written = Written(
                command=record.command,
                method=record.method,
                settings=dict(record.settings),
                calibration=None if record.calibration is None else dict(record.calibration),
                details=dict(record.details),
                source=source_of(context.folder, source),
                before=_size(before.build_model(), source),
                after=_size(lm.model, path),
                earlier=_records(read_compression(context.folder)),
            )
            write_text(out / RECORD, json.dumps(signed(written), indent=1))
        write_text(out / _CONFIG, dump_yaml(replace(context.config, model=lm.model.config)))
        return written


def source_of(run: Path, checkpoint: Path) -> Source:
    """Return what is written of the weights that a run is made of.

    Args:
        run: its folder.
        checkpoint: one of its own.
    """
    return Source(
        run=str(run.resolve()),
        checkpoint=checkpoint.name,
        sha256=file_sha256(checkpoint / _WEIGHTS),
    )


def checkpoint_of(source: Source) -> Path:
    """Return the checkpoint that held a source's weights, whether or not it is there."""
    return Path(source["run"]) / _CHECKPOINTS / source["checkpoint"]


def still_holds(source: Source) -> bool:
    """Whether the checkpoint of a source is there, with the same weights still."""
    file = checkpoint_of(source) / _WEIGHTS
    return file.exists() and file_sha256(file) == source["sha256"]


def read_compression(folder: Path) -> Written | None:
    """Return what is written of a compressed run, or None if it is none.

    Raises:
        CompressionError: if compression.json cannot be read or has changed since.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    return read_signed(path, Written, CompressionError, "make the run again")


def _records(done: Written | None) -> list[dict[str, Any]]:
    """Return the record of a run as the first of a list, and those before it."""
    if done is None:
        return []
    own: dict[str, Any] = {**done}
    return [{key: value for key, value in own.items() if key != "earlier"}, *own["earlier"]]


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
    if done is None:
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


def _size(model: nn.Module, checkpoint: Path) -> Size:
    weights, nonzero = count_weights(model)
    num_bytes = (checkpoint / _WEIGHTS).stat().st_size
    return Size(weights=weights, nonzero=nonzero, bytes=num_bytes)


@torch.no_grad()
def count_weights(model: nn.Module) -> tuple[int, int]:
    """Return the numbers that a model computes with, and how many of them are not 0.

    A quantized weight counts with the numbers that its codes stand for.
    """
    quantized = (module() for module in model.modules() if isinstance(module, QuantizedWeight))
    counts = [(x.numel(), int(x.count_nonzero())) for x in (*model.parameters(), *quantized)]
    return sum(numbers for numbers, _ in counts), sum(nonzero for _, nonzero in counts)
