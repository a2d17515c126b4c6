"""The students of the experiment, each trained as a run of its own below the run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.config import RunConfig, to_dict
from tinylm.config.distillation import WordConfig
from tinylm.errors import CompressionError, ConfigError
from tinylm.experiments.context import Context, WithoutNotes, create_run, run_experiment
from tinylm.experiments.distillation.settings import DistillationExperiment
from tinylm.experiments.distilling import begin, student_config
from tinylm.experiments.preparation import prepare_data, resolve, vectors_seed
from tinylm.experiments.records import (
    Distilled,
    checkpoint_of,
    read_distillation,
    still_holds,
)
from tinylm.experiments.trials import Remedy, commands_of, short
from tinylm.language_model import LanguageModel
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import DISTILLATIONS
from tinylm.tasks.distillation.base import Distillation
from tinylm.training.commands import lower

FOLDER = "distillation"
"""Below the run's folder."""
ALONE = "alone"
"""The row of the students that learn from the text alone."""


@dataclass(frozen=True)
class Way:
    """One way to teach a student."""

    name: str
    method: str
    """In the registry DISTILLATIONS."""
    settings: Any
    """Of the method."""

    @property
    def kind(self) -> type[Distillation]:
        """The method."""
        kind: type[Distillation] = DISTILLATIONS.load(self.method)
        return kind


@dataclass(frozen=True)
class Student:
    """One that is trained."""

    folder: Path
    result: Mapping[str, Any]
    """Of its training."""
    written: Distilled
    """What it has learned from."""


def ways(settings: DistillationExperiment) -> list[Way]:
    """Return what is compared: first the training without a teacher, then the methods.

    Where the teacher does not count, training is that of any run, bit for bit.
    """
    common = {
        name: getattr(settings, name)
        for name in ("temperature", "texts", "prompt_tokens", "num_beams")
    }
    compared = [Way(ALONE, "word", WordConfig(alpha=0.0))]
    for name in dict.fromkeys(settings.methods):
        kind: type[Distillation] = DISTILLATIONS.load(name)
        own = {field.name for field in fields(kind.Settings)}
        given = {key: value for key, value in common.items() if key in own}
        compared.append(Way(name, name, kind.Settings(**given)))
    return compared


def config_of_students(context: Context, teacher: LanguageModel) -> RunConfig:
    """Return the configuration that all students have but for their seed.

    Word vectors are trained once for all; what is compared comes after them.

    Raises:
        ConfigError: if such a student would not be smaller than its teacher, or the beginnings of
            texts fill its context.
    """
    config = context.config
    settings: DistillationExperiment = config.experiments.distillation
    own = config.model
    half = max(1, own.hidden_size // 2)
    width = settings.hidden_size or half
    sizes = [f"model.num_layers={settings.num_layers}", f"model.hidden_size={width}"]
    smaller, _ = student_config(context.folder, sizes)
    most = teacher.model.parameter_counts()["total"]
    size = parameter_counts(smaller.model)["total"]
    if size >= most:
        raise ConfigError(
            f"experiments.distillation.num_layers = {settings.num_layers} and hidden_size = "
            f"{width}: such a student has {size:,} numbers and its teacher {most:,}: make it "
            f"smaller, such as by -o experiments.distillation.hidden_size={half}"
        )
    if settings.prompt_tokens >= own.context_length:
        raise ConfigError(
            f"experiments.distillation.prompt_tokens = {settings.prompt_tokens}: a context of "
            f"{own.context_length} tokens leaves nothing to go on with; give fewer"
        )
    vectors = replace(config.vectors, seed=vectors_seed(config))
    if vectors.path is not None and width != own.hidden_size:  # vectors of another length
        vectors = replace(vectors, source="train", path=None)
    training = replace(
        short(config.training, settings.steps, settings.windows),
        learning_rate=settings.rate * config.training.learning_rate,
        gradient_checkpointing=0,  # which, like compiling, not every method can be trained with
        compile=False,
    )
    return replace(config, model=smaller.model, training=training, vectors=vectors)


def trained(
    context: Context, teacher: LanguageModel, way: Way, config: RunConfig, seed: int
) -> Student:
    """Train a student, or go on with one that was interrupted; a finished one is kept.

    Args:
        context: of the teacher's run.
        teacher: read from a checkpoint of it.
        way: what the student learns.
        config: of all students (``config_of_students``).
        seed: of its random numbers.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if it diverged.
        DataError: if the teacher's own texts cannot be had.
    """
    folder = context.folder / FOLDER / f"{way.name}-{seed}"
    config = replace(config, training=replace(config.training, seed=seed))
    inner = _begun(context, folder, teacher, way, config)
    if inner is None:
        if folder.exists():
            folders.remove(folder)
        folder.mkdir(parents=True)
        console = WithoutNotes(context.console)
        inner = begin(folder, teacher, context.folder, way.method, way.settings, config, console)
    rate = context.config.experiments.distillation.rate
    commands = commands_of(
        context,
        "distillation",
        Remedy("train all at a lower rate", f"experiments.distillation.rate={lower(rate)}"),
    )
    result = run_experiment("training", replace(inner, commands=commands, within=context))
    written = read_distillation(folder)
    assert written is not None
    return Student(folder, result, written)


def _begun(
    context: Context, folder: Path, teacher: LanguageModel, way: Way, config: RunConfig
) -> Context | None:
    """Return the run of a student that was begun with these settings, or None if there is none."""
    if not (folder / "config.yaml").exists():
        return None
    console = WithoutNotes(context.console)
    try:
        written = read_distillation(folder)
        config = replace(config, training=way.kind.suited(config.training))
        inner = create_run(folder, resolve(config, prepare_data(config, console)), console)
    except CompressionError as error:
        console.warn(f"{error}: its student is trained again")
        return None
    except ConfigError:  # of other settings, which are not those of this result
        return None
    if written is None or (written["method"], written["settings"]) != (
        way.method,
        to_dict(way.settings),
    ):
        return None
    assert teacher.source is not None
    same = checkpoint_of(written["teacher"]) == teacher.source.resolve()
    return inner if same and still_holds(written["teacher"]) else None
