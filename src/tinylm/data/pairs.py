"""Pairs of prompts with a known right answer, for causal tests of what a model computes.

The clean and the corrupted prompt differ in one word, and with it in what must follow. Pairs come
from the story grammar, in sentences of its own plots, or from a user's ``.jsonl`` file::

    {"clean": "Lily cried. Then", "corrupted": "Tom cried. Then", "answer": "Lily", "wrong": "Tom"}

Exchanging a word keeps the corrupted prompt a text like those that the model knows, which noise
added to its embedding would not (Zhang and Nanda 2024, "Towards Best Practices of Activation
Patching in Language Models").
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tinylm.data.corpora.story_grammar import lexicon
from tinylm.data.corpora.story_grammar.places import PLACES
from tinylm.data.corpora.story_grammar.templates import expand, polish
from tinylm.errors import DataError, TinylmError, nearest, shown
from tinylm.reading import read_json_lines, refusal
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers.base import SOS_ID, UNK_ID, Tokenizer

_KEYS: Final = ("clean", "corrupted", "answer", "wrong")


@dataclass(frozen=True)
class PromptPair:
    """Two prompts and what must follow each."""

    clean: str
    corrupted: str
    answer: str
    """Follows the clean prompt."""
    wrong: str
    """Follows the corrupted prompt."""


@dataclass(frozen=True)
class EncodedPair:
    """A pair as token ids."""

    clean: tuple[int, ...]
    """``<sos>`` first."""
    corrupted: tuple[int, ...]
    """``<sos>`` first, of the same length."""
    answer: int
    wrong: int


@dataclass(frozen=True)
class Behaviour:
    """What a kind of pair asks of the model."""

    asks: str
    """In words: "who has the thing"."""
    template: str
    """In the grammar's notation, with ``{x}`` where the prompts differ."""
    exchanged: str
    """What ``x`` is: a ``name``, a ``thing`` or a ``colour``."""


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "holder": Behaviour(
        "who has the thing",
        '{h} met {f} {at}. {x} was holding a {c} {o}. "What will you give me for it?" answered',
        "name",
    ),
    "sad": Behaviour(
        "who is sad",
        "{h} and {f} met {at}. {x} was sad because the {c} {o} was gone. The {o} was back, so",
        "name",
    ),
    "reason": Behaviour(
        "why somebody is sad",
        "{h} was sad because the {c} {x} was gone. They looked {spot}, but the",
        "thing",
    ),
    "colour": Behaviour(
        "what colour was looked for",
        '{h} was sad because the {x} {o} was gone. "I lost my',
        "colour",
    ),
}
"""Name -> what is asked. Every sentence is one of the plots ``trading``, ``sharing`` and
``lost_and_found``."""


def grammar_pairs(behaviour: str, seed: int) -> Iterator[PromptPair]:
    """Yield pairs of a behaviour without end, the same ones for a seed on every machine.

    Where names are exchanged, either of the two who are there is the right answer by chance, so
    that none can be had by their order.

    Args:
        behaviour: a name of ``BEHAVIOURS``.
        seed: not negative.

    Raises:
        DataError: for another behaviour.
    """
    if behaviour not in BEHAVIOURS:
        raise DataError(f"unknown behaviour {shown(behaviour)}{nearest(behaviour, BEHAVIOURS)}")
    asked = BEHAVIOURS[behaviour]
    draw = random.Random(seed * len(BEHAVIOURS) + list(BEHAVIOURS).index(behaviour)).random

    def two(options: Sequence[Any]) -> tuple[Any, Any]:
        first, second = int(draw() * len(options)), int(draw() * (len(options) - 1))
        return options[first], options[second + (second >= first)]

    toys = [toy for toy in lexicon.TOYS if " " not in toy.noun and "red" in toy.adjectives]
    while True:
        names = two(lexicon.GIRLS if draw() < 0.5 else lexicon.BOYS)
        nouns = tuple(toy.noun for toy in two(toys))
        colours = two(lexicon.COLORS)
        places = [place for place in PLACES if "p" in place.worlds]
        place = places[int(draw() * len(places))]
        slots = {
            "h": names[0],
            "f": names[1],
            "o": nouns[0],
            "c": colours[0],
            "at": place.at,
            "spot": place.spots[int(draw() * len(place.spots))],
        }
        options = {"name": names, "thing": nouns, "colour": colours}[asked.exchanged]
        turn = 1 if draw() < 0.5 else -1
        answer, wrong = options[::turn]
        clean, corrupted = (
            polish(expand(asked.template, draw, slots | {"x": x})) for x in (answer, wrong)
        )
        yield PromptPair(clean, corrupted, answer, wrong)


