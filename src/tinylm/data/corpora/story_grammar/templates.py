"""The notation in which sentences are written, and the polish that a finished text gets.

``{slot}`` is replaced by the world's word for it, ``[a|b|]`` by one of its alternatives and
``<rule>`` by one of the shared paraphrases of ``phrases.RULES``; all three nest. A template is
parsed once and kept, so a sentence costs a few microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, TypeAlias

from tinylm.data.corpora.story_grammar.phrases import RULES

Draw: TypeAlias = Callable[[], float]
"""A source of floats in [0, 1): ``random.Random.random``, the one method whose sequence Python
promises to keep between versions (``choice`` and ``randrange`` are not promised)."""

_TOKEN: Final = re.compile(r"[\[\]|]|\{[^{}]*\}|<[a-z_]+>|[^\[\]|{}<>]+")
_LITERAL, _SLOT, _CHOICE = 0, 1, 2


class _Node:
    """One part of a template: literal text, a slot's name or a choice of sequences."""

    __slots__ = ("kind", "options", "text")

    def __init__(self, kind: int, text: str = "", options: tuple[_Sequence, ...] = ()) -> None:
        self.kind = kind
        self.text = text
        self.options = options


_Sequence: TypeAlias = tuple[_Node, ...]


@cache
def _parse(template: str) -> _Sequence:
    tokens = _TOKEN.findall(template)
    if "".join(tokens) != template:
        raise ValueError(f"stray bracket in the template {template!r}")
    options, end = _parse_options(tokens, 0)
    if end != len(tokens):
        raise ValueError(f"unbalanced bracket in the template {template!r}")
    return options[0] if len(options) == 1 else (_Node(_CHOICE, options=options),)


def _parse_options(tokens: list[str], at: int) -> tuple[tuple[_Sequence, ...], int]:
    options: list[_Sequence] = []
    nodes: list[_Node] = []
    while at < len(tokens) and tokens[at] != "]":
        token = tokens[at]
        if token == "|":
            options.append(tuple(nodes))
            nodes = []
        elif token == "[":
            inner, at = _parse_options(tokens, at + 1)
            if at >= len(tokens):
                raise ValueError(f"unclosed bracket in {''.join(tokens)!r}")
            nodes.append(_Node(_CHOICE, options=inner))
        elif token[0] == "{":
            nodes.append(_Node(_SLOT, token[1:-1]))
        elif token[0] == "<":
            rule = _parse(RULES[token[1:-1]])
            nodes.append(_Node(_CHOICE, options=(rule,)) if len(rule) > 1 else rule[0])
        else:
            nodes.append(_Node(_LITERAL, token))
        at += 1
    options.append(tuple(nodes))
    return tuple(options), at


def _write(nodes: _Sequence, draw: Draw, slots: Mapping[str, str], out: list[str]) -> None:
    for node in nodes:
        kind = node.kind
        if kind == _LITERAL:
            out.append(node.text)
        elif kind == _SLOT:
            out.append(slots[node.text])
        else:
            options = node.options
            _write(options[int(draw() * len(options))], draw, slots, out)


def expand(template: str, draw: Draw, slots: Mapping[str, str]) -> str:
    """Return one text of ``template``.

    Raises:
        KeyError: for a slot that the world has no word for.
        ValueError: for a template that is not well formed.
    """
    out: list[str] = []
    _write(_parse(template), draw, slots, out)
    return "".join(out)


# Capitals: at the start, after a full stop (also one that closes a quotation) and inside an
# opening quotation mark. After ?" and !" a lower-case word may follow (`"Why?" asked Tom`), so
# there the template decides.
_SENTENCE_START: Final = re.compile(r'(?:(?:\A|\n|[.!?] |\." )"?|(?<= )")[a-z]')
_ARTICLE: Final = re.compile(r"\b([Aa]) (?=[aeioAEIO](?!ne\b)|u(?!ni|se)|hour|honest)")


def articles(text: str) -> str:
    """Put ``an`` for ``a`` before vowels."""
    return _ARTICLE.sub(r"\1n ", text)


def polish(text: str) -> str:
    """Put capitals at sentence starts and ``an`` before vowels."""
    text = articles(text)
    return _SENTENCE_START.sub(lambda match: match[0][:-1] + match[0][-1].upper(), text)
