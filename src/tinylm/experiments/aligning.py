"""Aligning a run's model: a training by preferences or rewards, and a run of what came of it.

While it is trained, ``OUT/aligning`` holds checkpoints of the whole model, from which the same
command goes on bit for bit, and ``OUT/alignment.json`` what it follows from. In the end the best
checkpoint, with its adapter moved into the weights, becomes the run's, and OUT is a run like any
other: config.yaml is written last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.learned_reward import LearnedReward
from tinylm.alignment.measuring import measure_policy
from tinylm.alignment.samples import Reward
from tinylm.config import TrainingConfig, to_dict
from tinylm.data.preferences import Preferences
from tinylm.data.token_files import TokenFile
from tinylm.errors import AdapterError, ConfigError
from tinylm.experiments.compressing import Compression, before, new_run, write_compressed
from tinylm.experiments.context import Console, Context, threads
from tinylm.experiments.merging import as_built
from tinylm.experiments.own_training import Place, train_to_best, training_settings
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.ranking import (
    MADE_BY,
    Drawing,
    beginnings,
    given_preferences,
    prompts_of,
    refuse_beside_file,
    refuse_gone,
    room_after,
    spread,
    write_own_rankings,
)
from tinylm.experiments.records import Compressed
from tinylm.experiments.rewards import RewardChoice
from tinylm.fast import PLAIN, WHOLE, install
from tinylm.finetuning.adapters import attach, fold, refuse_unfoldable
from tinylm.finetuning.linear import refuse_quantized
from tinylm.language_model import LanguageModel
from tinylm.measurement import mean
from tinylm.model.base import GenerativeModel
from tinylm.model.dropout import leave_out
from tinylm.registry import ALIGNMENTS
from tinylm.tasks.alignment.base import Aim, Alignment
from tinylm.training.commands import Commands
from tinylm.training.precision import resolve_device

RECIPE = "alignment.json"
CHECKPOINTS = "aligning"
PREFERENCES = "preferences.jsonl"
OWN = (RECIPE, CHECKPOINTS, PREFERENCES, "metrics.jsonl", "tensorboard")
"""What stands in a folder while its model is aligned."""
_OF_RECORD = ("method", "settings", "base")
"""Of the recipe, what compression.json has in another place."""
_LAST_SEED = 2_000_003
"""Added to the seed of the responses that are compared in the end."""


@dataclass(frozen=True)
class Asked:
    """What is asked for."""

    method: str
    """Name in the registry ALIGNMENTS."""
    settings: Any
    """Of the method."""
    training: TrainingConfig
    rewards: RewardChoice | None
    preferences: Path | None
    adapter: str | None
    """Name in the registry METHODS; None: all weights are trained."""
    adapter_settings: Any
    judge: RewardChoice | None = None
    """The true reward, which is measured and not learned from."""


@with_config(extra="forbid")
class Recipe(TypedDict):
    """What alignment.json holds."""

    method: str
    settings: dict[str, Any]
    training: dict[str, Any]
    rewards: dict[str, Any] | None
    preferences: str | None
    """Fingerprint of those that were given; None: there are none, or they were made here."""
    adapter: dict[str, Any] | None
    judge: dict[str, Any] | None
    base: str
    """SHA-256 of the weights that it begins with."""
    corpus: str
    """Fingerprint of the stories whose beginnings are the prompts."""


def training_of(
    own: TrainingConfig, method: str, settings: Any, adapted: bool = False, **given: Any
) -> TrainingConfig:
    """Return how a run's model is aligned by a method.

    Args:
        own: how the run was trained; threads, device and the optimizer's settings are kept.
        method: name in the registry ALIGNMENTS.
        settings: of the method.
        adapted: whether an adapter alone is trained.
        given: settings of training that were asked for; where one is None, the method's own.

    Raises:
        ConfigError: for a value that cannot be.
    """
    kind: type[Alignment[Any]] = ALIGNMENTS.load(method)
    usual = {
        "learning_rate": kind.learning_rate * (kind.adapter_rate if adapted else 1),
        "max_steps": kind.steps,
        "batch_size": kind.batch_size,
    }
    return kind.suited(training_settings(own, usual, given), settings)


def align(
    context: Context, out: Path, asked: Asked, commands: Commands, within: Path | None = None
) -> Compressed:
    """Align a run's model, or go on where an interrupted alignment stopped.

    Args:
        context: the run.
        out: a new folder, or that of an interrupted alignment; it becomes a run.
        asked: what is asked for.
        commands: what to do when it stops before its end.
        within: the run whose experiment makes it, inside of which it stands.

    Returns:
        What compression.json holds.

    Raises:
        ConfigError: for settings that cannot be, and a folder that holds something else.
        AlignmentError: if the model cannot be aligned by these prompts, preferences or rewards.
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
    """
    method: type[Alignment[Any]] = ALIGNMENTS.load(asked.method)
    _refuse(asked, method)
    console = context.console
    lm = LanguageModel.load(context.folder)
    if asked.adapter is None:
        refuse_quantized(lm.model)
    of = before(context, lm)
    policy = _policy(LanguageModel.load(context.folder).model, asked)
    place = Place(out, RECIPE, CHECKPOINTS)
    place.clear_finished(console)
    with new_run(out, console, OWN, within), threads(asked.training.threads):
        train, validation = (
            encoded_split(context.config.data, lm.tokenizer, split, console)
            for split in ("train", "validation")
        )
        given = None
        if asked.preferences is not None:
            given = given_preferences(asked.preferences, lm, asked.training.seed, console)
        recipe = _recipe(asked, of.source["sha256"], train.header.corpus, given)
        goes_on = place.has_begun(Recipe, recipe)
        aim = _aim(asked, lm, train, validation, given)
        if method.learns_from == "preferences" and given is None:
            aim = _with_own_rankings(aim, lm, out / PREFERENCES, goes_on, console)
        install(aim.start, PLAIN if asked.training.speed == "plain" else WHOLE)
        task = method(aim)
        if task.texts_to_read and not goes_on:
            with console.task("What the start makes of the responses", task.texts_to_read) as read:
                task.read_texts(read)
        outcome = train_to_best(
            *(place, policy, task, asked.training, recipe, goes_on, console, commands)
        )
        details: dict[str, Any] = {
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "stopped": outcome.stopped,
            "generated": task.generated,
        }
        details |= _compared(task, policy)
        details["prompts"] = {"train": len(aim.prompts), "validation": len(aim.held_out)}
        merged = policy if asked.adapter is None else as_built(fold(policy))
        details |= {key: value for key, value in recipe.items() if key not in _OF_RECORD}
        record = Compression("align", asked.method, to_dict(asked.settings), of, details=details)
        done = LanguageModel(merged, lm.tokenizer, lm.source)
        written = write_compressed(out, context, done, record, OWN, within)
        place.clear()
    return written


def _refuse(asked: Asked, method: type[Alignment[Any]]) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        ConfigError: naming the options.
    """
    if method.learns_from == "rewards":
        if asked.rewards is None:
            raise ConfigError(f"--method {asked.method} learns from rewards: give --rewards")
        if asked.preferences is not None:
            raise ConfigError(
                f"--preferences: {asked.method} learns from rewards: leave it out, or give "
                "--rewards the model that `tinylm reward RUN --preferences FILE --out FOLDER` makes"
            )
    elif asked.rewards is None and asked.preferences is None:
        raise ConfigError(
            f"--method {asked.method} learns from preferences: give --preferences FILE, or "
            "--rewards RULE, by which the model's own samples are ranked"
        )
    elif asked.preferences is not None:
        unused = MADE_BY if asked.rewards is not None else (*MADE_BY, "prompt_tokens")
        refuse_beside_file(asked.settings, asked.preferences.name, unused)


