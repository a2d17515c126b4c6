"""What was asked, and where the report answers it."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Bullets, Heading
from tinylm.report.formatting import plural
from tinylm.report.passages import passages

TEXT = passages(__file__)


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section; it needs no experiment, and names only what the report contains."""
    model, done = results.config.model, results.results
    asked = [
        ("data", TEXT.line("task, data")),
        (
            "training",
            TEXT.line(
                "task, model",
                layers=plural(model.num_layers, "layer"),
                heads=plural(model.num_heads, "attention head"),
            ),
        ),
        ("training", TEXT.line("task, training")),
        ("evaluation", TEXT.line("task, evaluation")),
        ("samples", TEXT.line("task, samples")),
        ("attention", TEXT.line("task, attention")),
    ]
    return [
        Heading(1, "The task", "sec:task"),
        *TEXT.blocks("task"),
        Bullets(
            (
                *(text for name, text in asked if name in done),
                TEXT.line("task, reproduction"),
            )
        ),
        *TEXT.blocks("what the report holds", differences=TEXT.line("measurable differences")),
    ]
