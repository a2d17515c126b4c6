"""Weights that a run's training begins with in place of drawn ones: a checkpoint in ``RUN/start``.

They are written before the first step and stay: whatever becomes of later checkpoints, training
never begins with other weights.
"""

from __future__ import annotations

from pathlib import Path

import torch

from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.errors import CheckpointError, ConfigError
from tinylm.experiments.context import Context
from tinylm.experiments.preparation import PreparedData, check_same_tokenizer
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import Tokenizer

START = "start"


def write_start(folder: Path, model: GenerativeModel, tokenizer: Tokenizer) -> Path:
    """Write the weights and masks that a run's training will begin with, and return their place.

    Args:
        folder: ``RUN/start``, or what will be.
        model: has them.
        tokenizer: of the run.

    Raises:
        CheckpointError: if they cannot be written.
    """
    return save_checkpoint(folder, model, tokenizer, TrainingState(0), last=False)


def started(context: Context, data: PreparedData, checkpoint: Path | None) -> GenerativeModel:
    """Return the model of a run that has a start.

    Args:
        context: the run.
        data: its text.
        checkpoint: of the run, from which training goes on; None: it begins.

    Raises:
        ConfigError: if the start is gone, or config.yaml says another model.
        CheckpointError: if it is damaged.
        DataError: if the text is another one.
    """
    path = checkpoint or context.folder / START / "step-0"
    if not path.exists():
        raise ConfigError(
            f"{path} is gone, the weights that training begins with: put it back, or make the run "
            "again"
        )
    kept = load_checkpoint(path)
    check_same_tokenizer(kept.tokenizer, data, path)
    if kept.config != context.config.model:
        raise CheckpointError(f"{path} is another model than {context.folder}/config.yaml says")
    model = kept.build_language_model()
    model.embedding.requires_grad_(context.config.vectors.trainable)
    torch.manual_seed(context.config.training.seed)
    return model
