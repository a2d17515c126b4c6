"""Seeded damage to files: of any bytes, of the structure of JSON, YAML and safetensors headers."""

from __future__ import annotations

import copy
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

Mutation = Callable[[bytes, Random], bytes]


# --- bytes ---------------------------------------------------------------------------------------


def flip(content: bytes, random: Random) -> bytes:
    """Flip one bit, or some."""
    changed = bytearray(content or b"\0")
    for _ in range(random.choice([1, 1, 1, 2, 8])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(content: bytes, random: Random) -> bytes:
    """Keep the beginning, or the end."""
    place = random.randrange(len(content) + 1)
    return content[:place] if random.random() < 0.8 else content[place:]


def insert(content: bytes, random: Random) -> bytes:
    """Put some bytes in."""
    place = random.randrange(len(content) + 1)
    odd = [b"\0", b"\n", b"\xff", b"\t", b'"', b"{", b"[" * 100_000, b"9" * 5000, b"-", b"1e999"]
    new = random.choice([*odd, random.randbytes(random.randrange(1, 60))])
    return content[:place] + new + content[place:]


def delete(content: bytes, random: Random) -> bytes:
    """Take some bytes out."""
    place = random.randrange(len(content) + 1)
    return content[:place] + content[place + random.choice([1, 1, 2, 8, 100]) :]


def double(content: bytes, random: Random) -> bytes:
    """Repeat a piece, or put it in another's place."""
    start = random.randrange(len(content) + 1)
    piece = content[start : start + random.choice([1, 8, 64, 1000])]
    place = random.randrange(len(content) + 1)
    rest = content[place:] if random.random() < 0.5 else content[place + len(piece) :]
    return content[:place] + piece + rest


def overwrite(content: bytes, random: Random) -> bytes:
    """Set some bytes to one value, as a lost block of a disk is."""
    place = random.randrange(len(content) + 1)
    count = min(random.choice([1, 4, 8, 512]), len(content) - place)
    value = random.choice([b"\0", b"\xff", b" ", b"9", b"\x80"])
    return content[:place] + value * count + content[place + count :]


def swap_lines(content: bytes, random: Random) -> bytes:
    """Exchange two lines, or repeat one."""
    lines = content.splitlines(keepends=True) or [b""]
    i, j = random.randrange(len(lines)), random.randrange(len(lines))
    if random.random() < 0.5:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines.insert(j, lines[i])
    return b"".join(lines)


def replace_all(content: bytes, random: Random) -> bytes:
    """Put something else in the place of the file."""
    return random.choice(
        [
            b"",
            b"\n",
            b"null",
            b"[]",
            b"{}",
            b'"x"',
            b"3",
            b"[" * 200_000,
            b'{"a":' * 50_000,
            b"- " * 10_000,
            content.decode("utf-8", "replace").encode("utf-16"),
            gzip.compress(content),
            random.randbytes(500),
        ]
    )


BYTES: list[Mutation] = [
    flip,
    flip,
    cut,
    insert,
    delete,
    double,
    overwrite,
    swap_lines,
    replace_all,
]


# --- structure -----------------------------------------------------------------------------------


def odd_value(random: Random) -> Any:
    """Return a value that stands where another belongs."""
    return random.choice(
        [
            *(None, True, False, 0, 1, -1, 2, 1.5, -0.5, 1e308, 1e-308, 10**18, 10**30, -(10**25)),
            *(float("nan"), float("inf"), "", "x", "no", "012", "1e5", "x" * 10_000, "\x1b[31m"),
            *("\ud800", "a\nb", "../../x", [], {}, [[]], [1], ["x"], {"x": 1}, {"": None}),
            nested(random.choice([20, 40, 500])),
            [0] * 10_000,
        ]
    )


def nested(depth: int) -> Any:
    """Return a list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the container and the key of every value below one."""
    below: list[tuple[Any, Any]] = []
    open_ = [value]
    while open_:
        parent = open_.pop()
        if isinstance(parent, dict):
            keys: list[Any] = list(parent)
        elif isinstance(parent, list):
            keys = list(range(min(len(parent), 50)))
        else:
            continue
        below += [(parent, key) for key in keys]
        open_ += [parent[key] for key in keys]
    return below


def restructure(value: Any, random: Random) -> Any:
    """Return the value with something of its structure changed; it may be changed itself."""
    below = places(value)
    if not below or random.random() < 0.03:
        return odd_value(random)
    parent, key = random.choice(below)
    what = random.choice(["value", "value", "value", "number", "delete", "rename", "add", "move"])
    old = parent[key]
    if what == "number" and isinstance(old, (int, float)) and not isinstance(old, bool):
        factor = random.choice([-1, 0, 2, 0.5, 1000, 10**9, 10**18])
        parent[key] = old + random.choice([-1, 1]) if random.random() < 0.5 else old * factor
    elif what == "delete":
        del parent[key]
    elif what == "rename" and isinstance(parent, dict):
        parent[random.choice([f"{key}x", str(key).upper(), ""])] = parent.pop(key)
    elif what == "add" and isinstance(parent, dict):
        parent[random.choice(["extra", "checksum", "__class__", "\x1b", "a.b"])] = odd_value(random)
    elif what == "move":
        parent[key] = copy.deepcopy(random.choice([other[place] for other, place in below]))
    else:
        parent[key] = odd_value(random)
    return value


def of_json(content: bytes, random: Random) -> bytes:
    """Change the structure of a JSON text."""
    value = json.loads(content)
    text = json.dumps(restructure(value, random))
    if random.random() < 0.1:  # a key twice
        place = text.find('": ', random.randrange(max(1, len(text))))
        start = text.rfind('"', 0, place) if place > 0 else -1
        if start >= 0:
            text = f"{text[:start]}{text[start : place + 3]}0, {text[start:]}"
    return text.encode()


def of_json_line(content: bytes, random: Random) -> bytes:
    """Change the structure of one line of JSON lines."""
    lines = content.splitlines()
    place = random.randrange(len(lines))
    lines[place] = of_json(lines[place], random)
    return b"\n".join(lines) + b"\n"


def of_yaml(content: bytes, random: Random) -> bytes:
    """Change the structure of a YAML text, or write it in a way that can be misread."""
    text = content.decode()
    if random.random() < 0.5:
        value = restructure(yaml.safe_load(text), random)
        deep = json.dumps(value)
        if "[" * 100 not in deep:  # PyYAML writes no deeper ones; JSON is YAML, too
            deep = yaml.dump(value, allow_unicode=True)
        return deep.encode("utf-8", "surrogatepass")
    lines = text.splitlines()
    place = random.randrange(len(lines))
    key, colon, _ = lines[place].partition(":")
    odd = ["012", "0x10", "1_000", "1:30", "yes", "~", "2024-01-01", "!!python/none x", "&a [*a]"]
    odd += ["*a", "{", "[[[[", "'", "|", "<<", "- x", "\t1", "1e999", "9" * 5000, "@", "%", "&a &b"]
    if random.random() < 0.3:
        lines.insert(place, lines[place])
    elif colon:
        lines[place] = f"{key}: {random.choice(odd)}"
    return "\n".join(lines).encode()


def of_safetensors(content: bytes, random: Random) -> bytes:
    """Change the structure of the header, its length, or the tensors behind it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    what = random.choice(["header", "header", "length", "data", "number"])
    if what == "header":
        header = of_json(header, random)
        length = len(header)
    elif what == "length":
        length = random.choice([0, 1, length - 1, length + 8, 2**31, 2**40, 2**63, 2**64 - 1])
    elif what == "data":
        data = random.choice(BYTES)(data, random)
    elif len(data) >= 4:  # a number that is not finite, or very large
        place = random.randrange(len(data) // 4) * 4
        value = random.choice([float("inf"), float("nan"), 3e38, -3e38, 1e-45])
        data = data[:place] + struct.pack("<f", value) + data[place + 4 :]
    return struct.pack("<Q", length) + header + data


def of_numbers(content: bytes, random: Random) -> bytes:
    """Set one number of a binary format to an odd one."""
    layout = random.choice(["<i", ">i", "<q", "<f", "<d", "<H"])
    size = struct.calcsize(layout)
    if len(content) < size:
        return content
    place = random.randrange(min(len(content) - size + 1, random.choice([120, 10**9])))
    value: Any = random.choice([0, 1, -1, 2, 127, 2**31 - 1, -(2**31)])
    if layout in ("<f", "<d"):
        value = random.choice([0.0, float("nan"), float("inf"), 3e38])
    elif layout == "<H":
        value = random.choice([0, 1, 4, 0xFFFF, 300])
    elif layout == "<q":
        value = random.choice([0, -1, 2**63 - 1, 2**40, 2**31])
    return content[:place] + struct.pack(layout, value) + content[place + size :]


def packed(inner: Mutation, form: str) -> Mutation:
    """Return the mutation of what an archive holds, or of the archive itself."""

    def mutate(content: bytes, random: Random) -> bytes:
        if random.random() < 0.3:
            return random.choice(BYTES)(content, random)
        if form == ".gz":
            changed = inner(gzip.decompress(content), random)
            if random.random() < 0.1:
                changed += bytes(1 << 26)  # 64 MB that nothing announces
            return gzip.compress(changed, 1)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            (name,) = archive.namelist()
            changed = inner(archive.read(name), random)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(name, changed)
            if random.random() < 0.1:
                archive.writestr(f"other-{name}", changed)
        return buffer.getvalue()

    return mutate
