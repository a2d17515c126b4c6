"""The splitting rules, against their regular expressions in other engines over all of Unicode."""

from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from tinylm.tokenizers.byte_letters import LETTERS
from tinylm.tokenizers.characters import kinds_of_bytes, kinds_of_characters
from tinylm.tokenizers.loops import compiled
from tinylm.tokenizers.loops.cutting import word_end, write_kinds
from tinylm.tokenizers.splitting import PATTERNS, RULES, split

# Characters that Python's Unicode does not have yet may be letters in a newer one.
ASSIGNED = [
    character
    for character in map(chr, range(0x110000))
    if unicodedata.category(character) not in ("Cn", "Cs")
]
MARKED = list(" \n\r\t'sStTlLrReEvVmMdDſ12345.!?-\xa0\x85\u2003\u3000\x1cé漢😀\u0301\u200d")
RULE_NAMES = pytest.mark.parametrize("name", PATTERNS)
texts = st.text(st.one_of(st.sampled_from(MARKED), st.sampled_from(ASSIGNED)), max_size=40)


@compiled
def compiled_ends(rule, text, kinds):  # type: ignore[no-untyped-def]
    ends = [0]
    while ends[-1] < len(text):
        ends.append(word_end(rule, text, kinds, ends[-1], len(text)))
    return ends


def compiled_split(text: str, rule: int) -> list[str]:
    content = np.frombuffer(text.encode(), np.uint8)
    kinds = np.empty_like(content)
    write_kinds(content, kinds_of_characters(), kinds)
    ends = compiled_ends(rule, content, kinds)
    return [content[a:b].tobytes().decode() for a, b in itertools.pairwise(ends)]


def plain_split(text: str, rule: int) -> list[str]:
    return [word.decode() for word in split(text, rule)]


@RULE_NAMES
@settings(max_examples=1000, deadline=None)
@given(text=texts)
def test_the_words_are_those_of_the_expression(name: str, text: str) -> None:
    expected = regex.findall(PATTERNS[name], text)
    assert plain_split(text, RULES[name]) == expected
    assert compiled_split(text, RULES[name]) == expected


@RULE_NAMES
def test_every_character_is_of_its_kind_in_every_place(name: str) -> None:
    expression = regex.compile(PATTERNS[name])
    for pattern in ("{0}", "a{0}b", " {0}", "{0}{0} ", "1{0}1", "\n{0}x"):
        text = "|".join(pattern.format(character) for character in ASSIGNED)
        assert compiled_split(text, RULES[name]) == expression.findall(text)


@RULE_NAMES
@settings(max_examples=300, deadline=None)
@given(text=texts)
def test_the_words_are_those_of_hugging_face(name: str, text: str) -> None:
    cut = pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated")
    words = plain_split(text, RULES[name])
    assert words == [word for word, _ in cut.pre_tokenize_str(text)]
    if name == "gpt2":
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        theirs = [word for word, _ in byte_level.pre_tokenize_str(text)]
        assert theirs == ["".join(LETTERS[byte] for byte in word.encode()) for word in words]


@RULE_NAMES
@given(text=st.text(max_size=60))
def test_nothing_is_lost_or_empty(name: str, text: str) -> None:
    words = split(text, RULES[name])
    assert b"".join(words) == text.encode()
    assert all(words)


@given(text=st.text(max_size=60))
def test_both_paths_give_bytes_the_same_kinds(text: str) -> None:
    content = np.frombuffer(text.encode(), np.uint8)
    kinds = np.full_like(content, 99)
    write_kinds(content, kinds_of_characters(), kinds)
    assert kinds.tobytes() == kinds_of_bytes(text)


@pytest.mark.parametrize(
    ("text", "gpt2", "cl100k"),
    [
        ("I'll SAY'S", ["I", "'ll", " SAY", "'", "S"], ["I", "'ll", " SAY", "'S"]),
        ("x = 12345", ["x", " =", " 12345"], ["x", " =", " ", "123", "45"]),
        ("(word)", ["(", "word", ")"], ["(word", ")"]),
        ("end.\n\nA", ["end", ".", "\n", "\n", "A"], ["end", ".\n\n", "A"]),
        ("a   b", ["a", "  ", " b"], ["a", "  ", " b"]),
        ("a \n  b", ["a", " \n ", " b"], ["a", " \n", " ", " b"]),
        ("it'ſ", ["it", "'", "ſ"], ["it", "'ſ"]),
    ],
)
def test_examples(text: str, gpt2: list[str], cl100k: list[str]) -> None:
    assert plain_split(text, RULES["gpt2"]) == gpt2
    assert plain_split(text, RULES["cl100k"]) == cl100k
