"""Writing checkpoints: a folder appears under its name when it is whole.

``tinylm.checkpoint`` says what is in it, and reads it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from tinylm import folders
from tinylm.checkpoint import (
    BEFORE,
    CONFIG,
    FORMAT,
    MANIFEST,
    NUMBERS,
    TENSORS,
    TOKENIZER,
    WEIGHTS,
    TrainingState,
    clear_unfinished,
    newest,
    point,
    refuse_damaged,
    sha256,
    tokenizer_kind,
)
from tinylm.checkpoint.shards import FOLDER, MODEL, TRAINING, read_shards
from tinylm.config import to_dict
from tinylm.errors import CheckpointError, DataError
from tinylm.locks import refuse_lost
from tinylm.model.base import Model
from tinylm.model.weights import model_weights
from tinylm.tokenizers.base import Tokenizer


def save_checkpoint(
    folder: str | Path,
    model: Model,
    tokenizer: Tokenizer,
    state: TrainingState,
    last: bool = True,
) -> Path:
    """Write ``folder/step-N`` and point ``folder/last`` at it.

    Args:
        folder: the run's ``checkpoints``.
        model: its weights are kept, what it was built from, and what was done to it since.
        tokenizer: kept, so that the folder is enough to generate.
        state: gives N.
        last: whether the link ``last`` is wanted.

    Returns:
        The new folder.

    Raises:
        CheckpointError: if it cannot be written (disk full, no permission); what was there stays.
    """
    target = Path(folder) / f"step-{state.step}"
    with _telling_unwritable(target):
        temporary = begin_checkpoint(target, model, tokenizer, state)
        _write(temporary / WEIGHTS, safetensors.torch.save(weights_of(model)))
        _write(temporary / TENSORS, safetensors.torch.save(state.tensors))
        finish_checkpoint(temporary, target, last)
    return target


def weights_of(model: Model) -> dict[str, Tensor]:
    """Return the weights of a model as they are written, by name."""
    return {name: weight.contiguous() for name, weight in model_weights(model).items()}


def begin_checkpoint(
    target: Path, model: Model, tokenizer: Tokenizer, state: TrainingState
) -> Path:
    """Write all of a checkpoint but its tensors into a folder that is unfinished; return that.

    Raises:
        CheckpointError: if it cannot be written; what was there stays.
    """
    temporary = folders.temporary(target)
    config = {
        "format": FORMAT,
        "tokenizer": tokenizer_kind(tokenizer),
        "model": to_dict(model.built),
        "changes": [dict(change) for change in model.changes],
    }
    refuse_lost(target)
    with _telling_unwritable(target):
        folders.make(target.parent)
        clear_unfinished(target.parent)
        temporary.mkdir()
        _write(temporary / CONFIG, _json_bytes(config))
        tokenizer.save(temporary / TOKENIZER)
        _write(temporary / NUMBERS, _json_bytes({"step": state.step, **state.numbers}))
    return temporary


def finish_checkpoint(temporary: Path, target: Path, last: bool = True) -> None:
    """Give an unfinished checkpoint, to which the tensors were written, its name.

    Raises:
        CheckpointError: if that fails; what was there stays.
    """
    folder = target.parent
    with _telling_unwritable(target):
        files = [path for path in sorted(temporary.rglob("*")) if path.is_file()]
        hashes = {path.relative_to(temporary).as_posix(): sha256(path) for path in files}
        _write(temporary / MANIFEST, _json_bytes({"format": FORMAT, "sha256": hashes}))
        for each in (temporary / FOLDER, temporary):
            if each.exists():
                folders.sync(each)
        before = folder / f"{BEFORE}{target.name}.tmp"
        if target.exists():  # the same step again
            target.rename(before)
        temporary.rename(target)
        folders.sync(folder)
        if before.exists():
            shutil.rmtree(before)
        if last:
            point(folder, "last", target)


@contextmanager
def _telling_unwritable(target: Path) -> Iterator[None]:
    """Delete what is unfinished, and say in a line that a checkpoint cannot be written."""
    try:
        yield
    except (OSError, DataError) as error:  # DataError: a tokenizer that could not be saved
        shutil.rmtree(folders.temporary(target), ignore_errors=True)
        good = newest(target.parent)
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise CheckpointError(
            f"cannot write checkpoint {target}: {reason}; "
            + (f"the last good one is {good}" if good else "there is no earlier one")
        ) from error


def to_single_files(path: Path) -> None:
    """Give a checkpoint that several processes wrote the form that one writes; others are left.

    Raises:
        CheckpointError: if it is damaged, or cannot be written; it is as it was then.
    """
    if not (path / FOLDER).is_dir():
        return
    refuse_damaged(path)
    temporary = folders.temporary(path)
    with _telling_unwritable(path):
        clear_unfinished(path.parent)
        temporary.mkdir()
        for name in (CONFIG, TOKENIZER, NUMBERS):
            _write(temporary / name, (path / name).read_bytes())
        for name, prefix in ((WEIGHTS, MODEL), (TENSORS, TRAINING)):
            _write(temporary / name, safetensors.torch.save(read_shards(path / FOLDER, prefix)))
        finish_checkpoint(temporary, path, last=False)


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
