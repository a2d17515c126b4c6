"""Reading and writing a configuration: presets, YAML, overrides, and what is wrong with them.

A wrong key or value is reported in one line that names it, what is allowed and the nearest key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from tinylm.config.settings import RunConfig
from tinylm.errors import ConfigError, nearest

Config = TypeVar("Config")

PRESETS = ("quick", "baseline", "full")


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


def from_dict(kind: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """Make a checked ``kind`` (a dataclass of this module) from nested dicts.

    Args:
        kind: the dataclass.
        values: nested mappings as read from YAML or JSON.
        source: what errors name as the place of the values.

    Raises:
        ConfigError: one line naming the first bad key, what is allowed and the nearest key.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_problem(kind, error)}") from None


def load_config(
    path: str | Path | None = None, preset: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Build a RunConfig: the preset, then the YAML file, then ``key=value`` overrides.

    Raises:
        ConfigError: for an unknown preset, an unreadable file, a bad key or a bad value.
    """
    values: dict[str, Any] = {}
    sources = []
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
        text = resources.files("tinylm").joinpath(f"presets/{preset}.yaml").read_text("utf-8")
        values = _parse_yaml(text, f"preset {preset}")
        sources.append(f"preset {preset}")
    if path is not None:
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"cannot read configuration {path}: {error}") from error
        values = _merge(values, _parse_yaml(text, str(path)))
        sources.append(str(path))
    for override in overrides:
        values = _merge(values, _parse_override(override))
    if overrides:
        sources.append("-o")
    return from_dict(RunConfig, values, " + ".join(sources) or "configuration")


def from_overrides(kind: type[Config], overrides: Sequence[str]) -> Config:
    """Make a checked ``kind`` from its defaults and ``key=value`` overrides.

    Raises:
        ConfigError: for a bad key or a bad value.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        values = _merge(values, _parse_override(override))
    return from_dict(kind, values, "-o")


def dump_yaml(config: Any) -> str:
    """Return a configuration as YAML, keys in the order of the dataclasses, a list on one line."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=60)


class _Dumper(yaml.SafeDumper):
    """Writes lists as ``[1, 2]``: one item a line would make most of the file."""


_Dumper.add_representer(
    list,
    lambda dumper, items: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", items, flow_style=True
    ),
)


def field_help(kind: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(dotted key, help)`` for every setting below ``kind``."""
    default = kind()
    for name, info in kind.__pydantic_fields__.items():  # type: ignore[attr-defined]
        value = getattr(default, name)
        if dataclasses.is_dataclass(value):
            yield from field_help(type(value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join((info.description or "").split())


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected `section: {{key: value}}`, found {values!r}")
    return values


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-o {override!r}: expected section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, dict):
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in update.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _nearest_key(kind: type, key: str) -> str:
    section, _, name = key.rpartition(".")
    keys = [known for known, _ in field_help(kind)]
    elsewhere = [known for known in keys if known.endswith(f".{name}")]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    if section:
        prefix = f"{section}."
        inside = [known.removeprefix(prefix) for known in keys if known.startswith(prefix)]
        return nearest(name, inside, prefix)
    parts = [field.name for field in dataclasses.fields(kind)]
    hint = nearest(key, {*keys, *parts})
    return hint if "did you mean" in hint else f"; allowed: {', '.join(parts)}"


def _first_problem(kind: type, error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"] if part != "dataclass")
    if problem["type"] in ("unexpected_keyword_argument", "invalid_key"):
        return f"unknown key {key}{_nearest_key(kind, key)}"
    if problem["type"].startswith("dataclass_type"):
        return f"{key}: expected a section of `key: value` lines, found {problem['input']!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key} = {problem['input']!r}: {message[0].lower()}{message[1:]}"
