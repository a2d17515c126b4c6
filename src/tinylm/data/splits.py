"""Which files, and which rows, are trained on and which are held out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinylm.errors import DataError

_NAME_PARTS = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
}


def split_files(path: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Return training and validation files, ordered by name.

    A folder's files are split by name: a part ``train`` makes a training file, ``valid``,
    ``validation`` or ``val`` a validation file, and others are not read.

    Args:
        path: a file, which is a training file, or a folder.
        suffixes: of the files that are read in a folder, such as ``.jsonl``.

    Raises:
        DataError: if there is nothing, or no training file, or one whose name says both.
    """
    kinds = " or ".join(suffixes)
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise DataError(f"{path} does not exist: give a {kinds} file, or a folder of them")
    groups: dict[str, list[Path]] = {"train": [], "validation": []}
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in suffixes)
    for file in files:
        parts = re.split(r"[^a-z]+", file.stem.lower())
        splits = {_NAME_PARTS[part] for part in parts if part in _NAME_PARTS}
        if len(splits) > 1:
            raise DataError(f"{file}: the name says train and validation: rename it to say one")
        if splits:
            groups[splits.pop()].append(file)
    if not groups["train"]:
        raise DataError(f"{path}: no {kinds} file with the part `train` in its name")
    return groups["train"], groups["validation"]


def drawn(count: int, share: float, seed: Sequence[int]) -> list[int]:
    """Return which of ``count`` things are held out, in the order in which they are drawn.

    At least one is, and at least one is not; of a single thing none is.
    """
    held_out = min(max(1, round(share * count)), count - 1)
    return [int(i) for i in np.random.default_rng(tuple(seed)).permutation(count)[:held_out]]
