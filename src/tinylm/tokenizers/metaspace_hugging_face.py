"""``Metaspace`` in files of Hugging Face ``tokenizers``, and the steps around it, written and read.

The forms that are taken, which are those that ``transformers`` makes from SentencePiece's models:

- pre-tokenizer ``Metaspace``, alone or after ``WhitespaceSplit``, and no normalizer;
- normalizer ``Replace`` of spaces by ``▁``, alone or after ``Prepend`` of ``▁``, and no
  pre-tokenizer.

With them, the decoders ``Metaspace``, or ``Replace`` of ``▁`` by a space, the latter alone or with
``Strip`` of one space in front; bytes may be joined on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.errors import shown
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers.metaspace import MARK, Dropped, Metaspace

_TYPE = "Metaspace"
_WHITE = "WhitespaceSplit"
_SCHEMES = ("always", "first", "never")
_PREPEND = {"type": "Prepend", "prepend": MARK}
_TO_MARK = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
_FROM_MARK = {"type": "Replace", "pattern": {"String": MARK}, "content": " "}
_STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
_BYTES = {"type": "ByteFallback"}
_FUSE = {"type": "Fuse"}


def is_meant(content: Mapping[str, Any]) -> bool:
    """Return whether a file writes spaces as ``▁``."""
    if content.get("pre_tokenizer") is None:
        return any(step.get("type") == "Replace" for step in steps_of(content.get("normalizer")))
    return any(step.get("type") == _TYPE for step in steps_of(content["pre_tokenizer"]))


def steps_of(section: Any) -> list[dict[str, Any]]:
    """Return the steps of a section, of which a ``Sequence`` has several."""
    if not isinstance(section, dict):
        return []
    if section.get("type") != "Sequence":
        return [section]
    for key in ("normalizers", "pretokenizers", "decoders"):
        steps = section.get(key)
        if isinstance(steps, list):
            return [step if isinstance(step, dict) else {"type": step} for step in steps]
    return []


def _named(steps: list[dict[str, Any]]) -> str:
    return shown(", ".join(str(step.get("type")) for step in steps) or None)


def _scheme(step: Mapping[str, Any], where: str, refuse: Refuse) -> str:
    """Return the scheme of a ``Metaspace``, as files of today or of earlier versions name it."""
    if step.get("replacement") != MARK:
        raise refuse(f"{where}.replacement is {shown(step.get('replacement'))}, but ▁ is needed")
    earlier = step.get("add_prefix_space", True)
    if not isinstance(earlier, bool):
        raise refuse(f"{where}.add_prefix_space is {shown(earlier)}, but true or false is needed")
    scheme = step.get("prepend_scheme") or ("always" if earlier else "never")
    if scheme not in _SCHEMES:
        needed = " or ".join(map(repr, _SCHEMES))
        raise refuse(f"{where}.prepend_scheme is {shown(scheme)}, but {needed} is needed")
    return str(scheme)


def read(content: Mapping[str, Any], refuse: Refuse) -> Metaspace:
    """Return the rule of a file that writes spaces as ``▁``.

    Args:
        content: of the file.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming the step that does not fit.
    """
    normalizers = steps_of(content.get("normalizer"))
    steps = steps_of(content.get("pre_tokenizer"))
    if not steps:
        if normalizers in ([_TO_MARK], [_PREPEND, _TO_MARK]):
            dropped = _dropped(content.get("decoder"), refuse)
            return Metaspace("added" if normalizers[1:] else "never", cut=False, dropped=dropped)
        raise refuse(
            f"normalizer is {_named(normalizers)}, but without a pre_tokenizer Replace of ' ' by ▁ "
            "is needed, alone or after Prepend of ▁"
        )
    if normalizers:
        raise refuse(f"normalizer is {_named(normalizers)}, but nothing is needed beside Metaspace")
    if [step.get("type") for step in steps] not in ([_TYPE], [_WHITE, _TYPE]):
        raise refuse(
            f"pre_tokenizer is {_named(steps)}, but Metaspace is needed, alone or after "
            "WhitespaceSplit"
        )
    scheme, cut = _scheme(steps[-1], "pre_tokenizer", refuse), steps[-1].get("split")
    if cut is not None and not isinstance(cut, bool):
        raise refuse(f"pre_tokenizer.split is {shown(cut)}, but true or false is needed")
    return Metaspace(
        scheme,  # type: ignore[arg-type]
        cut=cut is not False,
        at_white_space=len(steps) > 1,
        dropped=_dropped(content.get("decoder"), refuse),
    )


def _dropped(decoder: Any, refuse: Refuse) -> Dropped:
    steps = steps_of(decoder)
    # Joining bytes and tokens changes nothing here, but where it stands: Strip is of the whole.
    plain = [step for step in steps if step not in (_BYTES, _FUSE)]
    first = steps[:1]
    if plain[:1] == first and [step.get("type") for step in plain] == [_TYPE]:
        return "nothing" if _scheme(plain[0], "decoder", refuse) == "never" else "marks"
    if plain == first == [_FROM_MARK]:
        return "nothing"
    if plain == [_FROM_MARK, _STRIP] and steps[-2:] == [_FUSE, _STRIP] and first == [_FROM_MARK]:
        return "space"
    raise refuse(
        f"decoder is {_named(steps)}, but Metaspace is needed, or Replace of ▁ by ' ', which Fuse "
        "and Strip of one space in front may follow"
    )


def written(rule: Metaspace, *, byte_fallback: bool) -> dict[str, Any]:
    """Return the sections normalizer, pre_tokenizer and decoder of a file of the library."""
    joined = [_BYTES, _FUSE] if byte_fallback else [_FUSE]
    scheme = {"replacement": MARK, "prepend_scheme": rule.prepend, "split": rule.cut}
    first = {
        "marks": {"type": _TYPE, **scheme, "prepend_scheme": "always"},
        "space": _FROM_MARK,
        "nothing": _FROM_MARK,
    }[rule.dropped]
    last = [_STRIP] if rule.dropped == "space" else []
    sections: dict[str, Any] = {
        "normalizer": None,
        "pre_tokenizer": {"type": _TYPE, **scheme},
        "decoder": {"type": "Sequence", "decoders": [first, *joined, *last]},
    }
    if rule.prepend == "added":
        sections["normalizer"] = {"type": "Sequence", "normalizers": [_PREPEND, _TO_MARK]}
        sections["pre_tokenizer"] = None
    elif rule.at_white_space:
        steps = [{"type": _WHITE}, sections["pre_tokenizer"]]
        sections["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return sections