def _recipe(asked: Asked, base: str, corpus: str, given: Preferences | None) -> Recipe:
    adapter = None
    if asked.adapter is not None:
        adapter = {"method": asked.adapter, "settings": to_dict(asked.adapter_settings)}
    return Recipe(
        method=asked.method,
        settings=to_dict(asked.settings),
        training=to_dict(asked.training),
        rewards=None if asked.rewards is None else asked.rewards.as_dict(),
        preferences=None if given is None else given.source,
        adapter=adapter,
        judge=None if asked.judge is None else asked.judge.as_dict(),
        base=base,
        corpus=corpus,
    )


def _aim(
    asked: Asked,
    lm: LanguageModel,
    train: TokenFile,
    validation: TokenFile,
    given: Preferences | None,
) -> Aim:
    """Return what the alignment is made of, but for rankings of own samples.

    The prompts are beginnings of stories; where preferences were given and no rewards, those of
    the preferences, repeated until there are as many as are asked for.

    Raises:
        ConfigError: if no story is longer than a prompt, or a prompt fills the context.
    """
    settings = asked.settings
    device = resolve_device(asked.training.device)
    reward, judge = (
        None if each is None else each.open(lm, device) for each in (asked.rewards, asked.judge)
    )
    prompts: Sequence[Sequence[int]]
    if given is not None and asked.rewards is None:
        prompts, held_out = prompts_of(given.train), prompts_of(given.validation)
        held_out *= math.ceil(settings.held_out_prompts / len(held_out))
    else:
        room_after(settings.prompt_tokens, lm)
        prompts, held_out = (
            beginnings(stories, settings.prompt_tokens) for stories in (train, validation)
        )
    room = _longest(lm, reward, judge) - max(len(prompt) for prompt in (*prompts, *held_out))
    if room < 1:
        raise ConfigError(
            "the reward model reads no more tokens than a prompt has: give fewer with -o "
            "prompt_tokens, or train one on this run"
        )
    return Aim(
        start=lm.model,
        settings=settings,
        tokenizer=lm.tokenizer,
        prompts=prompts,
        held_out=spread(held_out, settings.held_out_prompts),
        most=min(settings.max_new_tokens or room, room),
        reward=reward,
        preferences=given,
        source=train.header.corpus if given is None else given.source,
        seed=asked.training.seed,
        batch_size=asked.training.batch_size,
        judge=judge,
    )


