"""Training a reward model on rankings, which are given or made of the run's own samples by a rule.

While it is trained, ``OUT/rewarding`` holds checkpoints, from which the same command goes on bit
for bit, and ``OUT/rewarding.json`` what it follows from. In the end the best checkpoint, with the
mean of its rewards moved to 0, becomes the reward model, and what was measured of it on held-out
rankings is written beside it (``reward_models``).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.reward_measuring import Judged, measured
from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.alignment.samples import Reward, Sample
from tinylm.config import TrainingConfig, to_dict
from tinylm.config.reward import RewardConfig
from tinylm.data.preferences import Preferences, Ranking
from tinylm.errors import ConfigError
from tinylm.experiments.compressing import before, new_run
from tinylm.experiments.context import Context, threads
from tinylm.experiments.own_training import Place, train_to_best, training_settings
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.ranking import (
    MADE_BY,
    Drawing,
    beginnings,
    given_preferences,
    refuse_beside_file,
    refuse_gone,
    room_after,
    spread,
    write_own_rankings,
)
from tinylm.experiments.reward_models import ABOUT, CHECKPOINTS, About, save_reward_model
from tinylm.experiments.rewards import RuleChoice
from tinylm.finetuning.adapters import attach
from tinylm.finetuning.linear import refuse_quantized
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.dropout import leave_out
from tinylm.registry import METHODS
from tinylm.tasks.reward import RewardModelling
from tinylm.tokenizers.base import EOS_ID
from tinylm.training.commands import Commands

RECIPE = "rewarding.json"
WORK = "rewarding"
PREFERENCES = "preferences.jsonl"
OWN = (RECIPE, WORK, CHECKPOINTS, PREFERENCES, "metrics.jsonl", "tensorboard")
"""What stands in a folder before it is a reward model."""
BATCH_SIZE = 8
"""Rankings of a step where no number is given."""
STEPS = 200
"""Optimizer steps where none are given."""
RATES = {"trained": 3e-4, "frozen": 1e-2}
"""Learning rate by what is trained of the body."""
MOST_CENTRED = 256
"""Rankings of the training split, evenly spread, whose mean reward is made 0."""


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    settings: RewardConfig
    training: TrainingConfig
    preferences: Path | None
    rule: RuleChoice | None
    """By which own samples are ranked; None: preferences are given."""
    judge: RuleChoice | None
    """The true reward, where it is known: the rule, or another one for given preferences."""
    adapter: str | None
    """Name in the registry METHODS; None: the body is trained whole, or frozen."""
    adapter_settings: Any


@with_config(extra="forbid")
class Recipe(TypedDict):
    """What rewarding.json holds."""

    settings: dict[str, Any]
    training: dict[str, Any]
    rule: dict[str, Any] | None
    judge: dict[str, Any] | None
    preferences: str | None
    """Fingerprint of those that were given; None: they were made here."""
    adapter: dict[str, Any] | None
    base: str
    """SHA-256 of the weights that it begins with."""
    corpus: str | None
    """Fingerprint of the stories whose beginnings are the prompts of own samples."""


def reward_training(
    own: TrainingConfig, settings: RewardConfig, adapter: str | None = None, **given: Any
) -> TrainingConfig:
    """Return how a reward model is trained.

    Args:
        own: how the run was trained.
        settings: of the reward model.
        adapter: name in the registry METHODS; None: there is none.
        given: settings of training that were asked for; where one is None, the usual one.

    Raises:
        ConfigError: for a value that cannot be.
    """
    rate = RATES[settings.body] if adapter is None else METHODS.load(adapter).learning_rate
    usual = {
        "schedule": "linear",
        "learning_rate": rate,
        "max_steps": STEPS,
        "batch_size": BATCH_SIZE,
    }
    return training_settings(own, usual, given)


def train_reward_model(
    context: Context, out: Path, asked: Asked, commands: Commands, within: Path | None = None
) -> About:
    """Train a reward model, or go on where an interrupted training stopped.

    Args:
        context: the run whose model it begins with.
        out: a new folder, or that of an interrupted training.
        asked: what is asked for.
        commands: what to do when it stops before its end.
        within: the run whose experiment makes it, inside of which it stands.

    Returns:
        What reward.json holds.

    Raises:
        ConfigError: for settings that cannot be, and a folder that holds something else.
        DataError: for preferences that cannot be used.
        AlignmentError: if own samples give no preference.
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
    """
    _refuse(asked)
    console, settings, seed = context.console, asked.settings, asked.training.seed
    lm = LanguageModel.load(context.folder)
    if asked.adapter is None and settings.body == "trained":
        refuse_quantized(lm.model)
    length = lm.model.config.context_length
    base = before(context, lm).source["sha256"]
    place = Place(out, RECIPE, WORK, ABOUT)
    place.clear_finished(console)
    with new_run(out, console, OWN, within), threads(asked.training.threads):
        given, corpus = None, None
        if asked.preferences is not None:
            given = given_preferences(
                asked.preferences, lm, seed, console, length, settings.held_out
            )
        else:
            train = encoded_split(context.config.data, lm.tokenizer, "train", console)
            corpus = train.header.corpus
        recipe = _recipe(asked, base, corpus, given)
        goes_on = place.has_begun(Recipe, recipe)
        if given is None:
            assert asked.rule is not None
            if goes_on:
                refuse_gone(out / PREFERENCES)
            else:
                starts = beginnings(train, settings.prompt_tokens)
                reward = asked.rule.open(lm)
                drawing = _drawing(settings, lm, seed)
                write_own_rankings(out / PREFERENCES, lm, reward, starts, drawing, console)
            given = given_preferences(
                out / PREFERENCES, lm, seed, console, length, settings.held_out
            )
        model = reward_model(lm.model, asked)
        task = RewardModelling(lm.tokenizer, given, settings, asked.training.batch_size)
        if settings.body == "frozen":
            with console.task("Reading the responses with the frozen body"):
                task.read_once(model)
        outcome = train_to_best(
            *(place, model, task, asked.training, recipe, goes_on, console, commands)
        )
        with console.task("Measuring the rewards"):
            rewards = centred(model, spread(given.train, MOST_CENTRED))
            judge = None if asked.judge is None else asked.judge.open(lm)
            result = measured(judged(model, given.validation, judge), seed)
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        training = {
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "trained": trained,
            "rankings": len(given.train),
            "rewards": rewards,
        }
        about = save_reward_model(
            *(model, lm.tokenizer, out, outcome.best_step, dict(recipe), training, result)
        )
        place.clear()
    return about


def reward_model(body: GenerativeModel, asked: Asked) -> RewardModel:
    """Return a reward model that is not trained yet, drawn from the seed; nothing is dropped.

    Args:
        body: changed in place.
        asked: what of it is trained.

    Raises:
        AdapterError: for an adapter that the model cannot have.
    """
    torch.manual_seed(asked.training.seed)
    if asked.adapter is not None:
        body = attach(body, asked.adapter, asked.adapter_settings)
    else:
        body.requires_grad_(asked.settings.body == "trained")
    model = RewardModel(body)
    leave_out(model)
    return model


def centred(model: RewardModel, rankings: Sequence[Ranking]) -> dict[str, float]:
    """Make 0 the mean reward of the prompts of rankings, each the mean of its responses.

    Returns:
        The mean that was taken away, and the standard deviation of the rewards of all responses.
    """
    rewards = _by_ranking(model, rankings)
    by_prompt: dict[tuple[int, ...], list[float]] = {}
    for ranking, own in zip(rankings, rewards, strict=True):
        by_prompt.setdefault(ranking.prompt, []).extend(own)
    middle = statistics.fmean(map(statistics.fmean, by_prompt.values()))
    model.offset += middle
    return {"mean": middle, "deviation": statistics.pstdev([r for own in rewards for r in own])}


def judged(model: RewardModel, rankings: Sequence[Ranking], judge: Reward | None) -> list[Judged]:
    """Return rankings with what a reward model, and the true reward, give to their responses."""
    return [
        Judged(ranking, own, None if judge is None else judge(_samples(ranking)))
        for ranking, own in zip(rankings, _by_ranking(model, rankings), strict=True)
    ]


def _by_ranking(model: RewardModel, rankings: Sequence[Ranking]) -> list[list[float]]:
    texts = [text for ranking in rankings for text in ranking.texts()]
    rewards = iter(rewards_of(model, texts))
    return [[next(rewards) for _ in ranking.responses] for ranking in rankings]


def _samples(ranking: Ranking) -> list[Sample]:
    return [
        Sample(ranking.prompt, response[:-1], True)
        if response[-1] == EOS_ID
        else Sample(ranking.prompt, response, False)
        for response in ranking.responses
    ]


def _drawing(settings: RewardConfig, lm: LanguageModel, seed: int) -> Drawing:
    """Return how rankings are made.

    Raises:
        ConfigError: if the prompt leaves no room.
    """
    # One less than a language model has: the last token of a text is read, too.
    room = room_after(settings.prompt_tokens, lm) - 1
    most = max(1, min(settings.max_new_tokens or room, room))
    return Drawing(settings.ranked_prompts, settings.responses, most, seed, settings.wrong)


def _refuse(asked: Asked) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        ConfigError: naming the options.
    """
    if (asked.rule is None) == (asked.preferences is None):
        raise ConfigError(
            "give either --preferences FILE, or --rule RULE, by which the run's own samples are "
            "ranked"
        )
    if asked.preferences is not None:
        unused = (*MADE_BY, "prompt_tokens", "max_new_tokens")
        refuse_beside_file(asked.settings, asked.preferences.name, unused)
    if asked.adapter is not None and asked.settings.body == "frozen":
        raise ConfigError("-o body=frozen trains the head alone: leave it, or --adapter, out")


def _recipe(asked: Asked, base: str, corpus: str | None, given: Preferences | None) -> Recipe:
    adapter = None
    if asked.adapter is not None:
        adapter = {"method": asked.adapter, "settings": to_dict(asked.adapter_settings)}
    return Recipe(
        settings=to_dict(asked.settings),
        training=to_dict(asked.training),
        rule=None if asked.rule is None else asked.rule.as_dict(),
        judge=None if asked.judge is None else asked.judge.as_dict(),
        preferences=None if given is None else given.source,
        adapter=adapter,
        base=base,
        corpus=corpus,
    )
