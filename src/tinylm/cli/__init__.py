"""The command line: one file a command. Only this package uses argv, print and exit."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from tinylm.cli.examples import complete, help_of
from tinylm.cli.output import flush, replace_what_cannot_be_shown, say
from tinylm.errors import TinylmError
from tinylm.registry import COMMANDS
from tinylm.training.processes.lines import LAUNCHED, is_first, leave_line

_INTERRUPTED = 130
_SMALLER = "lower batch sizes, lengths or the model; `tinylm plan --tokens 1e6` says what they cost"

app = typer.Typer(
    name="tinylm",
    help="Train, study and serve small language models on one machine.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name in COMMANDS:
    _command = COMMANDS.load(_name)
    if isinstance(_command, typer.Typer):  # it has commands of its own
        app.add_typer(_command, name=_name, **complete(_command, _name))
    else:
        app.command(_name, **help_of(_name, _command))(_command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        from tinylm import __version__

        say(f"tinylm {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; a problem that the user can mend is one line and exit status 1."""
    replace_what_cannot_be_shown()
    try:
        status = app(sys.argv[1:] or ["--help"], prog_name="tinylm", standalone_mode=False)
        if status == _INTERRUPTED:
            _fail("interrupted", status)
        sys.exit(status)
    except typer.TyperException as error:  # a wrong command, option or argument
        context: typer.Context | None = getattr(error, "ctx", None)
        message = error.format_message().rstrip(".")
        where = "tinylm" if context is None else context.command_path
        _fail(f"{message[:1].lower()}{message[1:]} (see `{where} --help`)", error.exit_code)
    except TinylmError as error:
        if getattr(error, "is_consequence", False) and (LAUNCHED in os.environ or not is_first()):
            _leave(1)
        _fail(str(error), getattr(error, "exit_status", 1))
    except BrokenPipeError:
        # The pipe's reader has closed it; Python must not report that again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)
    except MemoryError as error:
        _fail(f"out of memory ({error}): {_SMALLER}", 1)
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):  # torch's wording
            raise
        _fail(f"out of memory ({str(error).rpartition('] ')[2]}): {_SMALLER}", 1)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1)


def _fail(message: str, status: int) -> None:
    line = " ".join(message.splitlines())
    if not leave_line(line):
        who = "" if is_first() else f"rank {os.environ['RANK']}: "
        say(f"tinylm: {who}{line}", err=True)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """End this process; one of several at once, since torch waits for the others or aborts."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        flush()
        os._exit(status)
    sys.exit(status)
