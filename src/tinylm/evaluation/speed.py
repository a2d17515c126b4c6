"""Timing that is fair on a shared machine: interleaved, and repeated until it is undisturbed.

Every round runs each competitor once, in a rotating order, so that a slow phase of the machine
affects all of them. ``measurement`` says when the rounds count and what may be said of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from tinylm.measurement import MOST, Measurement


def run_interleaved(
    competitors: Mapping[str, Callable[[], object]],
    rounds: int = 7,
    warmup: int = 1,
    progress: Callable[[float], None] = lambda share: None,
    rest: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measurement]:
    """Measure the seconds of competitors that take turns.

    While one of them is disturbed, all are run for another round, up to `measurement.MOST` times
    as many rounds.

    Args:
        competitors: name -> callable without arguments; what it returns is dropped after timing.
        rounds: timed rounds, if nothing disturbs them.
        warmup: rounds run before and not counted.
        progress: called with the share of the calls that is done, which falls when a further round
            begins.
        rest: seconds to wait before each call, where one competitor's threads go on spinning after
            their work and would slow the next.
        clock: gives seconds; ``time.process_time`` those of the processor, where other work on the
            machine disturbs those of the clock.
    """
    names = list(competitors)
    times: dict[str, list[float]] = {name: [] for name in names}
    number = 0
    while number < warmup + rounds or (number < warmup + MOST * rounds and _any_disturbed(times)):
        calls = max(warmup + rounds, number + 1) * len(names)  # planned so far
        progress(number * len(names) / calls)
        shift = number % len(names)
        for done, name in enumerate(names[shift:] + names[:shift], number * len(names) + 1):
            time.sleep(rest)
            seconds = _seconds(competitors[name], clock)
            if number >= warmup:
                times[name].append(seconds)
            progress(done / calls)
        number += 1
    return {name: Measurement.of(seconds) for name, seconds in times.items()}


def _any_disturbed(times: Mapping[str, list[float]]) -> bool:
    return any(Measurement.of(seconds).disturbed for seconds in times.values())


def _seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    _wait_for_gpu()
    start = clock()
    result = work()
    _wait_for_gpu()
    seconds = clock() - start
    del result  # freed outside the timing
    return seconds


def _wait_for_gpu() -> None:
    """GPU work is only queued by a call; wait until it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_product(
    precision: str, device: torch.device | None = None
) -> tuple[Callable[[], object], float]:
    """Return a product of square matrices of 2,048 rows, which suit every processor, and its FLOPs.

    Args:
        precision: fp32 or bf16.
        device: empty: the CPU.
    """
    size = 2048
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    matrix = torch.ones(size, size, device=device, dtype=kind)
    return lambda: matrix @ matrix, 2.0 * size**3


def product_rate(precision: str, device: torch.device | None = None, seconds: float = 0.5) -> float:
    """Return the FLOP a second that matrix products reach here, the ceiling of training's speed.

    The best repetition counts, since other programs can only lower the rate.

    Args:
        precision: fp32 or bf16.
        device: empty: the CPU.
        seconds: how long to try.
    """
    work, flops = matrix_product(precision, device)
    best = _seconds(work)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        best = min(best, _seconds(work))
    return flops / best
