"""Bottleneck adapters: a narrow network after a module, with a skip connection around it.

Houlsby et al. 2019, section 2.1: ``y + up(f(down(y)))`` after attention and after feed-forward,
before the residual sum, with ``down`` to a few numbers and ``up`` back: ``2 m d + m + d`` numbers
for size m and width d. Both start from small random numbers (standard deviation 0.01, cut at two
of them, section 3.6) and the biases from 0, so that the model starts near, not at, what it was.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tinylm.config.finetuning import BottleneckConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import LINEARS
from tinylm.finetuning.lora import sizes
from tinylm.finetuning.sites import (
    Wrapper,
    find_modules,
    module_at,
    plain_modules,
    replace_module,
    unwrapped,
)
from tinylm.planning.limits import refuse_beyond_memory
from tinylm.registry import ACTIVATIONS

_START = 0.01


class BottleneckPart(nn.Module):
    """``up(f(down(y)))``."""

    def __init__(self, width: int, settings: BottleneckConfig, like: Tensor) -> None:
        super().__init__()
        parts = {"weights": 8 * width * settings.size}
        refuse_beyond_memory(f"a bottleneck {settings.size:,} wide", parts, "size")
        self.down = nn.Linear(width, settings.size)
        self.up = nn.Linear(settings.size, width)
        self.activation = ACTIVATIONS.load(settings.activation).function
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight, std=_START, a=-2 * _START, b=2 * _START)
            nn.init.zeros_(linear.bias)
        self.to(like)

    def forward(self, y: Tensor) -> Tensor:
        """Return the update of ``y``, (..., width)."""
        update: Tensor = self.up(self.activation(self.down(y)))
        return update


class FollowedModule(Wrapper):
    """A module and the bottlenecks that its output passes, one after the other."""

    base: Any  # a module of any kind; one with a weight, where that is asked for

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        """Return the module's output, (..., width), as the bottlenecks leave it.

        Raises:
            AdapterError: if the module returns something else than a tensor.
        """
        y: Tensor = self.base(*arguments, **named)
        for part in self.parts.acting():
            if not isinstance(y, Tensor):
                raise AdapterError(
                    f"a bottleneck stands after a {type(unwrapped(self)).__name__}, which returns "
                    f"a {type(y).__name__} and no tensor: take a module that returns one"
                )
            y = y + part(y)
        return y

    @property
    def weight(self) -> Tensor:
        """The module's own weight, for code that multiplies by itself.

        Raises:
            AdapterError: if a bottleneck acts here, which such code would pass by.
        """
        if next(self.parts.acting(), None) is not None:
            raise AdapterError(
                "a linear map is used here through its weight, past the bottleneck after it: leave "
                "the map out of the targets"
            )
        weight: Tensor = self.base.weight
        return weight


class Bottleneck(Method):
    """Bottleneck adapters after modules of any kind."""

    Settings = BottleneckConfig
    learning_rate = 5e-3
    label = "bottleneck"
    noun = "bottleneck adapters"
    explanation = (
        "*Bottleneck* adapters [[houlsby2019]] put a network of inner width {size} after "
        "attention and after feed-forward, with a skip connection."
    )

    @staticmethod
    def num_trained(model: nn.Module, settings: BottleneckConfig) -> int:
        """Return ``2 m d + m + d`` a target, of size m and width d (``base.Method``)."""
        modules = find_modules(model, settings.targets, (nn.Module,), "module")
        widths = [_width(path, module)[0] for path, module in modules.items()]
        return sum(settings.size * (2 * width + 1) + width for width in widths)

    @staticmethod
    def attach(
        model: nn.Module, name: str, settings: BottleneckConfig
    ) -> tuple[nn.Module, list[str]]:
        """Put a bottleneck after each target (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, or has no linear map that tells its width.
        """
        modules = find_modules(model, settings.targets, (nn.Module,), "module")
        parts = {}
        for path, module in modules.items():
            width, like = _width(path, module)
            parts[path] = BottleneckPart(width, settings, like)
        for path, part in parts.items():
            _following(model, path).parts.add(name, part)
        return model, []


def _width(path: str, module: nn.Module) -> tuple[int, Tensor]:
    """Return the width of a module's output, which its last linear map tells, and its weight."""
    if isinstance(module, (nn.ModuleList, nn.ModuleDict)):
        raise AdapterError(
            f"target {path} is a list of modules, after which nothing stands: take {path}.*"
        )
    linears = [inside for _, inside in plain_modules(module) if isinstance(inside, LINEARS)]
    if not linears:
        raise AdapterError(
            f"target {path} holds no linear map, so that the width of its output is not known: "
            "take a module that ends in one"
        )
    return sizes(linears[-1])[0], linears[-1].weight


def _following(model: nn.Module, path: str) -> FollowedModule:
    """Return the wrapper after the module at a path, put there if there is none yet."""
    there = module_at(model, path)
    if isinstance(there, FollowedModule):
        return there
    followed = FollowedModule(there)
    replace_module(model, path, followed)
    return followed
