"""What is said of quantized weights and inputs, and of calibration texts."""

from __future__ import annotations

import math
from typing import Any

from tests.report.telling import Case, Change, all_of, table_of

Result = dict[str, Any]


def nats(percent: float, reach: float = 0.5) -> list[float]:
    """An increase of perplexity with the ends of its interval, all in per cent."""
    return [math.log1p(each / 100) for each in (percent, percent - reach, percent + reach)]


def width(bits: int, beside: dict[str, float], **more: float) -> Change:
    """Give methods, by group, these increases at a width, and differences from plain rounding."""

    def change(result: Result) -> None:
        for row in result["rows"]:
            if row["bits"] == bits and row["granularity"] != "row":
                row["more"] = nats(more.get(row["method"], 9))
                if row["beside_plain"] is not None:
                    row["beside_plain"] = nats(beside.get(row["method"], 0))

    return change


def unknown(bits: int) -> Change:
    """Let plain rounding at a width have no interval."""

    def change(result: Result) -> None:
        for row in result["rows"]:
            if row["bits"] == bits and row["beside_plain"] is None:
                row["more"] = [math.log(1.5), None, None]

    return change


def groups(less: int) -> Change:
    """Let so many methods and widths gain by groups."""

    def change(result: Result) -> None:
        rows = [row for row in result["rows"] if row["beside_rows"] is not None]
        for number, row in enumerate(rows):
            row["beside_rows"] = nats(-3 if number < less else 0)

    return change


def inputs(**more: float) -> Change:
    """Let these methods with static ranges lose so much, and nothing else anything."""

    def change(result: Result) -> None:
        for row in result["inputs"]:
            static = row["activations"] == "static"
            row["more"] = nats(more.get(row["method"], 0) if static else 0)

    return change


def fewer(**by_method: dict[int, float]) -> Change:
    """Let methods lose so much by so many windows, and nothing by other amounts."""

    def change(result: Result) -> None:
        for row in result["calibration"]:
            if row["text"] == "own" and row["beside_most"] is not None:
                lost = by_method.get(row["method"], {}).get(row["windows"], 0)
                row["beside_most"] = nats(lost)

    return change


def wrong(kind: str, **by_method: float) -> Change:
    """Let methods lose so much by a kind of wrong text."""

    def change(result: Result) -> None:
        for row in result["calibration"]:
            if row["text"] == kind:
                row["beside_most"] = nats(by_method.get(row["method"], 0))

    return change


def other(unknown_rate: float | None) -> Change:
    """Let another corpus be left out: its words are unknown, or it is the run's own."""

    def change(result: Result) -> None:
        result["other"] = {"corpus": "letters", "unknown_rate": unknown_rate, "read": False}
        rows = result["calibration"]
        result["calibration"] = [row for row in rows if row["text"] != "other"]

    return change


NONE = {"nf4": 0.0, "gptq": 0.0, "awq": 0.0, "smoothquant": 0.0}
CASES = [
    *table_of(
        "quantization",
        (None, "Rounding to the nearest (RTN) jacob2018 gives every weight the nearest of the "
         "codes of 8, 4, 3 or 2 bits."),
        (None, "tab:quantization and fig:quantization give the costs."),
        (width(8, NONE, rtn=0.1, gptq=0.1, awq=0.2, smoothquant=0.3), "With 8 bits and a scale a "
         "group plain rounding (RTN) costs nothing measurable; not measurably different: GPTQ "
         "(0.10 %), AWQ (0.20 %) and SmoothQuant (0.30 %).", "measurably lower: GPTQ (0.10"),
        (width(3, {"gptq": -4, "awq": -2, "smoothquant": 3}, rtn=12, gptq=8, awq=9.5,
               smoothquant=15), "With 3 bits and a scale a group plain rounding (RTN) costs 12.0 % "
         "(95 % interval: 11.5 % to 12.5 %); measurably lower: GPTQ (8.00 %) and AWQ (9.50 %); "
         "measurably higher: SmoothQuant (15.0 %)."),
        (width(4, {"nf4": 2, "awq": -2}, nf4=6, awq=2), "measurably lower: AWQ (2.00 %); "
         "measurably higher: NF4 (6.00 %); not measurably different: GPTQ (9.00 %) and "),
        (width(8, NONE, rtn=0.1, gptq=0.0, awq=-0.001, smoothquant=-0.3), "GPTQ (0.00 %), AWQ "
         "(0.00 %) and SmoothQuant (−0.30 %)."),
        (width(2, NONE, rtn=2190), "With 2 bits and a scale a group plain rounding (RTN) costs "
         "2,190 % (95 % "),
        (all_of(width(3, NONE, rtn=12), lambda result: result["rows"].reverse()), "With 3 bits and "
         "a scale a group plain rounding (RTN) costs 12.0 % (95 % interval: 11.5 % to 12.5 %)"),
        (unknown(3), "plain rounding (RTN) costs 50.0 % (no interval)"),
        (groups(7), "bits a weight more in the mean and lowers perplexity measurably in 7 of 16 "),
        (inputs(), "Rounding the inputs to 8 bits costs something measurable in none of 10 cases."),
        (inputs(rtn=1, nf4=2), "something measurable in 2 of 10 cases: at most 2.00 % (95 % "
         "interval: 1.50 % to 2.50 %), with NF4 at 4 bits and static ranges."),
        (fewer(gptq={1: 3, 4: 1}, awq={1: 2}), "a measurably higher perplexity than 64 windows: of "
         "GPTQ 1 and 4, of AWQ 1, of SmoothQuant none."),
        (all_of(wrong("shuffled"), wrong("even", gptq=4), wrong("other", gptq=1, awq=2)), "By the "
         "same words in no order the perplexity is not measurably higher with any method. By words "
         "drawn evenly from the vocabulary the perplexity is higher with GPTQ by 4.00 % (95 % "
         "interval: 3.50 % to 4.50 %). By texts of the corpus letters the perplexity is higher "
         "with GPTQ by 1.00 % (95 % interval: 0.50 % to 1.50 %) and with AWQ by 2.00 %",
         "left out"),
        (None, "as many of the same words in no order, of words drawn evenly from the vocabulary "
         "and of texts of the corpus letters (tab:quantization-texts), always beside 64 "
         "windows of the run's own text."),
        (other(0.31), "Another kind of text, the corpus letters, was left out: the model does not "
         "know 31.0 % of its words.", "texts of the corpus"),
        (other(None), "the corpus letters, was left out: the run's text is of it."),
    ),
    Case("quantization", "tab:quantization gives the costs", unsaid="fig:", drawn=False),
    Case(
        "quantization",
        "Rounding the inputs to 8 bits costs something measurable in none",
        inputs(),
        alone=True,
    ),
]  # fmt: skip
