"""Tokens to readable text: spacing and case by what stands to the left.

Most of the spacing is in the tokens: quotes say on which side they are, hyphens whether they join.
"""

from __future__ import annotations

from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID
from tinylm.tokenizers.word_case import Case, CaseWriter, Kind, kind, place
from tinylm.tokenizers.word_rule import (
    BRACKETS,
    CLOSING,
    DASH,
    LINE_BREAK,
    LINE_BREAK_AFTER_SPACE,
    OPENING,
)

_OPENS = {mark: written for written, mark in OPENING.items()}
_CLOSES = {mark: written for written, mark in CLOSING.items()}
_WRITTEN = {**_OPENS, **_CLOSES, DASH: "-"}
_BREAKS = (LINE_BREAK, LINE_BREAK_AFTER_SPACE)
_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%")
_NO_SPACE_AFTER = frozenset(BRACKETS + "$#")
_JOINS_BOTH = frozenset("/_@-")


class TextWriter:
    """Turns tokens into text one by one; what is written depends on the tokens before only."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._restart(new_line=True)

    def _restart(self, *, new_line: bool) -> None:
        self._words = CaseWriter(self._case)
        self._new_line = new_line  # nothing stands before on this line
        self._before = ""  # the token before, and the one before that
        self._before2 = ""
        self._kinds = (Kind.NOTHING, Kind.NOTHING, Kind.NOTHING)  # of the last three tokens

    def write(self, index: int, token: str) -> str:
        """Return what ``token`` adds to the text, its space included."""
        if index == PAD_ID:
            return ""
        if index in (SOS_ID, EOS_ID):
            self._restart(new_line=self._new_line)
            return ""
        shown = _WRITTEN.get(token, token)
        if index != UNK_ID and token[0].isalpha():
            shown = self._words.write(token, place(*self._kinds))
        if self._takes_space(token):
            shown = f" {shown}"
        self._kinds = (*self._kinds[1:], Kind.WORD if index == UNK_ID else kind(token))
        self._before2, self._before = self._before, token
        self._new_line = token in _BREAKS
        return shown

    def _takes_space(self, token: str) -> bool:
        before = self._before
        if self._new_line or token in _BREAKS:
            return False
        if token == DASH:
            return before != DASH
        if before == DASH:
            return True
        if token in _OPENS:
            return before not in BRACKETS and before not in _OPENS
        if before in _OPENS or before in _NO_SPACE_AFTER or before in _JOINS_BOTH:
            return False
        if token in _CLOSES or token in _NO_SPACE_BEFORE or token in _JOINS_BOTH:
            return False
        return not self._goes_on_with_number(token)

    def _goes_on_with_number(self, token: str) -> bool:
        """Tell whether a number goes on after a mark: 3.5, 1,000, 10:30."""
        if not (token[0].isdecimal() and self._before2[:1].isdecimal()):
            return False
        length = {",": 3, ":": 2}.get(self._before)
        return self._before == "." or length == len(token)
