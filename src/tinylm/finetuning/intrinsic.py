"""Training in a random subspace, which measures how many dimensions a task needs.

All D adapted weights move together, by d numbers z and a fixed random projection P (``fastfood``):

    DID:   W = W0 + P z                                   (Li et al. 2018, equation 2)
    SAID:  W_i = W0_i + lambda_i P_i z                    (Aghajanyan et al. 2021, section 3)

with a lambda for each layer i, which are among the d numbers: z has d less the number of layers.
z starts at 0 and each lambda at 1. The projection follows from a seed, so that an adapter is its d
numbers. The smallest d with nine tenths of what training everything gains is the task's intrinsic
dimension, d90.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import IntrinsicConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.base import Method
from tinylm.finetuning.fastfood import Fastfood
from tinylm.finetuning.linear import add_parts, find_linears
from tinylm.finetuning.lora import sizes
from tinylm.numbers.linear import LinearMap


class Subspace(nn.Module):
    """The numbers that are trained, one set for all adapted maps."""

    def __init__(self, dimension: int, num_scales: int, like: Tensor) -> None:
        super().__init__()
        self.coordinates = nn.Parameter(torch.zeros(dimension - num_scales).to(like))
        """z."""
        self.scales = nn.Parameter(torch.ones(num_scales).to(like)) if num_scales else None
        """lambda of each layer."""


class ProjectedUpdate(nn.Module):
    """The update of one linear map: its rows of ``P z``."""

    def __init__(
        self, shape: tuple[int, int], projection: Fastfood, subspace: Subspace, layer: int
    ) -> None:
        """Take part in a subspace.

        Args:
            shape: (out, in).
            projection: the rows of P that are this map's.
            subspace: shared by all parts of the adapter.
            layer: which of the subspace's scales is this map's.
        """
        super().__init__()
        self.shape = shape
        self.projection = projection
        self.layer = layer
        self.subspace = subspace

    def weight_update(self) -> Tensor:
        """Return the update, (out, in)."""
        update: Tensor = self.projection(self.subspace.coordinates).view(self.shape)
        scales = self.subspace.scales
        return update if scales is None else update * scales[self.layer]

    def forward(self, x: Tensor) -> Tensor:
        """Return the update of the output, (..., out), for ``x``, (..., in)."""
        update = self.weight_update()
        return nn.functional.linear(x.to(update.dtype), update)


class Intrinsic(Method):
    """DID and SAID on linear maps."""

    Settings = IntrinsicConfig
    learning_rate = 1e-2
    label = "SAID"
    noun = "SAID"
    explanation = (
        "*SAID* [[aghajanyan2021]] changes all matrices together by a fixed random projection "
        "[[le2013]] of {dimension} trained numbers."
    )
    slow_because = "SAID computes the whole update from its numbers in every pass."

    @staticmethod
    def num_trained(model: nn.Module, settings: IntrinsicConfig) -> int:
        """Return the dimension of the subspace (``base.Method``)."""
        return settings.dimension

    @staticmethod
    def attach(
        model: nn.Module, name: str, settings: IntrinsicConfig
    ) -> tuple[nn.Module, list[str]]:
        """Let the targets move in one subspace (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, or there are too few or too many dimensions.
        """
        linears = find_linears(model, settings.targets)
        layers = {path: _layer(path) for path in linears}
        order = list(dict.fromkeys(layers.values()))
        num_scales = len(order) if settings.structure_aware else 0
        total = sum(out * width for out, width in map(sizes, linears.values()))
        if not num_scales < settings.dimension <= total:
            raise AdapterError(
                f"dimension {settings.dimension}: the targets have {total:,} weights in "
                f"{len(order)} layers; set a dimension of {num_scales + 1} to {total}"
            )
        like = next(iter(linears.values())).weight
        subspace = Subspace(settings.dimension, num_scales, like)
        numbers = {path: number for number, path in enumerate(linears)}

        def make(path: str, linear: LinearMap) -> ProjectedUpdate:
            shape = sizes(linear)
            inputs, outputs = len(subspace.coordinates), shape[0] * shape[1]
            # Seeds of the maps follow each other; those of two adapters never meet.
            seed = settings.seed * 2**20 + numbers[path]
            projection = Fastfood(inputs, outputs, seed, total).to(like.device)
            return ProjectedUpdate(shape, projection, subspace, order.index(layers[path]))

        add_parts(model, name, linears, make)
        return model, []


def _layer(path: str) -> str:
    """Return what of a path names the layer: up to its first number, or all."""
    steps = path.split(".")
    for i, step in enumerate(steps):
        if step.isdigit():
            return ".".join(steps[: i + 1])
    return path


def d90(losses: Mapping[int, float], base: float, full: float, share: float = 0.9) -> int | None:
    """Return the smallest dimension that gains nine tenths of what training everything gains.

    Li et al. 2018, section 2, measure accuracy; a loss has no zero of that kind, so what counts is
    the way from the base's loss to that of training everything.

    Args:
        losses: dimension -> loss after training in so many dimensions.
        base: loss before training.
        full: loss after training everything, as long.
        share: of the way.

    Returns:
        A key of ``losses``, or None if none is enough.

    Raises:
        ValueError: if training everything gained nothing.
    """
    if full >= base:
        raise ValueError(f"training everything gained nothing: a loss of {full} after {base}")
    enough = [d for d, loss in losses.items() if base - loss >= share * (base - full)]
    return min(enough, default=None)
