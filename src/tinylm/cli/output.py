"""Results on the standard output, without control characters that a terminal would obey."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import typer

from tinylm.printable import in_json, printable


def say(text: str = "", *, nl: bool = True, err: bool = False) -> None:
    """Write text, by default as a line."""
    typer.echo(printable(text), nl=nl, err=err)


def flush() -> None:
    """Show what has been said so far, before a process ends at once."""
    sys.stdout.flush()
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """Write JSON; control characters and those that the encoding lacks are escaped."""
    unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    typer.echo(in_json(json.dumps(value, indent=1, ensure_ascii=not unicode)))


def replace_what_cannot_be_shown() -> None:
    """Let the output streams replace characters that their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
