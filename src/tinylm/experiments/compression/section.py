"""Compression: every way to make the model smaller, side by side."""

from __future__ import annotations

from tinylm.experiments.compression.comparing import (
    MASKED,
    MOST,
    REMOVED,
    WHOLE,
    WISHES,
    Row,
    frontier,
    more,
    num_bytes,
    perplexity,
    recommended,
    shown,
    token_seconds,
)
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.measurements import (
    compared,
    cost,
    cost_cell,
    dagger,
    disturbances,
    hardware,
    measured,
    mib,
    rounds,
    seconds,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)
_SVG = "figures/compression.svg"
_CERTAIN = percent(CONFIDENCE, 0)
_TIMES = {2: "twice", 4: "four times"}


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``compression``."""
    result = results.results.get("compression")
    if result is None:
        return []
    drawn = results.has_figure(_SVG)
    steps = result["steps"]
    comment = f"{_wishes(result)} {_kinds(result)} {_times(result)}"
    return [
        Heading(1, "Compression", "sec:compression"),
        *TEXT.blocks(
            "method",
            number=count(len(result["rows"]) - 1),
            method=literal(str(result["labels"][result["method"]])),
            masked=percent(result["masked"], 0),
            parts=listed([literal(part) for part in result["parts"]]),
            trained=" "
            + TEXT.line("trained", steps=plural(steps, "step"), taught=str(result["taught"]))
            if steps
            else "",
        ),
        *TEXT.blocks(
            "measure",
            windows=plural(result["windows"], "window"),
            confidence=_CERTAIN,
            decoded=plural(result["decoded"], "token"),
        ),
        *(
            TEXT.blocks("results, with the figure", comment=comment)
            if drawn
            else TEXT.blocks("results", comment=comment)
        ),
        *(
            [
                Figure(
                    "fig:compression",
                    _SVG,
                    TEXT.line("figure", wishes=_asked(), beyond=_beyond(result)),
                    TEXT.line("figure, without seeing it"),
                )
            ]
            if drawn
            else []
        ),
        _table(result),
    ]


def abstract(result: Row) -> str:
    """Return which form is the best of those small enough, and what is on the frontier."""
    return f"{_wishes(result)} {_kinds(result)}"


def _asked() -> str:
    """Return the sizes that a point is recommended for."""
    return listed([f"{_small(times)} within {percent(share, 0)}" for times, share in WISHES])


def _small(times: int) -> str:
    return f"{_TIMES[times]} as small"


def _beyond(result: Row) -> str:
    out = len(result["rows"]) - len(shown(result))
    if not out:
        return ""
    return " " + TEXT.line("beyond", number=plural(out, "form"), most=percent(MOST, 0))


def _wishes(result: Row) -> str:
    """Return the recommended points, or that there is none."""
    sentences = []
    for times, share in WISHES:
        asked = f"{_small(times)} within {percent(share, 0)}"
        row = recommended(result, times, share)
        if row is None:
            sentences.append(f"No form that was tried is {asked} of perplexity.")
            continue
        whole = result["rows"][0]
        sentences.append(
            f"Recommended where it must be {asked}: {_name(result, row)}, "
            f"{significant(whole['bytes'] / row['bytes'])} times smaller; it costs "
            f"{cost(more(result, row))}; {_beside(row, whole, 'its decoding')}."
        )
    return " ".join(sentences)


def _beside(row: Row, whole: Row, what: str) -> str:
    """Return a clause on how a form's time compares with the whole model's."""
    comparison = compared(row["decoding"], whole["decoding"])
    if comparison.verdict is Verdict.UNKNOWN:
        return f"how much quicker or slower {what} is could not be measured"
    if comparison.verdict is Verdict.ALIKE:
        return f"{what} is not measurably quicker or slower than the whole model's"
    ratio = significant(comparison.ratio)
    return f"{what} is {comparison.word}, {ratio} times the whole model's time"


def _kinds(result: Row) -> str:
    """Return how many forms of each kind the frontier of bytes holds."""
    best = frontier(result, result["rows"], num_bytes)
    removed = [row for row in best if row["kind"] == REMOVED]
    text = (
        f"On the frontier of bytes and perplexity are {count(len(best))} of "
        f"{plural(len(result['rows']), 'form')}, {count(len(removed))} of them with removed parts"
    )
    if removed:
        largest = max(removed, key=num_bytes)
        text += f", the largest of these at {mib(largest['bytes'])} MiB"
    return f"{text}."


def _times(result: Row) -> str:
    """Return the quickest form, and what masks do to the time."""
    whole, *smaller = shown(result)
    quickest = min(smaller, key=token_seconds)
    text = (
        f"Of those whose perplexity is at most {significant(1 + MOST, 1)} times the whole model's, "
        f"{_name(result, quickest)} has the lowest median time; "
        f"{_beside(quickest, whole, 'its decoding')}."
    )
    masked = next(row for row in result["rows"] if row["kind"] == MASKED)
    return (
        f"{text} With weights held at 0 ({_name(result, masked)}) "
        f"{_beside(masked, whole, 'decoding')}, and the bytes are "
        f"{significant(masked['bytes'] / whole['bytes'])} times the whole model's."
    )


def _name(result: Row, row: Row) -> str:
    """Return a form in words."""
    if row["kind"] == WHOLE:
        return "the whole model"
    label = "" if row["method"] is None else literal(str(result["labels"][row["method"]]))
    share = percent(row["share"], 0)
    if row["kind"] == MASKED:
        return f"{label}, {share} of the weights"
    parts = [] if not row["share"] else [f"{share} of {listed(list(result['parts']))} removed"]
    if row["width"] is None:
        return f"{parts[0]}, float32"
    bits, embedding = row["width"]
    own = "" if bits == embedding else f", embedding {count(embedding)}"
    return ", ".join([*parts, f"{label} {count(bits)} bits{own}"])


def _table(result: Row) -> Table:
    whole = result["rows"][0]
    quick = [id(row) for row in frontier(result, result["rows"], token_seconds)]
    best = frontier(result, result["rows"], num_bytes)
    rows = []
    for row in reversed(best):
        time = seconds(token_seconds(row) / result["decoded"])
        rows.append(
            (
                _name(result, row),
                mib(row["bytes"]),
                significant(whole["bytes"] / row["bytes"], 2),
                significant(perplexity(result, row)),
                "–" if row is whole else cost_cell(more(result, row)),
                time + dagger(measured(row["decoding"])),
                "yes" if id(row) in quick else "no",
            )
        )
    timings = [row["decoding"] for row in best]
    return Table(
        "tab:compression",
        TEXT.line("table"),
        ("Form", "MiB", "Times smaller", "Perplexity", "Increase, %", "A token", "Quickest"),
        tuple(rows),
        "lrrrrrl",
        TEXT.line(
            "table's note",
            confidence=_CERTAIN,
            rounds=rounds(*timings),
            hardware=hardware(result),
            disturbances=disturbances(measured(timing) for timing in timings),
        ),
    )
