"""ZeRO: what each rank holds and sends, measured beside planned, and how far it is from one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Heading, Paragraph, Table
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.passages import passages

TEXT = passages(__file__)
FORMATS = {"bf16": "bfloat16", "fp32": "float32", "fp64": "float64"}
"""As a reader calls them."""

Row = Mapping[str, Any]


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    return " ".join([TEXT.line("summary"), memory_comment(result), difference_comment(result)])


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``zero``."""
    result = results.results.get("zero")
    if result is None:
        return []
    return [
        Heading(1, "ZeRO: what each rank holds and sends", "sec:zero"),
        *TEXT.blocks("technique"),
        *TEXT.blocks(
            "setting",
            parameters=count(result["parameters"]),
            layers=plural(result["num_layers"], "layer"),
            width=count(result["hidden_size"]),
            steps=plural(result["steps"], "step"),
            batch=plural(result["batch_size"], "row"),
            context=plural(result["context_length"], "token"),
        ),
        _paragraph(memory_comment(result), most_comment(result), TEXT.line("to memory")),
        *results.told_figure(
            "zero-memory",
            TEXT.line("before the figure of memory"),
            TEXT.line("figure of memory"),
            TEXT.line("figure of memory, without seeing it"),
        ),
        _memory_table(result),
        *_traffic(results, result),
        _paragraph(difference_comment(result), bits_comment(result), TEXT.line("to differences")),
        _difference_table(result),
    ]


def _paragraph(*sentences: str) -> Paragraph:
    return Paragraph(" ".join(sentences))


def _traffic(results: ReportInputs, result: Row) -> list[Block]:
    if not sending_rows(result):
        return TEXT.blocks("one rank")
    return [
        _paragraph(traffic_comment(result), TEXT.line("to traffic")),
        *results.told_figure(
            "zero-traffic",
            TEXT.line("before the figure of traffic"),
            TEXT.line("figure of traffic"),
            TEXT.line("figure of traffic, without seeing it"),
        ),
        _traffic_table(result),
    ]


def values(rows: Sequence[Row], key: str) -> list[Any]:
    """Return the values that rows have, each once, in their order."""
    return list(dict.fromkeys(row[key] for row in rows))


def planned_rows(result: Row) -> list[Row]:
    """Return the rows in the formats that the formulas are of, bfloat16 first."""
    rows = [row for row in result["rows"] if "planned" in row]
    return sorted(rows, key=lambda row: list(FORMATS).index(row["precision"]))


def sending_rows(result: Row) -> list[Row]:
    """Return those of them in which something is planned to be sent."""
    return [row for row in planned_rows(result) if row["ranks"] > 1]


def _together(parts: Mapping[str, float]) -> float:
    return sum(parts.values())


def _at_once(result: Row) -> list[Row]:
    """Return those rows of which the memory is shown: with the fewest micro-batches."""
    rows = planned_rows(result)
    fewest = min(row["micro_batches"] for row in rows)
    return [row for row in rows if row["micro_batches"] == fewest]


def _furthest(rows: Sequence[Row], what: str) -> str:
    """Return by how much a measured sum is above the planned one at the most, in per cent."""
    pairs = [(_together(row[what]), _together(row["planned"][what])) for row in rows]
    return (
        f"{significant(100 * max(measured / planned - 1 for measured, planned in pairs), 2)}\u202f%"
    )


def _unexplained(rows: Sequence[Row], what: str) -> int:
    """Return how many rows are not, part by part, the formulas with all that they leave out."""
    return sum(
        any(row[what][part] != number for part, number in row["padded"][what].items())
        for row in rows
    )


def _counted(rows: Sequence[Row], what: str, unit: str) -> str:
    unexplained, every = _unexplained(rows, what), plural(len(rows), "measurement")
    if unexplained:
        return f"also with these {unexplained} of {every} differ from the formulas."
    return f"with these the formulas give all {every}, {unit} for {unit}."


def memory_comment(result: Row) -> str:
    """Return how far memory is from the formulas, why, and what the last stage saves."""
    rows = planned_rows(result)
    widest = max(rows, key=lambda row: row["ranks"])
    text = (
        f"What is held is at most {_furthest(rows, 'held')} above the formulas. They "
        f"leave out the zeros in the buckets, {plural(widest['padding'], 'number')} in "
        f"{plural(widest['buckets'], 'bucket')} for {plural(widest['ranks'], 'rank')}, and 4 bytes "
        f"with which Adam counts the steps of a bucket; {_counted(rows, 'held', 'byte')}"
    )
    own = [row for row in _at_once(result) if row["ranks"] == widest["ranks"]]
    ends = [_together(row["held"]) for row in own if row["precision"] == own[0]["precision"]]
    if widest["ranks"] > 1:
        text += (
            f" On {plural(widest['ranks'], 'rank')} stage {own[0]['stage'] + len(ends) - 1} holds "
            f"{significant(ends[0] / ends[-1])} times less than stage 0."
        )
    return text


def most_comment(result: Row) -> str:
    """Return what is held for a while on the most ranks, beside what the formulas count."""
    rows = _at_once(result)
    widest, first = max(row["ranks"] for row in rows), rows[0]["precision"]
    own = [row for row in rows if (row["ranks"], row["precision"]) == (widest, first)]
    shares = {row["stage"]: _together(row["most"]) / _together(row["held"]) - 1 for row in own}
    more = [f"{percent(share, 0)} in stage {stage}" for stage, share in shares.items() if share]
    return (
        "For a while within a step a rank holds more, because a bucket is gathered, or about to be "
        f"summed, as a whole: one of {plural(widest, 'rank')} in {FORMATS[first]} at the most "
        f"{listed(more)}. "
        "A bucket, a layer or all that is in none, is much of so small a model."
    )


