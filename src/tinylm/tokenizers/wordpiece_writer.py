"""Pieces to readable text: WordPiece keeps no spaces, so they follow from what stands to the left.

The same pieces are read from the text that is written, but for unknown words. What cannot be known
is guessed: the first quotation mark of two opens, an apostrophe after a word belongs to what comes
next if that is an ending such as ``s`` or ``t`` (so that a single quotation mark that opens after a
word is written as one that closes), and hyphens join.
"""

from __future__ import annotations

from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID
from tinylm.tokenizers.wordpiece_training import CONTINUES

_NO_SPACE_BEFORE = frozenset(".,!?;:)]}%…”")
_NO_SPACE_AFTER = frozenset("([{$#“‘")
_JOINS_BOTH = frozenset("/_@-")
_APOSTROPHES = frozenset("'’")
_ENDINGS = frozenset(("s", "t", "d", "m", "re", "ve", "ll", "S", "T", "D", "M", "RE", "VE", "LL"))
_THOUSANDS = 3


class PieceWriter:
    """Turns pieces into text one by one; what is written depends on the pieces before only."""

    def __init__(self) -> None:
        self._empty = True
        self._restart()

    def _restart(self) -> None:
        self._before, self._before2 = "", ""  # the word before, and the one before that
        self._open: set[str] = set()  # quotation marks that are open
        self._joins = False  # whether the next word follows without a space
        self._ending = False  # whether an apostrophe stands before, and a word before it

    def write(self, index: int, piece: str) -> str:
        """Return what ``piece`` adds to the text, its space included."""
        if index == PAD_ID:
            return ""
        if index in (SOS_ID, EOS_ID):
            self._restart()
            return ""
        if piece.startswith(CONTINUES) and len(piece) > len(CONTINUES):
            written = piece.removeprefix(CONTINUES)
            self._before += written
            self._ending = False
        else:
            written = f" {piece}" if self._word(piece) and not self._empty else piece
        self._empty = False
        return written

    def _word(self, word: str) -> bool:
        """Take a word; return whether a space stands before it."""
        space = not self._joins and word not in _NO_SPACE_BEFORE and word not in _JOINS_BOTH
        if self._ending:
            space = word not in _NO_SPACE_BEFORE and word not in _ENDINGS
        elif self._goes_on_with_number(word):
            space = False
        self._joins = word in _NO_SPACE_AFTER or word in _JOINS_BOTH
        self._ending = False
        after_word = self._before[-1:].isalnum()
        if word in _APOSTROPHES and after_word and word not in self._open:
            space, self._ending = False, True
        elif word == '"' or word in _APOSTROPHES:
            if word in self._open:
                self._open.remove(word)
                space = False
            else:
                self._open.add(word)
                self._joins = True
        self._before2, self._before = self._before, word
        return space

    def _goes_on_with_number(self, word: str) -> bool:
        """Tell whether a number goes on after a mark: 3.5, 1,000, 10:30."""
        if not (word[0].isdecimal() and self._before2[-1:].isdecimal()):
            return False
        return self._before in (".", ":") or (self._before == "," and len(word) == _THOUSANDS)
