"""Timing that is fair on a shared machine: interleaved, repeated, its spread shown.

Every round runs each competitor once, in a rotating order, so that a slow minute of the machine
falls on all of them. The median is the result, the spread says how far to trust it, and a ratio is
the median of the rounds' own ratios.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of repeated work."""

    median_s: float
    min_s: float
    max_s: float
    spread: float
    """(max - min) / median."""
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Timing:
        """Sum up the seconds of each round."""
        median = statistics.median(seconds)
        least, most = min(seconds), max(seconds)
        return cls(median, least, most, (most - least) / median, len(seconds))

    def as_result(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return asdict(self)


def run_interleaved(
    competitors: Mapping[str, Callable[[], object]],
    rounds: int = 7,
    warmup: int = 1,
    progress: Callable[[float], None] = lambda done: None,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Return the wall-clock seconds of each round, by name.

    Args:
        competitors: name -> callable without arguments; what it returns is dropped after timing.
        rounds: timed rounds.
        warmup: rounds run before and not counted.
        progress: told how many calls are done, of ``(warmup + rounds) * len(competitors)``.
        rest: seconds to wait before each call, where one competitor's threads go on spinning after
            their work and would slow the next.
    """
    names = list(competitors)
    times: dict[str, list[float]] = {name: [] for name in names}
    done = 0
    for number in range(warmup + rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(rest)
            seconds = _seconds(competitors[name])
            if number >= warmup:
                times[name].append(seconds)
            done += 1
            progress(done)
    return times


def ratio(times: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """Return how many times longer ``slow`` took than ``fast``: the median over the rounds."""
    pairs = zip(times[slow], times[fast], strict=True)
    return statistics.median(one / other for one, other in pairs)


def _seconds(work: Callable[[], object]) -> float:
    _wait_for_gpu()
    start = time.perf_counter()
    result = work()
    _wait_for_gpu()
    seconds = time.perf_counter() - start
    del result  # freed outside the timing
    return seconds


def _wait_for_gpu() -> None:
    """GPU work is only queued by a call; wait until it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def product_rate(precision: str, device: torch.device | None = None, seconds: float = 0.5) -> float:
    """Return the FLOP a second that matrix products reach here, the ceiling of training's speed.

    Measured on square matrices of 2,048 rows, which suit every processor; the best repetition
    counts, since others only take time away.

    Args:
        precision: fp32 or bf16.
        device: empty: the CPU.
        seconds: how long to try.
    """
    size = 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    one = torch.ones(size, size, device=device, dtype=kind)
    best = _seconds(lambda: one @ one)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, _seconds(lambda: one @ one))
    return 2 * size**3 / best
