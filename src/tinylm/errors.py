"""The errors that a user can cause or mend; the command line prints them as one line."""

from collections.abc import Iterable
from difflib import get_close_matches


class TinylmError(Exception):
    """A problem to be told in one line: what is wrong, what is allowed, what to do."""


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


def nearest(name: str, names: Iterable[str], prefix: str = "") -> str:
    """Return ``"; did you mean a or b?"`` for the closest of ``names``, or all if none is.

    Args:
        name: what was given.
        names: what is known.
        prefix: written before each of them.
    """
    known = sorted(names)
    close = get_close_matches(name, known, n=2, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(prefix + one for one in close)}?"
    return f"; allowed: {', '.join(prefix + one for one in known)}"
