"""``tinylm merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Rank, Run
from tinylm.cli.output import say


def merge(
    run: Run,
    adapter: Annotated[
        str, typer.Argument(metavar="ADAPTER", help="A name below RUN/adapters, or a folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the merged model goes.")],
    rank: Rank = None,
) -> None:
    """Move an adapter into the weights and write the resulting plain model."""
    from tinylm.cli.adapters import loaded
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.finetuning.adapters import fold
    from tinylm.language_model import LanguageModel
    from tinylm.locks import LOCK, locked
    from tinylm.names import checked_path

    with locked(checked_path(out, "--out"), TerminalConsole().warn):
        checkpoints = out / "checkpoints"
        # An interrupted merge may have left a model without the link to it.
        begun = [path for path in out.iterdir() if path.name != LOCK]
        if begun not in ([], [checkpoints]) or (checkpoints / "last").exists():
            raise ConfigError(f"{out} is not empty: give --out a new folder")
        lm = loaded(run, adapter, rank)
        LanguageModel(fold(lm.model), lm.tokenizer).save(checkpoints)
    say(str(out))
