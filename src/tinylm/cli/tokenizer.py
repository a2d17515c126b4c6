"""``tinylm tokenizer``: encode and decode; the other commands stand in files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.output import say
from tinylm.cli.tokenizer_exchange import export, import_
from tinylm.cli.tokenizer_probability import probability
from tinylm.cli.tokenizer_train import train

app = typer.Typer(help="Train a tokenizer alone; encode and decode with it; exchange it.")
app.command("train")(train)
File = Annotated[Path, typer.Argument(metavar="FILE", help="A tokenizer, such as train makes.")]
_MOST_BYTES = 1 << 30
_MOST_DIGITS = 12
_ADVICE = "give another file"


@app.command("encode")
def encode(
    tokenizer: File,
    file: Annotated[
        Path | None,
        typer.Option(metavar="TEXT", help="A file of text; empty: what is piped in."),
    ] = None,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Print how each token is written, not its id.")
    ] = False,
) -> None:
    """Print the ids of a text, without framing tokens."""
    from tinylm.cli.input import piped_text
    from tinylm.errors import ConfigError, DataError
    from tinylm.printable import in_line
    from tinylm.reading import decode as decoded
    from tinylm.reading import read_bytes, refusal
    from tinylm.tokenizers import files

    opened = files.load(tokenizer)
    if file is None:
        text = piped_text()
        if text is None:
            raise ConfigError("no text: give --file TEXT, or pipe one in")
    else:
        content = read_bytes(file, _MOST_BYTES, DataError, _ADVICE)
        text = decoded(content, refusal(file, DataError, _ADVICE))
    ids = opened.encode(text)
    say(" ".join(in_line(opened.token(token)) if tokens else str(token) for token in ids))


@app.command("decode")
def decode(
    tokenizer: File,
    file: Annotated[
        Path | None,
        typer.Option(metavar="IDS", help="A file of ids, as encode prints them; empty: the pipe."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="Write the text to a file, as it is; empty: print it, control characters and "
            "line ends as a terminal may see them.",
        ),
    ] = None,
) -> None:
    """Print the text of ids; framing tokens are left out."""
    from tinylm import atomic
    from tinylm.cli.input import piped_text
    from tinylm.errors import ConfigError, DataError, shown
    from tinylm.names import checked_file
    from tinylm.reading import decode as decoded
    from tinylm.reading import read_bytes, refusal
    from tinylm.tokenizers import files

    if out is not None:
        out = checked_file(out, "--out", tokenizer, *([] if file is None else [file]))
    opened = files.load(tokenizer)
    place = "the ids piped in" if file is None else str(file)
    refuse = refusal(place, DataError, "ids are whole numbers with spaces in between")
    if file is None:
        written = piped_text()
        if written is None:
            raise ConfigError("no ids: give --file IDS, or pipe them in")
    else:
        written = decoded(read_bytes(file, _MOST_BYTES, DataError, _ADVICE), refuse)
    ids = []
    for number, word in enumerate(written.split(), 1):
        whole = word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS
        if not whole or int(word) >= opened.vocab_size:
            place = f"{shown(word)}, number {number},"
            raise refuse(f"{place} is no id of the tokenizer's, 0 to {opened.vocab_size - 1}")
        ids.append(int(word))
    text = opened.decode(ids)
    if out is None:
        say(text)
    else:
        atomic.write_text(out, text)


app.command("probability")(probability)
app.command("export")(export)
app.command("import")(import_)
