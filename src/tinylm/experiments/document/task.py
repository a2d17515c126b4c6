"""What was asked, and where the report answers it."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import MODELS
from tinylm.report.blocks import Block, Bullets, Heading
from tinylm.report.formatting import plural
from tinylm.report.passages import passages

TEXT = passages(__file__)


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section; it needs no experiment, and names only what the report contains."""
    model, done = results.config.model, results.results
    outline = MODELS.load(model.kind).outline(model, model.vocab_size or 0)
    asked = [
        ("data", TEXT.line("task, data")),
        (
            "training",
            TEXT.line("task, model of another kind", phrase=outline.phrase)
            if outline is not None
            else TEXT.line(
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
