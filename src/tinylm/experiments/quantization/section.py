"""Quantization: what fewer bits cost, for weights and inputs, and which texts calibrate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

from tinylm.config import to_dict
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, VALUE_WORDS, Difference, Verdict
from tinylm.registry import QUANTIZERS
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.measurements import as_increase, cost, cost_cell, mib
from tinylm.report.passages import passages

Row = Mapping[str, Any]

TEXT = passages(__file__)
_SVG = "figures/quantization.svg"
_CERTAIN = percent(CONFIDENCE, 0)
_HEADERS = {"shuffled": "No order", "even": "Drawn evenly", "other": "Other corpus"}
_WRONG = {
    "shuffled": "the same words in no order",
    "even": "words drawn evenly from the vocabulary",
}


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``quantization``."""
    result = results.results.get("quantization")
    if result is None:
        return []
    most = plural(result["most"], "window")
    drawn = results.has_figure(_SVG)
    blocks: list[Block] = [
        Heading(1, "Quantization", "sec:quantization"),
        *TEXT.blocks("method"),
        Bullets(tuple(map(_explanation, result["methods"]))),
        *TEXT.blocks(
            "measure",
            windows=plural(result["windows"], "window"),
            confidence=_CERTAIN,
            most=most,
        ),
        *(
            TEXT.blocks("results, with the figure", groups=_groups(result))
            if drawn
            else TEXT.blocks("results", groups=_groups(result))
        ),
        Bullets(tuple(_widths(result))),
        _weights_table(result),
    ]
    if drawn:
        blocks.append(
            Figure(
                "fig:quantization",
                _SVG,
                TEXT.line(
                    "figure",
                    bits=count(result["bits"]),
                    plain=_label(result, _plain(result, result["bits"])),
                    confidence=_CERTAIN,
                ),
                TEXT.line("figure, without seeing it"),
            )
        )
    return [
        *blocks,
        *TEXT.blocks("inputs", comment=_inputs(result)),
        _inputs_table(result),
        *TEXT.blocks(
            "texts",
            bits=count(result["bits"]),
            most=most,
            kinds=listed([f"of {name}" for name in _kinds(result).values()]),
            comment=f"{_amounts(result)} {_wrong(result)}",
        ),
        _texts_table(result),
    ]


def abstract(result: Row) -> str:
    """Return what each width costs, what inputs add, and how much text is enough."""
    return " ".join((*_widths(result), _inputs(result), _amounts(result)))


def _explanation(name: str) -> str:
    """Return the sentence on what a method does, with all the widths that it has."""
    from tinylm.compression.quantizer import widths

    method = QUANTIZERS.load(name)
    bits = listed([count(each) for each in widths(method)], "or")
    explanation: str = method.explanation
    return explanation.format(**{**to_dict(method.Settings()), "bits": bits})


def _widths(result: Row) -> list[str]:
    """Return what each width costs by group: plain rounding, and the others beside it."""
    bits = sorted({row["bits"] for row in result["rows"]}, reverse=True)
    return [_width(result, each) for each in bits]


def _width(result: Row, bits: int) -> str:
    plain = _plain(result, bits)
    text = (
        f"With {bits} bits and a scale a group plain rounding ({_label(result, plain)}) costs "
        f"{_cost(plain)}"
    )
    others = [row for row in _grouped(result, bits) if row is not plain]
    return "; ".join([text, *_by_verdict(result, others, "beside_plain")]) + "."


def _by_verdict(result: Row, rows: Sequence[Row], beside: str) -> Iterable[str]:
    """Yield which rows cost measurably less, as much, and more than what they stand beside."""
    for verdict, word in VALUE_WORDS.items():
        names = [
            f"{_label(result, row)} ({as_increase(_difference(row, 'more').value)})"
            for row in rows
            if _difference(row, beside).verdict is verdict
        ]
        if names:
            measurably = "measurably " if verdict in (Verdict.LESS, Verdict.MORE) else ""
            yield f"{measurably}{word}: {listed(names)}"


def _groups(result: Row) -> str:
    """Return how often a scale a group costs less than a scale a row, and what it takes."""
    rows = [row for row in result["rows"] if row["beside_rows"] is not None]
    less = [row for row in rows if _difference(row, "beside_rows").verdict is Verdict.LESS]
    bits = [
        8 * (row["bytes"] - other["bytes"]) / result["weights"]
        for row in rows
        for other in result["rows"]
        if (other["method"], other["bits"], other["granularity"])
        == (row["method"], row["bits"], "row")
    ]
    return (
        f"A scale a group in place of a scale a row takes {significant(mean(bits), 2)} bits a "
        f"weight more in the mean and lowers perplexity measurably in {len(less)} of "
        f"{plural(len(rows), 'case')}."
    )


def _inputs(result: Row) -> str:
    """Return whether rounding the inputs costs anything measurable, and where most."""
    rows = result["inputs"]
    more = [row for row in rows if _difference(row, "more").verdict is Verdict.MORE]
    text = "Rounding the inputs to 8 bits costs something measurable in "
    if not more:
        return f"{text}none of {plural(len(rows), 'case')}."
    most = max(more, key=lambda row: float(row["more"][0]))
    return (
        f"{text}{len(more)} of {plural(len(rows), 'case')}: at most {_cost(most)}, with "
        f"{_label(result, most)} at {most['bits']} bits and {most['activations']} ranges."
    )


def _amounts(result: Row) -> str:
    """Return of each method which amounts of text are too few."""
    most = plural(result["most"], "window")
    parts = []
    for rows in _calibrated(result).values():
        fewer = [
            row["windows"]
            for row in rows
            if row["text"] == "own" and _difference(row, "beside_most").verdict is Verdict.MORE
        ]
        amounts = listed([count(each) for each in fewer]) if fewer else "none"
        parts.append(f"of {_label(result, rows[0])} {amounts}")
    return (
        f"Of the smaller amounts that were tried, these have a measurably higher perplexity than "
        f"{most}: {', '.join(parts)}."
    )


