"""Loops compiled for the processor: the second, quicker form of what ``model`` says in torch.

A small model's step on a CPU is many operations on arrays that a core's cache would hold, if they
were not written out and read again between one torch operation and the next. The functions here
compute several of these at once, in plain Python loops that numba compiles. None says anything
new: each has its torch form in ``model``, gives the same numbers to rounding, and is held to it by
a test. They are an option, ``using`` in a block, and need Linux, a CPU, and numba.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

GOMP = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
"""The threads of torch, which the loops run on too: others would fight them for the cores."""
_wanted = False


@functools.cache
def available() -> bool:
    """Whether there are numba and the threads of torch for the loops to run on."""
    return GOMP.exists() and importlib.util.find_spec("numba") is not None


def prepare() -> None:
    """Compile what is used in the default number formats, if the cache does not hold it yet."""
    from tinylm.fast.loops import attention, choosing, decoding, dropout, linear, loss, norm

    assert all((attention, choosing, dropout, linear, loss, norm))  # compiled by being imported
    decoding.prepare(torch.float32)


@contextmanager
def using(wanted: bool = True) -> Iterator[None]:
    """Let the model's parts take the compiled loops in the block, where they are available.

    Args:
        wanted: false turns them off in the block.
    """
    global _wanted
    before, _wanted = _wanted, wanted and available()
    try:
        yield
    finally:
        _wanted = before


def serve(*tensors: Tensor) -> bool:
    """Whether the loops are wanted, and suit these tensors: on a CPU, in float32 or bfloat16."""
    return (
        _wanted
        and not torch.compiler.is_compiling()
        and all(
            tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.bfloat16)
            for tensor in tensors
        )
    )