def read_pairs(
    path: str | Path, tokenizer: Tokenizer, longest: int | None = None
) -> list[tuple[PromptPair, EncodedPair]]:
    """Read a user's pairs, a JSON object a line.

    Args:
        path: of the file.
        tokenizer: the model's.
        longest: tokens that the model reads at once; empty: as many as there are.

    Raises:
        DataError: naming the file, the line and what is wrong with it, or for a file without pairs.
    """
    pairs = []
    for number, row in read_json_lines(path, dict[str, str]):
        refuse = refusal(f"{path}, line {number}")
        for key in row:
            if key not in _KEYS:
                raise refuse(f"unknown key {shown(key)}{nearest(key, _KEYS)}")
        missing = [key for key in _KEYS if key not in row]
        if missing:
            raise refuse(f"{missing[0]} is missing: a pair has {', '.join(_KEYS)}")
        pair = PromptPair(**row)
        encoded = encode_pair(pair, tokenizer, refuse)
        if longest is not None and len(encoded.clean) > longest:
            raise refuse(
                f"the prompts have {len(encoded.clean)} tokens, <sos> included, and the model "
                f"reads {longest}: shorten both"
            )
        pairs.append((pair, encoded))
    if not pairs:
        raise DataError(
            f'{path}: holds no pairs: give one a line, {{"clean": …, "corrupted": …, …}}'
        )
    return pairs


def encode_pair(pair: PromptPair, tokenizer: Tokenizer, refuse: Refuse = DataError) -> EncodedPair:
    """Return a pair as token ids.

    Args:
        pair: as text.
        tokenizer: the model's.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, for prompts of different lengths, the same or empty, a word that
            the vocabulary lacks, an answer that is not one token, or two answers that are the same.
    """
    ids = {}
    for key in ("clean", "corrupted"):
        text = getattr(pair, key)
        ids[key] = tokenizer.encode(text)
        if not ids[key]:
            raise refuse(f"the {key} prompt is empty: give a sentence of at least one word")
        _refuse_unknown(text, f"the {key} prompt", ids[key], tokenizer, refuse)
    if len(ids["clean"]) != len(ids["corrupted"]):
        raise refuse(
            f"the clean prompt has {len(ids['clean'])} tokens and the corrupted one "
            f"{len(ids['corrupted'])}: exchange a word for one of as many tokens"
        )
    if ids["clean"] == ids["corrupted"]:
        raise refuse("the two prompts are the same to the model: exchange a word in one of them")
    answers = []
    for key in ("answer", "wrong"):
        text = getattr(pair, key)
        tokens = tokenizer.encode(text)
        what = "the right answer" if key == "answer" else "the wrong answer"
        if len(tokens) != 1:
            raise refuse(f"{what} {shown(text)} is {len(tokens)} tokens: give a word that is one")
        _refuse_unknown(text, what, tokens, tokenizer, refuse)
        answers.append(tokens[0])
    if answers[0] == answers[1]:
        raise refuse("the right and the wrong answer are the same token: give two")
    return EncodedPair((SOS_ID, *ids["clean"]), (SOS_ID, *ids["corrupted"]), answers[0], answers[1])


def _refuse_unknown(
    text: str, what: str, ids: Sequence[int], tokenizer: Tokenizer, refuse: Refuse
) -> None:
    if UNK_ID in ids:
        unknown = next((word for word in text.split() if UNK_ID in tokenizer.encode(word)), text)
        raise refuse(
            f"{what} holds {shown(unknown)}, which the vocabulary lacks: take another word"
        )


def readable_pairs(
    behaviour: str, seed: int, count: int, tokenizer: Tokenizer, longest: int, tries: int = 20
) -> list[tuple[PromptPair, EncodedPair]]:
    """Return the first pairs of a behaviour that a model can read.

    Args:
        behaviour: a name of ``BEHAVIOURS``.
        seed: of the pairs.
        count: how many, at most.
        tokenizer: the model's; names and things that it does not know or cuts into pieces are
            passed over.
        longest: tokens that the model reads at once.
        tries: pairs looked at for each that is wanted.
    """
    pairs: list[tuple[PromptPair, EncodedPair]] = []
    for pair, _ in zip(grammar_pairs(behaviour, seed), range(count * tries), strict=False):
        try:
            encoded = encode_pair(pair, tokenizer)
        except TinylmError:
            continue  # what this is for
        if len(encoded.clean) <= longest:
            pairs.append((pair, encoded))
        if len(pairs) == count:
            break
    return pairs
