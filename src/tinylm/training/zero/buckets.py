"""Parameters in flat tensors that can be cut into equal parts, one a rank.

A bucket puts parameters one after the other and zeros behind them, so that its size is a multiple
of the number of ranks; rank r owns part r. Every layer has a bucket, and what is in no layer (the
embedding, the last norm, the unembedding) has one together. Parameters that are not trained lie in
buckets of their own, which have no gradients and no states.

The zeros are the only difference between what a rank holds or sends and the formulas: at most
``ranks - 1`` numbers a bucket. Their gradients are 0, so that Adam leaves them 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_NO_LAYER = -1


class Bucket:
    """Parameters that are moved together."""

    def __init__(
        self,
        named: Sequence[tuple[str, nn.Parameter]],
        ranks: int,
        layer: nn.Module | None,
        trained: bool,
    ) -> None:
        """Lay out parameters.

        Args:
            named: with their names, of one number format and on one device; at least one.
            ranks: how many parts there are.
            layer: of which they are; None: of none.
            trained: whether they have gradients.
        """
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.layer = layer
        self.trained = trained
        self.sizes = [parameter.numel() for parameter in self.parameters]
        self.numbers = sum(self.sizes)
        self.part_size = -(-self.numbers // ranks)
        self.size = self.part_size * ranks
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.flat = self._filled()
        """(size,), the parameters, of which they are views; without storage while it is freed."""
        self.own: Tensor | None = None
        """(part_size,), a rank's part of the parameters, where the whole is there for a while."""
        self.gradient: Tensor | None = None
        """(size,), of the losses of this rank."""
        self.summed: Tensor | None = None
        """The gradient of the losses of all ranks, of what this rank keeps states of."""

    @property
    def padding(self) -> int:
        """Zeros behind the parameters."""
        return self.size - self.numbers

    @torch.no_grad()
    def _filled(self) -> Tensor:
        first = self.parameters[0]
        flat = torch.zeros(self.size, dtype=first.dtype, device=first.device)
        for view, parameter in zip(self.views(flat), self.parameters, strict=True):
            view.copy_(parameter)
        return flat

    def views(self, flat: Tensor) -> list[Tensor]:
        """Return the part of each parameter in a tensor of the bucket's size, in its shape."""
        parts = flat[: self.numbers].split_with_sizes(self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def part(self, flat: Tensor, rank: int) -> Tensor:
        """Return the part of a tensor of the bucket's size that a rank owns, a view."""
        return flat[rank * self.part_size : (rank + 1) * self.part_size]

    def connect(self) -> None:
        """Make the parameters views of ``flat``."""
        for parameter, view in zip(self.parameters, self.views(self.flat), strict=True):
            parameter.data = view

    def zeros(self) -> Tensor:
        """Return zeros of the bucket's size, in the format of its parameters."""
        return torch.zeros_like(self.flat)


def buckets_of(model: nn.Module, ranks: int) -> list[Bucket]:
    """Return the buckets of a model, in the order in which a forward pass needs them first.

    Args:
        model: each module of its ``layers``, if it has any, has buckets of its own; a parameter
            that several of them share, or that is used elsewhere too, is in none of these.
        ranks: how many parts there are.
    """
    layers = list(getattr(model, "layers", ()))
    places: dict[nn.Parameter, int] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        place = int(name.split(".")[1]) if layers and name.startswith("layers.") else _NO_LAYER
        places[parameter] = place if places.get(parameter, place) == place else _NO_LAYER
    buckets = []
    for place, layer in ((_NO_LAYER, None), *enumerate(layers)):
        own = [named for named in model.named_parameters() if places[named[1]] == place]
        for trained in (True, False):
            some = [named for named in own if named[1].requires_grad is trained]
            if some:
                buckets.append(Bucket(some, ranks, layer, trained))
    return buckets
