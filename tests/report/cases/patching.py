"""What is said of activation patching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]
EXAMPLE = ("denoising", "noising")


def unpatched(*places: int) -> Callable[[Result], None]:
    """Behaviours of which too few pairs are right."""

    def change(result: Result) -> None:
        for place in places:
            for key in (*EXAMPLE, "example"):
                result["behaviours"][place].pop(key, None)

    return change


def all_patched(result: Result) -> None:
    measured = next(each for each in result["behaviours"] if "example" in each)
    result["behaviours"] = [measured]


def heads(way: str, best: int, *near: int) -> Callable[[Result], None]:
    """One head has all of the effect; some have less, but not measurably."""

    def change(result: Result) -> None:
        for behaviour in result["behaviours"]:
            if way in behaviour:
                behaviour[way]["heads"] = [
                    [0.5, 0.0, 1.0] if i in near else [float(i == best), i == best, i == best]
                    for i in range(len(behaviour[way]["heads"]))
                ]

    return change


def stream(place: int) -> Callable[[Result], None]:
    """The last token carries the answer from a place on."""

    def change(result: Result) -> None:
        for behaviour in result["behaviours"]:
            if "denoising" in behaviour:
                values = [[0.0, 0.0, 0.0] for _ in behaviour["denoising"]["stream"]]
                values[3 * place + 2 :: 3] = [[0.5, 0.4, 0.6]] * len(values[3 * place + 2 :: 3])
                behaviour["denoising"]["stream"] = values

    return change


def agreeing(*ways: str, correlation: float | None = 0.5, sign: float | None = 0.75) -> Any:
    def change(result: Result) -> None:
        for behaviour in result["behaviours"]:
            for way in ways:
                if way in behaviour:
                    behaviour[way]["correlation"] = [[correlation, 0.4, 0.6]]
                    behaviour[way]["same_sign"] = [[sign, 0.7, 0.8]]

    return change


def both(*changes: Callable[[Result], None]) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        for each in changes:
            each(result)

    return change


ALL = unpatched(0, 1, 2, 3)
CASES = [
    *table_of(
        "patching",
        (None, "Of 40 pairs the model answers"),
        (unpatched(0), "Too few are right to patch “who has the thing”"),
        (all_patched, "Of 10 pairs the model answers 8 right on both", "Too few are right"),
        (ALL, "Too few are right to patch “who has the thing”, “who is sad”", "each head does"),
        (heads("denoising", 5), "Head 2.2 has the largest mean effect: put in alone it takes the"),
        (both(heads("denoising", 5), heads("noising", 5)), "Most is lost without it, 100"),
        (both(heads("denoising", 5), heads("noising", 6)), "Most is lost without head 2.3, 100"),
        (heads("denoising", 5, 2), "the interval of head 1.3 overlaps its own. Most"),
        (heads("noising", 5, 2, 3), "the intervals of heads 1.3 and 1.4 overlap its own. The"),
        (stream(1), "at the last token carries most of it from the attention of layer 1 on."),
        (stream(2), "at the last token carries most of it before layer 2."),
        (stream(6), "The stream at the last token carries most of it after layer 3."),
        (stream(99), "No place of the stream at the last token carries most of it."),
        (agreeing(*EXAMPLE), "clean into corrupted the correlation is 0.50 and 75\u202f% of the"),
        (agreeing("noising"), "corrupted into clean the correlation is 0.50 and 75\u202f% of the"),
        (agreeing("noising", correlation=None), "clean into corrupted the", "corrupted into clean"),
        (agreeing("noising", sign=None), "clean into corrupted the", "corrupted into clean"),
        (agreeing(*EXAMPLE, correlation=None), "They cannot be compared: no patch of one part"),
        (None, " to "),
        (None, "fig:patching-heads shows what patching each head does, and fig:patching-holder"),
        (None, "the right answer is “"),
    ),
    *table_of("patching", (None, "Of 40 pairs", "each head does"), drawn=False),
    *table_of("patching", (None, "Over the behaviours, for every head"), alone=True),
    *table_of("patching", (ALL, "So nothing is patched."), alone=True),
]  # fmt: skip
