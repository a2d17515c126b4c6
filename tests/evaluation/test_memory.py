"""Live tensor bytes: worked numbers, and the allocator's own record as the reference."""

from __future__ import annotations

import gc
import mmap
import os
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tinylm.evaluation import memory
from tinylm.evaluation.memory import peak_bytes, resident_peak, saved_bytes, tensor_bytes
from tinylm.fast.onednn import can_pack, onednn_linear, pack
from tinylm.model.decoder import DecoderLM


def test_worked_numbers() -> None:
    def work() -> None:
        first = torch.zeros(1000)  # 4,000 bytes
        second = torch.zeros(1000, dtype=torch.float64)  # 12,000 live
        del first  # 8,000
        third = second[:10]  # a view costs nothing
        del second
        fourth = third + 1  # 80 bytes beside the 8,000 that the view keeps alive
        del third, fourth
        torch.zeros(500)

    assert peak_bytes(work) == 12_000


def test_what_was_there_before_is_not_counted() -> None:
    before = torch.zeros(1000)

    def work() -> None:
        before.add_(1)
        before.view(10, 100)
        _ = before * 2

    assert peak_bytes(work) == 4000


def test_what_lives_on_after_the_work_was_counted() -> None:
    kept = []
    assert peak_bytes(lambda: kept.append(torch.zeros(3, 5))) == 60
    assert peak_bytes(kept.clear) == 0


def test_a_packed_matrix_is_counted_while_it_is_there() -> None:
    weight = torch.zeros(64, 32)
    if not can_pack(weight):
        pytest.skip("torch has no oneDNN here")

    def work() -> None:
        for _ in range(3):
            packed = pack(weight)  # 8,192 bytes
            onednn_linear(torch.zeros(2, 32), packed, None)  # 256 and 512 bytes
            del packed

    assert peak_bytes(work) == 4 * (64 * 32 + 2 * 32 + 2 * 64)


def allocator_peak(work: Callable[[], object]) -> int:
    """Return the peak of the allocator's own record of allocations and releases."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    records = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    sizes = [(event.start_ns(), event.nbytes()) for event in records if event.name() == "[memory]"]
    live = peak = 0
    for _, size in sorted(sizes, key=lambda pair: pair[0]):
        live += size
        peak = max(peak, live)
    return peak


def test_a_training_step_agrees_with_the_allocator(small_model: Callable[..., DecoderLM]) -> None:
    """Up to the scratch space inside kernels, which only the allocator sees."""
    model = small_model(hidden_size=64, ffn_size=256, num_layers=3, vocab_size=400).train()
    ids = torch.randint(0, 400, (8, 10))

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss = model(ids).float().log_softmax(-1)[..., 0].mean()
        loss.backward()

    step()
    model.zero_grad(set_to_none=True)
    ours = peak_bytes(step)
    model.zero_grad(set_to_none=True)
    theirs = allocator_peak(step)
    assert ours == pytest.approx(theirs, rel=0.03)
    assert ours > tensor_bytes(model.parameters())  # the gradients at least


def test_saved_bytes_of_a_linear_map() -> None:
    linear = nn.Linear(10, 20)
    x = torch.randn(7, 10, requires_grad=True)
    # The gradient of x @ W needs x and W; W is a parameter.
    assert saved_bytes(lambda: linear(x), linear.parameters()) == 7 * 10 * 4
    assert saved_bytes(lambda: linear(x)) == 7 * 10 * 4 + 10 * 20 * 4
    # One storage that two operations keep is counted once.
    assert saved_bytes(lambda: linear(x) + linear(x), linear.parameters()) == 7 * 10 * 4


def test_what_was_saved_is_freed_once_it_is_counted() -> None:
    weight = torch.ones(100, requires_grad=True)
    kept: list[weakref.ref[object]] = []

    def forward() -> torch.Tensor:
        x = weight.exp()  # the graph keeps it, and the counting held it once more
        kept.append(weakref.ref(x.untyped_storage()))
        return x.sum()

    assert saved_bytes(forward, [weight]) == 100 * 4
    gc.collect()
    assert kept[0]() is None


def test_tensor_bytes_counts_a_storage_once() -> None:
    x = torch.zeros(10)
    assert tensor_bytes([x, x[:5], torch.zeros(2, dtype=torch.int64)]) == 40 + 16


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not tell the peak"
)
def test_resident_peak_is_that_of_the_block() -> None:
    size = 200_000_000
    with resident_peak() as outer:
        with resident_peak() as large, mmap.mmap(-1, size) as pages:
            for place in range(0, size, mmap.PAGESIZE):  # new pages, none that were kept
                pages[place] = 1
        with resident_peak() as small:
            pass
    assert large.bytes is not None and small.bytes is not None
    assert large.bytes - small.bytes > 0.8 * size
    assert outer.bytes == large.bytes


def test_resident_peak_is_unknown_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    with resident_peak() as peak:
        pass
    assert peak.bytes is None
