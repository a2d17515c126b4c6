"""Functions whose gradient is written out."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd import Function


class _NoGradient:
    """A function's context where no gradient will be asked for: it keeps nothing."""

    def __init__(self, inputs: int) -> None:
        self.needs_input_grad = (False,) * inputs

    def save_for_backward(self, *_: Any) -> None:
        pass

    def set_materialize_grads(self, _: bool) -> None:
        pass


def apply(function: type[Function], *arguments: Any) -> Any:
    """Call such a function by torch's ``apply``, or its forward pass alone without gradients.

    torch takes 10 us for a call, as long as many a product of decoding.
    """
    if not torch.is_grad_enabled():
        return function.forward(_NoGradient(len(arguments)), *arguments)
    return function.apply(*arguments)  # type: ignore[no-untyped-call]
