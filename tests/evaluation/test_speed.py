"""Timing in turns: who runs when, and what is run again because something disturbed it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tinylm.evaluation import speed
from tinylm.evaluation.speed import matrix_product, product_rate, run_interleaved
from tinylm.measurement import MOST


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Iterator[float]]:
    """Seconds that each competitor's calls take, by name."""
    script: dict[str, Iterator[float]] = {}
    monkeypatch.setattr(speed, "_seconds", lambda work, *_: next(script[work()]))
    return script


def endless(*first: float) -> Iterator[float]:
    yield from first
    while True:
        yield 1.0


def test_competitors_take_turns_in_a_rotating_order() -> None:
    calls: list[str] = []
    shares: list[float] = []
    run_interleaved(
        {name: lambda name=name: calls.append(name) for name in "abc"}, 2, 1, shares.append
    )
    assert calls[:9] == list("abcbcacab")
    assert shares[:12] == pytest.approx([i / 9 for i in (0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9)])


def test_a_quiet_measurement_has_the_rounds_that_were_asked_for(
    scripted: dict[str, Iterator[float]],
) -> None:
    scripted.update(a=endless(9.0), b=endless(9.0))  # the warm-up is not counted
    times = run_interleaved({"a": lambda: "a", "b": lambda: "b"}, rounds=3)
    assert times["a"].rounds == times["b"].rounds == (1.0, 1.0, 1.0)


def test_a_disturbed_one_is_repeated_by_all_until_it_is_quiet(
    scripted: dict[str, Iterator[float]],
) -> None:
    scripted.update(a=endless(1.0, 1.0, 25.0, 1.0), b=endless())
    shares: list[float] = []
    times = run_interleaved({"a": lambda: "a", "b": lambda: "b"}, 3, progress=shares.append)
    assert times["a"].rounds == (1.0, 25.0, 1.0, 1.0, 1.0)
    assert len(times["b"].rounds) == 5  # rounds stay pairs
    assert not times["a"].disturbed
    # Of 8 calls all were done, then there were 10, then 12: while work goes on, it is not all done.
    assert shares[-7:] == [1, 8 / 10, 9 / 10, 1, 10 / 12, 11 / 12, 1]


def test_repeating_ends_and_what_is_disturbed_still_says_so(
    scripted: dict[str, Iterator[float]],
) -> None:
    scripted.update(a=iter(float(2**i) for i in range(100)))
    times = run_interleaved({"a": lambda: "a"}, rounds=4, warmup=2)
    assert len(times["a"].rounds) == MOST * 4
    assert times["a"].disturbed


def test_the_clock_may_be_another() -> None:
    now = [0.0]

    def work() -> None:
        now[0] += 2.5

    times = run_interleaved({"a": work}, rounds=2, clock=lambda: now[0])
    assert times["a"].rounds == (2.5, 2.5)


def test_the_rate_of_products_is_that_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = endless(4.0, 0.5, 2.0)
    clock = iter([0.0, 0.1, 0.2, 9.0])
    monkeypatch.setattr(speed, "_seconds", lambda work, *_: next(seconds))
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(clock))
    _, flops = matrix_product("fp32")
    assert flops == 2 * 2048**3
    assert product_rate("fp32") == flops / 0.5
