"""What the experiments of a report cost in time and memory."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Paragraph, Table, literal
from tinylm.report.formatting import duration, plural, significant
from tinylm.report.passages import passages

TEXT = passages(__file__)


def blocks(results: ReportInputs) -> list[Block]:
    """Return a sentence and a table, or nothing where no experiment says its time."""
    seconds = {
        name: result["seconds"] for name, result in results.results.items() if "seconds" in result
    }
    if not seconds:
        return []
    peaks = {name: results.results[name].get("peak_resident_bytes") for name in seconds}
    largest = max(peaks, key=lambda name: peaks[name] or 0)
    text = TEXT.line(
        "costs",
        experiments=plural(len(seconds), "experiment"),
        time=duration(sum(seconds.values())),
    )
    if peaks[largest] is not None:
        memory = _gib(peaks[largest])
        text += " " + TEXT.line("costs in memory", memory=memory, experiment=literal(largest))
    rows = tuple((literal(name), duration(seconds[name]), _gib(peaks[name])) for name in seconds)
    caption = TEXT.line("table of the costs")
    header = ("Experiment", "Time", "Peak memory")
    return [Paragraph(text), Table("tab:experiments", caption, header, rows, "lrr")]


def _gib(size: float | None) -> str:
    return "unknown" if size is None else f"{significant(size / 2**30)}\u00a0GiB"
