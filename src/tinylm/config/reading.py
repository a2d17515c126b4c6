"""Reading and writing a configuration: presets, YAML, overrides, and what is wrong with them.

A wrong key or value is reported in one line that names the place it stands in, the key, what is
allowed and the key that was meant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tinylm.config.keys import also_called, meant
from tinylm.config.settings import RunConfig
from tinylm.config.tokenizers import DEFAULT_TOKENIZER, settings_of
from tinylm.errors import ConfigError, nearest
from tinylm.reading import Yaml, key_shown, parse_yaml, read_yaml, refusal, shown, write_yaml
from tinylm.reading.shapes import is_unknown_key, path_of, wording
from tinylm.registry import TOKENIZERS

Config = TypeVar("Config")
Places = Mapping[tuple[str, ...], str]
"""Where the value of a key stands, by its path: a file and a line, or -o."""

PRESETS = ("quick", "assignment", "baseline", "full")
RETIRED = ("experiments.finetuning.share", "experiments.finetuning.base_steps")
"""Settings that earlier versions had, and that the configurations of their runs hold."""


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists and scalars, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def from_dict(
    kind: type[Config], values: object, source: str, places: Places | None = None
) -> Config:
    """Make a checked ``kind`` (a dataclass of this module) from nested dicts.

    Args:
        kind: the dataclass.
        values: nested mappings as read from YAML or JSON.
        source: what errors name as the place of the values.
        places: of single values, more precisely.

    Raises:
        ConfigError: one line naming the first bad key, what is allowed and the key that was meant.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source}: {_NO_SECTION}, found {shown(values)}")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        path = _without_tokenizer(path_of(details))
        ends = range(len(path), 0, -1)
        known = places or {}
        place = next((known[path[:end]] for end in ends if path[:end] in known), source)
        raise ConfigError(f"{place}: {_problem(kind, path, details)}") from None


def load_config(
    path: str | Path | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    of_run: bool = True,
) -> RunConfig:
    """Build a RunConfig: the preset, then the YAML file, then ``key=value`` overrides.

    Args:
        path: a YAML file.
        preset: one of ``PRESETS``.
        overrides: ``key=value``.
        of_run: whether the file is that of a run: settings that are no more are then left out of
            it, where a file that somebody wrote is refused.

    Raises:
        ConfigError: for an unknown preset, an unreadable file, a bad key or a bad value.
    """
    values: dict[str, Any] = {}
    places: dict[tuple[str, ...], str] = {}
    documents = []
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {shown(preset)}{nearest(preset, PRESETS)}")
        text = resources.files("tinylm").joinpath(f"presets/{preset}.yaml").read_text("utf-8")
        name = f"preset {preset}"
        documents.append((name, parse_yaml(text, refusal(name, ConfigError))))
    if path is not None:
        documents.append((str(path), read_yaml(path, ConfigError)))
    for name, document in documents:
        sections = _sections(document, name)
        if of_run:
            _leave_out_retired(sections)
        values = _merge(values, _with_word_rule(sections))
        places |= {key: f"{name}, line {line}" for key, line in document.lines.items()}
    for override in overrides:
        key, value = parse_override(override)
        values = _merge(values, _nested(key, value))
        for end in range(1, len(key)):
            places.setdefault(key[:end], "-o")
        places[key] = "-o"
    return from_dict(RunConfig, values, "configuration", places)


