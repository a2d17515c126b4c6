"""What linear maps multiply: statistics of their inputs over calibration texts.

A method says which statistics it needs of which maps. The model reads the texts batch by batch, and
each input is added to the statistics as it comes by, so that what is stored does not grow with the
texts. Padding is left out: it would count as an input that no text has.

The Gram matrix ``X^T X`` is all that is needed of the inputs to know how far the outputs move when
the weight moves: ``|X D^T|^2 = tr(D X^T X D^T)``. It holds ``in^2`` numbers, whatever was read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.numbers.linear import LinearLike, LinearMap

BINS = 2048
"""Of a histogram, as in NVIDIA's calibration for TensorRT."""


class Statistic(Protocol):
    """What is kept of the inputs of a linear map."""

    def add(self, rows: Tensor) -> None:
        """Take in inputs, (rows, in)."""
        ...


class Gram:
    """The Gram matrix of the inputs, ``X^T X``, in float64."""

    def __init__(self) -> None:
        self.count = 0
        """Inputs."""
        self._total: Tensor | None = None

    def add(self, rows: Tensor) -> None:
        """Add inputs, (rows, in)."""
        rows = rows.double()
        product = rows.mT @ rows
        self._total = product if self._total is None else self._total.add_(product)
        self.count += len(rows)

    @property
    def total(self) -> Tensor:
        """``X^T X``, (in, in).

        Raises:
            CompressionError: if no input was seen.
        """
        if self._total is None or not self.count:
            raise _nothing_seen()
        return self._total

    @property
    def hessian(self) -> Tensor:
        """``2/n X^T X``, (in, in): of the mean squared error of the outputs in a row of the weight.

        Frantar et al. 2023 (GPTQ), section 3.
        """
        return self.total * (2 / self.count)

    def error(self, difference: Tensor) -> Tensor:
        """Return how far each output moves with the weight: ``|X d|^2 / n`` of each row ``d``.

        Args:
            difference: new weight less old, (out, in).

        Returns:
            (out,), float64.
        """
        difference = difference.double()
        return (difference @ self.total * difference).sum(1) / self.count

    def relative_error(self, weight: Tensor, new: Tensor) -> float:
        """Return the mean squared error of the outputs of a new weight over their mean square.

        Args:
            weight: that is taken for exact, (out, in).
            new: (out, in).
        """
        error, square = float(self.error(new - weight).sum()), float(self.error(weight).sum())
        return error / square if square else 0.0


class Columns:
    """Sums and extremes of each number of the inputs, in float64."""

    def __init__(self) -> None:
        self.count = 0
        """Inputs."""
        self._sums: Tensor | None = None  # of squares and of absolute values, (2, in)
        self._ends: Tensor | None = None  # least and most, (2, in)

    def add(self, rows: Tensor) -> None:
        """Add inputs, (rows, in)."""
        if not len(rows):
            return
        rows = rows.double()
        sums = torch.stack((rows.square().sum(0), rows.abs().sum(0)))
        ends = torch.stack((rows.amin(0), rows.amax(0)))
        if self._sums is None or self._ends is None:
            self._sums, self._ends = sums, ends
        else:
            self._sums += sums
            self._ends = torch.stack(
                (torch.minimum(self._ends[0], ends[0]), torch.maximum(self._ends[1], ends[1]))
            )
        self.count += len(rows)

    @property
    def norm(self) -> Tensor:
        """Euclidean norm of each number over all inputs, (in,): Wanda's (Sun et al. 2024)."""
        return self._of(self._sums)[0].sqrt()

    @property
    def mean_absolute(self) -> Tensor:
        """Mean absolute value of each number, (in,): AWQ's."""
        return self._of(self._sums)[1] / self.count

    @property
    def least(self) -> Tensor:
        """Smallest value of each number, (in,)."""
        return self._of(self._ends)[0]

    @property
    def most(self) -> Tensor:
        """Largest value of each number, (in,)."""
        return self._of(self._ends)[1]

    @property
    def largest_absolute(self) -> Tensor:
        """Largest absolute value of each number, (in,): SmoothQuant's."""
        return self._of(self._ends).abs().amax(0)

    @staticmethod
    def _of(values: Tensor | None) -> Tensor:
        if values is None:
            raise _nothing_seen()
        return values