def _wrong(result: Row) -> str:
    """Return of each kind of wrong text how far the methods stand above the right one."""
    sentences = [_left_out(result["other"])]
    for kind, name in _kinds(result).items():
        rows = [row for row in result["calibration"] if row["text"] == kind]
        more = [row for row in rows if _difference(row, "beside_most").verdict is Verdict.MORE]
        losses = [f"with {_label(result, row)} by {_cost(row, 'beside_most')}" for row in more]
        said = f"higher {listed(losses)}" if losses else "not measurably higher with any method"
        sentences.append(f"By {name} the perplexity is {said}.")
    return " ".join(filter(None, sentences))


def _kinds(result: Row) -> dict[str, str]:
    """Return kind -> name of the wrong texts that were tried."""
    names = {**_WRONG, "other": f"texts of the corpus {literal(result['other']['corpus'])}"}
    tried = {row["text"] for row in result["calibration"]}
    return {kind: name for kind, name in names.items() if kind in tried}


def _left_out(other: Row) -> str:
    """Return why another corpus was not tried, if it was not."""
    if other["read"]:
        return ""
    text = f"Another kind of text, the corpus {literal(other['corpus'])}, was left out: "
    if other["unknown_rate"] is None:
        return f"{text}the run's text is of it."
    return f"{text}the model does not know {percent(other['unknown_rate'])} of its words."


def _plain(result: Row, bits: int) -> Row:
    """Return the row of a width that all others are measured against."""
    return next(row for row in _grouped(result, bits) if row["beside_plain"] is None)


def _grouped(result: Row, bits: int) -> list[Row]:
    """Return the rows of a width, of each method that of its form of most scales."""
    return [r for r in result["rows"] if r["bits"] == bits and r["granularity"] != "row"]


def _calibrated(result: Row) -> dict[str, list[Row]]:
    """Return the rows on calibration texts of each method, in order."""
    rows: dict[str, list[Row]] = {}
    for row in result["calibration"]:
        rows.setdefault(row["method"], []).append(row)
    return rows


def _label(result: Row, row: Row) -> str:
    return literal(str(result["methods"][row["method"]]["label"]))


def _difference(row: Row, beside: str) -> Difference:
    return Difference.from_result(row[beside])


def _cost(row: Row, beside: str = "more") -> str:
    """Return an increase of perplexity with its interval, or that there is none to speak of."""
    return cost(_difference(row, beside))


def _cell(row: Row | None) -> str:
    """Return an increase in per cent with half of its interval; a dash for what was not tried."""
    return "–" if row is None else cost_cell(_difference(row, "more"))


def _weights_table(result: Row) -> Table:
    names = list(result["methods"])
    forms = dict.fromkeys((row["bits"], row["granularity"] == "row") for row in result["rows"])
    rows = []
    for bits, by_row in sorted(forms, reverse=True):
        every = {
            row["method"]: row
            for row in result["rows"]
            if row["bits"] == bits and (row["granularity"] == "row") is by_row
        }
        plain = next(row for row in every.values() if row["beside_plain"] is None)
        rows.append(
            (
                f"{bits}, {'row' if by_row else 'group'}",
                *(_cell(every.get(name)) for name in names),
                significant(8 * plain["bytes"] / result["weights"]),
                mib(plain["bytes"]),
            )
        )
    labels = [literal(str(result["methods"][name]["label"])) for name in names]
    return Table(
        "tab:quantization",
        TEXT.line("table", perplexity=significant(result["perplexity"], 4)),
        ("Bits, a scale a", *labels, "Bits a weight", "MiB"),
        tuple(rows),
        "l" + "r" * (len(names) + 2),
        TEXT.line(
            "table's note",
            confidence=_CERTAIN,
            plain=_label(result, _plain(result, result["bits"])),
            size=mib(result["bytes"]),
        ),
    )


def _inputs_table(result: Row) -> Table:
    by_method: dict[str, dict[str, Row]] = {}
    for row in result["inputs"]:
        by_method.setdefault(row["method"], {})[row["activations"]] = row
    rows = []
    for pair in by_method.values():
        row = pair["dynamic"]
        scale = "" if row["granularity"] is None else f", a scale a {row['granularity']}"
        rows.append(
            (
                _label(result, row),
                f"{row['bits']} bits{scale}",
                _cell(row),
                _cell(pair["static"]),
            )
        )
    return Table(
        "tab:quantization-inputs",
        TEXT.line("inputs' table"),
        ("Method", "Weights", "Dynamic, %", "Static, %"),
        tuple(rows),
        "llrr",
        TEXT.line("inputs' table's note", confidence=_CERTAIN),
    )


def _texts_table(result: Row) -> Table:
    methods = _calibrated(result)
    tried = list(dict.fromkeys((r["text"], r["windows"]) for r in result["calibration"]))
    rows = []
    for read in methods.values():
        by_text = {(row["text"], row["windows"]): row for row in read}
        rows.append((_label(result, read[0]), *(_cell(by_text[each]) for each in tried)))
    plain = _plain(result, result["bits"])
    return Table(
        "tab:quantization-texts",
        TEXT.line("texts' table", bits=count(result["bits"])),
        (
            "Method",
            *(
                plural(windows, "window") if kind == "own" else _HEADERS[kind]
                for kind, windows in tried
            ),
        ),
        tuple(rows),
        "l" + "r" * len(tried),
        TEXT.line(
            "texts' table's note",
            confidence=_CERTAIN,
            plain=_label(result, plain),
            cost=_cost(plain),
        ),
    )
