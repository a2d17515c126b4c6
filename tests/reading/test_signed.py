"""Objects that carry a checksum: any change to a value, a key or the checksum is seen."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reading.test_json import VALUES
from tinylm.errors import CheckpointError, DataError
from tinylm.reading import parse_json, read_signed, refusal, signed, verified

HERE = refusal("here")
OBJECTS = st.dictionaries(st.text(), VALUES, max_size=5).filter(lambda v: "checksum" not in v)


@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_what_is_signed_is_read_however_it_is_laid_out(
    values: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(signed(values), indent=indent, ensure_ascii=ascii_only)
    assert verified(parse_json(text, HERE), HERE) == values


@given(OBJECTS, st.data())
def test_every_flipped_bit_is_seen_or_changes_no_value(
    values: dict[str, Any], data: st.DataObject
) -> None:
    content = bytearray(json.dumps(signed(values)).encode())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << (bit % 8)
    try:
        read = verified(parse_json(bytes(content), HERE), HERE)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert json.dumps(read) == json.dumps(values)


def test_a_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(signed({"a": math.inf})))
    assert read_signed(path, dict[str, float], finite=False) == {"a": math.inf}
    for text, problem in (
        (json.dumps(signed({"a": 1.5}) | {"a": 2.5}), "has changed since it was written"),
        ('{"a": 1.5}', "carries no checksum"),
        (json.dumps(signed({"a": "x"})), "a = 'x': expected a number"),
        (json.dumps(signed({"a": math.inf})), "Infinity is no number of JSON"),
        ("[]", "holds []: expected keys with values"),
    ):
        path.write_text(text)
        with pytest.raises(CheckpointError) as error:
            read_signed(path, dict[str, float], CheckpointError, "delete it")
        assert str(error.value).startswith(f"{path}: {problem}")
        assert str(error.value).endswith("; delete it")
