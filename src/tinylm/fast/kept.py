"""What quick parts make of weights and keep, until the weights, modules or hooks change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

from tinylm.fast.linear import watched

Made = TypeVar("Made")
_NAME = "_kept"


class _Kept(dict[str, tuple[list[Any], Any]]):
    """Name -> the state that something was made of, and what was made; a copy is empty."""

    def __copy__(self) -> _Kept:
        return _Kept()

    def __deepcopy__(self, _: dict[int, Any]) -> _Kept:
        return _Kept()

    def __reduce__(self) -> tuple[type[_Kept], tuple[()]]:
        return _Kept, ()


def kept(
    owner: nn.Module, name: str, modules: Iterable[nn.Module], make: Callable[[], Made]
) -> Made:
    """Return what was made last, or make it anew where something has changed since.

    Args:
        owner: whose it is; it is no part of its ``state_dict`` or of copies.
        name: of what is made.
        modules: what it depends on, as far as ``state_of`` tells.
        make: makes it.
    """
    held: _Kept = owner.__dict__.setdefault(_NAME, _Kept())
    state = state_of(modules)
    if name not in held or held[name][0] != state:
        held[name] = (state, make())
    value: Made = held[name][1]
    return value


def forget(owner: nn.Module) -> None:
    """Drop all that is kept with a module."""
    owner.__dict__.pop(_NAME, None)


def state_of(modules: Iterable[nn.Module]) -> list[Any]:
    """Return what tells whether modules are as they were, in a form that can be compared.

    Which modules, their mode, whether somebody watches them, their parameters and buffers, and the
    numbers in these, by torch's count of changes in place, which sees all but those made through
    ``.data``.
    """
    state: list[Any] = []
    for module in modules:
        state.append((id(module), module.training, watched(module)))
        for held in (*module._parameters.values(), *module._buffers.values()):
            state.append(None if held is None else (id(held), held.data_ptr(), _version(held)))
    return state


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version
