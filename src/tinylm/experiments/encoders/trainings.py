"""The trainings of the experiment, each a run of its own, measured at some of its steps.

A training is as long as its operations allow: the kind that needs most of them a token takes
``steps`` optimizer steps, every other one goes on until it has used as many. The learning rate is
constant, so that the point of a training after ``steps`` steps is one at equal tokens, and its end
one at equal operations. What was measured is kept beside each training, so that an interrupted
experiment goes on with what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from tinylm.checkpoint import by_step, prune, step_of
from tinylm.config import (
    DataConfig,
    ModelConfig,
    RunConfig,
    TrainingConfig,
    VectorsConfig,
    to_dict,
)
from tinylm.data.corpora.skill_grammar.items import Item
from tinylm.data.corpora.skills import SkillsCorpus
from tinylm.data.windows import TokenWindows
from tinylm.errors import DataError
from tinylm.evaluation.exact_match import exact_matches, question
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.context import Context, WithoutNotes
from tinylm.experiments.encoders.settings import EncodersExperiment
from tinylm.experiments.encoders.variants import Variant, flops_per_token, matched, variants
from tinylm.experiments.preparation import PreparedData, prepare_data, resolve
from tinylm.experiments.results import read_result, write_result
from tinylm.experiments.trials import Remedy, short, train_trial
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.training.commands import lower

NAME = "encoders"
TASK: Final = "translation"
_VALIDATION_STORIES = 400
_MEASURED = "measured.json"


@dataclass(frozen=True)
class Text:
    """What is trained on: a corpus, and the trainings on it."""

    name: Literal["stories", "translation"]
    context: Context
    source: DataConfig
    data: PreparedData
    variants: Sequence[Variant]

    @property
    def settings(self) -> EncodersExperiment:
        """Those of the experiment."""
        settings: EncodersExperiment = self.context.config.experiments.encoders
        return settings

    @property
    def context_length(self) -> int:
        """Tokens of a window."""
        settings = self.settings
        return settings.context_length if self.name == "stories" else settings.item_context

    @property
    def batch_size(self) -> int:
        """Windows of a batch."""
        return self.settings.tokens_per_step // self.context_length

    @property
    def tokens_per_step(self) -> int:
        """Tokens of a batch."""
        return self.batch_size * self.context_length

    @cached_property
    def models(self) -> dict[str, ModelConfig]:
        """The models, by the kind."""
        size = self.data.tokenizer.vocab_size
        kinds = dict.fromkeys(variant.kind for variant in self.variants)
        return {kind: matched(kind, self.settings, size, self.context_length) for kind in kinds}

    @property
    def _asked_steps(self) -> int:
        return self.settings.steps if self.name == "stories" else self.settings.item_steps

    @property
    def interval(self) -> int:
        """Steps between two points at which a training is measured."""
        return max(1, self._asked_steps // self.settings.points)

    @property
    def common_steps(self) -> int:
        """Steps after which all trainings have read as many tokens."""
        return self.interval * min(self.settings.points, self._asked_steps)

    def steps(self, kind: str) -> int:
        """Return the steps after which a kind's training has used as many operations as all."""
        each = {name: flops_per_token(model) for name, model in self.models.items()}
        return round(self.common_steps * max(each.values()) / each[kind])

    @cached_property
    def held_out(self) -> TokenWindows:
        """Windows of the held-out text, seen as the rest after given tokens, for every kind."""
        return TokenWindows(self.data.validation, self.context_length, "rest")

    @property
    def chosen(self) -> list[int] | None:
        """Which of the held-out windows are used."""
        return self.held_out.fixed_subset(self.settings.held_out)

    @cached_property
    def items(self) -> list[Item]:
        """Held-out items that models are asked for; none of a text without items."""
        corpus = self.data.corpus
        return (
            corpus.held_out(TASK, self.settings.asked) if isinstance(corpus, SkillsCorpus) else []
        )


