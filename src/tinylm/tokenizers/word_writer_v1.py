"""Tokens to readable text: spacing, quotes and capitals by rules that look only to the left."""

from __future__ import annotations

from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID

# fmt: off
_SPEECH_VERBS = frozenset({
    "said", "says", "say", "saying", "asked", "asks", "replied", "answered", "thought", "shouted",
    "yelled", "cried", "whispered", "exclaimed", "called", "added", "explained", "begged", "agreed",
    "screamed", "laughed", "giggled", "wept", "pleaded", "sang", "wailed", "wondered", "continued",
    "insisted", "declared", "announced", "suggested", "promised", "growled", "barked", "roared",
})
# After one of these a word that can be a name is a common noun: "his mom", but "Mom said".
_DETERMINERS = frozenset({"a", "an", "the", "my", "your", "his", "her", "our", "their"})
# fmt: on
# After `!"` and `?"` these go on with the sentence (`"Hi!" she said`) more often than they start
# one; after `."` everything starts one, after `,"` nothing does. Counted in TinyStories.
_GOES_ON_AFTER_SPEECH = _SPEECH_VERBS | {"she", "he", "and"}
_ENDS_SENTENCE = frozenset(".!?")
_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%")
_NO_SPACE_AFTER = frozenset("([{$#")
_JOINS_BOTH = frozenset("/_@")


class TextWriter:
    """Turns tokens into text one by one; what is written depends on the tokens before only."""

    def __init__(self, capitalised: frozenset[str]) -> None:
        self._capitalised = capitalised
        self._restart(empty=True)

    def _restart(self, *, empty: bool) -> None:
        self._before = ""  # the token before, and the one before that
        self._before2 = ""
        self._empty = empty
        self._glue = empty  # the next token takes no space before it
        self._sentence_start = True
        self._speech_end = ""  # the mark inside a quote that was just closed
        self._quote_open = False
        self._single_open = False

    def write(self, index: int, token: str) -> str:
        """Return what ``token`` adds to the text, its space included."""
        if index == PAD_ID:
            return ""
        if index in (SOS_ID, EOS_ID):
            self._restart(empty=self._empty)
            return ""
        if index == UNK_ID:
            text = self._word(token, token)
        elif token == '"':
            text = self._double_quote()
        elif token == "'":
            text = self._single_quote()
        elif token[0].isalpha():
            text = self._word(token, self._case(token))
        elif token[0].isdecimal():
            text = self._word(token, token)
        else:
            text = self._mark(token)
        self._before2, self._before = self._before, token
        self._empty = False
        return text

    def _space(self) -> str:
        space = "" if self._glue else " "
        self._glue = False
        return space

    def _case(self, word: str) -> str:
        starts = self._sentence_start
        if self._speech_end in ("!", "?") and word in _GOES_ON_AFTER_SPEECH:
            starts = False
        if starts or self._is_name(word) or word == "i" or word.startswith("i'"):
            capital = word[0].upper() + word[1:]
            if capital.lower() == word:  # not so for a few letters, such as a first ß
                return capital
        return word

    def _is_name(self, word: str) -> bool:
        if word not in self._capitalised and word.removesuffix("'s") not in self._capitalised:
            return False
        return not (self._before in _DETERMINERS or self._before.endswith("'s"))

    def _word(self, token: str, shown: str) -> str:
        if token[0].isdecimal() and self._before2[:1].isdecimal() and self._joins_number(token):
            self._glue = True
        self._sentence_start = False
        self._speech_end = ""
        return self._space() + shown

    def _joins_number(self, number: str) -> bool:
        """Tell whether a number goes on after a mark: 3.5, 1,000, 10:30."""
        length = {",": 3, ":": 2}.get(self._before)
        return self._before == "." or length == len(number)

    def _double_quote(self) -> str:
        before = self._before
        if before == '"' and self._quote_open:
            # Two in a row: the first was the closing one of a speech whose opening is missing.
            self._glue = False
            self._sentence_start = True
            text = self._space() + '"'
            self._glue = True
            return text
        unclosed = before in (",", ":") and self._before2 in _SPEECH_VERBS
        if self._quote_open and not unclosed:
            self._quote_open = False
            self._glue = False
            self._speech_end = before
            self._sentence_start = before in _ENDS_SENTENCE
            return '"'
        self._quote_open = True
        # A quoted word inside a sentence (the word "love") keeps its lower case.
        self._sentence_start = (
            self._sentence_start or not before[-1:].isalnum() or before in _SPEECH_VERBS
        )
        self._speech_end = ""
        text = self._space() + '"'
        self._glue = True
        return text

    def _single_quote(self) -> str:
        before = self._before
        after_word = before[-1:].isalnum()
        closes = self._single_open and not self._glue
        if closes or (after_word and not self._glue and before[-1] == "s"):
            if self._single_open:
                self._speech_end = "" if after_word else before
            self._single_open = False
            self._glue = False
            return "'"
        self._single_open = True
        self._sentence_start = self._sentence_start or before == ","
        text = self._space() + "'"
        self._glue = True
        return text

    def _mark(self, mark: str) -> str:
        before = self._before
        attaches = before != "" and not (self._glue and before in ('"', "'"))
        if mark in _NO_SPACE_BEFORE and attaches:
            text = mark
        elif (mark == "-" and (before == "-" or before[-1:].isalnum())) or mark in _JOINS_BOTH:
            text = mark if attaches else self._space() + mark
        else:
            text = self._space() + mark
        self._glue = mark in _NO_SPACE_AFTER or mark in _JOINS_BOTH or mark == "-"
        if mark in _ENDS_SENTENCE:
            self._sentence_start = True
        elif mark not in _NO_SPACE_AFTER and mark != "-":
            self._sentence_start = self._sentence_start and mark in ")]}"
        self._speech_end = ""
        return text
