"""Timings, sizes and differences in words."""

from __future__ import annotations

from typing import Any

from tests.report.made_up import timing
from tests.report.telling import Phrase
from tinylm.measurement import Comparison, Difference
from tinylm.report.measurements import (
    difference,
    disturbances,
    factor,
    hardware,
    in_nats,
    leaders,
    measured,
    median,
    mib,
    named,
    over_seeds,
    rounds,
    seconds,
    signed,
    spread,
    times,
)

QUIET, NOISY = timing(1.0, 0.05, 5), timing(1.0, 0.9, 5)
LATE = {"seconds": [0.9794, 1.0, 1.0206, 1.0, 0.9794]}


def machine(**environment: Any) -> str:
    return hardware({"environment": environment})


def apart(low: float, high: float) -> tuple[str, list[str]]:
    """The best of two and who is level with it, the interval of the difference being this."""
    result = {"differences": {"bleu": {"a": {"b": [1.0, low, high]}}}}
    return leaders(result, "bleu", {"a": 2.0, "b": 1.0})


PHRASES = [
    Phrase(
        "A\\* (1\u00a0thread on 4\u00a0cores)",
        lambda: machine(cpu="A*", cores=4, threads=1, device="cpu"),
    ),
    Phrase("A (2\u00a0threads)", lambda: machine(cpu="A", threads=2)),
    Phrase("A (1\u00a0core)", lambda: machine(cpu="A", cores=1)),
    Phrase("NVIDIA H200, with A as host", lambda: machine(cpu="A", device="NVIDIA H200")),
    Phrase("an unnamed processor", lambda: hardware({})),
    Phrase("median of 1 round", lambda: rounds({"seconds": [1.0]})),
    Phrase("median of 5 rounds", lambda: rounds(QUIET, NOISY)),
    Phrase("medians of 3 to 5 rounds", lambda: rounds(QUIET, timing(1.0))),
    Phrase("999\u00a0ms", lambda: seconds(0.999)),
    Phrase("1.00\u00a0s", lambda: seconds(1)),
    Phrase("59.9\u00a0s", lambda: seconds(59.9)),
    Phrase("3\u00a0min 5\u00a0s", lambda: seconds(185)),
    Phrase("1.00\u00a0s", lambda: median(QUIET)),
    Phrase("1.00\u00a0s†", lambda: median(NOISY)),
    Phrase("2.1\u202f%", lambda: spread(LATE)),
    Phrase("", lambda: disturbances([measured(QUIET)])),
    Phrase(
        " †: disturbed; the middle half of the rounds spans more than 10\u202f% of the median, "
        "although the measurement was repeated.",
        lambda: disturbances([measured(QUIET), measured(NOISY)]),
    ),
    Phrase(
        " †: disturbed; the middle half of the rounds spans more than 10\u202f% of the median.",
        lambda: disturbances([measured(NOISY)], repeated=False),
    ),
    Phrase("2.31", lambda: factor(Comparison(2.31, 2.308, 2.312, False))),
    Phrase(
        "2.31 (95\u202f% interval: 2.25 to 2.38)",
        lambda: factor(Comparison(2.31, 2.25, 2.38, False)),
    ),
    Phrase(
        "−0.412 nats (95\u202f% interval: −0.433 to −0.391)",
        lambda: in_nats(Difference(-0.412, -0.433, -0.391)),
    ),
    Phrase("3.00", lambda: mib(3 * 2**20)),
    Phrase("2.31×", lambda: times(2.314)),
    Phrase("−2.31", lambda: signed(-2.314, 2)),
    Phrase("*a\\**", lambda: ", ".join(named(["a*"]))),
]
COMPARED = {"differences": {"bleu": {"a": {"b": [1.0, 0.5, 1.5]}, "b": {}}}}
PHRASES += [
    Phrase("higher", lambda: difference(COMPARED, "bleu", "a", "b").word),
    Phrase("lower", lambda: difference(COMPARED, "bleu", "b", "a").word),
    Phrase("a", lambda: " ".join([apart(0.5, 1.5)[0], *apart(0.5, 1.5)[1]])),
    Phrase("a b", lambda: " ".join([apart(-0.5, 1.5)[0], *apart(-0.5, 1.5)[1]])),
]
PHRASES += [
    Phrase("2.0", lambda: over_seeds([2.0], 1)),
    Phrase("2.00 (0.76–3.24)", lambda: over_seeds([1.5, 2.0, 2.5], 2)),
    Phrase("0.10 (0.00–0.53)", lambda: over_seeds([0.0, 0.0, 0.3], 2)),
]
