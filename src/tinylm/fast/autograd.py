"""Functions whose gradient is written out."""

from __future__ import annotations

from typing import Any

from torch.autograd import Function


def apply(function: type[Function], *arguments: Any) -> Any:
    """Call such a function: torch's ``apply``, which has no types."""
    return function.apply(*arguments)  # type: ignore[no-untyped-call]
