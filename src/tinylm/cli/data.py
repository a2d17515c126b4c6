"""``tinylm data``."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import ConfigFile, Data, Overrides, Preset, configuration
from tinylm.cli.output import say


def data(
    data: Data = None,
    preset: Preset = None,
    config: ConfigFile = None,
    override: Overrides = [],  # noqa: B006
    show: Annotated[int, typer.Option(min=0, help="Print so many training stories, or pairs.")] = 1,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that encode a long text; the same as data.workers."),
    ] = None,
    mnist: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Fetch MNIST's images into a folder instead."),
    ] = None,
) -> None:
    """Prepare a corpus (tokenizer, token files) and say what it holds."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.data.corpora import PairCorpus
    from tinylm.experiments.preparation import prepare_data

    if mnist is not None:
        _fetch_mnist(mnist)
        return
    override = [*override, *([] if workers is None else [f"data.workers={workers}"])]
    prepared = prepare_data(configuration(preset, config, data, override), TerminalConsole())
    say(prepared.corpus.describe())
    say(f"vocabulary: {prepared.tokenizer.vocab_size:,} types")
    for tokens in (prepared.train, prepared.validation):
        header = tokens.header
        say(
            f"{header.split}: {header.num_stories:,} {header.nouns}, {header.num_tokens:,} tokens, "
            f"{header.num_text_bytes:,} bytes, <unk> {100 * header.unknown_rate:.2f} %"
        )
    show = min(show, sys.maxsize)
    if isinstance(prepared.corpus, PairCorpus):
        for pair in islice(prepared.corpus.train_pairs(), show):
            say(f"\n{pair.source}\n{pair.target}")
        return
    for story in islice(prepared.corpus.train(), show):
        say(f"\n{story}")


def _fetch_mnist(folder: Path) -> None:
    from tinylm.cli.console import TerminalConsole
    from tinylm.data.images import SHA256, download_mnist
    from tinylm.locks import locked
    from tinylm.names import checked_path

    console = TerminalConsole()
    with (
        locked(checked_path(folder, "--mnist"), console.warn, wait=True),
        console.task("Fetching MNIST", float(len(SHA256))) as done,
    ):
        paths = download_mnist(folder, done)
    for path in paths:
        say(str(path))
