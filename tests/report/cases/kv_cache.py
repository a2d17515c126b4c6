"""What is said of the key-value cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing, way
from tests.report.telling import table_of

Result = dict[str, Any]
QUIET, NOISY = 0.02, 0.9


def samples(cached: float, uncached: float, spread: float = QUIET) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        for name, seconds in (("cached", cached), ("uncached", uncached)):
            result["samples"][name].update(timing(seconds, spread, 5))

    return change


def growth(
    cached: list[float], uncached: list[float], spread: float = QUIET, exponent: float = 1.08
) -> Callable[[Result], None]:
    """Steps and whole texts take these seconds at the five lengths."""

    def change(result: Result) -> None:
        for name, totals in (("cached", cached), ("uncached", uncached)):
            result["growth"][name] = way([1000 * s for s in totals], totals, exponent)
            for key in ("steps", "totals"):
                result["growth"][name][key] = [timing(s, spread, 5) for s in totals]

    return change


def one_length(result: Result) -> None:
    result["growth"]["lengths"] = [16]
    for name in ("cached", "uncached"):
        result["growth"][name].update(way([1.0], [1.0], 1.0))


RISING = [1.0, 2.0, 3.0, 4.0, 5.0]


def exponents(cached: float, uncached: float) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        for name, value in (("cached", cached), ("uncached", uncached)):
            result["growth"][name]["exponent"] = [value, value - 0.1, value + 0.1]

    return change


CASES = table_of(
    "kv-cache",
    # Which way is quicker.
    (samples(1.0, 3.0), "faster, by a factor of 3.00 (95\u202f% interval: 2.9", "†"),
    (samples(3.0, 1.0), "*slower*".replace("*", "") + ", by a factor of 3.00", "faster, by"),
    (samples(1.0, 1.019), "not measurably different (ratio 1.02 (95", "by a factor"),
    (samples(1.0, 1.06), "faster, by a factor of 1.06"),
    (samples(1.0, 1.019, NOISY), "Which of the two is faster could not be measured.", "by a fact"),
    (samples(1.0, 30.0, NOISY), "faster, by a factor of 30", "could not be measured"),
    (samples(1.0, 3.0, NOISY), "†: disturbed; the middle half of the rounds spans more than 10"),
    (None, "The generated tokens were identical."),
    (lambda f: f["samples"].update(identical=False), "The generated tokens were not identical, so"),
    # How the cost grows.
    (None, "fig:kv-cache and tab:kv-growth show the result"),
    (growth(RISING, RISING), "5.0 times as long (medians: 1.00\u00a0s and 5.00\u00a0s) with"),
    (growth(RISING[::-1], RISING), "becomes shorter (medians: 5.00\u00a0s and 1.00\u00a0s) with"),
    (growth([1.0] * 5, RISING), "a time that is not measurably different (medians: 1.00"),
    (growth([1.0] * 4 + [1.019], RISING), "a time that is not measurably different (medians: 1.00"),
    (growth([1.0] * 4 + [1.06], RISING), "becomes 1.1 times as long", "measurably different ("),
    (growth([1.0, 1, 1, 1, 1.1], RISING, NOISY), "a time whose change could not be measured"),
    (one_length, "From 64 tokens on", "From length"),
    (exponents(0.74, 2.26), "grows as T^0.74 (95\u202f% interval: 0.64 to 0.84) with the cache and "
     "T^2.26 (2.16 to 2.36) without it.", "for long texts only"),
    (exponents(1.2, 1.89), "T^1.89 (1.79 to 1.99) without it. Without the cache an exponent of at"),
    (exponents(1.2, 1.91), "T^1.91 (1.81 to 2.01) without it.", "for long texts only"),
    (lambda f: f["growth"]["cached"].update(exponent=[1.08, None, None]), "as T^1.08 with the"),
    (lambda f: f["growth"]["uncached"].update(exponent=[1.08, None, None]), "T^1.08 without it.",
     "for long texts only"),
    (lambda f: f["growth"]["uncached"].update(exponent=[1.08, 1.08, None]), "T^1.08 without it."),
    (growth(RISING, [9.0] * 5), "generated faster with the cache at every length"),
    (growth(RISING, [0.5, 1.0, 9, 9, 9]), "with the cache from a length of 64 on"),
    (growth(RISING, [9.0, 1.0, 9, 9, 9]), "with the cache at 4 of 5 lengths measured"),
    (growth(RISING, RISING), "At none of these lengths is the whole text generated measurably"),
    (growth(RISING, [1.1, 2.1, 3.1, 4.1, 5.1], NOISY), "At none of these lengths"),
    # The table of lengths.
    (None, "and size of the cache in MiB, measured and by the formula"),
    (lambda f: f.update(memory=[]), "bytes for each token of each text.", "Cache, measured"),
    (lambda f: f.update(memory=[]), "20 texts as one batch)."),
    (growth(RISING, [9.0] * 5, NOISY), "although the measurement was repeated"),
    # Memory.
    (None, "measured have exactly that size at every length"),
    (lambda f: f["memory"][1].update(measured_bytes=2 * f["memory"][1]["formula_bytes"]),
     "by at most 100\u202f% (more)"),
    (lambda f: f["memory"][1].update(measured_bytes=f["memory"][1]["formula_bytes"] // 2),
     "by at most 50.00\u202f% (less)"),
) + table_of("kv-cache", (None, "tab:kv-growth shows the result"), drawn=False)  # fmt: skip
