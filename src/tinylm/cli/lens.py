"""``tinylm lens``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.options import Adapter, Data, Rank, Run
from tinylm.cli.output import say

if TYPE_CHECKING:
    from rich.text import Text

    from tinylm.cli.console import Terminal
    from tinylm.experiments.lens.reading import Cell, Reading
    from tinylm.interpretability.lens import Lens
    from tinylm.language_model import LanguageModel

_CELL = 16
"""Characters of a column at most, its border included."""
_WORD = 10
"""Characters of a word at most."""
_SHADES = (
    (0.8, "white on #08519c"),
    (0.5, "white on #3182bd"),
    (0.25, "black on #9ecae1"),
    (0.1, "black on #deebf7"),
)
"""Probability from which a cell has a colour."""


def lens(
    run: Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Two words at least.")],
    tuned: Annotated[
        bool,
        typer.Option(
            help="Read with a tuned lens, which is trained at the first call and kept with the "
            "run; with --adapter or --data it is trained at each call."
        ),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with more of it.")
    ] = None,
    data: Data = None,
    adapter: Adapter = None,
    rank: Rank = None,
) -> None:
    """Show what each layer would say as the next word."""
    from tinylm.atomic import write_text
    from tinylm.cli.adapters import loaded
    from tinylm.cli.console import Terminal, TerminalConsole
    from tinylm.cli.options import data_overrides
    from tinylm.config import load_config
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import run_of
    from tinylm.experiments.lens.page import lens_html
    from tinylm.experiments.lens.reading import as_reading
    from tinylm.experiments.lens.tuning import kept_or_tuned
    from tinylm.interpretability.lens import READ, STREAM
    from tinylm.interpretability.lens import lens as read_lens
    from tinylm.model.base import refuse_without_attention
    from tinylm.names import checked_file
    from tinylm.printable import in_line

    if html is not None:
        html = checked_file(html, "--html")
    lm = loaded(run, adapter, rank)
    refuse_without_attention(lm.model.config, "the command lens")
    console = TerminalConsole()
    _refuse(lm, text)
    traced = lm.trace(text, STREAM)
    for note in lm.notes(text, 0):
        console.note(note)
    translate, said = None, READ[lm.model.config.norm_placement]
    if tuned:
        own = run_of(run)
        if own is None and data is None:
            raise ConfigError(
                f"{run} belongs to no run: say with --data on which stories the tuned lens is "
                "trained"
            )
        file = None if own is None else own / "config.yaml"
        config = load_config(file, overrides=data_overrides(data))
        # The run keeps that of its own model, trained on its own stories.
        keeper = own if data is None and adapter is None else None
        translate = kept_or_tuned(lm, keeper, config, console)
        said = f"A tuned lens: an affine map at each place but the last comes before. {said}"
    lens = read_lens(traced, min(5, lm.tokenizer.vocab_size), translate)
    reading = as_reading(lens, lambda token: in_line(lm.tokenizer.token(token)))
    name = "Tuned lens" if tuned else "Logit lens"
    terminal = Terminal()
    terminal.print(said)
    _print_words(terminal, reading, name)
    _print_places(terminal, lens, reading, name)
    if html is not None:
        write_text(html, lens_html(reading, f"{name}: {text}", said))
        say(str(html))


def _refuse(lm: LanguageModel, text: str) -> None:
    """Refuse a text that has nothing to show.

    Raises:
        GenerationError: if it has fewer than two tokens, or none is in the vocabulary.
    """
    from tinylm.errors import GenerationError
    from tinylm.tokenizers.base import UNK_ID

    ids = lm.tokenizer.encode(text)
    if len(ids) < 2:
        raise GenerationError(
            f"the text has {'one word' if ids else 'no word'}, so that no word of it follows "
            "another: give two at least"
        )
    if set(ids) == {UNK_ID}:
        raise GenerationError(
            "no word of the text is in the vocabulary: give one in the words of the training text"
        )


def _print_words(terminal: Terminal, reading: Reading, name: str) -> None:
    """Print a row a position and a column a place, in as many tables as the width asks for."""
    from rich.table import Table

    places = len(reading["places"])
    fitting = max(1, (terminal.width - _CELL) // _CELL)
    for start in range(0, places, fitting):
        table = Table(title=name if start == 0 else None, title_justify="left", show_lines=True)
        table.add_column("read\n→ next", no_wrap=True)
        shown = range(start, min(start + fitting, places))
        for place in shown:
            table.add_column(reading["places"][place].replace(" ", "\n"), no_wrap=True)
        for position, word in enumerate(reading["words"]):
            following = reading["next"][position]
            left = _clipped(word) + ("" if following is None else f"\n→ {_clipped(following)}")
            table.add_row(left, *(_cell(reading["cells"][place][position]) for place in shown))
        terminal.print(table)
    terminal.print(
        "In a cell: the likeliest next word at this place, its probability, and = if it is the "
        "likeliest at the end, too; below, rank and probability of the word that follows."
    )


def _cell(cell: Cell) -> Text:
    from rich.text import Text

    from tinylm.experiments.lens.reading import share

    word, probability = cell["top"][0]
    lines = f"{_clipped(word)} {share(probability)}{' =' if cell['agrees'] else ''}"
    if cell["next"] is not None:
        following, rank = cell["next"]
        lines += f"\n#{rank:,} {share(following)}"
    style = next((style for least, style in _SHADES if probability >= least), "")
    return Text(lines, style=style)


def _clipped(word: str) -> str:
    return word if len(word) <= _WORD else f"{word[: _WORD - 1]}…"


def _print_places(terminal: Terminal, lens: Lens, reading: Reading, name: str) -> None:
    """Print what the places come to over the text."""
    from rich.table import Table

    table = Table(title=f"{name}: the text by place", title_justify="left")
    for column in ("place", "divergence", "as at the end", "next: probability", "next: rank"):
        table.add_column(column, justify="left" if column == "place" else "right")
    follows = lens.ranks[0, 0] > 0
    for i, place in enumerate(reading["places"]):
        table.add_row(
            place,
            f"{float(lens.divergences[i, 0].mean()):.3f}",
            f"{float(lens.agrees[i, 0].float().mean()):.0%}",
            f"{float(lens.probabilities[i, 0][follows].mean()):.1%}",
            f"{float(lens.ranks[i, 0][follows].float().median()):,.0f}",
        )
    terminal.print(table)
    terminal.print(
        "Divergence: mean of KL(end || place) in nats. As at the end: positions at which the "
        "likeliest word is that of the end. Next: mean probability and median rank of the word "
        "that follows."
    )
