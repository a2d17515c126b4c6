"""Fine-tuning a run's model on other text, by a method of few parameters or by training everything.

An adapter lives in ``RUN/adapters/NAME``: its own files (``finetuning.storage``), and
``finetuning.json`` with what it was made by. While it is trained, ``checkpoints`` stands beside
them with the whole adapted model, from which an interrupted training goes on bit for bit; it is
deleted when the adapter is written. Full fine-tuning leaves checkpoints, which are models by
themselves.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tinylm import folders
from tinylm.checkpoint import load_checkpoint
from tinylm.config import DataConfig, TrainingConfig, to_dict
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import windows_of
from tinylm.errors import AdapterError
from tinylm.experiments.context import Console, threads
from tinylm.experiments.recipes import begun, read_recipe, unfinished, write_recipe
from tinylm.experiments.training.measure import StoppedBySignalError, go_back, resume_point
from tinylm.finetuning.adapters import attach, fingerprint, trained_parameters
from tinylm.finetuning.classification_files import ABOUT as CLASSIFIER
from tinylm.finetuning.linear import refuse_quantized
from tinylm.finetuning.longlora import extended
from tinylm.finetuning.storage import OURS, load_adapter, read_adapter, save_adapter
from tinylm.language_model import LanguageModel
from tinylm.locks import locked
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import load_weights
from tinylm.registry import METHODS
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.training.commands import Commands
from tinylm.training.loop import Trainer

FULL = "full"
"""The name of training everything, beside those of the registry METHODS."""
RATES: dict[str, float] = {
    FULL: 3e-4,
    **{name: METHODS.load(name).learning_rate for name in METHODS},
}
"""Learning rate of each method where none is given."""


@dataclass(frozen=True)
class Recipe:
    """Everything that an adapter follows from, beside its base."""

    method: str
    """Name in the registry METHODS, or FULL."""
    settings: Any
    """Of the method; None for FULL."""
    training: TrainingConfig
    data: DataConfig
    context_length: int
    """Tokens of a window; more than the base's extends it."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "method": self.method,
            "settings": None if self.settings is None else to_dict(self.settings),
            "training": to_dict(self.training),
            "data": to_dict(self.data),
            "context_length": self.context_length,
        }


@dataclass(frozen=True)
class Adapted:
    """What came of a fine-tuning."""

    model: GenerativeModel
    loss_before: float
    """Validation loss on the new text, in nats a token, before."""
    loss_after: float
    """The best one."""
    steps: int
    trained: int
    """Parameters trained."""
    num_bytes: int
    """Of the adapter's tensors on disk; 0 for full fine-tuning."""


def adapted_start(base: GenerativeModel, recipe: Recipe) -> GenerativeModel:
    """Return a model with an untrained adapter, drawn from the recipe's seed.

    Args:
        base: changed in place, unless its context is extended.
        recipe: the method and its settings.

    Raises:
        AdapterError: for settings that the model cannot have.
    """
    if recipe.context_length > base.config.context_length:
        base = extended(base, recipe.context_length)
    torch.manual_seed(recipe.training.seed)
    if recipe.method == FULL:
        refuse_quantized(base)
        return base.requires_grad_()
    return attach(base, recipe.method, recipe.settings)


def refuse_recipe(base: GenerativeModel, recipe: Recipe) -> None:
    """Refuse, before texts are read, what would be refused when training begins.

    Args:
        base: left as it is.
        recipe: the method and its settings.

    Raises:
        AdapterError: for settings that the model cannot have.
    """
    with torch.random.fork_rng(devices=[]):
        _refuse_untrainable(adapted_start(copy.deepcopy(base), recipe))


def adapt(
    lm: LanguageModel,
    train: TokenFile,
    validation: TokenFile,
    recipe: Recipe,
    folder: Path,
    console: Console,
    commands: Commands,
) -> Adapted:
    """Fine-tune a model and write the adapter, or go on where an interrupted one stopped.

    Args:
        lm: the base; its model is changed.
        train: split of the new text.
        validation: split of the new text.
        recipe: how.
        folder: of the adapter.
        console: who watches.
        commands: what to do when it stops before its end.

    Raises:
        ConfigError: if the folder holds an adapter of another recipe, or a finished one.
        LockedError: if another process writes to the folder.
        AdapterError: for settings that the model cannot have.
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
    """
    with locked(folder, console.warn):
        return _adapt(lm, train, validation, recipe, folder, console, commands)


