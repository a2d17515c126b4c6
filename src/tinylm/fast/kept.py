"""What quick parts make of weights and keep, until the weights, modules or hooks change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

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


def kept(owner: nn.Module, name: str, state: Any, make: Callable[[], Made]) -> Made:
    """Return the last value, or make a new one if the state has changed since.

    Args:
        owner: module that it is kept with, though not in its ``state_dict`` or copies.
        name: of the value.
        state: what the value depends on: ``state_of`` modules, or ``numbers_of`` one.
        make: makes the value.
    """
    held = owner.__dict__.get(_NAME)
    if held is None:
        held = owner.__dict__[_NAME] = _Kept()
    last = held.get(name)
    if last is None or last[0] != state:
        last = held[name] = (state, make())
    value: Made = last[1]
    return value


def forget(owner: nn.Module) -> None:
    """Drop all that is kept with a module."""
    owner.__dict__.pop(_NAME, None)


def state_of(modules: Iterable[nn.Module]) -> list[Any]:
    """Return a value that differs, when compared, if modules have changed.

    Which modules, their mode, whether hooks are on them, and ``numbers_of`` each.
    """
    return [
        (id(module), module.training, watched(module), numbers_of(module)) for module in modules
    ]


def numbers_of(module: nn.Module) -> list[Any]:
    """Return a value that differs if a module's own parameters or buffers have changed.

    Which tensors, and the numbers in them by torch's count of changes in place, which sees all but
    those made through ``.data``.
    """
    # A step of decoding calls this for every linear map, so it is written for speed.
    state: list[Any] = []
    for tensors in (module._parameters, module._buffers):
        for tensor in tensors.values():
            if tensor is None:
                state.append(None)
            else:
                version = 0 if tensor.is_inference() else tensor._version
                state += (id(tensor), tensor.data_ptr(), version)
    return state
