"""Sentences of the validation split that attention is drawn for, chosen by a rule.

From the stories in their order are taken: the first sentence without direct speech, the first with
direct speech, and the first in which a name or a long word returns; each from another story, of
``FEWEST`` to ``MOST`` tokens, all of which the vocabulary has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tinylm.errors import DataError
from tinylm.tokenizers.base import UNK_ID, Tokenizer

FEWEST, MOST = 8, 16
"""Tokens of a sentence; more would not be read in a figure."""
_SEEN = 5_000  # stories that are looked at
_LONG = 4
"""Letters from which a word counts that returns in a sentence; a name always does."""
_SENTENCE = re.compile(r"\S.*?[.!?]+[\"”’']?(?=\s*$|\s+[^\sa-zà-ÿ])")
"""What ends before a small letter goes on: “Stop!” said Tom."""
_QUOTES = re.compile(r"[\"“”]")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class ExampleSentence:
    """A sentence, and why it was taken."""

    text: str
    reason: str


def choose_sentences(
    stories: Iterable[str], tokenizer: Tokenizer, context_length: int
) -> list[ExampleSentence]:
    """Return up to three sentences, or the beginning of the first story if none fits.

    Args:
        stories: texts of the validation split, in their order.
        tokenizer: of the model.
        context_length: of the model; ``<sos>`` needs one token of it.

    Raises:
        DataError: if there is no story with a word.
    """
    most = min(MOST, context_length - 1)
    wanted = dict(_KINDS)
    chosen: dict[str, ExampleSentence] = {}
    beginning = ""
    for number, story in enumerate(stories):
        if not wanted or number == _SEEN:
            break
        beginning = beginning or " ".join(story.split())
        for sentence in sentences_of(story):
            reason = next((why for why, fits in wanted.items() if fits(sentence)), None)
            if reason is None:
                continue
            ids = tokenizer.encode(sentence)
            if FEWEST <= len(ids) <= most and UNK_ID not in ids:
                chosen[reason] = ExampleSentence(sentence, reason)
                del wanted[reason]
                break  # the next from another story
    if chosen:
        return [chosen[reason] for reason in _KINDS if reason in chosen]
    words = beginning.split()
    while words and len(tokenizer.encode(" ".join(words))) > most:
        words.pop()
    if not words:
        raise DataError("no validation story has a word to draw the attention of")
    return [ExampleSentence(" ".join(words), "the beginning of the first story")]


def sentences_of(story: str) -> Iterator[str]:
    """Yield the whole sentences of a story: from a capital or quote to a stop, quotes in pairs."""
    for paragraph in story.splitlines():
        for match in _SENTENCE.finditer(paragraph):
            sentence = match[0].strip()
            begins = sentence[:1].isupper() or _QUOTES.match(sentence)
            if begins and len(_QUOTES.findall(sentence)) % 2 == 0:
                yield sentence


def _without_speech(sentence: str) -> bool:
    return not _QUOTES.search(sentence)


def _with_speech(sentence: str) -> bool:
    return bool(_QUOTES.search(sentence))


def returning_word(sentence: str) -> str | None:
    """Return the first name or long word that stands twice in a sentence, in lower case."""
    seen: set[str] = set()
    for place, match in enumerate(_WORD.finditer(sentence)):
        word = match[0]
        counts = len(word) >= _LONG or (place > 0 and word[0].isupper() and len(word) > 1)
        if counts and word.lower() in seen:
            return word.lower()
        seen.add(word.lower())
    return None


_KINDS: dict[str, Callable[[str], bool]] = {
    "the first without direct speech": _without_speech,
    "the first with direct speech": _with_speech,
    "the first in which a name or a long word returns": lambda s: returning_word(s) is not None,
}
"""Why a sentence is taken -> whether it may be."""
