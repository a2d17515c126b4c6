"""What a run says of how it was made of another: ``compression.json`` or ``distillation.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.errors import CompressionError
from tinylm.experiments.teacher_corpus import WrittenTexts
from tinylm.fingerprints import file_sha256
from tinylm.reading import read_signed

COMPRESSION, DISTILLATION = "compression.json", "distillation.json"
CHECKPOINTS = "checkpoints"
WEIGHTS = "model.safetensors"


@with_config(extra="forbid")
class Source(TypedDict):
    """The weights that a run was made of."""

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
class Rising(TypedDict):
    """How the share that is pruned rises while what is left is trained."""

    first: float
    """Before the first step."""
    last: int
    """The step after which it is what was asked for."""


@with_config(extra="forbid")
class Retraining(TypedDict):
    """How what pruning left is trained."""

    steps: int
    """Optimizer steps: those that were asked for, and in the end those that were taken."""
    learning_rate: float
    """Its peak."""
    run_rate: float
    """Peak of the training whose weights were pruned first."""
    rising: Rising | None
    """None: it was pruned at once."""
    rewind: int | None
    """The step whose weights training began with; None: those that were pruned."""


@with_config(extra="forbid")
class Compressed(TypedDict):
    """What compression.json holds."""

    command: str
    method: str
    settings: dict[str, Any]
    calibration: dict[str, Any] | None
    details: dict[str, Any]
    source: Source
    before: Size
    after: Size
    """Of the best checkpoint; while what is left is still being trained, of what it began with."""
    retraining: NotRequired[Retraining]
    """Of a run that goes on by `tinylm train --resume`."""
    earlier: list[dict[str, Any]]
    """What the records of the runs hold that it was made of, the last one first, each without its
    own ``earlier``: a list, since a run may be pruned dozens of times."""


@with_config(extra="forbid")
class Distilled(TypedDict):
    """What distillation.json holds."""

    method: str
    settings: dict[str, Any]
    teacher: Source
    teacher_loss: float
    """On the validation windows of the student, in nats a token."""
    teacher_weights: int
    """Numbers of the teacher."""
    student_weights: int
    """Numbers of the student."""
    texts: WrittenTexts | None
    """None: it learns from the run's own training texts."""
    start: NotRequired[Source | None]
    """The weights, and masks, that the student begins with; None: drawn ones."""
    earlier: NotRequired[list[dict[str, Any]]]
    """As of ``Compressed``, of the run of these weights."""


def read_compression(folder: Path) -> Compressed | None:
    """Return what is written of a compressed run, or None if it is none.

    Raises:
        CompressionError: if compression.json cannot be read or has changed since.
    """
    path = folder / COMPRESSION
    if not path.exists():
        return None
    return read_signed(path, Compressed, CompressionError, "make the run again")


def read_distillation(folder: Path) -> Distilled | None:
    """Return what is written of a student's teacher, or None if the run has none.

    Raises:
        CompressionError: if distillation.json cannot be read or has changed since.
    """
    path = folder / DISTILLATION
    if not path.exists():
        return None
    return read_signed(path, Distilled, CompressionError, "distill again")


def history(folder: Path) -> list[dict[str, Any]]:
    """Return what is written of how a run was made, and of the runs before, the last one first.

    Raises:
        CompressionError: if a record cannot be read.
    """
    compressed, distilled = read_compression(folder), read_distillation(folder)
    if compressed is not None:
        return _as_list(compressed)
    if distilled is not None:
        return _as_list({"command": "distill", **distilled})
    return []


def _as_list(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a record as the first of a list, and those before it."""
    own = {key: value for key, value in record.items() if key != "earlier"}
    return [own, *record.get("earlier", [])]


def source_of(run: Path, checkpoint: Path) -> Source:
    """Return what is written of the weights that a run is made of.

    Args:
        run: its folder.
        checkpoint: one of its own.
    """
    return Source(
        run=str(run.resolve()),
        checkpoint=checkpoint.name,
        sha256=file_sha256(checkpoint / WEIGHTS),
    )


def checkpoint_of(source: Source) -> Path:
    """Return the checkpoint that held a source's weights, whether or not it is there."""
    return Path(source["run"]) / CHECKPOINTS / source["checkpoint"]


def still_holds(source: Source) -> bool:
    """Whether the checkpoint of a source is there, with the same weights still."""
    file = checkpoint_of(source) / WEIGHTS
    return file.exists() and file_sha256(file) == source["sha256"]
