"""Freed memory is kept: large arrays are asked of the system once, not at every step."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tinylm.training import allocator

PROGRAM = """
import resource, sys
import torch
from tinylm.training.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    torch.empty(8_000_000).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.empty(8_000_000).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(
    not hasattr(allocator.ctypes.CDLL(None), "mallopt"), reason="needs glibc's mallopt"
)
def test_kept_memory_costs_no_page_faults() -> None:
    pages = 20 * 32_000_000 / 4096
    # Transparent huge pages make fewer faults of it; kept, there are nearly none either way.
    assert page_faults("keep") < pages / 100
    assert page_faults("keep") <= page_faults("give")


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert not allocator.keep_freed_memory()
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
