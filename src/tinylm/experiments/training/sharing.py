"""A training that several processes share: what must be alike, and what cannot be shared."""

from __future__ import annotations

from typing import Any

import torch

import tinylm
from tinylm.config import RunConfig, to_dict
from tinylm.config.places import MOVABLE
from tinylm.data.windows import StreamOrder
from tinylm.errors import ConfigError
from tinylm.experiments.preparation import PreparedData
from tinylm.tasks.language_modelling import LanguageModelling


def settings_of_all(config: RunConfig, data: PreparedData) -> dict[str, Any]:
    """Return what all processes that train together must have alike, by its key."""
    settings = to_dict(config)
    return {
        "the version of tinylm": tinylm.__version__,
        "the version of torch": torch.__version__,
        "the text": data.corpus.fingerprint(),
        "the tokenizer": data.tokenizer.fingerprint(),
        **{
            f"{section}.{key}": value
            for section in ("data", "tokenizer", "vectors", "model", "training")
            for key, value in settings[section].items()
            if f"{section}.{key}" not in MOVABLE
        },
    }


def refuse_sharing(task: LanguageModelling) -> None:
    """Refuse to share out a task that keeps something of its own from step to step.

    Raises:
        ConfigError: naming what can be done.
    """
    if task.state() or task.tensors() or isinstance(task.order(1, 0), StreamOrder):
        raise ConfigError(
            "what is trained keeps something of its own from step to step, such as a state that is "
            "carried (training.carry_state) or parts that are pruned: train it in one process"
        )
