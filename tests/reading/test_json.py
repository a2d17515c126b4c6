"""JSON and JSON lines: what is valid is read as Python reads it, the rest is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.errors import CheckpointError, DataError, TinylmError
from tinylm.reading import files as files_module
from tinylm.reading import json_files, parse_json, read_bytes, read_json, read_json_lines, refusal

HERE = refusal("here.json", DataError, "write it again")

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**50), 10**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refused(content: bytes | str) -> str:
    with pytest.raises(DataError) as error:
        parse_json(content, HERE)
    message = str(error.value)
    assert message.startswith("here.json: ")
    assert message.endswith("; write it again")
    assert "\n" not in message
    assert len(message) < 250
    return message.removeprefix("here.json: ").removesuffix("; write it again")


@given(VALUES, st.booleans())
def test_what_is_valid_is_read_as_python_reads_it(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text, HERE) == value
    assert parse_json(text.encode(), HERE) == value


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_one_line(content: bytes) -> None:
    try:
        value = parse_json(content, HERE)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert value == json.loads(content.decode("utf-8-sig"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "not JSON (expecting value at column 1)"),
        ('{"a": 1,\n "b" 2}', "not JSON (expecting ':' delimiter at line 2, column 6)"),
        ('{"a": 1, "b": {"a": 2, "c": 3, "c": 4}}', "the key c stands there twice"),
        ('{"": 1, "": 2}', "the key '' stands there twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("[-Infinity]", "-Infinity is no number of JSON"),
        ("1e999", "the number 1e999 is too large"),
        ("9" * 61, f"a number of 61 digits ({'9' * 12}…)"),
        ("9" * 10_000, f"a number of 10,000 digits ({'9' * 12}…)"),
        ("[" * 33 + "]" * 33, "is nested more than 32 deep"),
        ("[" * 200_000, "is nested more than 32 deep"),
        ('{"a":' * 200_000, "is nested more than 32 deep"),
        (b"\xff\xfe[\x001\x00]\x00", "is UTF-16 text, not UTF-8: save it as UTF-8"),
        (b"\xff\xfe\x00\x00[\x00\x00\x00", "is UTF-32 text, not UTF-8: save it as UTF-8"),
        (b'"a\xe4"', "not UTF-8 at byte 2 (invalid continuation byte): save it as UTF-8"),
    ],
)  # fmt: skip
def test_what_is_refused(content: bytes | str, problem: str) -> None:
    assert refused(content) == problem


def test_depth_32_is_read() -> None:
    assert parse_json("[" * 32 + "]" * 32, HERE) is not None
    assert parse_json(json.dumps([[1]] * 1000), HERE) == [[1]] * 1000  # many, not deep


def test_a_pair_of_surrogates_is_a_character() -> None:
    assert parse_json(r'"\ud83d\ude00"', HERE) == "😀"


def test_a_byte_order_mark_is_dropped() -> None:
    assert parse_json(b"\xef\xbb\xbf[1]", HERE) == [1]


def test_values_are_counted_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MOST_VALUES", 10)
    assert parse_json("[1,2,3]", HERE) == [1, 2, 3]
    assert refused("[" + ",".join("1" * 11) + "]") == "holds more than 10 values"


def test_a_file_is_bounded_and_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path, dict[str, int]) == {"a": 1}
    with pytest.raises(CheckpointError) as error:
        read_json(path, dict[str, int], CheckpointError, "train again", most=7)
    assert str(error.value) == (
        f"{path}: has more than 7 bytes, which no file of its kind has; train again"
    )
    with pytest.raises(DataError, match=r"missing\.json: cannot be read \(No such file"):
        read_json(tmp_path / "missing.json", dict[str, int])
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read_bytes(tmp_path)


@pytest.mark.parametrize("content", ["[1]", "3", '"x"', "null", '{"a": "1"}', '{"a": true}'])
def test_another_shape_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        read_json(path, dict[str, int])
    assert str(error.value).startswith(f"{path}: ")
    assert "expected" in str(error.value)


def test_json_lines_are_numbered_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": 2}\r\n{"a": 3}')
    rows = list(read_json_lines(path, dict[str, int]))
    assert rows == [(1, {"a": 1}), (3, {"a": 2}), (4, {"a": 3})]
    for content, problem in (
        (b'{"a": 1}\n"x"\n', "line 2: holds 'x': expected keys with values"),
        (b'{"a": 1}\n{"a": 1.5}\n', "line 2: a = 1.5: expected a whole number"),
        (b'{"a": 1}\n{"a"\n', "line 2: not JSON"),
        (rb'{"\ud83d!": 1}', r"line 1: holds half of a character (\ud83d), which is no text"),
        (b'{"a": 1}\n\xff\n', "line 2: not UTF-8 at byte 9"),
        (b"1" * 101 + b"\n", "line 1: has more than 100 bytes; is this a file of lines?"),
    ):
        path.write_bytes(content)
        with pytest.raises(TinylmError) as error:
            list(read_json_lines(path, dict[str, int], most=100))
        assert str(error.value).startswith(f"{path}, {problem}")


def test_a_file_without_end_is_not_read_whole() -> None:
    with pytest.raises(DataError, match="has more than"):
        read_bytes("/dev/zero", most=1000)
    assert math.log2(files_module.MOST_BYTES) == 26