def texts(context: Context) -> list[Text]:
    """Prepare both corpora: the stories, and the translations of the corpus ``skills``."""
    settings: EncodersExperiment = context.config.experiments.encoders
    every = variants(settings)
    cache = context.config.data.cache_folder
    stories = DataConfig(
        corpus="stories", train_stories=settings.stories, validation_stories=_VALIDATION_STORIES,
        seed=settings.seed, cache_folder=cache,
    )  # fmt: skip
    items = DataConfig(
        corpus="skills", tasks=(TASK,), train_stories=settings.items, seed=settings.seed,
        cache_folder=cache,
    )  # fmt: skip
    return [
        Text("stories", context, stories, _prepared(context, stories), every),
        Text(TASK, context, items, _prepared(context, items), every),
    ]


def _prepared(context: Context, data: DataConfig) -> PreparedData:
    config = replace(context.config, data=data, vectors=VectorsConfig(source="none"))
    return prepare_data(config, WithoutNotes(context.console))


def config_of(text: Text, variant: Variant, seed: int) -> RunConfig:
    """Return the configuration of a training."""
    context, settings, steps = text.context, text.settings, text.steps(variant.kind)
    own = context.config.training
    config = replace(
        context.config,
        data=text.source,
        vectors=VectorsConfig(source="none"),
        model=text.models[variant.kind],
        training=short(
            TrainingConfig(
                learning_rate=settings.learning_rate,
                warmup_steps=text.common_steps // 20,
                batch_size=text.batch_size,
                view=variant.view,
                checkpoint_interval=text.interval,
                device=own.device,
                threads=own.threads,
                speed=own.speed,
                seed=seed,
            ),
            steps,
            1,
            steps // text.interval + 3,
        ),
    )
    return resolve(config, text.data)


def measured(
    text: Text, variant: Variant, seed: int, more: Callable[[LanguageModel], dict[str, Any]]
) -> dict[str, Any]:
    """Train one variant and measure it, or return what was measured before.

    Args:
        text: that it is trained on.
        variant: what is trained.
        seed: of weights and order.
        more: what else is measured of the model after the last step.

    Returns:
        ``curve``, a row a point with ``step``, ``loss`` on the held-out windows in nats a token
        and, where there are items, ``accuracy`` on them; ``seconds``, ``parameters``; and ``more``.

    Raises:
        StoppedBySignalError: if a signal stopped the training; its state is saved.
        TrainingError: if it diverged.
    """
    context = text.context
    config = config_of(text, variant, seed)
    name = f"{text.name}-{variant.name}-{seed}"
    folder = context.folder / NAME / name
    asked = [to_dict(part) for part in (config.model, config.training, text.settings)]
    kept = _kept(folder / _MEASURED, asked)
    if kept is not None:
        return kept
    result = train_trial(context, config, NAME, name, _remedy(context))
    steps = {*range(text.interval, config.training.max_steps or 0, text.interval)}
    *before, last = by_step(folder / "checkpoints")  # where it was interrupted there is one more
    paths = [*(path for path in before if step_of(path) in steps), last]
    lm = LanguageModel.load(last)
    values = {
        "curve": [_point(text, step_of(path), LanguageModel.load(path)) for path in paths],
        "seconds": result["seconds"],
        "parameters": result["parameters"]["total"],
        **more(lm),
    }
    write_result(folder / _MEASURED, {"asked": asked, "measured": values})
    prune(folder / "checkpoints", 1)  # the others are 4 MB each, and measured
    return values


def _kept(path: Path, asked: Sequence[Any]) -> dict[str, Any] | None:
    """Return what was measured of a training with the same settings."""
    try:
        kept = read_result(path)
    except DataError:  # damaged: it is measured again
        return None
    if kept is None or kept["asked"] != json.loads(json.dumps(asked)):
        return None
    values: dict[str, Any] = kept["measured"]
    return values


def _point(text: Text, step: int, lm: LanguageModel) -> dict[str, Any]:
    batch_size = text.context.config.evaluation.batch_size
    loss = split_loss(lm.model, text.held_out, batch_size, text.chosen)
    point = {"step": step, "loss": loss.mean}
    if text.items:
        questions = [
            question(item.prompt, item.answer, lm.tokenizer, SPECIAL_IDS) for item in text.items
        ]
        right = exact_matches(lm.model, questions, SPECIAL_IDS)
        point["accuracy"] = sum(right) / len(right)
    return point


def _remedy(context: Context) -> Remedy:
    rate = context.config.experiments.encoders.learning_rate
    return Remedy("run it at a lower rate", f"experiments.encoders.learning_rate={lower(rate)}")
