"""What to type when a command that trains into a folder of its own stops before its end."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.training.commands import Commands


_ADAPTER = "adapter."


def adapter_of(name: str | None, options: Sequence[str]) -> tuple[Any, list[str]]:
    """Return the settings of ``--adapter``, and the options that are none of its settings.

    Args:
        name: of the adapter's method; None: there is none, and neither are settings.
        options: ``KEY=VALUE``, of which the keys ``adapter.…`` are settings of the adapter.

    Raises:
        ConfigError: for an unknown method, key or value, and settings of no adapter.
    """
    from tinylm.config import method_settings
    from tinylm.errors import ConfigError
    from tinylm.registry import METHODS

    own = [each for each in options if each.startswith(_ADAPTER)]
    others = [each for each in options if each not in own]
    if name is None:
        if own:
            raise ConfigError(f"-o {own[0]} is about --adapter: name one, or leave it out")
        return None, others
    keys = [each.removeprefix(_ADAPTER) for each in own]
    return method_settings(METHODS, name, keys, option="adapter", prefix=_ADAPTER), others


def commands_of(name: str, given: Any, learning_rate: float) -> Commands:
    """Return how to go on, and how to try again beside it with a lower learning rate.

    Args:
        name: of the command.
        given: its options as they were given, a dataclass with ``run``, ``out``, ``option`` and
            ``seed``, which is 0 where it is left out.
        learning_rate: that it is trained with.
    """
    from tinylm.config import as_options
    from tinylm.training.commands import Commands, lower

    def command(**changed: object) -> str:
        words = ["tinylm", name, str(given.run)]
        for option, value in (vars(given) | changed).items():
            if option in ("run", "option") or value is None or (option, value) == ("seed", 0):
                continue
            words.append(f"--{option.replace('_', '-')}")
            if value is not True:
                words.append(str(value))
        return shlex.join([*words, *as_options(given.option)])

    out: Path = given.out if given.out.name else given.out.absolute()
    beside = out.with_name(f"{out.name}-2")
    retry = command(out=beside, learning_rate=lower(learning_rate))
    return Commands(command(), f"try a lower rate beside it: {retry}")
