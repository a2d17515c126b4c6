"""The trainings of the experiment, each a run of its own, and how many items they get right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinylm.checkpoint import by_step, step_of
from tinylm.config import DataConfig, ModelConfig, RunConfig, TrainingConfig, VectorsConfig
from tinylm.data.corpora.skill_grammar import TASKS
from tinylm.data.corpora.skill_grammar.items import Item
from tinylm.data.corpora.skills import SkillsCorpus
from tinylm.errors import ConfigError
from tinylm.evaluation.exact_match import exact_matches, question
from tinylm.experiments.autocomplete.settings import AutocompleteExperiment
from tinylm.experiments.context import Context, WithoutNotes
from tinylm.experiments.preparation import prepare_data, resolve
from tinylm.experiments.trials import Remedy, commands_of, short, train_trial
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.training.commands import Commands, lower

NAME = "autocomplete"
_HELD_OUT_WINDOWS = 32
"""Windows of the one validation at the end of a training."""


@dataclass(frozen=True)
class Variant:
    """What one training differs in from the others."""

    items: int
    hidden_size: int
    withheld: float
    tasks: tuple[str, ...] = ()
    """Empty: all of them."""

    @property
    def name(self) -> str:
        """Of its folder."""
        tasks = "-".join(self.tasks) or "all"
        return (
            f"{tasks}-{self.items}-items-{self.hidden_size}-wide-{100 * self.withheld:g}-withheld"
        )


def main_variant(settings: AutocompleteExperiment) -> Variant:
    """Return the training that the others are compared with."""
    return Variant(settings.items, settings.hidden_size, settings.withheld)


def variants(settings: AutocompleteExperiment) -> list[Variant]:
    """Return what is trained: the main variant first, each other with one setting changed.

    Raises:
        ConfigError: if a width gives heads of an odd size, which rotary positions cannot turn.
    """
    for width in (settings.hidden_size, *settings.smaller):
        size = math.ceil(width / settings.num_heads)
        if size % 2:
            raise ConfigError(
                f"experiments.autocomplete.num_heads = {settings.num_heads}: a model {width} wide "
                f"has heads of size {size}, and rotary positions need an even one: choose fewer "
                f"heads, or a width such as {2 * settings.num_heads}"
            )
    main = main_variant(settings)
    fewer = [replace(main, items=items) for items in sorted(set(settings.fewer_items))]
    smaller = [replace(main, hidden_size=size) for size in sorted(set(settings.smaller))]
    others = [*fewer, *smaller, replace(main, withheld=settings.more_withheld)]
    return list(dict.fromkeys([main, *others]))


def config_of(context: Context, variant: Variant, seed: int, points: int) -> RunConfig:
    """Return the configuration of a training.

    Args:
        context: of the experiment: for device, threads and where files are kept.
        variant: what is trained.
        seed: of items, withheld facts, weights and order.
        points: how many checkpoints are kept, evenly over the steps.
    """
    settings: AutocompleteExperiment = context.config.experiments.autocomplete
    own = context.config.training
    steps = settings.steps
    return replace(
        context.config,
        data=DataConfig(
            corpus="skills",
            train_stories=variant.items,
            seed=seed,
            withheld=variant.withheld,
            tasks=variant.tasks,
            cache_folder=context.config.data.cache_folder,
        ),
        vectors=VectorsConfig(source="none"),
        model=ModelConfig(
            context_length=settings.context_length,
            num_layers=settings.num_layers,
            num_heads=settings.num_heads,
            hidden_size=variant.hidden_size,
            dropout=0.0,
            norm_placement="pre",
            positions="rotary",
        ),
        training=short(
            TrainingConfig(
                learning_rate=settings.learning_rate,
                schedule="cosine",
                warmup_steps=steps // 20,
                min_learning_rate_ratio=0.1,
                batch_size=settings.batch_size,
                checkpoint_interval=max(1, steps // points),
                device=own.device,
                threads=own.threads,
                speed=own.speed,
                seed=seed,
            ),
            steps,
            _HELD_OUT_WINDOWS,
            max(steps, points + 1),  # all, and those of interruptions
        ),
    )


@dataclass(frozen=True)
class Trained:
    """One training that is done."""

    folder: Path
    config: RunConfig
    """Resolved."""
    corpus: SkillsCorpus
    result: Mapping[str, Any]
    """Of the training."""

    def model(self) -> LanguageModel:
        """Return the model after the last step."""
        return LanguageModel.load(self.folder / "checkpoints" / "last")


def train(context: Context, variant: Variant, seed: int, points: int = 1) -> Trained:
    """Train one variant, or go on with it where it was interrupted.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if it diverged.
    """
    config = config_of(context, variant, seed, points)
    config = resolve(config, prepare_data(config, WithoutNotes(context.console)))
    name = f"{variant.name}-{seed}"
    result = train_trial(context, config, NAME, name, _remedy(context))
    return Trained(context.folder / NAME / name, config, SkillsCorpus(config.data), result)


def commands(context: Context) -> Commands:
    """Return what to type when a training of the experiment stops before its end."""
    return commands_of(context, NAME, _remedy(context))


def _remedy(context: Context) -> Remedy:
    rate = context.config.experiments.autocomplete.learning_rate
    return Remedy("run it at a lower rate", f"experiments.autocomplete.learning_rate={lower(rate)}")


def right_answers(lm: LanguageModel, items: Mapping[str, Sequence[Item]]) -> dict[str, list[bool]]:
    """Return for each task which of its items a model continues with their answers."""
    every = [item for chosen in items.values() for item in chosen]
    questions = [question(item.prompt, item.answer, lm.tokenizer, SPECIAL_IDS) for item in every]
    right = iter(exact_matches(lm.model, questions, SPECIAL_IDS))
    return {task: [next(right) for _ in chosen] for task, chosen in items.items()}


def asked(corpus: SkillsCorpus, count: int) -> dict[str, dict[str, list[Item]]]:
    """Return what a model is asked: kind of item -> task -> items.

    Kinds: ``trained``, of the training text; ``new``, none of them, with facts that may stand in
    it; ``withheld``, which hang on facts that do not.
    """
    trained: dict[str, dict[str, Item]] = {task: {} for task in TASKS}
    for item in corpus.items("train"):
        if len(trained[item.task]) < count:
            trained[item.task].setdefault(item.text, item)
    return {
        "trained": {task: list(items.values()) for task, items in trained.items()},
        "new": {task: corpus.unseen(task, count) for task in TASKS},
        "withheld": {task: corpus.held_out(task, count) for task in TASKS},
    }


def accuracies(
    lm: LanguageModel, items: Mapping[str, Mapping[str, Sequence[Item]]]
) -> dict[str, dict[str, float]]:
    """Return the share of right answers: kind of item -> task that has such items -> share."""
    return {
        kind: {
            task: sum(right) / len(right)
            for task, right in right_answers(lm, of_kind).items()
            if right
        }
        for kind, of_kind in items.items()
    }


def curve(trained: Trained, items: Mapping[str, Mapping[str, Sequence[Item]]]) -> list[Any]:
    """Return the accuracies over a training, a row for each checkpoint that it keeps by plan.

    An interruption has left one more, which other seeds have not.
    """
    settings = trained.config.training
    return [
        {"step": step_of(path), "accuracy": accuracies(LanguageModel.load(path), items)}
        for path in by_step(trained.folder / "checkpoints")
        if step_of(path) % settings.checkpoint_interval == 0 or step_of(path) == settings.max_steps
    ]
