"""Where adapters act: modules found by pattern, replaced by wrappers that hold named parts.

A wrapper keeps the module it replaces as ``base`` and what the adapters add there in ``parts``, by
adapter name, so that several adapters share one frozen base, act together and are switched on
and off. The base's tensors are the same objects before and after.

Paths are always those of the plain model, as it was before any adapter: the wrappers on the way to
a module do not show in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from tinylm.errors import AdapterError
from tinylm.model.paths import chosen_by


class Parts(nn.ModuleDict):
    """What adapters added at one place, by adapter name; only those in ``active`` act."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []
        """Names of the adapters that act, in the order in which they do."""

    def add(self, name: str, part: nn.Module) -> None:
        """Add the part of an adapter, active from now on. Its parameters are what is trained."""
        self[name] = part.train(self.training)
        self.active.append(name)

    def acting(self) -> Iterator[nn.Module]:
        """Yield the part of each active adapter that has one here."""
        for name in self.active:
            if name in self:
                yield self[name]


class Wrapper(nn.Module):
    """A module with adapters' parts around it. What it does not have itself, it takes from it."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.parts = Parts()
        self.train(base.training)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or name in ("base", "parts"):
                raise  # while it is being copied there is no base to ask
            return getattr(self.base, name)

    def in_steps(self) -> nn.Module:
        """Return the plain module that does what this one does for a token being decoded.

        This one itself where it adds something then.
        """
        return self if next(self.parts.acting(), None) is not None else self.base

    def refuse_merge(self) -> None:
        """Do nothing if what acts here can become part of the base's weights.

        Raises:
            AdapterError: if it cannot.
        """
        acting = [name for name in self.parts.active if name in self.parts]
        if acting:
            raise AdapterError(
                f"adapter {', '.join(map(repr, acting))} is no update of the weights and cannot be "
                "merged into them: use the model with the adapter attached"
            )

    def merge(self) -> None:
        """Act through the base's weights alone, where that is possible."""
        self.refuse_merge()

    def unmerge(self) -> None:
        """Go back to what acted before ``merge``."""

    def folded(self) -> nn.Module:
        """Return the plain module that does what this one does when merged."""
        return self.base


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside all wrappers."""
    while isinstance(module, Wrapper):
        module = module.base
    return module


def wrappers(model: nn.Module) -> Iterator[tuple[str, Wrapper]]:
    """Yield (path, wrapper) of every wrapper of a model, outer ones first."""
    for path, stack in _walk(model, "", set()):
        for module in stack[:-1]:
            assert isinstance(module, Wrapper)
            yield path, module


def plain_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) of the base's own modules: no wrappers, no adapters' parts."""
    for path, stack in _walk(model, "", set()):
        yield path, stack[-1]


def plain_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the base's own parameters by the names that they have in the plain model."""
    parameters: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for path, module in plain_modules(model):
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameters[f"{path}.{name}" if path else name] = parameter
    return parameters


def _walk(module: nn.Module, path: str, seen: set[int]) -> Iterator[tuple[str, list[nn.Module]]]:
    """Yield each path with what stands there: the wrappers from the outermost in, the base."""
    stack = [module]
    while isinstance(stack[-1], Wrapper):
        stack.append(stack[-1].base)
    if id(stack[-1]) in seen:
        return
    seen.add(id(stack[-1]))
    yield path, stack
    for name, child in stack[-1].named_children():
        yield from _walk(child, f"{path}.{name}" if path else name, seen)


def find_modules(
    model: nn.Module, patterns: Sequence[str], kinds: tuple[type[nn.Module], ...], called: str
) -> dict[str, nn.Module]:
    """Return path -> module of the base's modules of some kinds that a pattern matches, in order.

    Args:
        model: any module; it is not itself among those found.
        patterns: see ``model.paths.matches``.
        kinds: of the base's own modules, whatever wrappers an earlier adapter put around them.
        called: what the error calls such a module.

    Raises:
        AdapterError: if a pattern matches no such module, naming those there are.
    """
    known = {
        path: module for path, module in plain_modules(model) if path and isinstance(module, kinds)
    }
    return chosen_by(patterns, known, f"no {called} of the model", AdapterError)


def module_at(model: nn.Module, path: str) -> nn.Module:
    """Return what stands at a path of the plain model, with the wrappers around it."""
    for step in path.split(".") if path else ():
        model = getattr(unwrapped(model), step)
    return model


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module where another one is, wherever in the model that one is used.

    Args:
        model: the model; the path "" would be itself and cannot be given.
        path: of the plain model. The wrappers that stand there go with the old module, unless
            ``new`` keeps them.
        new: put in its place.
    """
    old = module_at(model, path)
    for module in list(model.modules()):
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