def _adapt(
    lm: LanguageModel,
    train: TokenFile,
    validation: TokenFile,
    recipe: Recipe,
    folder: Path,
    console: Console,
    commands: Commands,
) -> Adapted:
    written = recipe.as_dict() | {
        "base": fingerprint(lm.model),
        "texts": [split.header.corpus for split in (train, validation)],
        "command": commands.go_on,
    }
    before = begun(folder, written, _usual(recipe), lambda: _finished(folder), console.warn)
    training, checkpoints = recipe.training, folder / "checkpoints"
    with threads(training.threads):
        model = adapted_start(lm.model, recipe)
        _refuse_untrainable(model)
        length = min(recipe.context_length, model.config.context_length)
        held_out = windows_of(validation, model.config, length)
        subset = held_out.fixed_subset(training.validation_windows)

        task = LanguageModelling(
            lm.tokenizer,
            windows_of(train, model.config, length),
            held_out,
            training.batch_size,
            subset,
        )
        path, state = (None, None) if before is None else resume_point(checkpoints, console)
        with console.training() as listener:
            trainer = Trainer(model, task, training, checkpoints, listener, commands=commands)
            loss_before = None if before is None else before.get("loss_before")
            if loss_before is None:
                loss_before = trainer.validation_loss()
            if path is not None and state is not None:
                load_weights(model, load_checkpoint(path).weights, path)
                trainer.restore(state)
            write_recipe(folder, written | {"loss_before": loss_before})
            go_back(checkpoints, state)
            outcome = trainer.run()
        if outcome.reason.startswith("SIG"):
            raise StoppedBySignalError(outcome, commands.go_on)
    best = load_checkpoint(checkpoints / "best")
    load_weights(model, best.weights, best.path)
    trained, num_bytes = sum(p.numel() for p in model.parameters() if p.requires_grad), 0
    if recipe.method != FULL:
        trained = sum(p.numel() for p in trained_parameters(model, "default").values())
        num_bytes = save_adapter(model, "default", folder)
        folders.remove(checkpoints)
    return Adapted(model, loss_before, outcome.best_loss, outcome.step, trained, num_bytes)


def _finished(folder: Path) -> bool:
    """Whether an adapter is there, and nothing to go on from.

    Raises:
        AdapterError: if it is damaged.
    """
    if (folder / "checkpoints").exists() or not (folder / OURS).exists():
        return False
    read_adapter(folder)
    return True


def _usual(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe with every setting at its default."""
    settings = None if recipe.settings is None else type(recipe.settings)()
    usual = replace(recipe, settings=settings, training=TrainingConfig(), data=DataConfig())
    return usual.as_dict()


def adapted(lm: LanguageModel, folder: Path) -> LanguageModel:
    """Return a language model with the adapter of a folder attached.

    Args:
        lm: the base; its model is changed, unless the adapter was trained for a longer context.
        folder: written by ``adapt``, by ``save_adapter`` or by PEFT.

    Raises:
        AdapterError: if there is none, it is unfinished, or it is another base's.
    """
    about = read_recipe(folder)
    if about is not None and about["method"] == FULL:
        raise AdapterError(
            f"{folder} is no adapter but a whole model: give that folder in place of the run's"
        )
    if (folder / CLASSIFIER).exists():
        command = shlex.join(["tinylm", "classify", "RUN", str(folder), "TEXT"])
        raise AdapterError(f"{folder} is no adapter but a classifier, used by {command}")
    problem = unfinished(folder)
    if problem is not None:
        raise AdapterError(problem)
    if about is not None and not (folder / "tinylm.json").exists():
        raise AdapterError(
            f"{folder}: tinylm.json is missing, which says what method and base the adapter is of: "
            f"put it back, or train it again: {about.get('command', 'the command that made it')}"
        )
    model = lm.model
    # An adapter of an earlier version does not say itself what context it is for.
    if about is not None and about["context_length"] > model.config.context_length:
        model = extended(model, about["context_length"])
    return LanguageModel(load_adapter(model, folder).eval(), lm.tokenizer, lm.source)


@torch.no_grad()
def _refuse_untrainable(model: GenerativeModel) -> None:
    """Ask for what the training step asks for, before anything is written.

    Raises:
        AdapterError: if the adapter cannot act through the output layer's weight.
    """
    mode = model.training
    model.train().unembedding.weight  # noqa: B018
    model.train(mode)