def overrides_between(before: RunConfig, after: RunConfig) -> list[str]:
    """Return the ``key=value`` overrides that make one configuration of another."""
    made: list[str] = []

    def compare(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> None:
        for key, value in new.items():
            if isinstance(value, dict):
                compare(old[key], value, f"{prefix}{key}.")
            elif key not in old or value != old[key]:
                # In a list a value has quotes wherever it needs them.
                text = write_yaml([value], _ONE_LINE).strip().removeprefix("[").removesuffix("]")
                made.append(f"{prefix}{key}={text}")

    compare(to_dict(before), to_dict(after), "")
    return made


def as_options(overrides: Sequence[str]) -> list[str]:
    """Return the words of a command line that give ``key=value`` overrides."""
    return [word for override in overrides for word in ("-o", override)]


def dump_yaml(config: Any) -> str:
    """Return a configuration as YAML, keys in the order of the dataclasses, a list on one line."""
    return write_yaml(to_dict(config))


def field_help(kind: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(dotted key, help)`` for every setting below ``kind``."""
    default = kind()
    for name in kind.__pydantic_fields__:  # type: ignore[attr-defined]
        value = getattr(default, name)
        if value is DEFAULT_TOKENIZER:
            of_kinds = [
                field_help(settings_of(tokenizer), f"{prefix}{name}.") for tokenizer in TOKENIZERS
            ]
            # Where several kinds have a setting, what the first of them says: the default.
            texts: dict[str, str] = {}
            for help_of in of_kinds:
                texts = texts | {key: text for key, text in help_of if key not in texts}
            yield from texts.items()
        elif dataclasses.is_dataclass(value):
            yield from field_help(type(value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join(_description(kind, name).split())


def _description(kind: type, name: str) -> str:
    """Return the docstring of a field, which pydantic reads in the class that it stands in."""
    for base in kind.__mro__:
        field = vars(base).get("__pydantic_fields__", {}).get(name)
        if field is not None and field.description:
            return str(field.description)
    return ""


def _sections(document: Yaml, source: str) -> dict[str, Any]:
    values = document.value
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected `section: {{key: value}}`, found {shown(values)}")
    for key in values:
        section, dot, name = key.partition(".")
        if dot:
            raise ConfigError(
                f"{source}, line {document.lines[key,]}: {key_shown(key)} stands in a file as "
                f"{key_shown(name)} below `{key_shown(section)}:`, further in"
            )
    return values


def _leave_out_retired(sections: dict[str, Any]) -> None:
    for key in RETIRED:
        *parents, last = key.split(".")
        place: Any = sections
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place.pop(last, None)


def _with_word_rule(values: dict[str, Any]) -> dict[str, Any]:
    """Give the configuration of a run made before there were two word rules the one it had.

    The file of a run holds every setting, the size of the vocabulary among them.
    """
    model, tokenizer = values.get("model"), values.get("tokenizer")
    if not (isinstance(model, dict) and isinstance(tokenizer, dict)):
        return values
    if model.get("vocab_size") is None or tokenizer.keys() != _TOKENIZER_BEFORE:
        return values
    return values | {"tokenizer": {**tokenizer, "line_breaks": False, "rule": 1}}


def parse_override(override: str, form: str = "section.key=value") -> tuple[tuple[str, ...], Any]:
    """Return the path of a key and its value.

    Args:
        override: ``key=value``.
        form: what is expected, for the message.

    Raises:
        ConfigError: if it is none.
    """
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-o {shown(override)}: expected {form}")
    try:
        value = parse_yaml(text, refusal("-o", ConfigError)).value
    except ConfigError:  # it is no YAML, so it stands for itself
        value = text
    path = tuple(key.strip().split("."))
    if len(path) > _MOST_PARTS:
        raise ConfigError(f"-o {key_shown(key)}: a key has at most {_MOST_PARTS} parts")
    return path, text if isinstance(value, dict) else value


def _nested(key: tuple[str, ...], value: Any) -> dict[str, Any]:
    for part in reversed(key):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    _leave_other_tokenizer(merged, update)
    for key, value in update.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _leave_other_tokenizer(values: dict[str, Any], update: Mapping[str, Any]) -> None:
    """Leave out what was set of a tokenizer where an update chooses another one."""
    old, new = values.get(_TOKENIZER), update.get(_TOKENIZER)
    if not (isinstance(old, dict) and isinstance(new, dict) and "kind" in new):
        return
    kept = {field.name for field in dataclasses.fields(settings_of(new["kind"]))}
    values[_TOKENIZER] = {key: value for key, value in old.items() if key in kept}


def _without_tokenizer(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the path of a key without the kind of tokenizer whose settings are checked."""
    within = path[:1] == (_TOKENIZER,) and path[1:2] and path[1] in TOKENIZERS
    return (path[0], *path[2:]) if within else path


_TOKENIZER = "tokenizer"
_MOST_PARTS = 8
_ONE_LINE = 10**6
_TOKENIZER_BEFORE = {"kind", "min_frequency", "max_size"}
_NO_SECTION = "expected a section of `key: value` lines"


def _problem(kind: type, path: tuple[str, ...], details: Mapping[str, Any]) -> str:
    key = key_shown(".".join(path))
    if key in RETIRED:
        return f"{key} is a setting that earlier versions had: leave it out"
    if is_unknown_key(details):
        known = list(dict(field_help(kind)))
        if path[0] == _TOKENIZER and kind is RunConfig:
            chosen = details["loc"][1]
            own = {name for name, _ in field_help(settings_of(chosen), f"{_TOKENIZER}.")}
            if ".".join(path) in known:
                same = [f"set {name} or " for name in sorted(own) if also_called(name, path[-1])]
                advice = f"{''.join(same)}leave it out"
                return f"{key} has no effect with tokenizer.kind = {chosen}: {advice}"
            known = [name for name in known if name in own or not name.startswith(f"{_TOKENIZER}.")]
        sections = [field.name for field in dataclasses.fields(kind)]
        return f"unknown key {key}{meant('.'.join(path), known, sections)}"
    value = shown(details["input"])
    if details["type"].startswith("dataclass_type"):
        return f"{key}: {_NO_SECTION}, found {value}"
    return f"{key} = {value}: {wording(details)}"
