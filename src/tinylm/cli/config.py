"""``tinylm config``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tinylm.cli.options import ConfigFile, Data, Overrides, Preset, configuration
from tinylm.cli.output import say

_WIDTH = 92


def config(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    override: Overrides = [],  # noqa: B006
) -> None:
    """Print every setting with its value and meaning, as YAML that --config takes."""
    from tinylm.config import field_help, to_dict

    chosen = configuration(preset, config, data, override)
    values = to_dict(chosen)
    help_of = dict(field_help()) | dict(field_help(type(chosen.tokenizer), "tokenizer."))
    for section, settings in values.items():
        say(f"{section}:")
        for line in _lines(settings, help_of, f"{section}.", "  "):
            say(line)
        say()


def _lines(
    settings: dict[str, Any], help_of: dict[str, str], prefix: str, indent: str
) -> Iterator[str]:
    """Yield a section's settings, each under its help, sections within it further in."""
    import textwrap

    from tinylm.reading import write_yaml

    for key, value in settings.items():
        if f"{prefix}{key}" not in help_of:
            yield f"{indent}{key}:"
            yield from _lines(value, help_of, f"{prefix}{key}.", indent + "  ")
            continue
        for line in textwrap.wrap(help_of[f"{prefix}{key}"], _WIDTH):
            yield f"{indent}# {line}"
        text = write_yaml({key: value}, _WIDTH)
        yield textwrap.indent(text, indent).rstrip("\n")
