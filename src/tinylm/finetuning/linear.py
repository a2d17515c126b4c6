"""A linear map with adapters' updates added to it: ``base(x) + sum of part(x)``.

Any part may stand here that maps the input of the linear map to an update of its output. One that
is linear itself also has ``weight_update``, (out, in), and can be merged:
``W' = W + sum of updates``. The merged weight is a tensor of its own beside the base's, which is
never written to: unmerging gives the same bits back, weights tied to it elsewhere do not move, and
a quantized base stays what it is. The price is a second copy of the matrix while merged.

Parts that do something else to the map than add to it stand in another ``MergeableLinear``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from tinylm.errors import AdapterError
from tinylm.finetuning.sites import (
    Wrapper,
    find_modules,
    module_at,
    plain_modules,
    replace_module,
    unwrapped,
)
from tinylm.numbers.linear import LinearLike, LinearMap
from tinylm.numbers.quantized import QuantizedEmbedding

LINEARS = (nn.Linear, LinearLike)
"""The kinds of module that count as linear maps."""
Mergeable = TypeVar("Mergeable", bound="MergeableLinear")


@runtime_checkable
class WeightUpdate(Protocol):
    """A part that is an update of the weight, and can be merged into it."""

    def weight_update(self) -> Tensor:
        """Return the update, (out, in)."""
        ...


class MergeableLinear(Wrapper):
    """A linear map with parts that can become part of a copy of its weight."""

    base: LinearMap | Wrapper

    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.merged: nn.Linear | None = None
        """The map that does what base and parts do, while merged."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out).

        Raises:
            AdapterError: if gradients are recorded in training while merged.
        """
        if self.merged is not None:
            self._refuse_training()
            merged: Tensor = self.merged(x)
            return merged
        return self.apart(x)

    def apart(self, x: Tensor) -> Tensor:
        """Map ``x`` by the base and the parts that act, each by itself."""
        raise NotImplementedError

    def joint(self) -> tuple[Tensor, Tensor | None]:
        """Return the weight that base and parts make together, and the bias."""
        raise NotImplementedError

    @property
    def bias(self) -> Tensor | None:
        """The bias, (out,)."""
        bias: Tensor | None = self.base.bias
        return bias

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return int(self.base.in_features)

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return int(self.base.out_features)

    @torch.no_grad()
    def merge(self) -> None:
        """Let a copy of the weight, with the parts that act in it, stand for all.

        A model in training mode may be merged, not trained. In a format shorter than float32 the
        result is rounded once. Does nothing if merged already.

        Raises:
            AdapterError: if a part cannot be merged.
        """
        self.refuse_merge()
        if self.merged is not None or next(self.parts.acting(), None) is None:
            return
        weight, bias = self.joint()
        merged = nn.Linear(self.in_features, self.out_features, bias is not None, device="meta")
        merged.weight = nn.Parameter(weight.to(self.base.weight.dtype), requires_grad=False)
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias, requires_grad=False)
        merged.register_parameter("bias", bias)
        self.merged = merged.train(self.training)

    def in_steps(self) -> nn.Module:
        """Return the merged map, or the base where no part acts, or this one itself."""
        return super().in_steps() if self.merged is None else self.merged

    def unmerge(self) -> None:
        """Use the base's weight and the parts again; nothing if not merged."""
        self.merged = None

    def folded(self) -> nn.Module:
        """Return the merged map, or the base where nothing is merged."""
        return self.base if self.merged is None else self.merged

    def _refuse_training(self) -> None:
        if self.training and torch.is_grad_enabled():
            raise AdapterError(
                "a merged adapter cannot be trained: unmerge it first, or call model.eval() or "
                "torch.no_grad() to compute outputs"
            )


