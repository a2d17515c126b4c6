"""Reward models on disk: a folder with a checkpoint and what the model is of.

``checkpoints/step-N`` is a checkpoint like any other, whose last change is the head;
``reward.json`` says what it was trained by and what was measured of it, and is written last: a
folder without it is not finished. Nothing is pickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tinylm.alignment.reward_model import RewardModel
from tinylm.atomic import write_text
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.errors import AlignmentError
from tinylm.experiments.records import WEIGHTS
from tinylm.fingerprints import file_sha256
from tinylm.reading import read_signed, signed
from tinylm.tokenizers.base import Tokenizer

FORMAT = "tinylm rewards 1"
ABOUT = "reward.json"
CHECKPOINTS = "checkpoints"


@with_config(extra="forbid")
class About(TypedDict):
    """What reward.json holds."""

    format: str
    sha256: str
    """Of model.safetensors."""
    tokenizer: str
    """Fingerprint of the tokenizer."""
    context_length: Annotated[int, Field(ge=2)]
    """Tokens of a text that it can read."""
    recipe: dict[str, Any]
    """What it follows from."""
    training: dict[str, Any]
    """Steps, how many numbers are trained, and the rewards of the training prompts."""
    measured: dict[str, Any]
    """On held-out rankings."""


def save_reward_model(
    model: RewardModel,
    tokenizer: Tokenizer,
    folder: Path,
    step: int,
    recipe: dict[str, Any],
    training: dict[str, Any],
    measured: dict[str, Any],
) -> About:
    """Write a reward model to a folder.

    Args:
        model: in its final form.
        tokenizer: of the texts that it reads.
        folder: made if it is not there.
        step: optimizer steps that made it.
        recipe: what it follows from, as JSON values.
        training: how it was trained, as JSON values.
        measured: of it, as JSON values.

    Raises:
        CheckpointError: if the checkpoint cannot be written.
        OSError: if reward.json cannot be written.
    """
    path = save_checkpoint(folder / CHECKPOINTS, model, tokenizer, TrainingState(step))
    about = About(
        format=FORMAT,
        sha256=file_sha256(path / WEIGHTS),
        tokenizer=tokenizer.fingerprint(),
        context_length=model.config.context_length,
        recipe=recipe,
        training=training,
        measured=measured,
    )
    write_text(folder / ABOUT, json.dumps(signed(about), indent=1))
    return about


def read_about(folder: Path) -> About:
    """Return what reward.json says.

    Raises:
        AlignmentError: if it cannot be read, has changed since it was written, or is of another
            format.
    """
    path = folder / ABOUT
    about = read_signed(
        path, About, AlignmentError, "make it again: `tinylm reward RUN --rule RULE --out FOLDER`"
    )
    if about["format"] != FORMAT:
        raise AlignmentError(f"{path}: has format {about['format'][:40]!r}, not {FORMAT!r}")
    return about


def load_reward_model(folder: Path, tokenizer: Tokenizer) -> RewardModel:
    """Return a reward model in eval mode.

    Args:
        folder: as ``save_reward_model`` wrote it.
        tokenizer: of the texts that it shall read.

    Raises:
        AlignmentError: if the folder cannot be read, or it was trained with another tokenizer.
        CheckpointError: if its checkpoint is damaged.
    """
    about = read_about(folder)
    if about["tokenizer"] != tokenizer.fingerprint():
        raise AlignmentError(
            f"{folder} was trained with tokenizer {about['tokenizer']}, the model to be rewarded "
            f"has {tokenizer.fingerprint()}: train a reward model on that model"
        )
    checkpoint = load_checkpoint(folder)
    if file_sha256(checkpoint.path / WEIGHTS) != about["sha256"]:
        raise AlignmentError(f"{folder / ABOUT} is of another checkpoint than {checkpoint.path}")
    model = checkpoint.build_model()
    if not isinstance(model, RewardModel):
        raise AlignmentError(f"{folder} holds a {type(model).__name__}, not a reward model")
    return model
