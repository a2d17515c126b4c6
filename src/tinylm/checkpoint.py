"""The only reader and writer of a run's checkpoints.

``checkpoints/step-N/`` holds config.json, model.safetensors, tokenizer.json, the training state
(training.json, training.safetensors) and manifest.json, the SHA-256 of the others. A folder is
written under a temporary name and renamed when it is whole, so a step-N that exists was finished;
the manifest shows damage done later. ``last`` and ``best`` are relative links. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, cast

import safetensors.torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from tinylm.config import ModelConfig, from_dict, to_dict
from tinylm.errors import CheckpointError, DataError, TinylmError
from tinylm.model.base import Model
from tinylm.model.decoder import DecoderLM
from tinylm.names import nearest_folder
from tinylm.planning.parameters import parameter_counts
from tinylm.reading import checked, key_shown, read_json, read_tensor_headers, refusal, shown
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import Tokenizer

FORMAT = "tinylm checkpoint 1"
_STEP = re.compile(r"step-(\d+)")
_WEIGHTS = "model.safetensors"
_TOKENIZER = "tokenizer.json"
_TENSORS = "training.safetensors"
_NUMBERS = "training.json"
_MANIFEST = "manifest.json"
_FILES = ("config.json", _WEIGHTS, _TOKENIZER, _NUMBERS, _TENSORS)


@dataclass(frozen=True)
class TrainingState:
    """What training needs to go on as if it had not stopped."""

    step: int
    """Optimizer steps done."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """JSON values: data position, counters, best loss."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Optimizer state and random number generators."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory."""

    path: Path
    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer

    def build_model(self) -> DecoderLM:
        """Return a model in eval mode with these weights.

        Raises:
            CheckpointError: if weights and configuration do not belong together.
        """
        # Before anything is built: a configuration may ask for more than there is.
        wanted = parameter_counts(self.config)["total"]
        held = sum(weight.numel() for weight in self.weights.values())
        if wanted != held or self.config.num_layers > len(self.weights):
            raise CheckpointError(
                f"{self.path}: model.safetensors holds {held:,} numbers in {len(self.weights):,} "
                f"tensors, its configuration asks for {wanted:,} in {self.config.num_layers:,} "
                "layers: they do not belong together"
            )
        model = DecoderLM(self.config)
        load_weights(model, self.weights, self.path)
        return model.eval()


def model_weights(model: Model) -> dict[str, Tensor]:
    """Return the model's weights by name; a tensor of several names only under its first."""
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach()
    return weights


def load_weights(model: Model, weights: Mapping[str, Tensor], source: Path) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: naming the first missing, unexpected or wrongly shaped weight.
    """
    expected = model_weights(model)
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            raise CheckpointError(f"{source}: weight {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{source}: weight {name} is not of this model")
        if weights[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: weight {name} has shape {tuple(weights[name].shape)}, its "
                f"configuration asks for {tuple(expected[name].shape)}"
            )
    model.load_state_dict(dict(weights), strict=False)


def save_checkpoint(
    folder: str | Path, model: Model, tokenizer: Tokenizer, state: TrainingState
) -> Path:
    """Write ``folder/step-N`` and point ``folder/last`` at it.

    Args:
        folder: the run's ``checkpoints``.
        model: its configuration and weights are kept.
        tokenizer: kept, so that the folder is enough to generate.
        state: gives N.

    Returns:
        The new folder.

    Raises:
        CheckpointError: if it cannot be written (disk full, no permission); what was there stays.
    """
    folder = Path(folder)
    target = folder / f"step-{state.step}"
    temporary = folder / f".step-{state.step}.tmp"
    config = {
        "format": FORMAT,
        "tokenizer": tokenizer_kind(tokenizer),
        "model": to_dict(model.config),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob(".step-*.tmp"):
            shutil.rmtree(leftover)
        temporary.mkdir()
        _write(temporary / "config.json", _json_bytes(config))
        weights = {name: weight.contiguous() for name, weight in model_weights(model).items()}
        _write(temporary / _WEIGHTS, safetensors.torch.save(weights))
        tokenizer.save(temporary / _TOKENIZER)
        _write(temporary / _NUMBERS, _json_bytes({"step": state.step, **state.numbers}))
        _write(temporary / _TENSORS, safetensors.torch.save(state.tensors))
        hashes = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        _write(temporary / _MANIFEST, _json_bytes({"format": FORMAT, "sha256": hashes}))
        _sync_folder(temporary)
        if target.exists():  # the same step again: set aside, and deleted when replaced
            before = folder / f".step-{state.step}.before.tmp"
            target.rename(before)
            temporary.rename(target)
            shutil.rmtree(before)
        else:
            temporary.rename(target)
        _sync_folder(folder)
        point(folder, "last", target)
    except (OSError, DataError) as error:  # DataError: a tokenizer that could not be saved
        shutil.rmtree(temporary, ignore_errors=True)
        good = newest(folder)
        reason = getattr(error.__cause__ or error, "strerror", None) or error
        raise CheckpointError(
            f"cannot write checkpoint {target}: {reason}; "
            + (f"the last good one is {good}" if good else "there is no earlier one")
            + f"; make room, then go on with --resume {folder.parent}"
        ) from error
    return target


def point(folder: Path, name: str, target: Path) -> None:
    """Make the link ``folder/name`` lead to the checkpoint ``target``, atomically."""
    temporary = folder / f".{name}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(folder / name)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the ``keep`` newest checkpoints and the one that ``best`` leads to."""
    best = folder / "best"
    kept = {best.resolve().name} if best.exists() else set()
    for path in _by_step(folder)[:-keep]:
        if path.name not in kept:
            shutil.rmtree(path)


