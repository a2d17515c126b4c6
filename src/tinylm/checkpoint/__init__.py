"""A run's checkpoints: what is in them, and how they are read (``writing`` writes them).

``checkpoints/step-N/`` holds config.json, model.safetensors, tokenizer.json, the training state
(training.json, training.safetensors) and manifest.json, the SHA-256 of the others. A folder is
written under a temporary name and renamed when it is whole, so a step-N that exists was finished;
the manifest shows damage done later. One that is deleted is renamed first, so it is never seen half
deleted. ``last`` and ``best`` are relative links. Nothing is pickled.

While several processes train, all of them write the tensors, into ``shards/`` (``shards``) in place
of the two safetensors files; it is read all the same, and ``to_single_files`` makes those.

config.json names the kind of model and what it was built from, and lists what was done to it since
(``model.changes``): an adapter attached, merged or folded, a longer context, a classifier's head.
A model is read by building that kind, making the changes again and filling its tensors. A
checkpoint of an earlier version names no kind and lists none: it is a decoder as it was built.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NotRequired

import safetensors.torch
from pydantic import Field
from torch import Tensor
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.checkpoint.shards import FOLDER, MODEL, TRAINING, read_shards
from tinylm.config import ModelConfig, from_dict
from tinylm.errors import CheckpointError, TinylmError
from tinylm.model.base import Change, GenerativeModel, Model, build
from tinylm.model.changes import made_again
from tinylm.model.weights import load_weights
from tinylm.names import nearest_folder
from tinylm.planning.parameters import parameter_counts
from tinylm.reading import checked, key_shown, read_json, read_tensor_headers, refusal, shown
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import Tokenizer

FORMAT = "tinylm checkpoint 1"
_STEP = re.compile(r"step-(\d+)")
WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer.json"
TENSORS = "training.safetensors"
NUMBERS = "training.json"
MANIFEST = "manifest.json"
BEFORE = ".before-"
CONFIG = "config.json"
_FILES = (CONFIG, WEIGHTS, TOKENIZER, NUMBERS, TENSORS)
FILES = (*_FILES, MANIFEST)
"""All that a checkpoint's folder holds."""


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
    """What the model was built from."""
    weights: dict[str, Tensor]
    tokenizer: Tokenizer
    changes: Sequence[Change] = ()
    """What was done to it since."""

    def build_model(self) -> Model:
        """Return the model in eval mode, of its kind, changed as it was, with these weights.

        Raises:
            CheckpointError: if weights, configuration and changes do not belong together, or a
                change is not known or cannot be made.
        """
        # Before anything is built: a configuration may ask for more than there is.
        wanted = parameter_counts(self.config)["total"]
        held = sum(weight.numel() for weight in self.weights.values())
        # Whatever was changed, no number of the model takes less than 2 bits of the file.
        fits = wanted <= 4 * held if self.changes else wanted == held
        if not fits or self.config.num_layers > len(self.weights):
            raise CheckpointError(
                f"{self.path}: model.safetensors holds {held:,} numbers in {len(self.weights):,} "
                f"tensors, its configuration asks for {wanted:,} in {self.config.num_layers:,} "
                "layers: they do not belong together"
            )
        refuse = refusal(self.path / CONFIG, CheckpointError)
        model = made_again(build(self.config), self.changes, refuse)
        load_weights(model, self.weights, self.path, aside=True)
        return model.eval()

    def build_language_model(self) -> GenerativeModel:
        """Return the model in eval mode, if it continues texts.

        Raises:
            CheckpointError: if it does not, and what ``build_model`` raises.
        """
        model = self.build_model()
        if not isinstance(model, GenerativeModel):
            raise CheckpointError(
                f"{self.path} holds a {type(model).__name__}, which makes no text: give the run "
                "of a language model"
            )
        return model


def clear_unfinished(folder: Path) -> None:
    """Delete what a killed process left in a folder of checkpoints that no other process writes to.

    A checkpoint that was about to be replaced, and whose place is empty, is put back.
    """
    for before in folder.glob(f"{BEFORE}step-*.tmp"):
        target = folder / before.name.removeprefix(BEFORE).removesuffix(".tmp")
        if not target.exists():
            before.rename(target)
    folders.clear_leftovers(folder)


