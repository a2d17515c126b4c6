"""Reading the settings of a method: one of a registry's entries, chosen by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from tinylm.config.effects import refuse_without_effect
from tinylm.config.keys import meant
from tinylm.config.reading import field_help, from_dict, parse_override
from tinylm.config.settings import RunConfig
from tinylm.errors import ConfigError, key_shown
from tinylm.registry import Registry

Config = TypeVar("Config")


def from_overrides(kind: type[Config], overrides: Sequence[str], place: str = "-o") -> Config:
    """Make a checked ``kind`` from its defaults and ``key=value`` overrides, given at ``place``.

    Raises:
        ConfigError: for a bad key, a bad value, and a setting that has no effect beside the others.
    """
    given: dict[str, Any] = {}
    for override in overrides:
        path, value = parse_override(override, "key=value")
        given[".".join(path)] = value
    config = from_dict(kind, given, place)
    refuse_without_effect(config, given)
    return config


def method_settings(
    methods: Registry,
    name: str,
    overrides: Sequence[str],
    beside_run: bool = False,
    option: str = "method",
    prefix: str = "",
) -> Any:
    """Return the settings of a method.

    Args:
        methods: a registry whose entries have ``Settings``.
        name: of the method.
        overrides: ``key=value``.
        beside_run: whether settings of a run could have stood beside them.
        option: of the command line, which chooses the method.
        prefix: that the keys were given with, such as ``adapter.``, and which they begin with no
            more.

    Raises:
        ConfigError: for an unknown method; of a key that it does not have, with the methods that
            do, or the key of a run that was meant; and what ``from_overrides`` raises.
    """
    kind = methods.load(name).Settings
    own = _names(kind)
    place = f"-o {prefix.removesuffix('.')}".rstrip()
    for override in overrides:
        path, _ = parse_override(override, "key=value")
        key = ".".join(path)
        if key in own:
            continue
        owners = [other for other in methods if key in _names(methods.load(other).Settings)]
        if owners:
            raise ConfigError(
                f"{place}: {key} is a setting of {', '.join(owners)}, not of {name}: leave it out, "
                f"or give --{option} {owners[0]}"
            )
        if beside_run:
            known = [*own, *(dotted for dotted, _ in field_help(RunConfig))]
            raise ConfigError(
                f"-o: unknown key {key_shown(key)}{meant(key, known, [*own, *_names(RunConfig)])}"
            )
    return from_overrides(kind, overrides, place)


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]
