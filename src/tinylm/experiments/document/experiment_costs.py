"""What the experiments of a report cost in time and memory."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Paragraph, Table, literal
from tinylm.report.formatting import duration, plural, significant


def blocks(results: ReportInputs) -> list[Block]:
    """Return a sentence and a table, or nothing where no experiment says its time."""
    seconds = {
        name: found["seconds"] for name, found in results.results.items() if "seconds" in found
    }
    if not seconds:
        return []
    peaks = {name: results.results[name].get("peak_resident_bytes") for name in seconds}
    largest = max(peaks, key=lambda name: peaks[name] or 0)
    text = (
        f"{plural(len(seconds), 'experiment').capitalize()} took {duration(sum(seconds.values()))} "
        "in all ([[tab:experiments]])."
    )
    if peaks[largest] is not None:
        text += (
            f" The process held {_gigabytes(peaks[largest])} of memory at most, in "
            f"{literal(largest)}; libraries that are loaded once are part of every number."
        )
    rows = tuple(
        (literal(name), duration(seconds[name]), _gigabytes(peaks[name])) for name in seconds
    )
    caption = "Time of each experiment, and the most memory that the process held during it."
    header = ("Experiment", "Time", "Peak memory")
    return [Paragraph(text), Table("tab:experiments", caption, header, rows, "lrr")]


def _gigabytes(size: float | None) -> str:
    return "unknown" if size is None else f"{significant(size / 1e9)}\u00a0GB"
