"""Loops compiled for the processor: several torch operations in one pass over the numbers.

A small model's step on a CPU is many operations on arrays that a core's cache would hold, if they
were not written out and read again between one torch operation and the next. The functions here
compute several of these at once, in plain Python loops that numba compiles. Each has a torch form
in ``model`` and gives the same numbers to rounding, which a test checks. They need Linux, a CPU,
and numba. The modules are imported when they are first used, since numba alone takes a second.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from tinylm.fast.loops import (
        additive,
        attention,
        choosing,
        codes,
        decoding,
        dropout,
        linear,
        loss,
        matrices,
        norm,
        single_token,
        transpose,
    )

GOMP = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
"""The threads of torch, which the loops run on too: others would compete for the cores."""
__all__ = [
    "GOMP",
    "activations",
    "additive",
    "attention",
    "available",
    "choosing",
    "codes",
    "decoding",
    "dropout",
    "linear",
    "loss",
    "matrices",
    "norm",
    "prepare",
    "single_token",
    "suit",
    "transpose",
]


def __getattr__(name: str) -> Any:
    """Import a module of loops when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


@functools.cache
def available() -> bool:
    """Whether there are numba and the threads of torch for the loops to run on."""
    return GOMP.exists() and importlib.util.find_spec("numba") is not None


def prepare() -> None:
    """Compile what is used in the default number formats, if the cache does not hold it yet."""
    from tinylm.fast.loops import (
        additive,
        attention,
        choosing,
        decoding,
        dropout,
        linear,
        loss,
        norm,
        transpose,
    )

    assert all(
        (additive, attention, choosing, dropout, linear, loss, norm, transpose)
    )  # compiled by being imported
    decoding.prepare(torch.float32)


_NUMBERS = (torch.float32, torch.bfloat16)


def suit(*tensors: Tensor) -> bool:
    """Whether the loops suit these tensors: on a CPU, in float32 or bfloat16, not being traced."""
    if torch.compiler.is_compiling() or not available():
        return False
    for tensor in tensors:  # noqa: SIM110 (called many times a step; a generator takes twice as long)
        if not tensor.is_cpu or tensor.dtype not in _NUMBERS:
            return False
    return True