def _longest(lm: LanguageModel, *rewards: Reward | None) -> int:
    """Return how many ids prompt and response may have together.

    The last one is predicted by the model and not read; a reward model reads it.
    """
    read = [reward.longest for reward in rewards if isinstance(reward, LearnedReward)]
    return min([lm.model.config.context_length + 1, *read])


def _with_own_rankings(
    aim: Aim, lm: LanguageModel, path: Path, kept: bool, console: Console
) -> Aim:
    """Return an aim with rankings of the start's own samples by its reward."""
    assert aim.reward is not None
    settings, tokens = aim.settings, 0
    if kept:
        refuse_gone(path)
    else:
        drawing = Drawing(
            *(settings.ranked_prompts, settings.responses, aim.most, aim.seed, settings.wrong)
        )
        tokens = write_own_rankings(path, lm, aim.reward, aim.prompts, drawing, console).tokens
    made = replace(given_preferences(path, lm, aim.seed, console), generated=tokens)
    return replace(aim, preferences=made, source=made.source)


def _policy(model: GenerativeModel, asked: Asked) -> GenerativeModel:
    """Return a model that can be trained: whole, or with an adapter, and nothing dropped.

    Raises:
        AdapterError: for an adapter that the model cannot have.
        ConfigError: for one that cannot be moved into the weights in the end.
    """
    torch.manual_seed(asked.training.seed)
    if asked.adapter is None:
        policy = model.requires_grad_()
    else:
        policy = attach(model, asked.adapter, asked.adapter_settings)
        try:
            refuse_unfoldable(policy)
        except AdapterError as error:
            why = str(error).partition(": ")[0]
            raise ConfigError(
                f"--adapter {asked.adapter}: the aligned run has what is trained in its weights, "
                f"and that cannot be ({why}): give an adapter that can, such as lora, or other "
                "targets"
            ) from error
    leave_out(policy)
    return policy


def _compared(task: Alignment[Any], policy: GenerativeModel) -> dict[str, Any]:
    """Return what start and policy answer to the held-out prompts, measured.

    By responses that no validation drew: the best checkpoint was chosen by those.
    """
    both = {
        name: measure_policy(
            model,
            task.start_on(policy.embedding.weight.device),
            *(task.aim.held_out, task.aim.most, task.aim.seed + _LAST_SEED),
            task.aim.reward,
            task.temperature,
            task.aim.judge,
        )
        for name, model in (("before", task.start), ("after", policy))
    }
    before, after = both["before"], both["after"]
    differences = {
        name: mean([b - a for a, b in zip(first, second, strict=True)]).as_result()
        for name, first, second in (
            ("reward", before.rewards, after.rewards),
            ("true reward", before.judged, after.judged),
        )
        if first
    }
    return {
        **{name: measured.named() for name, measured in both.items()},
        "differences": differences,
    }
