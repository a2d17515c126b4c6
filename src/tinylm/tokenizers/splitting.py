"""The splitting rules: how text is cut into the words within which a tokenizer works.

Two rules, each that of a model whose tokenizer many use, as regular expressions with Unicode's
categories (L letters, N numbers):

- ``gpt2`` (Radford et al. 2019):
  ``'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+``
- ``cl100k`` (GPT-4's), which takes endings in capitals, a mark before a word with it, digits by
  threes, and line breaks with the marks and the white space before them.

The standard ``re`` has no ``\\p{L}``, and a backtracking engine goes through text at some MB/s. So
each rule is a function here that says where the word ends that begins at a place. It works on the
bytes of UTF-8 and the kind of each (``characters``), once for text of any language. The functions
are plain Python; ``loops`` compiles the same ones. Tests hold them to the expressions in three
engines, over all of Unicode.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylm.tokenizers.characters import (
    APOSTROPHE,
    BREAK,
    INSIDE,
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
    kinds_of_bytes,
)
from tinylm.tokenizers.utf8 import to_bytes

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "cl100k": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
"""The rules by name, as expressions for those who have an engine for them."""
RULES = {name: number for number, name in enumerate(PATTERNS)}
"""The number by which the functions know a rule."""
BERT = len(RULES)
"""The number of BERT's rule, which works on kinds of its own (``bert_words``)."""
MARKED = BERT + 1
"""The number of SentencePiece's rule, which works on kinds of its own (``metaspace``)."""
_GPT2 = RULES["gpt2"]
_DIGITS = 3  # of a word by the rule of cl100k
_CAPITAL = 32  # bit in which a capital letter of ASCII differs from a small one
_S, _T, _M, _D, _L, _R, _V, _E = b"stmdlrve"
_LONG_S = b"\xc5\xbf"  # ſ, which is s without regard to case
_LONG_S_1, _LONG_S_2 = _LONG_S


def split(text: str, rule: int) -> list[bytes]:
    """Return the words of a text, which together are its UTF-8."""
    content = to_bytes(text)
    kinds = kinds_of_bytes(content.decode())
    words, start = [], 0
    while start < len(content):
        end = word_end(rule, content, kinds, start, len(content))
        words.append(content[start:end])
        start = end
    return words


def word_end(rule: int, text: Sequence[int], kinds: Sequence[int], start: int, stop: int) -> int:
    """Return where the word ends that begins at ``start``.

    Args:
        rule: of ``RULES``, ``BERT`` or ``MARKED``.
        text: bytes of UTF-8.
        kinds: of the bytes.
        start: the first byte of a character.
        stop: where the text ends.
    """
    if rule == _GPT2:
        return gpt2_end(text, kinds, start, stop)
    if rule == BERT:
        return bert_end(kinds, start, stop)
    if rule == MARKED:
        return run_end(kinds, start + 1, stop, LETTER, LETTER)
    return cl100k_end(text, kinds, start, stop)


def gpt2_end(text: Sequence[int], kinds: Sequence[int], start: int, stop: int) -> int:
    """Return the end of a word by the rule of GPT-2."""
    kind = kinds[start]
    if kind == APOSTROPHE:
        end = ending_end(text, start, stop, 0)
        if end > start:
            return end
    begin = start
    if kind == SPACE and start + 1 < stop and kinds[start + 1] < SPACE:
        begin = start + 1
        kind = kinds[begin]
    if LETTER <= kind <= NUMBER:
        return run_end(kinds, begin, stop, kind, kind)
    if kind < SPACE:
        return run_end(kinds, begin, stop, OTHER, APOSTROPHE)
    return white_end(kinds, start, run_end(kinds, start, stop, SPACE, BREAK), stop)


def bert_end(kinds: Sequence[int], start: int, stop: int) -> int:
    """Return the end of a word by the rule of BERT: marks are words, all else goes together."""
    if kinds[start] == LETTER:
        return run_end(kinds, start, stop, LETTER, LETTER)
    return run_end(kinds, start + 1, stop, INSIDE, INSIDE)


def cl100k_end(text: Sequence[int], kinds: Sequence[int], start: int, stop: int) -> int:
    """Return the end of a word by the rule of cl100k."""
    kind = kinds[start]
    if kind == APOSTROPHE:
        end = ending_end(text, start, stop, _CAPITAL)
        if end > start:
            return end
    if kind == LETTER:
        return run_end(kinds, start, stop, LETTER, LETTER)
    after = start + 1
    while after < stop and kinds[after] == INSIDE:
        after += 1
    if kind == NUMBER:
        digits = 1
        while after < stop and (kinds[after] == INSIDE or kinds[after] == NUMBER):
            digits += kinds[after] == NUMBER
            if digits > _DIGITS:
                break
            after += 1
        return after
    if kind != BREAK and after < stop and kinds[after] == LETTER:
        return run_end(kinds, after, stop, LETTER, LETTER)
    begin = start
    if kind == SPACE and after < stop and OTHER <= kinds[after] < SPACE:
        begin = after
        kind = kinds[begin]
    if kind < SPACE:
        return run_end_of_breaks(kinds, run_end(kinds, begin, stop, OTHER, APOSTROPHE), stop)
    end = run_end(kinds, start, stop, SPACE, BREAK)
    last = end
    while last > start and kinds[last - 1] != BREAK:
        last -= 1
    return last if last > start else white_end(kinds, start, end, stop)


def ending_end(text: Sequence[int], start: int, stop: int, capital: int) -> int:
    """Return where an ending such as ``'s`` or ``'ll`` ends, or ``start`` if there is none.

    Args:
        text: bytes of UTF-8.
        start: place of the apostrophe.
        stop: where the text ends.
        capital: bits in which a letter may differ, 0 for none; then ``ſ`` is an s as well.
    """
    if start + 1 >= stop:
        return start
    first = text[start + 1] | capital
    if first == _S or first == _T or first == _M or first == _D:  # noqa: SIM109 - compiled
        return start + 2
    if start + 2 >= stop:
        return start
    second = text[start + 2] | capital
    if first == _L and second == _L:
        return start + 3
    if (first == _R or first == _V) and second == _E:  # noqa: SIM109 - compiled
        return start + 3
    if capital > 0 and text[start + 1] == _LONG_S_1 and text[start + 2] == _LONG_S_2:
        return start + 3
    return start


def run_end(kinds: Sequence[int], start: int, stop: int, least: int, most: int) -> int:
    """Return where a run of characters ends whose kinds are from ``least`` to ``most``."""
    end = start
    while end < stop and (kinds[end] == INSIDE or least <= kinds[end] <= most):
        end += 1
    return end


def run_end_of_breaks(kinds: Sequence[int], start: int, stop: int) -> int:
    """Return where line breaks that may stand at a place end."""
    end = start
    while end < stop and kinds[end] == BREAK:
        end += 1
    return end


def white_end(kinds: Sequence[int], start: int, end: int, stop: int) -> int:
    """Return how far a run of white space is a word: its last character goes with what follows.

    Args:
        kinds: of the bytes.
        start: of the run.
        end: of the run.
        stop: where the text ends.
    """
    if end == stop:
        return end
    last = end - 1
    while kinds[last] == INSIDE:
        last -= 1
    return last if last > start else end
