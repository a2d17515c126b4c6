"""``tinylm tokenizer export`` and ``import``: files of Hugging Face ``tokenizers``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.output import say


def export(
    tokenizer: Annotated[
        Path, typer.Argument(metavar="FILE", help="A tokenizer, such as train makes.")
    ],
    out: Annotated[Path, typer.Option(metavar="HF_JSON", help="The file to write.")],
) -> None:
    """Write a tokenizer as a file of the library Hugging Face tokenizers, with the same ids."""
    import json

    from tinylm import atomic
    from tinylm.names import checked_file
    from tinylm.tokenizers import files

    out = checked_file(out, "--out", tokenizer)
    opened = files.load(tokenizer)
    content = opened.to_hugging_face()
    atomic.write_text(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    say(str(out))


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="HF_JSON", help="A tokenizer.json of that library.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The tokenizer's file.")],
) -> None:
    """Read a file of the library Hugging Face tokenizers, and write it as a tokenizer here."""
    from tinylm.names import checked_file
    from tinylm.tokenizers import hugging_face

    out = checked_file(out, "--out", file)
    tokenizer = hugging_face.read(file)
    tokenizer.save(out)
    special = ", ".join(tokenizer.special_tokens)
    say(f"{type(tokenizer).label}: {tokenizer.vocab_size:,} types, special tokens {special}")
    if hugging_face.ids_shift(file, tokenizer):
        say(
            "ids are not those of the file: 0 to 3 are <pad>, <unk>, <sos> and <eos> here, and its "
            "tokens follow in their order"
        )
    say(str(out))