def traffic_comment(result: Row) -> str:
    """Return how far traffic is from the formulas, and what micro-batches do to it."""
    rows = sending_rows(result)
    text = (
        f"What is sent is at most {_furthest(rows, 'sent')} above the formulas: the "
        f"zeros in the buckets are sent, too; {_counted(rows, 'sent', 'number')}"
    )
    widest, first = rows[-1]["ranks"], rows[0]["precision"]
    own = [row for row in rows if (row["ranks"], row["precision"]) == (widest, first)]
    counts = values(own, "micro_batches")
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return text
    sent = {(row["micro_batches"], row["stage"]): _together(row["sent"]) for row in own}
    times = [
        f"{significant(sent[most, stage] / sent[fewest, stage])} times as much by stage {stage}"
        for stage in values(own, "stage")
    ]
    micro_batches = plural(most, "micro-batch", "micro-batches")
    return f"{text} With {micro_batches} a step in place of {fewest}, {listed(times)} is sent."


def difference_comment(result: Row) -> str:
    """Return how far the parameters are from those of one process, by format."""
    rows = [row for row in result["rows"] if row["ranks"] > 1]
    if not rows:
        return "One rank is one process."
    far = [
        f"{_largest(rows, precision, 'parameters')} in {name}"
        for precision, name in reversed(FORMATS.items())
    ]
    return (
        f"After {plural(result['steps'], 'step')} no parameter differs from that of one process "
        f"with the rows of all ranks by more than {listed(far)}. That is rounding: sums over ranks "
        "are in another order than sums over rows, and where a gradient is all but 0, Adam, which "
        "divides it by its own size, takes a whole step in a direction that rounding decides."
    )


def _largest(rows: Sequence[Row], precision: str, what: str) -> str:
    own = [row["difference"][what] for row in rows if row["precision"] == precision]
    return significant(max(own), 2)


def bits_comment(result: Row) -> str:
    """Return which stages end with the same bits on every number of ranks and in every format."""
    said = []
    for micro_batches in values(result["rows"], "micro_batches"):
        rows = [row for row in result["rows"] if row["micro_batches"] == micro_batches]
        many = plural(micro_batches, "micro-batch", "micro-batches")
        groups = [group for group in _alike(rows) if len(group) > 1]
        named = [f"stages {listed([str(each) for each in group])}" for group in groups]
        first, *others = named or ["no two stages"]
        rest = "".join(f", and so do {group}" for group in others)
        said.append(f"With {many} a step {first} end with the same bits{rest}.")
    return " ".join(said)


def _alike(rows: Sequence[Row]) -> list[list[int]]:
    """Return groups of stages that end with the same bits in all rows."""
    groups: list[list[int]] = []
    for stage in values(rows, "stage"):
        of_stage = [row for row in rows if row["stage"] == stage]
        for group in groups:
            if all(group[0] in row["same"] for row in of_stage):
                group.append(stage)
                break
        else:
            groups.append([stage])
    return groups


def _memory_table(result: Row) -> Table:
    rows = _at_once(result)
    formats = values(rows, "precision")
    by = {(row["ranks"], row["stage"], row["precision"]): row for row in rows}
    lines = []
    for ranks in values(rows, "ranks"):
        for stage in values(rows, "stage"):
            line = [count(ranks), str(stage)]
            for precision in formats:
                row = by[ranks, stage, precision]
                sums = (row["held"], row["planned"]["held"], row["most"])
                line += [count(_together(parts)) for parts in sums]
            lines.append(tuple(line))
    titles = [f"{each}: {name}" for each in formats for name in ("held", "planned", "most")]
    return Table(
        "tab:zero-memory",
        TEXT.line("table of memory"),
        ("$N$", "Stage", *titles),
        tuple(lines),
        "r" * (2 + len(titles)),
        TEXT.line("table of memory, note"),
    )


def _traffic_table(result: Row) -> Table:
    rows = sending_rows(result)
    first = [row for row in rows if row["precision"] == rows[0]["precision"]]
    counts = values(first, "micro_batches")
    by = {(row["ranks"], row["stage"], row["micro_batches"]): row for row in first}
    lines = []
    for ranks in values(first, "ranks"):
        for stage in values(first, "stage"):
            own = [by[ranks, stage, number] for number in counts]
            sums = [parts for row in own for parts in (row["sent"], row["planned"]["sent"])]
            lines.append((count(ranks), str(stage), *(count(_together(parts)) for parts in sums)))
    titles = [f"$k = {number}$: {name}" for number in counts for name in ("sent", "planned")]
    return Table(
        "tab:zero-traffic",
        TEXT.line("table of traffic"),
        ("$N$", "Stage", *titles),
        tuple(lines),
        "r" * (2 + len(titles)),
        TEXT.line("table of traffic, note"),
    )


def _difference_table(result: Row) -> Table:
    rows = result["rows"]
    lines = []
    for ranks in values(rows, "ranks"):
        own = [row for row in rows if row["ranks"] == ranks]
        for precision, name in FORMATS.items():
            numbers = (_largest(own, precision, what) for what in ("parameters", "moved", "loss"))
            lines.append((count(ranks), name, *numbers))
    return Table(
        "tab:zero-differences",
        TEXT.line("table of differences", steps=plural(result["steps"], "step")),
        ("$N$", "Format", "Parameters", "Moved", "Loss"),
        tuple(lines),
        "rlrrr",
        TEXT.line("table of differences, note"),
    )
