"""``tinylm config``."""

from __future__ import annotations

import typer

from tinylm.cli.options import ConfigFile, Data, Overrides, Preset, configuration


def config(
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    override: Overrides = [],  # noqa: B006
) -> None:
    """Print every setting with its value and meaning, as YAML that --config takes."""
    import textwrap

    import yaml

    from tinylm.config import field_help, to_dict

    values = to_dict(configuration(preset, config, data, override))
    help_of = dict(field_help())
    for section, settings in values.items():
        typer.echo(f"{section}:")
        for key, value in settings.items():
            for line in textwrap.wrap(help_of[f"{section}.{key}"], 92):
                typer.echo(f"  # {line}")
            text = yaml.safe_dump({key: value}, allow_unicode=True, width=92)
            typer.echo(textwrap.indent(text, "  "), nl=False)
        typer.echo()
