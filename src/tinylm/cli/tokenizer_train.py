"""``tinylm tokenizer train``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import data_overrides, tell_repeated
from tinylm.cli.output import say
from tinylm.registry import TOKENIZERS

_TOLD_EVERY = 1000  # texts


def train(
    data: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Whose training split is read: a folder or file of text, or the name of a corpus: "
            "stories, letters, tinystories.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The tokenizer's file.")],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(TOKENIZERS)}.")] = "bpe",
    vocab_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Largest vocabulary; empty: as the kind has it."),
    ] = None,
    option: Annotated[
        list[str],
        typer.Option(
            "--option",
            "-o",
            metavar="KEY=VALUE",
            help="A setting of the kind, such as min_frequency=5, or of the text, data.…; "
            "`tinylm config -o tokenizer.kind=KIND` lists them.",
            callback=tell_repeated,
        ),
    ] = [],  # noqa: B006
) -> None:
    """Train a tokenizer on the training split of a text, and write it to a file."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import load_config
    from tinylm.data.corpora import open_corpus
    from tinylm.errors import ConfigError
    from tinylm.names import checked_file
    from tinylm.tokenizers.base import Tokenizer

    out = checked_file(out, "--out", Path(data))
    of_kind = TOKENIZERS.load(TOKENIZERS.check(kind))
    overrides = [f"tokenizer.kind={kind}", *data_overrides(data)]
    if vocab_size is not None:
        if not of_kind.size_setting:
            raise ConfigError(f"--vocab-size has no effect on a tokenizer of {of_kind.label}")
        overrides.append(f"tokenizer.{of_kind.size_setting}={vocab_size}")
    for each in option:
        section, dot, _ = each.partition("=")[0].partition(".")
        overrides.append(each if dot and section in ("data", "tokenizer") else f"tokenizer.{each}")
    config = load_config(overrides=overrides, of_run=False)
    if config.tokenizer.kind != kind:
        raise ConfigError("-o kind: --kind says which tokenizer is trained")
    corpus = open_corpus(config.data)
    with TerminalConsole().task("Building the vocabulary") as done:
        tokenizer: Tokenizer = of_kind.train(_counted(corpus.train(), done), config.tokenizer)
    tokenizer.save(out)
    say(
        f"{of_kind.label}: {tokenizer.vocab_size:,} types, of which "
        f"{len(tokenizer.special_tokens)} are special tokens"
    )
    say(str(out))


def _counted(texts: Iterator[str], done: Callable[[float], None]) -> Iterator[str]:
    for count, text in enumerate(texts, 1):
        yield text
        if count % _TOLD_EVERY == 0:
            done(count)
