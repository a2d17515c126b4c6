"""``tinylm compress``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say


def compress(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The smaller run: a new folder.")],
    target_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The best model of at most so many bytes: 600000, 600kB, 1.5MiB."
        ),
    ] = None,
    max_loss: Annotated[
        str | None,
        typer.Option(metavar="N%", help="The smallest of at most so much more perplexity: 2%."),
    ] = None,
    option: Annotated[
        list[str], method_option("Of the search, such as steps=500 or shares=[0.5].")
    ] = [],  # noqa: B006
) -> None:
    """Search for a smaller model of a run: parts removed, taught again, and kept in fewer bits.

    What was tried is told; the same command goes on with a search that was interrupted.
    """
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import as_options, from_overrides
    from tinylm.config.searching import SearchConfig
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import open_run
    from tinylm.experiments.searching import compress_run, shown_more
    from tinylm.planning.limits import shown_bytes
    from tinylm.training.commands import Commands, lower

    if (target_bytes is None) == (max_loss is None):
        raise ConfigError(
            "say what is wanted: --target-bytes, such as 600kB, or --max-loss, such as 2%"
            + ("" if target_bytes is None else ", not both")
        )
    settings = from_overrides(SearchConfig, option)
    size = None if target_bytes is None else _size(target_bytes)
    share = None if max_loss is None else _share(max_loss)
    goal = ["--target-bytes", str(size)] if share is None else ["--max-loss", f"{100 * share:g}%"]
    words = ["tinylm", "compress", str(run), "--out", str(out), *goal]
    commands = Commands(
        shlex.join([*words, *as_options(option)]),
        shlex.join([*words, *as_options([*option, f"rate={lower(settings.rate)}"])]),
    )
    console = TerminalConsole()
    written = compress_run(open_run(run, console), out, settings, commands, size, share)
    before, after = written["before"]["bytes"], written["after"]["bytes"]
    console.note(
        f"{out}: {shown_bytes(after)}, {before / after:.1f} times smaller; perplexity "
        f"{shown_more(written['details']['more'])} on validation windows that decided nothing"
    )
    say(str(out))


def _size(text: str) -> int:
    """Return the bytes that a user means.

    Raises:
        ConfigError: for what is no size.
    """
    from pydantic import ByteSize, TypeAdapter, ValidationError

    from tinylm.errors import ConfigError, shown

    try:
        size = int(TypeAdapter(ByteSize).validate_python(text))
    except (ValidationError, OverflowError):
        size = 0
    if size < 1:
        raise ConfigError(
            f"--target-bytes {shown(text)}: give a number of bytes, such as 600000, 600kB or 1.5MiB"
        )
    return size


def _share(text: str) -> float:
    """Return the share that a user means by ``2%``.

    Raises:
        ConfigError: for what is none.
    """
    from tinylm.errors import ConfigError, shown

    number = text.strip().removesuffix("%").strip()
    try:
        share = float(number) / 100
    except ValueError:
        share = -1.0
    if not text.strip().endswith("%") or not 0 <= share < 100:
        raise ConfigError(
            f"--max-loss {shown(text)}: give how much higher perplexity may be, in per cent, "
            "from 0% to below 10000%: 2%"
        )
    return share