def point(folder: Path, name: str, target: Path) -> None:
    """Make the link ``folder/name`` lead to the checkpoint ``target``, atomically.

    Nothing is changed where it does already, or where there is no such checkpoint.
    """
    link = folder / name
    if not target.exists() or (link.is_symlink() and str(link.readlink()) == target.name):
        return
    temporary = folders.temporary(link)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    temporary.replace(link)
    folders.sync(folder)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the ``keep`` newest checkpoints and the one that ``best`` leads to."""
    best = folder / "best"
    kept = {best.resolve().name} if best.exists() else set()
    for path in by_step(folder)[:-keep]:
        if path.name not in kept:
            folders.remove(path)


def newest(folder: Path) -> Path | None:
    """Return the undamaged checkpoint with the highest step, or None."""
    checkpoint, _ = newest_undamaged(folder)
    return checkpoint


def newest_undamaged(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest checkpoint that is whole, and a warning for each newer one that is not."""
    warnings: list[str] = []
    for path in reversed(by_step(folder)):
        problem = damage(path)
        if problem is None:
            return path, warnings
        warnings.append(f"checkpoint {path} is damaged ({problem}) and is not used")
    return None, warnings


def set_aside_after(folder: Path, step: int) -> None:
    """Rename checkpoints later than ``step``, which were found damaged, to ``step-N.damaged``."""
    for path in by_step(folder):
        if step_of(path) > step:
            aside = path.with_name(f"{path.name}.damaged")
            if aside.exists():
                folders.remove(aside)
            path.rename(aside)


class _Manifest(TypedDict):
    """What manifest.json holds."""

    format: str
    sha256: dict[str, str]


def damage(path: Path) -> str | None:
    """Say what is wrong with a checkpoint folder's files, or None if they are as written."""
    try:
        is_sharded = (path / FOLDER).is_dir()
        tensors = {WEIGHTS, TENSORS}
        for name in FILES:
            if not (path / name).exists() and not (is_sharded and name in tensors):
                return f"{name} is missing"
        manifest = read_json(path / MANIFEST, _Manifest, CheckpointError)
        if manifest["format"] != FORMAT:
            return f"manifest.json has format {shown(manifest['format'])}, not {FORMAT!r}"
        expected = set(_FILES)
        if is_sharded:
            there = {f"{FOLDER}/{file.name}" for file in (path / FOLDER).iterdir()}
            named = {name for name in manifest["sha256"] if name.startswith(FOLDER)}
            expected = (expected - tensors) | there | named
        for name in sorted(expected):
            if name not in manifest["sha256"]:
                return f"manifest.json says nothing of {shown(name)}"
            if not (path / name).exists():
                return f"{name} is missing"
            if sha256(path / name) != manifest["sha256"][name]:
                return f"{name} has changed since it was written"
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename).name} cannot be read ({error.strerror})"
    return None


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint folder behind the path of a run, of its checkpoints or of one of them.

    Of several it is the best, or the last where none is the best yet.

    Raises:
        CheckpointError: if there is none.
    """
    path = Path(path)
    if (path / MANIFEST).exists() or (path / CONFIG).exists():
        return path
    for name in ("best", "last"):
        if (path / "checkpoints" / name).exists():
            return path / "checkpoints" / name
    for name in ("best", "last"):
        if (path / name / MANIFEST).exists():
            return path / name
    if not path.exists():
        hint = nearest_folder(path) or ": give a run folder or a checkpoint folder"
        raise CheckpointError(f"{path} does not exist{hint}")
    if (path / "config.yaml").exists():
        raise CheckpointError(f"{path} holds no checkpoint yet: train it: {_resuming(path)}")
    raise CheckpointError(f"{path} holds no checkpoint; `tinylm train` makes a run")


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a run's best checkpoint, or a checkpoint folder, also while the run is trained.

    Raises:
        CheckpointError: if there is none, or it is damaged or of another format.
    """
    while True:
        place = _led_to(find_checkpoint(path))
        try:
            return _load(place)
        except (CheckpointError, OSError):
            # Training may have deleted it meanwhile, and the run's link lead to a newer one.
            if _led_to(find_checkpoint(path)) == place:
                raise


