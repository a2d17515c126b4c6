"""What models are asked of long texts and of texts of a form that they were not trained on.

How much a text tells: the same tokens are predicted from the 64, 256, … tokens before them.

Tasks that no training text has. In the easier form a child has a toy and somebody asks whose it is,
so that it is enough to name whoever was named; in the other two children have a toy each, so that
the name must be found by the toy. The answer is the name that the model finds likelier of two. Each
question is asked in four ways, by which child comes first and which toy is asked for, so that
whoever goes by the names, the toys or their order alone is right in one half.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tinylm.data.corpora.story_grammar.lexicon import BOYS, GIRLS, TOYS
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import IGNORED, Batch, story_rows
from tinylm.errors import DataError
from tinylm.evaluation.perplexity import window_losses
from tinylm.model.base import GenerativeModel, build
from tinylm.model.decoder import evaluating
from tinylm.tokenizers.base import SOS_ID, UNK_ID, Tokenizer

CHANCE = 0.5
LEARNED = 0.55
"""Less than that is called guessing, even where seeds agree on it."""
FORMS = {
    "recall": '{0} had a {4}. "Whose {4} is it?" asked Mom. "It is mine," said ',
    "binding": '{0} had a {2}. {1} had a {3}. "Whose {4} is it?" asked Mom. "It is mine," said ',
}
"""Form of a question -> its text: two names, the toys that they have, and the one asked for."""
_AT_ONCE = 8192
"""Tokens of a forward pass, about."""


def losses_by_context(
    model: GenerativeModel, tokens: TokenFile, contexts: Sequence[int], tail: int, places: int
) -> list[float]:
    """Return the loss of the same tokens, in nats each, given so many tokens before them.

    Args:
        model: trained on windows of any length; it is built again for longer ones.
        tokens: held-out text.
        contexts: how many tokens are given.
        tail: tokens that are predicted at each place.
        places: of the text, spread evenly.

    Raises:
        DataError: if the text is too short.
    """
    longest, size = max(contexts), tokens.header.num_tokens
    if size < longest + tail + places:
        raise DataError(
            f"{tokens.path} has {size:,} tokens, too few for a context of {longest:,}: "
            "give fewer experiments.encoders.given"
        )
    starts = np.linspace(longest, size - tail, places).astype(int)
    losses = []
    for context in contexts:
        longer = _for_context(model, context + tail)
        rows = np.stack([tokens.ids[start - context : start + tail] for start in starts])
        ids = torch.from_numpy(rows.astype(np.int64))
        labels = ids[:, 1:].clone()
        labels[:, : context - 1] = IGNORED
        given = torch.full((places,), context)
        losses.append(_mean_loss(longer, Batch(ids[:, :-1], labels, given=given)))
    return losses


def _for_context(model: GenerativeModel, length: int) -> GenerativeModel:
    """Return a model with the same weights that can be given so many tokens."""
    if length <= model.config.context_length:
        return model
    with torch.random.fork_rng(devices=[]):
        longer = build(replace(model.config, context_length=length))
    longer.load_state_dict(model.state_dict())
    return longer.to(model.embedding.weight.device)


@torch.no_grad()
def _mean_loss(model: GenerativeModel, batch: Batch) -> float:
    device = model.embedding.weight.device
    size = max(1, _AT_ONCE // batch.ids.shape[1])
    sums: list[Tensor] = []
    with evaluating(model):
        for start in range(0, len(batch.ids), size):
            part = slice(start, start + size)
            assert batch.given is not None
            some = Batch(batch.ids[part], batch.labels[part], given=batch.given[part])
            sums.append(window_losses(model, some.to(device)))
    loss, count = torch.cat(sums).sum(0).tolist()
    return float(loss / count)


@dataclass(frozen=True)
class Choice:
    """A text and the two names of which one follows."""

    text: str
    answer: str
    wrong: str


def choices(form: str, tokenizer: Tokenizer, count: int, seed: int) -> list[Choice]:
    """Return questions in words that a vocabulary has, of which each four are one in four ways.

    Args:
        form: a name of :data:`FORMS`.
        tokenizer: of the models that are asked.
        count: a multiple of 4.
        seed: of names and toys.

    Raises:
        DataError: if it lacks too many words.
    """

    def known(words: Sequence[str]) -> list[str]:
        ids = tokenizer.encode_batch(list(words))
        return [word for word, own in zip(words, ids, strict=True) if UNK_ID not in own]

    draw, template = random.Random(seed), FORMS[form]
    toys = known([toy.noun for toy in TOYS if " " not in toy.noun])
    people = [known(names) for names in (GIRLS, BOYS)]
    if (
        len(toys) < 2
        or min(map(len, people)) < 2
        or not known([template.format(*people[0][:2], *toys[:2], toys[0])])
    ):
        raise DataError(
            "the vocabulary lacks words of the questions, such as names or toys: give more "
            "experiments.encoders.stories"
        )
    made = []
    for _ in range(count // 4):
        names = draw.sample(people[draw.random() < 0.5], 2)
        owned = draw.sample(toys, 2)
        for turned in (False, True):
            first, second = names[::-1] if turned else names
            for asked in (0, 1):
                text = template.format(first, second, *owned, owned[asked])
                alone = "{1}" not in template  # nobody else is there
                pair = (first, second) if alone or asked == 0 else (second, first)
                made.append(Choice(text, *pair))
    return made


@torch.no_grad()
def right_choices(
    model: GenerativeModel, tokenizer: Tokenizer, asked: Sequence[Choice]
) -> list[bool]:
    """Return for each question whether the model finds the right name the likelier of the two."""
    prompts = tokenizer.encode_batch([each.text for each in asked])
    names = tokenizer.encode_batch([name for each in asked for name in (each.answer, each.wrong)])
    rows = [[SOS_ID, *prompts[i // 2], *name] for i, name in enumerate(names)]
    given = [len(row) - len(name) for row, name in zip(rows, names, strict=True)]
    device, losses = model.embedding.weight.device, []
    size = max(1, _AT_ONCE // max(map(len, rows), default=1))
    with evaluating(model):
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            batch = story_rows(rows[part], given[part]).to(device)
            losses += window_losses(model, batch)[:, 0].tolist()
    return [own < other for own, other in zip(losses[::2], losses[1::2], strict=True)]
