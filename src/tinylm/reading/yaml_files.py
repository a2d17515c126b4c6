"""YAML, as settings are written in it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tinylm.errors import DataError, TinylmError, key_shown
from tinylm.reading.files import decode, read_bytes, refuse_half_characters
from tinylm.reading.json_files import MOST_DEPTH
from tinylm.reading.shapes import Refuse, refusal

MOST_BYTES = 1 << 18
"""Of a YAML file: ten times the longest configuration; PyYAML takes seconds for so much."""
_MOST_VALUES = 1 << 17  # half as many as a file can hold bytes
_MOST_DIGITS = 60


@dataclass(frozen=True)
class Yaml:
    """A YAML document."""

    value: Any
    """Mappings with text keys, lists, text, numbers, true, false and None."""
    lines: Mapping[tuple[str, ...], int]
    """The line, from 1, of every key below mappings, by its path."""


def parse_yaml(text: str, refuse: Refuse) -> Yaml:
    """Return the value of a YAML text.

    A plain word is a number if it is one as people write them (``8``, ``-0.5``, ``1e-3``), and
    ``true``, ``false`` or ``null`` as YAML 1.2 has it. All others are text: what YAML 1.1 takes for
    octal (``012``), sexagesimal (``1:30``), a date, or true and false (``yes``, ``off``) is left to
    the caller, who knows the type that belongs there.

    Raises:
        TinylmError: ``refuse``'s, naming the line, for text that is not YAML, a key given twice, a
            key that is no text, a tag, more than 32 levels, or aliases that make more than
            131,072 values.
    """
    document = _Document()
    try:
        node = _Loader(text).get_single_node()
        value = None if node is None else document.value(node, ())
    except yaml.MarkedYAMLError as error:
        raise refuse(_yaml_problem(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{error.character:04X}"
        raise refuse(f"line {line}: the character {character}, which YAML forbids") from None
    except (ValueError, OverflowError) as error:  # an escape or a version beyond all bounds
        raise refuse(f"not valid YAML ({error})") from None
    if "\\" in text:
        refuse_half_characters(value, refuse)
    return Yaml(value, document.lines)


def read_yaml(path: str | Path, error: type[TinylmError] = DataError, advice: str = "") -> Yaml:
    """Return the value of a YAML file.

    Raises:
        TinylmError: of the class ``error``, naming the file, the line and what is wrong.
    """
    refuse = refusal(path, error, advice)
    return parse_yaml(decode(read_bytes(path, MOST_BYTES, error, advice), refuse), refuse)


def write_yaml(value: Any, width: int = 60) -> str:
    """Return a value as YAML that ``parse_yaml`` reads again, a list on one line.

    Args:
        value: as ``Yaml.value``.
        width: characters of a line, where it can be broken.
    """
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=width)


def plain_word(text: str) -> Any:
    """Return what a word without quotes means: a number, true, false, None, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _MOST_DIGITS:
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes lists as ``[1, 2]``: one item a line would make most of a configuration."""


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # PyYAML quotes what YAML 1.1 would read as another type, but not 1e5, and it folds the line
    # ends that are not ASCII.
    style = "'" if plain_word(text) != text else None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)


class _Loader(yaml.SafeLoader):
    """Composes nodes to a bounded depth, with tags that tell plain words from quoted text."""

    depth = 0

    def resolve(self, kind: type[Any], value: str | None, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TEXT
        return _SEQUENCE if kind is yaml.SequenceNode else _MAPPING

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            mark = self.get_mark()
            raise yaml.composer.ComposerError(
                None, None, f"nested more than {MOST_DEPTH} deep", mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


_PLAIN, _TEXT, _SEQUENCE, _MAPPING = "plain", "text", "sequence", "mapping"
_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", "+.inf"), math.inf),
    "-.inf": -math.inf,
    ".nan": math.nan,
}


class _Document:
    """Turns nodes into values; an alias is turned as often as it stands there, and counted."""

    def __init__(self) -> None:
        self.lines: dict[tuple[str, ...], int] = {}
        self.count = 0

    def value(self, node: yaml.Node, path: tuple[str, ...]) -> Any:
        self.count += 1
        if self.count > _MOST_VALUES:
            raise _at(node, f"its aliases make more than {_MOST_VALUES:,} values")
        if len(path) > MOST_DEPTH:
            raise _at(node, f"its aliases nest more than {MOST_DEPTH} deep")
        if node.tag == _PLAIN:
            return plain_word(node.value)
        if node.tag == _TEXT:
            return node.value
        if node.tag == _SEQUENCE:
            return [self.value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        if node.tag != _MAPPING:
            raise _at(node, f"the tag {key_shown(node.tag)} is not read here: leave it out")
        result: dict[str, Any] = {}
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_PLAIN, _TEXT):
                raise _at(key, "a key is text")
            name = key.value
            if key.tag == _PLAIN and name == "<<":
                raise _at(key, "`<<` is not read here: write the keys out")
            inner = (*path, name)
            if name in result:
                raise _at(
                    key,
                    f"the key {key_shown('.'.join(inner))} stands there twice (first on line "
                    f"{self.lines[inner]}): keep one of them",
                )
            self.lines[inner] = key.start_mark.line + 1
            result[name] = self.value(item, inner)
        return result


def _at(node: yaml.Node, text: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    line = f"line {mark.line + 1}: " if mark is not None else ""
    text = " ".join(str(error.problem or error.context).split())
    if isinstance(error, (yaml.constructor.ConstructorError, yaml.composer.ComposerError)):
        return line + text
    if "\\t" in text:
        return f"{line}a tab, which YAML does not allow there: indent with spaces"
    return f"{line}not valid YAML ({text})"