def newest(folder: Path) -> Path | None:
    """Return the undamaged checkpoint with the highest step, or None."""
    found, _ = newest_undamaged(folder)
    return found


def newest_undamaged(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is whole, and a warning for each newer one that is not."""
    warnings: list[str] = []
    for path in reversed(_by_step(folder)):
        problem = damage(path)
        if problem is None:
            return path, warnings
        warnings.append(f"checkpoint {path} is damaged ({problem}) and is not used")
    return None, warnings


def set_aside_after(folder: Path, step: int) -> None:
    """Rename checkpoints later than ``step``, which were found damaged, to ``step-N.damaged``."""
    for path in _by_step(folder):
        if int(path.name.removeprefix("step-")) > step:
            aside = path.with_name(f"{path.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)


class _Manifest(TypedDict):
    """What manifest.json holds."""

    format: str
    sha256: dict[str, str]


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint folder's files, or None if they are as written."""
    try:
        for name in (_MANIFEST, *_FILES):
            if not (path / name).exists():
                return f"{name} is missing"
        manifest = read_json(path / _MANIFEST, _Manifest, CheckpointError)
        if manifest["format"] != FORMAT:
            return f"manifest.json has format {shown(manifest['format'])}, not {FORMAT!r}"
        for name in _FILES:
            if name not in manifest["sha256"]:
                return f"manifest.json says nothing of {shown(name)}"
            if _sha256(path / name) != manifest["sha256"][name]:
                return f"{name} has changed since it was written"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename).name} cannot be read ({error.strerror})"
    return None


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint folder behind a run's or a checkpoint's path.

    A run gives its best checkpoint, or its last where none is the best yet.

    Raises:
        CheckpointError: if there is none.
    """
    path = Path(path)
    if (path / _MANIFEST).exists() or (path / "config.json").exists():
        return path
    for name in ("best", "last"):
        if (path / "checkpoints" / name).exists():
            return path / "checkpoints" / name
    if not path.exists():
        hint = nearest_folder(path) or ": give a run folder or a checkpoint folder"
        raise CheckpointError(f"{path} does not exist{hint}")
    raise CheckpointError(f"{path} holds no checkpoint: train it first (`tinylm train`)")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a run's best checkpoint, or a checkpoint folder.

    Raises:
        CheckpointError: if there is none, or it is damaged or of another format.
    """
    path = find_checkpoint(path)
    problem = damage(path)
    if problem is not None:
        raise CheckpointError(f"checkpoint {path} is damaged: {problem}; use another step")
    refuse = refusal(f"checkpoint {path}", CheckpointError)
    about = read_json(path / "config.json", dict[str, Any], CheckpointError)
    if about.get("format") != FORMAT:
        raise refuse(f"has format {shown(about.get('format'))}, not {FORMAT!r}")
    config = checked(_Config, about, refusal(path / "config.json", CheckpointError))
    try:
        tokenizer = TOKENIZERS.load(config["tokenizer"]).load(path / _TOKENIZER)
        model_config = from_dict(ModelConfig, config["model"], str(path / "config.json"))
        weights = _read_tensors(path / _WEIGHTS)
    except TinylmError as error:
        raise refuse(str(error)) from error
    return Checkpoint(path, model_config, weights, cast(Tokenizer, tokenizer))


class _Config(TypedDict):
    """What config.json holds."""

    format: str
    tokenizer: str
    model: dict[str, Any]


class _Numbers(TypedDict):
    """What training.json holds, whatever was trained."""

    step: Annotated[int, Field(ge=0)]


def load_training_state(path: Path) -> TrainingState:
    """Read the training state of a checkpoint that ``damage`` has found whole.

    Raises:
        CheckpointError: if it cannot be what was written.
    """
    numbers = read_json(path / _NUMBERS, dict[str, Any], CheckpointError)
    step = checked(_Numbers, numbers, refusal(path / _NUMBERS, CheckpointError))["step"]
    del numbers["step"]
    return TrainingState(step, numbers, _read_tensors(path / _TENSORS))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file whose numbers are all finite.

    Raises:
        CheckpointError: if its header does not fit the file, or a number is not finite.
    """
    read_tensor_headers(path, CheckpointError)
    tensors = safetensors.torch.load_file(path)
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: {key_shown(name)} is not finite")
    return tensors


def tokenizer_kind(tokenizer: Tokenizer) -> str:
    """Return the registry name of a tokenizer's class."""
    for name, place in TOKENIZERS.items():
        if place == f"{type(tokenizer).__module__}:{type(tokenizer).__qualname__}":
            return name
    raise CheckpointError(f"{type(tokenizer).__qualname__} is not in the tokenizer registry")


def _by_step(folder: Path) -> Sequence[Path]:
    steps = []
    if folder.is_dir():
        for path in folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match and path.is_dir():
                steps.append((int(match[1]), path))
    return [path for _, path in sorted(steps)]


def _json_bytes(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    # A rename is on disk only when its folder is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
