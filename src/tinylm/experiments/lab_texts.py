"""Two kinds of stories in one corpus, and a short fine-tuning on one of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tinylm.config import TrainingConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import Batch, ShuffledOrder, story_rows
from tinylm.errors import DataError
from tinylm.evaluation.perplexity import SplitLoss, window_losses
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.tokenizers.base import SPECIAL_TOKENS, Tokenizer
from tinylm.training.optimizers import set_learning_rate
from tinylm.training.schedules import learning_rate_factor
from tinylm.training.step import TrainingStep

_QUOTES = frozenset('"“”„«»') | {"``", "''"}
_LENGTHS = 16
"""Batches are padded to a multiple of so many tokens."""
_SEEN = 20_000  # stories of a split that are looked at: enough to choose from, in a second

Story = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Kinds:
    """Stories of a chosen kind to train on, and validation stories of that kind and of the rest."""

    name: str
    """Such as "dialogue"."""
    description: str
    """How the kind was told apart."""
    train: list[Story]
    chosen: list[Story]
    others: list[Story]
    shares: dict[str, float]
    """Mean of what the stories were ranked by, in ``chosen`` and ``others``."""


def two_kinds(
    train: TokenFile,
    validation: TokenFile,
    tokenizer: Tokenizer,
    share: float,
    stories: int,
    context_length: int,
) -> Kinds:
    """Split stories by how much dialogue they hold, or by how rare their words are if none does.

    Args:
        train: where the stories to train on come from: the ``share`` with the highest values.
        validation: its highest and its lowest share are the two kinds.
        tokenizer: of both.
        share: between 0 and 1.
        stories: the most of each kind from validation.
        context_length: longer stories are cut to it.

    Raises:
        DataError: if there are too few stories for two kinds.
    """
    quotes = [i for i in range(tokenizer.vocab_size) if tokenizer.token(i) in _QUOTES]
    pools = [[file.story(i) for i in range(min(len(file), _SEEN))] for file in (train, validation)]
    by_dialogue = sum(bool(np.isin(story, quotes).any()) for story in pools[0]) > len(pools[0]) / 20

    def value(story: Story) -> float:
        words = story[story >= len(SPECIAL_TOKENS)]
        if not len(words):
            return 0.0
        return float(np.isin(words, quotes).mean() if by_dialogue else words.mean())

    ranked = []
    for file, pool in zip((train, validation), pools, strict=True):
        number = int(share * len(pool))
        if number < 1 or 2 * number > len(pool):
            raise DataError(
                f"{file.path} has {len(pool)} stories, from which {share:g} cannot be chosen with "
                "as many left: set a share of 0.5 or less, or give more stories"
            )
        values = np.array([value(story) for story in pool])
        ranked.append((values, np.argsort(-values, kind="stable"), number))

    def take(which: int, places: npt.NDArray[np.int64]) -> list[Story]:
        return [pools[which][i][: context_length + 1] for i in places]

    (_, order, number), (values, places, size) = ranked
    size = min(size, stories)
    high, low = places[:size], places[::-1][:size]
    kind = "the share of quotation marks among their tokens"
    return Kinds(
        name="dialogue" if by_dialogue else "rare words",
        description=kind if by_dialogue else "the mean rank of their words by frequency",
        train=take(0, order[:number]),
        chosen=take(1, high),
        others=take(1, low),
        shares={"chosen": float(values[high].mean()), "others": float(values[low].mean())},
    )


@torch.no_grad()
def stories_loss(model: GenerativeModel, stories: Sequence[Story], batch_size: int) -> SplitLoss:
    """Measure the loss on stories, one a row."""
    device = model.embedding.weight.device
    losses = []
    with evaluating(model):
        for start in range(0, len(stories), batch_size):
            batch = story_rows([story.tolist() for story in stories[start : start + batch_size]])
            losses.append(window_losses(model, batch.to(device)))
    return SplitLoss.of(torch.cat(losses) if losses else torch.zeros(0, 2, dtype=torch.float64))


def rows_loss(model: GenerativeModel, stories: Sequence[Story], batch_size: int) -> float:
    """Return the mean loss in nats a token of stories, one a row."""
    return stories_loss(model, stories, batch_size).mean


def _padded(stories: Sequence[Story], longest: int) -> Batch:
    """Return a batch of one of few lengths: oneDNN makes and keeps a program for each."""
    read = max(len(story) for story in stories) - 1  # the last token is a label only
    width = math.ceil(read / _LENGTHS) * _LENGTHS + 1
    return story_rows([story.tolist() for story in stories], width=min(width, longest))


def tune(
    model: GenerativeModel,
    stories: Sequence[Story],
    config: TrainingConfig,
    steps: int,
    progress: Callable[[float], None],
) -> GenerativeModel:
    """Train a copy of a model on stories, one a row, and return it in eval mode.

    Args:
        model: left alone.
        stories: drawn in a seeded order, epoch after epoch.
        config: optimizer, rates, batch size and seed.
        steps: optimizer steps.
        progress: told the share that is done.
    """
    return train_on(copy.deepcopy(model).requires_grad_(True), stories, config, steps, progress)


def train_on(
    model: GenerativeModel,
    stories: Sequence[Story],
    config: TrainingConfig,
    steps: int,
    progress: Callable[[float], None],
) -> GenerativeModel:
    """Train what requires a gradient of a model, in place; arguments as for ``tune``."""
    step = TrainingStep(model, next_token_loss, config)
    order = ShuffledOrder(len(stories), config.batch_size, config.seed)
    longest = max(len(story) for story in stories)
    torch.manual_seed(config.seed)
    for number in range(steps):
        set_learning_rate(step.optimizer, learning_rate_factor(config, number, steps))
        step.backward([_padded([stories[i] for i in order.next()], longest)])
        step.update()
        progress((number + 1) / steps)
    return step.model.cpu().eval()
