"""Headers of safetensors files, held to safetensors' own writer and to the file's size."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load, save

from tinylm.errors import DataError
from tinylm.reading import TensorHeader, read_tensor_headers
from tinylm.reading.tensors import ITEM_BYTES

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I32": torch.int32,
    "F32": torch.float32,
    "I64": torch.int64,
    "F64": torch.float64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
}


def write(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_what_safetensors_writes_is_read(tmp_path: Path) -> None:
    assert DTYPES.keys() == ITEM_BYTES.keys()
    tensors = {
        name: torch.zeros((2, i + 1)).to(dtype) for i, (name, dtype) in enumerate(DTYPES.items())
    }
    tensors["scalar"], tensors["empty"] = torch.tensor(1.0), torch.zeros(3, 0)
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(tensors, metadata={"format": "pt"}))
    headers = read_tensor_headers(path)
    assert headers.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert headers[name].shape == tuple(tensor.shape)
        assert headers[name].count == tensor.numel()
        assert ITEM_BYTES[headers[name].dtype] == tensor.itemsize
    path.write_bytes(save({}))
    assert read_tensor_headers(path) == {}


def entry(dtype: str, shape: list[int], first: int, last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "data", "problem"),
    [
        ({"a": entry("F32", [2], 0, 8)}, 7, "has 76 bytes, its header says 77"),
        ({"a": entry("F32", [2], 0, 8)}, 9, "has 78 bytes, its header says 77"),
        ({"a": entry("F32", [2], 4, 12)}, 12, "tensor a: starts at byte 4, where byte 0 is next"),
        (
            {"a": entry("F32", [2], 0, 8), "b": entry("U8", [4], 4, 8)},
            8,
            "tensor b: starts at byte 4, where byte 8 is next",
        ),
        (
            {"a": entry("F32", [2], 0, 8), "b": entry("U8", [4], 12, 16)},
            16,
            "tensor b: starts at byte 12, where byte 8 is next",
        ),
        (
            {"a": entry("F32", [2**40, 2**40], 0, 8)},
            8,
            "tensor a: has 8 bytes, its shape and type ask for 4,835,703,278,458,516,698,824,704",
        ),
        ({"a": entry("F33", [2], 0, 8)}, 8, "tensor a: unknown type F33"),
        ({"a": entry("F32", [-2], 0, 8)}, 8, "tensor a: damaged header"),
        ({"a": entry("F32", [-2, -1], 0, 8)}, 8, "tensor a: damaged header"),
        ({"a": entry("F32", [2], 0, 8) | {"data_offsets": [0]}}, 8, "tensor a: damaged header"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "a.data_offsets is missing"),
        ({"a": entry("F32", [2], 0, 8) | {"dtype": 1}}, 8, "a.dtype = 1: expected text"),
        ({"a": [1]}, 8, "a = [1]: expected keys with values"),
        ([1], 8, "holds [1]: expected keys with values"),
        ({"__metadata__": {"k": 1}}, 0, "k = 1: expected text"),
        (b'{"a": {}, "a": {}}', 0, "the key a stands there twice"),
        (b"[" * 100_000, 0, "is nested more than 32 deep"),
        (b"not json", 0, "not JSON"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(header: Any, data: int, problem: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", header, bytes(data))
    with pytest.raises(DataError) as error:
        read_tensor_headers(path, DataError, "again")
    message = str(error.value)
    assert message.removeprefix(str(path)).lstrip(":, ").startswith(problem)
    assert message.endswith("; again")
    assert "\n" not in message


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 3])
def test_a_header_longer_than_the_file_is_not_allocated(length: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", b"{}", b"", length)
    with pytest.raises(DataError, match=r"cut short or damaged: 10 bytes, a header of"):
        read_tensor_headers(path)
    path.write_bytes(b"1234567")
    with pytest.raises(DataError, match="has 7 bytes and is no safetensors file"):
        read_tensor_headers(path)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_tensor_headers(tmp_path / "none")


CONTENT = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(5)})


@given(st.integers(0, 8 * 130 - 1), st.integers(0, len(CONTENT)))
@settings(max_examples=200)
def test_what_is_accepted_safetensors_accepts_too(
    tmp_path_factory: pytest.TempPathFactory, bit: int, end: int
) -> None:
    changed = bytearray(CONTENT)
    changed[bit // 8] ^= 1 << (bit % 8)
    path = tmp_path_factory.mktemp("t") / "a"
    for content in (bytes(changed), CONTENT[:end]):
        path.write_bytes(content)
        try:
            headers = read_tensor_headers(path)
        except DataError as error:
            assert "\n" not in str(error)
        else:
            tensors = load(content)
            assert {name: TensorHeader(headers[name].dtype, tuple(t.shape)) for name, t in
                    tensors.items()} == headers  # fmt: skip
            assert np.isfinite(sum(t.numel() for t in tensors.values()))


def test_a_name_twice_is_what_safetensors_would_take() -> None:
    entry = '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
    text = ("{" + entry + "," + entry + "}").encode()
    content = struct.pack("<Q", len(text)) + text + b"\0"
    try:
        assert load(content).keys() == {"a"}
    except SafetensorError:
        pytest.fail("safetensors itself refuses it now: the check of names is no longer needed")
