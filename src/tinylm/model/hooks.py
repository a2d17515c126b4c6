"""Every meaningful activation has a name and can be read or replaced during a forward pass.

A module passes each activation through ``hooks(name, activation)``. The default, ``NO_HOOKS``,
returns it unchanged, so that unused hooks cost one call of an empty function each. Names are
dotted paths (``layers.2.attention.pattern``); patterns may hold ``*``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor

from tinylm.errors import ConfigError, nearest, shown

Hook = Callable[[str, Tensor], Tensor | None]
"""Gets an activation's name and value; returns a replacement of the same shape, or None."""


def as_patterns(names: str | Iterable[str]) -> list[str]:
    """Return names or patterns as a list; a single one is no list of its letters."""
    return [names] if isinstance(names, str) else list(names)


class Hooks:
    """Functions to be called on the activations whose names match their patterns."""

    active = True

    def __init__(self, hooks: Mapping[str, Hook], known_names: Iterable[str]) -> None:
        """Bind patterns to hooks.

        Args:
            hooks: name or pattern with ``*`` -> function.
            known_names: the names that exist; a pattern that matches none of them is refused.

        Raises:
            ConfigError: naming the nearest activation names.
        """
        names = list(known_names)
        self._functions: dict[str, list[Hook]] = {}
        for pattern, function in hooks.items():
            matching = [name for name in names if fnmatchcase(name, pattern)]
            if not matching:
                raise ConfigError(
                    f"no activation is named {shown(pattern)}{nearest(pattern, names)}"
                )
            for name in matching:
                self._functions.setdefault(name, []).append(function)

    def __call__(self, name: str, activation: Tensor) -> Tensor:
        """Return ``activation``, or what the hooks of ``name`` put in its place."""
        for function in self._functions.get(name, ()):
            replacement = function(name, activation)
            if replacement is None:
                continue
            if replacement.shape != activation.shape:
                raise ConfigError(
                    f"hook on {name}: replacement has shape {tuple(replacement.shape)}, "
                    f"the activation {tuple(activation.shape)}"
                )
            activation = replacement
        return activation


class _NoHooks(Hooks):
    active = False

    def __init__(self) -> None:
        super().__init__({}, ())

    def __call__(self, name: str, activation: Tensor) -> Tensor:
        return activation


NO_HOOKS: Hooks = _NoHooks()
