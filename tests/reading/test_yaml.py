"""YAML: plain values as people mean them; what formats leave open is refused with its line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tinylm.errors import ConfigError
from tinylm.reading import parse_yaml, read_yaml, refusal, write_yaml

HERE = refusal("here.yaml", ConfigError)

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20) | st.text(
    "0123456789eE+-._:~xobtrufalsenyYN<>#'\"", max_size=6
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, HERE)
    message = str(error.value)
    assert message.startswith("here.yaml: ")
    assert "\n" not in message
    assert len(message) < 250
    return message.removeprefix("here.yaml: ")


@given(VALUES)
def test_what_is_written_is_read_again(value: Any) -> None:
    written = write_yaml(value)
    assert parse_yaml(written, HERE).value == value
    assert yaml.safe_load(written) == value or "e" in written.lower()  # 1e5 is no number in 1.1


@given(st.text(max_size=80))
def test_any_text_gives_a_value_or_one_line(text: str) -> None:
    try:
        parse_yaml(text, HERE)
    except ConfigError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("-8", -8),
        ("+8", 8),
        ("0", 0),
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0.25", -0.25),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        # What YAML 1.1 turns into other things is text, which only a text setting takes.
        ("012", "012"),
        ("010", "010"),
        ("0x1F", "0x1F"),
        ("0o17", "0o17"),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("1.2.3", "1.2.3"),
        ("e3", "e3"),
        ("9" * 61, "9" * 61),
        ("'8'", "8"),
        ('"true"', "true"),
    ],
)
def test_words(text: str, value: object) -> None:
    read = parse_yaml(f"key: {text}", HERE).value["key"]
    assert read == value
    assert type(read) is type(value)


def test_keys_are_text_as_they_stand() -> None:
    assert parse_yaml("{on: 1, 1: 2, null: 3, 012: 4}", HERE).value == {
        "on": 1,
        "1": 2,
        "null": 3,
        "012": 4,
    }


def test_every_key_has_its_line() -> None:
    document = parse_yaml("a:\n  b: 1\n\n  c:\n  - d: 2\n", HERE)
    assert document.lines == {("a",): 1, ("a", "b"): 2, ("a", "c"): 4, ("a", "c", "0", "d"): 5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key a stands there twice (first on line 1)"),
        ("m:\n  a: 1\n  a: 2", "line 3: the key m.a stands there twice (first on line 2)"),
        ("m:\n  a: 1\nk: 1\nm:\n  b: 1", "line 4: the key m stands there twice (first on line 1)"),
        ("a: 1\n'a': 2", "line 2: the key a stands there twice"),
        ("a:\n\tb: 1", "line 2: a tab, which YAML does not allow there: indent with spaces"),
        ("a: b: c", "line 1: not valid YAML (mapping values are not allowed here)"),
        ("a: [1, 2", "line 1: not valid YAML (expected ',' or ']', but got '<stream end>')"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag tag:yaml.org,2002:python/"),
        ("a: !!int '3'", "line 1: the tag tag:yaml.org,2002:int is not read here"),
        ("? [a]\n: 1", "line 1: a key is text"),
        ("a: &x {b: 1}\nc:\n  <<: *x", "line 3: `<<` is not read here: write the keys out"),
        ("a: *x", "line 1: found undefined alias 'x'"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("a: 1\nb: \x00", "line 2: the character U+0000, which YAML forbids"),
        (r'a: "\UFFFFFFFF"', "not valid YAML ("),
        (r'a: "\U00110000"', "not valid YAML ("),
        ("%YAML " + "1" * 5000 + ".1\n---\na: 1", "not valid YAML ("),
        ("[" * 200_000, "line 1: nested more than 32 deep"),
        ("- " * 40 + "1", "line 1: nested more than 32 deep"),
        ("a: &x [*x]", "line 1: its aliases nest more than 32 deep"),
        (r'a: "\ud800"', r"holds half of a character (\ud800), which is no text"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, problem: str) -> None:
    assert refused(text).startswith(problem)


def test_aliases_may_repeat_but_not_multiply() -> None:
    assert parse_yaml("a: &x [1, 2]\nb: *x", HERE).value == {"a": [1, 2], "b": [1, 2]}
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "its aliases make more than 131,072 values" in refused("\n".join(levels))
    nested = ["a0: &a0 [1]", *(f"a{i}: &a{i} {'[' * 9}*a{i - 1}{']' * 9}" for i in range(1, 9))]
    assert "its aliases nest more than 32 deep" in refused("\n".join(nested))


def test_a_file_is_bounded_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(path, ConfigError).value == {"a": 1}
    for content, problem in (
        (b"\xff\xfea\x00:\x00", "is UTF-16 text, not UTF-8: save it as UTF-8"),
        (b"#" * ((1 << 18) + 1), "has more than 262,144 bytes, which no file of its kind has"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            read_yaml(path, ConfigError, "see `tinylm config`")
        assert str(error.value) == f"{path}: {problem}; see `tinylm config`"
