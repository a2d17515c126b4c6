"""Memory of a piece of work: live tensor bytes at their peak, and what a forward pass keeps.

On the CPU every storage is counted from the operation that makes it until it is freed, so the
number is exact and repeatable, unlike the resident size of the process, which holds what the
allocator has not given back. Not seen: scratch space inside one operation's kernel. On a GPU the
allocator's own count is used. What a machine needs to do the work is the resident size all the
same, and it is measured too.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the storages that operations inside the block have made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[Any]] = {}

    def _register(self, tensor: Tensor, counted: bool) -> None:
        owner: Any
        if tensor.layout == torch._mkldnn:  # type: ignore[attr-defined]
            # Packed for a kernel: it owns its bytes and has no storage object.
            owner, key, size = tensor, id(tensor), tensor.numel() * tensor.element_size()
        else:
            owner = tensor.untyped_storage()
            key, size = owner._cdata, owner.nbytes()
        if key in self._seen:
            return
        size = size if counted else 0
        self.live += size
        self.peak = max(self.peak, self.live)

        def freed(_: object) -> None:
            self.live -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(owner, freed)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for argument in tree_iter((args, kwargs)):
            if isinstance(argument, Tensor):  # allocated outside the block
                self._register(argument, counted=False)
        result = func(*args, **(kwargs or {}))
        for made in tree_iter(result):
            if isinstance(made, Tensor):
                self._register(made, counted=True)
        return result


def peak_bytes(work: Callable[[], object], device: torch.device | None = None) -> int:
    """Return the most bytes of tensors that ``work`` had alive at once, made by itself.

    Tensors that were there before are not counted; add their bytes for the whole.

    Args:
        work: called once; what it returns is dropped.
        device: where it runs; empty: the CPU.
    """
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    counter = _LiveBytes()
    with counter:
        work()
    return counter.peak


def resting_bytes(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of weights and optimizer state, which stay between steps."""
    state = (
        value
        for values in optimizer.state.values()
        for value in values.values()
        if isinstance(value, Tensor)
    )
    return tensor_bytes([*model.parameters(), *state])


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor] = ()) -> int:
    """Return the bytes of tensors that a forward pass keeps for the backward pass.

    Views of one storage are counted once.

    Args:
        forward: called once; its graph is dropped afterwards.
        parameters: not counted, since they are there anyway.
    """
    known = {tensor.untyped_storage()._cdata for tensor in parameters}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        key = tensor.untyped_storage()._cdata
        if key not in known:
            kept[key] = tensor
        return tensor.detach()  # holding the tensor itself would make a cycle with its graph

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    kept.clear()  # the graph holds the hook, and this would hold the graph
    del result
    return total


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, shared storages counted once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


class ResidentPeak:
    """Most bytes of the machine's memory that the process held at once."""

    def __init__(self) -> None:
        self.bytes: int | None = None
        """None where the system does not report it."""


_PROCESS = Path("/proc/self")
_watching: list[ResidentPeak] = []


@contextmanager
def resident_peak() -> Iterator[ResidentPeak]:
    """Measure the peak of the block; Linux keeps one peak a process, and can reset it.

    Blocks may be nested: a peak of the inner block counts for the outer one too.
    """
    _note_peak()
    peak = ResidentPeak()
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")
    except OSError:  # another system, or not allowed here
        yield peak
        return
    _watching.append(peak)
    try:
        yield peak
    finally:
        _note_peak()
        _watching.remove(peak)


def _note_peak() -> None:
    if not _watching:
        return
    for line in (_PROCESS / "status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            size = int(line.split()[1]) * 1024
            for peak in _watching:
                peak.bytes = max(peak.bytes or 0, size)