class Histogram:
    """How often the inputs' numbers lie in each of equal bins between two ends."""

    def __init__(self, low: float, high: float, bins: int = BINS) -> None:
        """Begin with nothing counted.

        Args:
            low: lower end, as of ``Columns.least``.
            high: upper end; values beyond an end count in its bin.
            bins: how many.

        Raises:
            CompressionError: if the ends are not finite, or none is above the other.
        """
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise CompressionError(f"no histogram lies between {low} and {high}")
        self.low, self.high = low, high
        self.counts = torch.zeros(bins, dtype=torch.int64)
        """(bins,)."""
        self.least, self.most = math.inf, -math.inf
        """What was seen lies between."""

    def add(self, rows: Tensor) -> None:
        """Count the numbers of inputs, of any shape."""
        if not rows.numel():
            return
        self.least = min(self.least, float(rows.amin()))
        self.most = max(self.most, float(rows.amax()))
        bins = len(self.counts)
        places = (rows.double() - self.low) * (bins / (self.high - self.low))
        places = places.floor().clamp(0, bins - 1).to(torch.int64).flatten()
        self.counts += torch.bincount(places, minlength=bins).cpu()

    @property
    def width(self) -> float:
        """Of a bin."""
        return (self.high - self.low) / len(self.counts)

    @property
    def edges(self) -> Tensor:
        """Ends of the bins, ascending, (bins + 1,), float64."""
        return torch.linspace(self.low, self.high, len(self.counts) + 1, dtype=torch.float64)


def linear_maps(model: nn.Module) -> dict[str, LinearMap]:
    """Return path -> linear map of all linear maps of a model."""
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, LinearLike))
    }


class _AllSeen(Exception):  # noqa: N818 - it ends a forward pass early and is no error
    pass


@torch.no_grad()
def observe(
    model: GenerativeModel,
    ids: Tensor,
    statistics: Mapping[str, Iterable[Statistic]],
    real: Tensor | None = None,
    batch_size: int = 8,
) -> None:
    """Let a model read texts and add the inputs of linear maps to statistics.

    A batch ends when each map has had its input: what comes after the last one is not computed.

    Args:
        model: read without dropout, then put back into its mode.
        ids: the texts, (texts, seq).
        statistics: path of a linear map -> what is kept of its inputs.
        real: (texts, seq), False where a token is padding; None: all are real.
        batch_size: texts that are read at once.

    Raises:
        CompressionError: if there is no text, or a map is not reached exactly once by each, or once
            by each token where it maps a state (``GenerativeModel.stepwise``).
    """
    if not ids.numel() or (real is not None and not real.any()):
        raise CompressionError("there is no text to calibrate with: give at least one token")
    observers = {path: tuple(each) for path, each in statistics.items()}
    waiting: dict[str, int] = {}  # path -> products that are still to come
    held: dict[str, Tensor | None] = {}  # path -> which of its inputs hold a token; None: all

    def hook(path: str) -> Any:
        def see(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            if path not in waiting:
                raise CompressionError(f"{path} multiplies twice in one pass: leave it out")
            x = args[0]
            own = held[path]
            if own is not None and path in model.stepwise:
                own = own[:, own.shape[1] - waiting[path]]
            rows = x.flatten(0, -2) if own is None else x[own]
            for statistic in observers[path]:
                statistic.add(rows)
            waiting[path] -= 1
            if not waiting[path]:
                del waiting[path]
            if not waiting:
                raise _AllSeen

        return see

    device = model.embedding.weight.device
    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for path in observers:
            handle = model.get_submodule(path).register_forward_pre_hook(hook(path))
            stack.callback(handle.remove)
        for start in range(0, len(ids), batch_size):
            batch = ids[start : start + batch_size].to(device)
            mask = None if real is None else real[start : start + batch_size].to(device)
            held = {path: model.real_inputs(path, batch, mask) for path in observers}
            waiting = {
                path: (batch if own is None else own).shape[1] if path in model.stepwise else 1
                for path, own in held.items()
            }
            try:
                model(batch, **model.in_one_read(batch, mask))
            except _AllSeen:
                continue
            raise CompressionError(f"{sorted(waiting)[0]} multiplies nothing when a text is read")


def _nothing_seen() -> CompressionError:
    return CompressionError("no input was seen: give texts to calibrate with")
