"""The header of a safetensors file."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.errors import DataError, TinylmError, key_shown
from tinylm.reading.json_files import parse_json
from tinylm.reading.shapes import checked, refusal

ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a number, by the name of its type."""
_MOST_HEADER_BYTES = 100_000_000  # safetensors' own bound


@with_config(extra="forbid")
class _TensorEntry(TypedDict):
    """What a safetensors header says of a tensor."""

    dtype: str
    shape: list[int]
    data_offsets: list[int]


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a safetensors file."""

    dtype: str
    """A key of ITEM_BYTES."""
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return the number of its numbers."""
        return math.prod(self.shape)


def read_tensor_headers(
    path: str | Path, error: type[TinylmError] = DataError, advice: str = ""
) -> dict[str, TensorHeader]:
    """Return what a safetensors file holds, all of it checked against the file's size.

    Nothing is allocated but the header, and that only if the file is long enough for it.

    Raises:
        TinylmError: of the class ``error``: the file cannot be read, is cut short, or its tensors
            overlap, leave a hole, have another size than their shape and type ask for, an unknown
            type, or a name twice.
    """
    refuse = refusal(path, error, advice)
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(8)
            if len(start) < 8:
                raise refuse(f"has {size} bytes and is no safetensors file")
            (length,) = struct.unpack("<Q", start)
            if length > min(size - 8, _MOST_HEADER_BYTES):
                raise refuse(f"is cut short or damaged: {size:,} bytes, a header of {length:,}")
            header = file.read(length)
    except OSError as problem:
        raise refuse(f"cannot be read ({problem.strerror or problem})") from problem
    entries = checked(dict[str, Any], parse_json(header, refuse), refuse)
    checked(dict[str, str], entries.pop("__metadata__", {}), refuse)
    tensors = checked(dict[str, _TensorEntry], entries, refuse)
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda entry: entry[1]["data_offsets"]):
        bad = refusal(f"{path}, tensor {key_shown(name)}", error, advice)
        if tensor["dtype"] not in ITEM_BYTES:
            raise bad(f"unknown type {key_shown(tensor['dtype'])}")
        if len(tensor["data_offsets"]) != 2 or min(0, 0, *tensor["shape"]) < 0:
            raise bad("damaged header")
        first, last = tensor["data_offsets"]
        if first != end:
            raise bad(f"starts at byte {first:,}, where byte {end:,} is next")
        wanted = math.prod(tensor["shape"]) * ITEM_BYTES[tensor["dtype"]]
        if last - first != wanted:
            raise bad(f"has {last - first:,} bytes, its shape and type ask for {wanted:,}")
        end = last
    if 8 + length + end != size:
        raise refuse(f"has {size:,} bytes, its header says {8 + length + end:,}")
    return {name: TensorHeader(t["dtype"], tuple(t["shape"])) for name, t in tensors.items()}
