"""Categories of keys by which heads are described: which keys belong to each, for every query.

They are those by which earlier work distinguishes heads: the token itself, its neighbours, the
first token and punctuation (Clark et al. 2019, "What Does BERT Look At?", sections 3.1 to 3.3), the
first token of decoders, where weight that is not needed rests (Xiao et al. 2023, "Efficient
Streaming Language Models with Attention Sinks"), the same word earlier, and what followed it then
(Olsson et al. 2022, "In-context Learning and Induction Heads").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Text:
    """What places are computed from."""

    ids: Tensor
    """Token ids, (seq), the first token in front."""
    punctuation: Tensor
    """(seq), bool."""
    rarer: Tensor
    """(seq), bool: words that are not among the most frequent ones."""


@dataclass(frozen=True)
class Place:
    """A kind of key; a head that gives most of its weight to it is called after it."""

    name: str
    """In results: "previous token"."""
    phrase: str
    """As in a sentence: "to the previous token"."""
    of_words: bool
    """Whether it depends on what the words are, and not on where they stand alone."""
    keys: Callable[[Text], Tensor]
    """Text -> (seq, seq), bool, True where the key (column) is one for the query (row)."""
    shown: str = ""
    """Its name for a reader, where results hold another."""

    @property
    def label(self) -> str:
        """Its name for a reader."""
        return self.shown or self.name


def is_punctuation(word: str) -> bool:
    """Return whether a token is punctuation: no letter, digit, line break or ``<special>``."""
    special = len(word) > 2 and word.startswith("<") and word.endswith(">")
    return bool(word.strip()) and not special and not any(c.isalnum() for c in word)


def frequent_types(texts: Sequence[Sequence[int]], vocab_size: int) -> Tensor:
    """Return which types make up half of the texts, the most frequent ones: (vocab_size), bool."""
    counts = torch.bincount(
        torch.tensor([i for ids in texts for i in ids]), minlength=vocab_size
    )  # (vocab_size)
    order = counts.argsort(descending=True, stable=True)
    before = counts[order].cumsum(0) - counts[order]
    frequent = torch.zeros(vocab_size, dtype=torch.bool)
    frequent[order[before < counts.sum() / 2]] = True
    return frequent


def _back(text: Text) -> Tensor:
    """Return how many tokens back each key lies, (seq, seq); negative in the future."""
    places = torch.arange(len(text.ids))
    return places[:, None] - places[None, :]


def _behind_the_first(keys: Tensor) -> Tensor:
    """Leave out the first token, which is a place of its own."""
    keys = keys.clone()
    keys[:, 0] = False
    return keys


def _own(text: Text) -> Tensor:
    return _behind_the_first(_back(text) == 0)


def _previous(text: Text) -> Tensor:
    return _behind_the_first(_back(text) == 1)


def _second_previous(text: Text) -> Tensor:
    return _behind_the_first(_back(text) == 2)


def _nearby(text: Text) -> Tensor:
    back = _back(text)
    return _behind_the_first((back >= 3) & (back <= 8))


def _first(text: Text) -> Tensor:
    keys = torch.zeros(len(text.ids), len(text.ids), dtype=torch.bool)
    keys[:, 0] = True
    return keys


def _same_word(text: Text) -> Tensor:
    same = (text.ids[:, None] == text.ids[None, :]) & (_back(text) > 0)
    return _behind_the_first(same & ~text.punctuation[:, None])


def _after_same_word(text: Text) -> Tensor:
    after = torch.zeros(len(text.ids), len(text.ids), dtype=torch.bool)
    after[:, 1:] = _same_word(text)[:, :-1]
    return after & (_back(text) > 0)


def _punctuation(text: Text) -> Tensor:
    return _behind_the_first(text.punctuation[None, :] & (_back(text) > 0))


def _rarer(text: Text) -> Tensor:
    return _behind_the_first((text.rarer & ~text.punctuation)[None, :] & (_back(text) > 0))


PLACES = (
    Place("own position", "to the token itself", False, _own),
    Place("previous token", "to the previous token", False, _previous),
    Place(
        "next-to-last token",
        "to the token two back",
        False,
        _second_previous,
        "second previous token",
    ),
    Place(
        "nearby tokens",
        "to the tokens three to eight back",
        False,
        _nearby,
        "tokens 3 to 8 back",
    ),
    Place("first token", "to <sos>", False, _first),
    Place("same word", "to the same word earlier, where there is one", True, _same_word),
    Place(
        "after same word",
        "to what followed the same word earlier, where there is one",
        True,
        _after_same_word,
    ),
    Place("punctuation", "to earlier punctuation", True, _punctuation),
    Place("rarer words", "to earlier words that are not among the most frequent", True, _rarer),
)
"""Every place, in the order in which tables have them; a tie goes to the one named first."""
_LABELS = {place.name: place.label for place in PLACES}


def label(name: str) -> str:
    """Return the name for a reader of a category, or of a role that is none, such as ``mixed``."""
    return _LABELS.get(name, name)
