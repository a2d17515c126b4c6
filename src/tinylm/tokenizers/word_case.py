"""Which case a word is written in, told from the words before it (truecasing).

A word has a *place*, which depends on the three tokens before it only. Where a sentence starts
there is a capital. Everywhere else training counts the forms that each word is written in, so that
it is "saw Mom" and "his mom", "on TV", and ``"Hi!" she said`` but ``"Hi!" Tim said``. What the text
itself says goes before: a word is a name from where it was introduced as one ("a dog named Spot"),
and a common noun from where it followed a determiner ("it was the spot").

The idea is that of Lita et al. 2003, "tRuEcasIng"; their model looks to both sides.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from tinylm.tokenizers.word_rule import CLOSING, LINE_BREAK, LINE_BREAK_AFTER_SPACE, OPENING

DETERMINERS = frozenset({"a", "an", "the", "my", "your", "his", "her", "our", "their"})


class Place(IntEnum):
    """Where a word stands."""

    START = 0
    """At the start of a text, a line, a sentence or a speech."""
    SPEECH = 1
    """After speech that ended in ``!`` or ``?``: the sentence may go on (``"Hi!" she said``)."""
    QUOTED = 2
    """First in a quotation within a sentence (``the word "love"``)."""
    COLON = 3
    """After a colon."""
    NAMED = 4
    """Where names are given: after ``named`` and ``name is``."""
    DETERMINED = 5
    """After a determiner or a possessive, or beside a word that is (``his mom and dad``)."""
    DESCRIBED = 6
    """After a determiner and a word (``a good spot``)."""
    INSIDE = 7
    """Elsewhere."""


_INSIDE = (Place.NAMED, Place.DETERMINED, Place.DESCRIBED, Place.INSIDE)


class Kind(IntEnum):
    """What a token before a word may be; ``place`` needs no more of it."""

    NOTHING = 0
    """The text starts after it; a line break is the same."""
    STOP = 1
    EXCLAMATION = 2
    OPENING = 3
    CLOSING = 4
    COLON = 5
    BRACKET = 6
    DETERMINER = 7
    AND = 8
    NAMED = 9
    NAME = 10
    IS = 11
    WORD = 12
    OTHER = 13


_KINDS = {
    "": Kind.NOTHING,
    LINE_BREAK: Kind.NOTHING,
    LINE_BREAK_AFTER_SPACE: Kind.NOTHING,
    ".": Kind.STOP,
    **dict.fromkeys("!?", Kind.EXCLAMATION),
    **dict.fromkeys(OPENING.values(), Kind.OPENING),
    **dict.fromkeys(CLOSING.values(), Kind.CLOSING),
    ":": Kind.COLON,
    **dict.fromkeys(")]}", Kind.BRACKET),
    **dict.fromkeys(DETERMINERS, Kind.DETERMINER),
    **dict.fromkeys(("and", "or"), Kind.AND),
    "named": Kind.NAMED,
    "name": Kind.NAME,
    "is": Kind.IS,
}


def kind(token: str) -> Kind:
    """Return what a token is to the words after it."""
    known = _KINDS.get(token)
    if known is not None:
        return known
    if token.endswith("'s"):
        return Kind.DETERMINER
    return Kind.WORD if token[0].isalnum() else Kind.OTHER


@functools.cache
def place(third: Kind, second: Kind, first: Kind) -> Place:
    """Return the place of a word after these three tokens, ``first`` the one right before it."""
    if first in (Kind.CLOSING, Kind.BRACKET):
        while second == Kind.CLOSING and third != Kind.NOTHING:
            second, third = third, Kind.NOTHING
        if second == Kind.EXCLAMATION:
            return Place.SPEECH if first == Kind.CLOSING else Place.START
        return Place.START if second == Kind.STOP else Place.INSIDE
    if first == Kind.OPENING:
        words = (Kind.DETERMINER, Kind.AND, Kind.NAMED, Kind.NAME, Kind.IS, Kind.WORD)
        return Place.QUOTED if second in words else Place.START
    if first in (Kind.NOTHING, Kind.STOP, Kind.EXCLAMATION):
        return Place.START
    if first == Kind.COLON:
        return Place.COLON
    if first == Kind.NAMED or (first == Kind.IS and second == Kind.NAME):
        return Place.NAMED
    if first == Kind.DETERMINER or (first == Kind.AND and third == Kind.DETERMINER):
        return Place.DETERMINED
    if second == Kind.DETERMINER and first != Kind.OTHER:
        return Place.DESCRIBED
    return Place.INSIDE


def all_places() -> list[Place]:
    """Return the place after every three kinds, ``third`` slowest: a table for arrays of kinds."""
    return list(itertools.starmap(place, itertools.product(Kind, repeat=3)))


def capital(form: str) -> str:
    """Return a word with its first letter in upper case, if that can be undone."""
    written = form[0].upper() + form[1:]
    return written if written.lower() == form.lower() else form  # not so for ß and a few others


Forms = Mapping[Place, Mapping[str, str]]


@dataclass(frozen=True)
class Case:
    """The forms of words that differ from what is usual at their place.

    Usual is a capital after speech and where names are given, at the start of a sentence always,
    and lower case elsewhere.
    """

    forms: Forms = field(default_factory=dict)
    """By place and word; those of ``Place.INSIDE`` also hold where a place has none of its own."""

    @classmethod
    def of_names(cls, names: Iterable[str]) -> Case:
        """Return the case of names: capitals but after a determiner."""
        given = sorted(names)
        return cls(
            {
                Place.INSIDE: {name: capital(name) for name in given},
                Place.DETERMINED: {name: name for name in given},
            }
        )

    @classmethod
    def of_counts(cls, counts: Mapping[Place, Mapping[str, Counter[str]]]) -> Case:
        """Return the commonest forms.

        Args:
            counts: by place and word, how often it is written in which form; nothing of a place
                where a sentence starts.
        """
        together: dict[str, Counter[str]] = {}
        for each in _INSIDE:
            for word, written in counts.get(each, {}).items():
                together.setdefault(word, Counter()).update(written)
        usual = {word: _commonest(written, word) for word, written in together.items()}
        for word, written in counts.get(Place.INSIDE, {}).items():
            usual[word] = _commonest(written, usual[word])
        inside = {
            word: form for word, form in usual.items() if form != cls().form(word, Place.INSIDE)
        }
        learned = {Place.INSIDE: inside}
        case = cls({Place.INSIDE: inside})
        for each in counts.keys() - learned.keys():
            forms = {}
            for word, written in counts[each].items():
                otherwise = case.form(word, each)
                form = _commonest(written, otherwise)
                if form != otherwise:
                    forms[word] = form
            learned[each] = forms
        return cls(learned)

    @property
    def names(self) -> frozenset[str]:
        """The words that are written with a capital inside sentences."""
        inside = self.forms.get(Place.INSIDE, {})
        return frozenset(word for word, form in inside.items() if form == capital(word))

    def of_words(self, words: Iterable[str]) -> Case:
        """Return the same of these words alone."""
        kept = frozenset(words)
        chosen = {
            place: {word: form for word, form in sorted(forms.items()) if word in kept}
            for place, forms in sorted(self.forms.items())
        }
        return Case({place: forms for place, forms in chosen.items() if forms})

    def form(self, word: str, place: Place) -> str:
        """Return a word as it is written at a place, by what training counted."""
        if word == "i" or word.startswith("i'"):
            return capital(word)
        owner = word.removesuffix("'s")
        for each in (place, Place.INSIDE):
            forms = self.forms.get(each, {})
            if word in forms:
                return forms[word]
            if owner in forms and owner != word:
                return forms[owner] + "'s"
            if each in (Place.SPEECH, Place.NAMED):
                return capital(word)
        return word


def _commonest(written: Counter[str], otherwise: str) -> str:
    """Return the form used most, or ``otherwise`` if no form is used more."""
    form = max(written, key=lambda form: (written[form], form))
    return form if written[form] > written[otherwise] else otherwise


class CaseWriter:
    """Writes the words of a text in their case, one by one."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._names: set[str] = set()
        self._common: set[str] = set()

    def write(self, word: str, place: Place) -> str:
        """Return ``word`` as it is written at this place of this text."""
        owner = word.removesuffix("'s")
        if place == Place.START:
            return capital(self._case.form(word, Place.INSIDE))
        form = self._case.form(word, place)
        if place == Place.DETERMINED:
            if owner not in self._names:
                self._common.add(owner)
            return form
        if place == Place.NAMED and form != word:
            self._names.add(owner)
        if owner in self._names:
            return capital(form)
        if owner in self._common and self._case.forms.get(Place.DETERMINED, {}).get(owner) == owner:
            return word
        return form