class AdaptedLinear(MergeableLinear):
    """A linear map and the updates that adapters add to its output."""

    def apart(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out)."""
        y: Tensor = self.base(x)
        for part in self.parts.acting():
            y = y + part(x).to(y.dtype)
        return y

    @property
    def weight(self) -> Tensor:
        """The weight that does what the module does, (out, in), for code that multiplies by itself.

        Gradients reach the parts through it.

        Raises:
            AdapterError: if a part is not linear, or drops a share of its input in training.
        """
        if self.merged is not None:
            self._refuse_training()
            return self.merged.weight
        weight: Tensor = self.base.weight
        for update in self._updates():
            weight = weight + update.to(weight.dtype)
        return weight

    def refuse_merge(self) -> None:
        """Do nothing if every part that acts here has a weight update.

        Raises:
            AdapterError: if one has not.
        """
        self._updating()

    def joint(self) -> tuple[Tensor, Tensor | None]:
        """Return the sum of the weight and its updates, in float32 at least, and the bias."""
        weight: Tensor = self.base.weight
        total = weight.to(torch.promote_types(weight.dtype, torch.float32))
        for part in self._updating():
            total = total + part.weight_update().to(total.dtype)
        return total, self.bias

    def _updating(self) -> list[WeightUpdate]:
        """Return the parts that act here; AdapterError if one is no update of the weight."""
        updating: list[WeightUpdate] = []
        for part in self.parts.acting():
            if not isinstance(part, WeightUpdate):
                raise AdapterError(
                    f"{type(part).__name__} is no update of a weight and cannot be merged: "
                    "use the model with the adapter attached"
                )
            updating.append(part)
        return updating

    def _updates(self) -> Iterator[Tensor]:
        for part in self._updating():
            dropout = getattr(part, "dropout", None)
            if self.training and dropout is not None and dropout.p:
                raise AdapterError(
                    "this linear map is used through its weight, where an adapter cannot drop "
                    "inputs: set dropout=0 or leave the map out of the targets"
                )
            yield part.weight_update()


def plain_linear(module: nn.Module) -> LinearMap:
    """Return the linear map inside all wrappers.

    Raises:
        AdapterError: if it is none.
    """
    inside = unwrapped(module)
    if not isinstance(inside, LINEARS):
        raise AdapterError(f"a {type(inside).__name__} is no linear map")
    return inside


def refuse_quantized(model: nn.Module) -> None:
    """Refuse to train all weights of a model of which some are kept in few bits.

    Raises:
        AdapterError: saying what can be done instead.
    """
    for path, module in plain_modules(model):
        if isinstance(module, (LinearLike, QuantizedEmbedding)):
            raise AdapterError(
                f"{path} is quantized, and its weights cannot be trained: adapt the model by a "
                "method of few parameters, such as lora, or train the run that it was made of"
            )


def find_linears(model: nn.Module, patterns: Sequence[str]) -> dict[str, LinearMap]:
    """Return path -> linear map of those that a pattern matches (``sites.find_modules``)."""
    matching = find_modules(model, patterns, LINEARS, "linear map")
    return {path: linear for path, linear in matching.items() if isinstance(linear, LINEARS)}


def wrap_linear(model: nn.Module, path: str, kind: type[Mergeable]) -> Mergeable:
    """Return the wrapper of a kind around the map at a path, put there if there is none yet."""
    there = module_at(model, path)
    inside = there
    while isinstance(inside, Wrapper):
        if isinstance(inside, kind):
            return inside
        inside = inside.base
    adapted = kind(there)
    replace_module(model, path, adapted)
    return adapted


def add_parts(
    model: nn.Module,
    name: str,
    linears: Mapping[str, LinearMap],
    make_part: Callable[[str, LinearMap], nn.Module],
    kind: type[MergeableLinear] = AdaptedLinear,
) -> None:
    """Give each linear map a part of the adapter ``name``.

    Args:
        model: changed in place.
        name: of the adapter.
        linears: path -> linear map, as from ``find_linears``.
        make_part: gets a path and the map there; all parts are made before one is attached.
        kind: of the wrappers, which say what the parts do.
    """
    parts = {path: make_part(path, linear) for path, linear in linears.items()}
    for path, part in parts.items():
        wrap_linear(model, path, kind).parts.add(name, part)
