"""Names of the texts that the sources of the embedded corpora write."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SAME_TEXTS: Final = {
    "b34744fe35": "5d961e7d01",
    "275e578a83": "b0cf9606c3",
}
"""Digest of sources -> that of earlier ones, which write the same texts: after an edit of names or
comments alone, runs that were trained on the texts can still be resumed."""


def edition(sources: Iterable[Path]) -> str:
    """Return 10 hexadecimal digits that name the texts which some sources write.

    They are a digest of the files, so that an edit renames the texts, unless ``SAME_TEXTS`` says
    that it left them as they were.

    Args:
        sources: files in this folder or below it.
    """
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.relative_to(Path(__file__).parent).as_posix().encode())
        digest.update(path.read_bytes())
    name = digest.hexdigest()[:10]
    return SAME_TEXTS.get(name, name)
