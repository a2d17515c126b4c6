"""Rankings for a run's model: read from a file, or made of its own samples by a reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tinylm.alignment.rankings import Ranked, rank_samples
from tinylm.alignment.samples import Reward
from tinylm.data.preferences import Preferences, Ranking, read_preferences, write_rankings
from tinylm.data.token_files import TokenFile
from tinylm.errors import AlignmentError, ConfigError
from tinylm.experiments.context import Console
from tinylm.language_model import LanguageModel

Value = TypeVar("Value")

MADE_BY = ("ranked_prompts", "responses", "wrong")
"""Settings of how rankings are made, without effect beside a file."""


def given_preferences(
    path: Path,
    lm: LanguageModel,
    seed: int,
    console: Console,
    longest: int | None = None,
    held_out: float = 0.1,
) -> Preferences:
    """Return the rankings of a file or folder, and tell how many there are.

    Args:
        path: the file or folder.
        lm: what learns from them.
        seed: of what is held out.
        console: who watches.
        longest: ids of prompt and response together that it can use; None: its context and the
            token after it, which is predicted and not read.
        held_out: share of the prompts held out where there is no validation file.

    Raises:
        DataError: for a file that cannot be used.
    """
    longest = longest or lm.model.config.context_length + 1
    preferences = read_preferences(path, lm.tokenizer, longest, held_out, seed)
    pairs = [
        sum(len(list(ranking.pairs())) for ranking in split)
        for split in (preferences.train, preferences.validation)
    ]
    console.note(
        f"{len(preferences.train):,} rankings to train on ({pairs[0]:,} pairs), "
        f"{len(preferences.validation):,} held out ({pairs[1]:,} pairs)"
    )
    if preferences.cut:
        console.note(f"{preferences.cut:,} responses are cut to what the context holds")
    if preferences.shared:
        console.warn(
            f"the prompts of {preferences.shared:,} held-out rankings are training prompts too"
        )
    return preferences


@dataclass(frozen=True)
class Drawing:
    """How rankings are made of own samples."""

    prompts: int
    """Prompts that are answered, evenly spread over those that there are."""
    responses: int
    """To each of them."""
    most: int
    """Tokens of a response."""
    seed: int
    """Of what is drawn and turned round."""
    wrong: float = 0.0
    """Share of the rankings that are turned round."""
    temperature: float = 1.0
    """Of the samples."""


def write_own_rankings(
    path: Path,
    lm: LanguageModel,
    reward: Reward,
    prompts: Sequence[Sequence[int]],
    drawing: Drawing,
    console: Console,
) -> Ranked:
    """Rank a model's own samples, and write the rankings to a file.

    Args:
        path: the file.
        lm: what is sampled.
        reward: what is good.
        prompts: of which some are answered.
        drawing: how.
        console: who watches.

    Raises:
        AlignmentError: if no prompt, or a single one, has responses of different rewards.
        OSError: if the file cannot be written.
    """
    chosen = spread(prompts, drawing.prompts)
    with console.task("Ranking own samples", len(chosen)) as done:
        ranked = rank_samples(
            lm.model,
            lm.tokenizer,
            reward,
            chosen,
            drawing.responses,
            drawing.most,
            drawing.seed,
            drawing.wrong,
            drawing.temperature,
            done,
        )
    few = len({ranking.prompt for ranking in ranked.rankings}) < 2
    if few and 2 * ranked.unread > len(chosen):
        raise AlignmentError(
            f"{ranked.unread:,} of {len(chosen):,} prompts hold words that the model does not "
            "know, and cannot be written to a file of rankings: give shorter prompts, or a run "
            "with a larger vocabulary"
        )
    if few:
        raise AlignmentError(
            f"the responses to {ranked.alike:,} of {len(chosen):,} prompts are all as good as "
            f"each other by {reward.label}: there is nothing to prefer; give more responses, more "
            "prompts, or another reward"
        )
    console.note(
        f"{len(chosen):,} prompts were answered: {ranked.alike:,} gave no preference, "
        f"{ranked.turned:,} rankings are turned round"
        + (f", {ranked.unread:,} hold unknown words and are left out" if ranked.unread else "")
    )
    write_rankings(path, ranked.rankings)
    return ranked


def refuse_gone(path: Path) -> None:
    """Refuse to go on with a training whose own rankings are gone: others would be drawn anew.

    Raises:
        ConfigError: naming the file.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}, the rankings that the training began with, is gone: delete {path.parent} "
            "and begin again"
        )


def refuse_beside_file(settings: Any, name: str, names: Sequence[str] = MADE_BY) -> None:
    """Refuse settings of how rankings are made where they are read from a file.

    Raises:
        ConfigError: naming one.
    """
    usual = type(settings)()
    for key in names:
        value = getattr(settings, key)
        if value != getattr(usual, key):
            raise ConfigError(
                f"-o {key}={value} has no effect with --preferences {name}, whose rankings are "
                "read: leave it out"
            )


def prompts_of(rankings: Sequence[Ranking]) -> list[list[int]]:
    """Return the prompts of rankings, each once."""
    return [list(prompt) for prompt in dict.fromkeys(ranking.prompt for ranking in rankings)]


def room_after(prompt_tokens: int, lm: LanguageModel, setting: str = "-o prompt_tokens=") -> int:
    """Return the tokens that the context holds after a prompt, the last of which is not read.

    Raises:
        ConfigError: if there is none, naming the setting.
    """
    context = lm.model.config.context_length
    if prompt_tokens >= context:
        raise ConfigError(
            f"{setting}{prompt_tokens} leaves no room in the context of {context}: give "
            f"{context - 1} at most"
        )
    return context - prompt_tokens


def beginnings(
    stories: TokenFile, tokens: int, setting: str = "-o prompt_tokens="
) -> list[list[int]]:
    """Return ``<sos>`` and the first tokens of every story that has more of them.

    Of pairs, they are ``<sos>`` and every source that has no more of them.

    Raises:
        ConfigError: if none has, naming the setting.
    """
    starts = []
    if stories.pairs is not None:
        short = [i for i in range(len(stories)) if stories.pairs[i, 0] <= tokens + 1]
        if not short:
            raise ConfigError(
                f"{setting}{tokens}: no source of {stories.path} has so few tokens; give more"
            )
        return [stories.beginning(i, tokens + 1) for i in short]
    for i in range(len(stories)):
        story = stories.story(i)
        if len(story) > tokens + 2:  # <sos> and <eos>
            starts.append(story[: tokens + 1].tolist())
    if not starts:
        raise ConfigError(
            f"{setting}{tokens}: no story of {stories.path} has more tokens; give fewer"
        )
    return starts


def spread(values: Sequence[Value], count: int) -> list[Value]:
    """Return so many of them, evenly spread, or all where there are no more."""
    chosen = min(count, len(values))
    return [values[i * len(values) // chosen] for i in range(chosen)]
