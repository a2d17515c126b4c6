"""The file of a word tokenizer: one JSON object, checked in full before it is used."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.errors import DataError, TinylmError, shown
from tinylm.reading import CHECKSUM, checked, key_shown, read_json, refusal, verified
from tinylm.reading.shapes import Refuse
from tinylm.tokenizers import files
from tinylm.tokenizers.base import SPECIAL_TOKENS, read_special_tokens
from tinylm.tokenizers.word_case import Case, Place

KIND = "word"
RULE_VERSIONS = (1, 2)
_KEYS = {
    *("format", "version", "kind", "rule_version", "min_frequency", "max_size", "types_seen"),
    *("fingerprint", "vocabulary", "special_tokens"),
}
_CASE_KEY = {1: "capitalised", 2: "forms"}
"""What holds the case of words: a list of names, or forms by place and word."""


@dataclass(frozen=True)
class Content:
    """What a file says."""

    rule_version: int
    words: list[str]
    """The vocabulary without the special tokens."""
    case: Case
    min_frequency: int
    max_size: int | None
    types_seen: int | None
    fingerprint: Any
    special: tuple[str, ...] = ()
    """Special tokens beside the standard ones."""


def write(path: str | Path, content: Content) -> None:
    """Write a file by a temporary name and a rename.

    Raises:
        DataError: if it cannot be written.
    """
    key = _CASE_KEY[content.rule_version]
    values = {
        "rule_version": content.rule_version,
        "min_frequency": content.min_frequency,
        "max_size": content.max_size,
        "types_seen": content.types_seen,
        "fingerprint": content.fingerprint,
        "vocabulary": [*SPECIAL_TOKENS, *content.special, *content.words],
        key: sorted(content.case.names)
        if content.rule_version == 1
        else {place.name.lower(): forms for place, forms in content.case.forms.items()},
    }
    if content.special:  # versions before know none
        values["special_tokens"] = list(content.special)
    files.write(path, KIND, values)


def read(path: str | Path) -> Content:
    """Read a file written by ``write``, and check all of it but its fingerprint.

    Raises:
        DataError: if it is missing, malformed, changed or of another kind.
    """
    refuse = refusal(path, DataError, files.ADVICE)
    content = read_json(path, dict[str, Any], DataError, files.ADVICE)
    if content.get("format") != files.FORMAT:
        raise refuse(f'not a tokenizer file (no "format": "{files.FORMAT}")')
    if CHECKSUM in content:  # files made before have none, and are checked all the same
        content = verified(content, refuse)
    for key, allowed in (
        ("version", (files.FORMAT_VERSION,)),
        ("kind", (KIND,)),
        ("rule_version", RULE_VERSIONS),
    ):
        if content.get(key) not in allowed:
            needed = " or ".join(map(repr, allowed))
            raise refuse(f"{key} is {shown(content.get(key))}, but {needed} is needed")
    version = int(content["rule_version"])
    vocabulary = _words(content, "vocabulary", refuse)
    if tuple(vocabulary[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
        raise refuse(f"the vocabulary does not start with {', '.join(SPECIAL_TOKENS)}")
    special = read_special_tokens(content.get("special_tokens", ()), refuse)
    first = len(SPECIAL_TOKENS) + len(special)
    if tuple(vocabulary[len(SPECIAL_TOKENS) : first]) != special:
        raise refuse("the special tokens do not stand before the words of the vocabulary")
    words = vocabulary[first:]
    case = _case(content, version, words, refuse)
    strange = content.keys() - {*_KEYS, _CASE_KEY[version]}
    if strange:
        raise refuse(f"unknown key {key_shown(min(strange))}")
    min_frequency, max_size = content.get("min_frequency"), content.get("max_size")
    if type(min_frequency) is not int or not (max_size is None or type(max_size) is int):
        raise refuse("min_frequency or max_size is not a whole number")
    types_seen = content.get("types_seen")
    if types_seen is not None and (type(types_seen) is not int or types_seen < len(words)):
        raise refuse("types_seen is not a whole number of at least the vocabulary's words")
    return Content(
        version,
        words,
        case,
        min_frequency,
        max_size,
        types_seen,
        content.get("fingerprint"),
        special,
    )


def changed(path: str | Path, stated: object, computed: str) -> TinylmError:
    """Return the error of a file whose fingerprint is not that of its vocabulary."""
    return refusal(path, DataError, files.ADVICE)(
        f"fingerprint {shown(stated)} does not fit the vocabulary ({computed}), so the file was "
        "changed or damaged"
    )


def _words(content: dict[str, Any], key: str, refuse: Refuse) -> list[str]:
    words = content.get(key)
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise refuse(f"{key} is not a list of strings")
    twice = next((word for word, count in Counter(words).items() if count > 1), None)
    if twice is not None:
        raise refuse(f"{key} holds {shown(twice)} twice")
    return words


def _case(content: dict[str, Any], version: int, words: list[str], refuse: Refuse) -> Case:
    key = _CASE_KEY[version]
    if version == 1:
        case = Case.of_names(_words(content, key, refuse))
    else:
        given = checked(
            dict[str, dict[str, str]], content.get(key), lambda what: refuse(f"{key} {what}")
        )
        places = {place.name.lower(): place for place in Place}
        unknown = given.keys() - places.keys()
        if unknown:
            raise refuse(f"{key} has no place {shown(min(unknown))}: it has {', '.join(places)}")
        case = Case({places[name]: forms for name, forms in given.items()})
    named = {word: form for forms in case.forms.values() for word, form in forms.items()}
    strangers = named.keys() - set(words)
    if strangers:
        raise refuse(f"{key} holds {shown(min(strangers))}, which the vocabulary does not")
    for forms in case.forms.values():
        for word, form in forms.items():
            if form.lower() != word:
                raise refuse(f"{key} writes {shown(word)} as {shown(form)}, which is another word")
    return case
