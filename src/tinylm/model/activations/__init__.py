"""The nonlinearities of the feed-forward part, one a file, and what each says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """A nonlinearity that acts on each number by itself: an entry of the registry ACTIVATIONS."""

    function: Callable[[Tensor], Tensor]
    """From a tensor to one of the same shape and number format."""
    label: str
    """Its name for a reader, such as ``ReLU``."""
    formula: str
    """What the report writes for it, in Typst's mathematics, ``{x}`` in the place of its input."""
    source: str
    """Where it is from, as the report cites it."""
    kept_arrays: int
    """Arrays of its input's size that it and the product after it keep for the backward pass."""
    kept_in_one_pass: int | None = None
    """The same where the quick model computes it in one pass; None: it computes it as written."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return the nonlinearity of ``x``."""
        return self.function(x)
