"""The errors that a user can cause or mend; the command line prints them as one line."""

import reprlib
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class TinylmError(Exception):
    """A problem that is reported in one line: what is wrong, what is allowed, what to do."""


class ConfigError(TinylmError):
    """A configuration key or value that cannot be used."""


class DataError(TinylmError):
    """A corpus, token file, tokenizer or vector file that cannot be used."""


class CheckpointError(TinylmError):
    """A checkpoint that cannot be read or written."""


class TrainingError(TinylmError):
    """Training that cannot go on, for example because the loss is not finite."""


class GenerationError(TinylmError):
    """A prompt or a generation setting that cannot be used."""


class AdapterError(TinylmError):
    """An adapter that cannot be attached, merged, read or written."""


class CompressionError(TinylmError):
    """A model that cannot be pruned, quantized or distilled as asked."""


class AlignmentError(TinylmError):
    """A model that cannot be aligned as asked, or a reward that cannot be used."""


_shortened = reprlib.Repr()
_shortened.maxlevel, _shortened.maxdict, _shortened.maxlist = 3, 3, 4
_shortened.maxstring = _shortened.maxother = 60


def shown(value: Any) -> str:
    """Return a value for a message: as Python writes it, never long, and on one line."""
    return _shortened.repr(value)


def key_shown(key: str) -> str:
    """Return a key for a message: as it is, or as a quoted string where it is long or odd."""
    return key if key.isprintable() and 0 < len(key) <= 80 else shown(key)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ``"; did you mean a or b?"`` for the closest of ``names``, or all if none is.

    Args:
        name: what was given.
        names: what is known.
    """
    known = sorted(names)
    close = get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(key_shown(near) for near in close)}?"
    return f"; allowed: {', '.join(key_shown(each) for each in known)}"