def refuse_damaged(path: Path) -> None:
    """Refuse a checkpoint whose files are not as they were written.

    Raises:
        CheckpointError: saying what can be used, or done, instead.
    """
    problem = damage(path)
    if problem is None:
        return
    folder = path.parent
    advice = []
    if folder.name == "checkpoints" and (folder.parent / "config.yaml").exists():
        advice.append(f"go on from the newest whole one: {_resuming(folder.parent)}")
    whole = newest(folder)
    if whole is not None:
        advice.append(f"give {whole} in its place")
    raise CheckpointError(
        f"checkpoint {path} is damaged: {problem}; {', or '.join(advice) or 'train it again'}"
    )


def _resuming(run: Path) -> str:
    return shlex.join(["tinylm", "train", "--resume", str(run)])


def _led_to(path: Path) -> Path:
    """Return where a link among checkpoints leads; anything else is what it is."""
    return path.parent / path.readlink() if path.is_symlink() else path


def _load(path: Path) -> Checkpoint:
    refuse_damaged(path)
    refuse = refusal(f"checkpoint {path}", CheckpointError)
    about = read_json(path / CONFIG, dict[str, Any], CheckpointError)
    if about.get("format") != FORMAT:
        raise refuse(f"has format {shown(about.get('format'))}, not {FORMAT!r}")
    config = checked(_Config, about, refusal(path / CONFIG, CheckpointError))
    try:
        tokenizer: Tokenizer = TOKENIZERS.load(config["tokenizer"]).load(path / TOKENIZER)
        model_config = from_dict(ModelConfig, config["model"], str(path / CONFIG))
        weights = _read_tensors(path, WEIGHTS, MODEL)
    except TinylmError as error:
        raise refuse(str(error)) from error
    return Checkpoint(path, model_config, weights, tokenizer, config.get("changes", []))


class _Config(TypedDict):
    """What config.json holds."""

    format: str
    tokenizer: str
    model: dict[str, Any]
    changes: NotRequired[list[dict[str, Any]]]


class _Numbers(TypedDict):
    """What training.json holds, whatever was trained."""

    step: Annotated[int, Field(ge=0)]


def load_training_state(path: Path) -> TrainingState:
    """Read the training state of a checkpoint that ``damage`` has found whole.

    Raises:
        CheckpointError: if it cannot be what was written.
    """
    numbers = _read_numbers(path)
    return TrainingState(numbers.pop("step"), numbers, _read_tensors(path, TENSORS, TRAINING))


def text_of_run(folder: Path) -> str | None:
    """Return the fingerprint of the text that a run was trained on; None if it has no checkpoint.

    Raises:
        CheckpointError: if the state of its newest checkpoint cannot be what was written.
    """
    path = newest(folder / "checkpoints")
    corpus = None if path is None else _read_numbers(path).get("corpus")
    return corpus if isinstance(corpus, str) else None


def _read_numbers(path: Path) -> dict[str, Any]:
    numbers = read_json(path / NUMBERS, dict[str, Any], CheckpointError)
    checked(_Numbers, numbers, refusal(path / NUMBERS, CheckpointError))
    return numbers


def _read_tensors(checkpoint: Path, file: str, prefix: str) -> dict[str, Tensor]:
    """Read tensors, whose numbers must all be finite, of a file or, by their prefix, of shards.

    Raises:
        CheckpointError: if its header does not fit the file, or a number is not finite.
    """
    path = checkpoint / FOLDER
    if path.is_dir():
        tensors = read_shards(path, prefix)
    else:
        path = checkpoint / file
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


def by_step(folder: Path) -> Sequence[Path]:
    """Return the checkpoints of a folder by their steps; none if there is no such folder."""
    steps = []
    if folder.is_dir():
        for path in folder.iterdir():
            match = _STEP.fullmatch(path.name)
            if match and path.is_dir():
                steps.append((int(match[1]), path))
    return [path for _, path in sorted(steps)]


def step_of(path: Path) -> int:
    """Return the step of a checkpoint by its name."""
    return int(path.name.removeprefix("step-"))


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
