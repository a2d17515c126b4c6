"""``tinylm attention``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Run


def attention(
    run: Run,
    sentences: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SENTENCE]...", help="Two or three compare well."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the figures go.")
    ] = None,
) -> None:
    """Draw the attention of every layer and head, and say what each head does."""
    from rich.console import Console
    from rich.table import Table

    from tinylm.cli.console import TerminalConsole
    from tinylm.config import ReportConfig
    from tinylm.experiments.attention import measure_attention
    from tinylm.language_model import LanguageModel
    from tinylm.report.attention import draw_attention

    lm = LanguageModel.load(run)
    folder = output or (run / "figures" if (run / "config.yaml").exists() else Path("figures"))
    texts = sentences or list(ReportConfig().attention_sentences)
    result = measure_attention(lm, texts)
    with TerminalConsole().task("Drawing attention", 1.0) as done:
        files = draw_attention(result, folder, done)
    terminal = Console(highlight=False)
    table = Table(title="What each head does, over all sentences")
    for column in ("layer", "head", "role", "interpretation"):
        table.add_column(column)
    for head in result["heads"]:
        table.add_row(
            str(head["layer"] + 1), str(head["head"] + 1), head["role"], head["interpretation"]
        )
    terminal.print(table)
    for path in files:
        typer.echo(str(path))
