"""Trainings of equally many FLOPs, of any kind of model with any tokenizer, and what their texts
cost in bits.

FLOPs are those of forward and backward passes as ``planning`` counts them. A training takes as many
whole steps as come nearest to them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tinylm.config import ModelConfig, RunConfig, TrainingConfig, VectorsConfig
from tinylm.errors import ConfigError
from tinylm.evaluation.restoring import Restoring
from tinylm.evaluation.text_bits import Parts, TextBits, bits_per_byte, text_bits
from tinylm.experiments.budget import Budget
from tinylm.experiments.context import Context, WithoutNotes
from tinylm.experiments.preparation import PreparedData, prepare_data, resolve
from tinylm.experiments.trials import Remedy, short, train_trial
from tinylm.language_model import LanguageModel
from tinylm.planning.flops import step_flops
from tinylm.registry import MODELS, TOKENIZERS
from tinylm.training.commands import lower

_HELD_OUT_WINDOWS = 8
"""Windows of the one validation at the end of a training, which nothing is told of."""
_FEWEST = 10
"""Steps below which nothing is learned that could be compared."""


@dataclass(frozen=True)
class Cut:
    """A tokenizer with the size that is asked for."""

    kind: str
    size: int | None
    """None: it has one size."""

    @property
    def name(self) -> str:
        """Such as ``bpe 512``."""
        return self.kind if self.size is None else f"{self.kind} {self.size}"

    @property
    def settings(self) -> Any:
        """Of the tokenizer."""
        kind = TOKENIZERS.load(self.kind)
        size = {} if self.size is None else {kind.size_setting: self.size}
        return kind.Settings(kind=self.kind, **size)


def cuts(sizes: Sequence[int]) -> list[Cut]:
    """Return every tokenizer with each of these sizes, or once if it has only one."""
    return [
        Cut(kind, size)
        for kind in TOKENIZERS
        for size in (sorted(set(sizes)) if TOKENIZERS.load(kind).size_setting else [None])
    ]


def shape(kind: str, budget: Budget, vocab_size: int, hidden_size: int) -> ModelConfig:
    """Return a model of the experiment; settings that its kind lacks are left out."""
    wanted: dict[str, Any] = {
        "num_layers": budget.num_layers,
        "num_heads": budget.num_heads,
        "hidden_size": hidden_size,
        "dropout": 0.0,
        "norm_placement": "pre",
    }
    own = MODELS.load(kind).settings
    known = {name: value for name, value in wanted.items() if name in own}
    return ModelConfig(
        kind=kind, vocab_size=vocab_size, context_length=budget.context_length, **known
    )


def config_of(context: Context, key: str, cut: Cut, model: ModelConfig, seed: int) -> RunConfig:
    """Return the configuration of one training.

    Args:
        context: of the experiment: for the text, device, threads and where files are kept.
        key: of the experiment's settings.
        cut: the tokenizer.
        model: with its vocabulary.
        seed: of weights and order.

    Raises:
        ConfigError: if the FLOPs are not enough for a few steps.
    """
    budget: Budget = getattr(context.config.experiments, key)
    own = context.config.training
    steps = steps_of(budget, model, key)
    return replace(
        context.config,
        tokenizer=cut.settings,
        vectors=VectorsConfig(source="none"),
        model=replace(model, vocab_size=None),
        training=short(
            TrainingConfig(
                learning_rate=budget.learning_rate,
                schedule="cosine",
                warmup_steps=steps // 20,
                min_learning_rate_ratio=0.1,
                batch_size=budget.batch_size,
                checkpoint_interval=0,
                device=own.device,
                threads=own.threads,
                speed=own.speed,
                seed=seed,
            ),
            steps,
            _HELD_OUT_WINDOWS,
        ),
    )


def flops_of_step(budget: Budget, model: ModelConfig) -> int:
    """Return the FLOPs of an optimizer step."""
    return budget.batch_size * step_flops(model, model.context_length)


def steps_of(budget: Budget, model: ModelConfig, key: str) -> int:
    """Return the steps whose FLOPs come nearest to the budget.

    Raises:
        ConfigError: if they are fewer than ten.
    """
    step = flops_of_step(budget, model)
    steps = round(budget.flops / step)
    if steps < _FEWEST:
        raise ConfigError(
            f"experiments.{key}.flops = {budget.flops:g}: a step of model.kind = {model.kind} with "
            f"{model.vocab_size:,} token types takes {step:.3g}, so give {_FEWEST * step:.2g} or "
            "more"
        )
    return steps


def prepared(context: Context, cut: Cut, asked_by: str) -> PreparedData:
    """Build a tokenizer and encode the text with it, or find both.

    Args:
        context: of the experiment.
        cut: the tokenizer.
        asked_by: the setting that asks for its size.

    Raises:
        ConfigError: naming that setting, if the vocabulary is smaller than the alphabet.
        DataError: if the text, or a kept file, cannot be used.
    """
    config = replace(
        context.config,
        tokenizer=cut.settings,
        model=ModelConfig(),
        vectors=VectorsConfig(source="none"),
    )
    try:
        return prepare_data(config, WithoutNotes(context.console))
    except ConfigError as error:
        raise ConfigError(f"{asked_by}, with tokenizer.kind = {cut.kind}: {error}") from error


@dataclass(frozen=True)
class Scored:
    """One training, and what it makes of held-out texts."""

    result: Mapping[str, Any]
    """Of the training."""
    texts: Sequence[TextBits]
    model: LanguageModel

    @property
    def bits_per_byte(self) -> float:
        """Of all texts together."""
        return bits_per_byte(self.texts)

    @property
    def token_bits_per_byte(self) -> float:
        """The same without what the tokens do not say."""
        return sum(text.token_bits for text in self.texts) / self.num_bytes

    @property
    def perplexity(self) -> float:
        """Of a token, the end of a text counted as one."""
        tokens = sum(text.num_tokens + 1 for text in self.texts)
        return math.exp2(sum(text.token_bits for text in self.texts) / tokens)

    @property
    def num_bytes(self) -> int:
        """Bytes that are scored."""
        return sum(text.num_bytes for text in self.texts)


def train_and_score(
    context: Context,
    experiment: str,
    name: str,
    config: RunConfig,
    data: PreparedData,
    texts: Sequence[Parts],
    restoring: Restoring,
) -> Scored:
    """Train one model, or go on with it where it was interrupted, and score texts with it.

    Args:
        context: of the experiment.
        experiment: its name.
        name: of the training.
        config: of the training.
        data: of its tokenizer.
        texts: held out.
        restoring: of its tokenizer.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if it diverged.
    """
    key = experiment.replace("-", "_")
    rate = config.training.learning_rate
    remedy = Remedy("run it at a lower rate", f"experiments.{key}.learning_rate={lower(rate)}")
    result = train_trial(context, resolve(config, data), experiment, name, remedy)
    lm = LanguageModel.load(folder_of(context, experiment, name))
    return Scored(result, text_bits(lm.model, lm.tokenizer, texts, restoring), lm)


def folder_of(context: Context, experiment: str, name: str) -> Path:
    """Return the checkpoint that a training ends with."""
    return context.folder / experiment / name / "checkpoints" / "last"


def restoring_of(data: PreparedData, count: int) -> Restoring:
    """Learn from so many training texts what the tokens of a tokenizer do not say."""
    return Restoring.of(data.tokenizer, islice(data.corpus.train(), count))


def width_of(kind: str, budget: Budget, vocab_size: int, flops: float) -> int:
    """Return the width at which a training step of a kind costs nearest to given FLOPs.

    Args:
        kind: of model.
        budget: for all other sizes.
        vocab_size: token types.
        flops: of an optimizer step.

    Returns:
        A multiple of twice the number of heads, so that each kind can have it.
    """
    unit = 2 * budget.num_heads

    def cost(number: int) -> float:
        return float(flops_of_step(budget, shape(kind, budget, vocab_size, number * unit)))

    number = 1
    while cost(number + 1) < flops:
        number += 1
    nearest = min((number, number + 1), key=lambda each: abs(math.log(cost(each) / flops)))
    return nearest * unit
