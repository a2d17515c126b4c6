"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.output import say
from tinylm.names import checked_name

if TYPE_CHECKING:
    from tinylm.config import RunConfig


def tell_repeated(settings: list[str]) -> list[str]:
    """Say which keys are set more than once, to different values: only the last counts.

    Args:
        settings: ``KEY=VALUE``, which are returned as they are.
    """
    values: dict[str, list[str]] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if separator:
            values.setdefault(key.strip(), []).append(value.strip())
    for key, given in values.items():
        if len(set(given)) > 1:
            say(
                f"-o {key} is given {len(given)} times: only the last counts, {given[-1]}", err=True
            )
    return settings


Overrides = Annotated[
    list[str],
    typer.Option(
        "--override",
        "-o",
        metavar="KEY=VALUE",
        help="Set one key, such as training.learning_rate=1e-3; `tinylm config` lists them all.",
        callback=tell_repeated,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="quick, assignment, baseline or full; then -o on top."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="A YAML file, on top of the preset.")
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SOURCE",
        help="A folder or file of text, pairs:FILE for sources with targets, or the name of a "
        "corpus: stories, letters, skills, tinystories.",
    ),
]
Name = Annotated[
    str | None, typer.Option(metavar="NAME", help="The run's folder becomes runs/NAME.")
]
Adapter = Annotated[
    str | None, typer.Option(metavar="ADAPTER", help="A name below RUN/adapters, or a folder.")
]
Rank = Annotated[int | None, typer.Option(min=1, help="Of a DyLoRA adapter.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a checkpoint's.")]


def method_option(help: str) -> Any:
    """Return the option ``-o`` of a command that works by one of several methods."""
    return typer.Option("--option", "-o", metavar="KEY=VALUE", help=help, callback=tell_repeated)


def data_overrides(data: str | None) -> list[str]:
    """Return the settings that ``--data`` stands for."""
    if data is None:
        return []
    import json

    from tinylm.data.corpora import reads_files
    from tinylm.registry import CORPORA

    name, colon, path = data.partition(":")
    if colon and name in CORPORA and reads_files(name):
        return [f"data.corpus={name}", f"data.path={json.dumps(path)}"]
    if data in CORPORA and data != "files":
        return [f"data.corpus={data}"]
    return ["data.corpus=files", f"data.path={json.dumps(data)}"]


def text_overrides(data: str | None, option: list[str]) -> tuple[list[str], list[str]]:
    """Return the settings of the text of ``--data``, and what else ``-o`` says: a method's.

    Args:
        data: as given.
        option: ``KEY=VALUE``, of which the keys ``data.…`` say how that text is read.

    Raises:
        ConfigError: if there are such keys and no text, or one says which text.
    """
    from tinylm.errors import ConfigError

    of_text = [each for each in option if each.startswith("data.")]
    for each in of_text:
        if data is None:
            raise ConfigError(f"-o {each} is about the text of --data: give one, or leave it out")
        if each.partition("=")[0].strip() in ("data.corpus", "data.path"):
            raise ConfigError(f"-o {each}: --data says which text it is: give it that")
    return [*data_overrides(data), *of_text], [each for each in option if each not in of_text]


def configuration(
    preset: str | None, config: Path | None, data: str | None, overrides: list[str]
) -> RunConfig:
    """Return the configuration that the shared options describe; without any, the baseline."""
    from tinylm.config import load_config

    if preset is None and config is None:
        preset = "baseline"
    return load_config(config, preset, [*data_overrides(data), *overrides], of_run=False)


def run_folder(name: str | None, preset: str | None, config: Path | None) -> Path:
    """Return ``runs/NAME``; without a name, that of the preset or of the configuration file.

    Raises:
        ConfigError: for a name that no folder below ``runs`` can have.
    """
    if name is not None:
        return Path("runs") / checked_name(name, "--name")
    stem = (config.stem if config is not None else preset) or "baseline"
    return Path("runs") / checked_name(stem, "the run's name (choose one with --name)")
