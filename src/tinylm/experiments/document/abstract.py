"""The abstract: the whole report in a paragraph, computed from its results."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import EXPERIMENTS, MODELS
from tinylm.report.formatting import millions, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)


def abstract(inputs: ReportInputs) -> str:
    """Return inline markup: a sentence on the model, and those of the experiments."""
    model, training = inputs.config.model, inputs.results.get("training")
    size = f" of {millions(training['parameters']['total'])} parameters" if training else ""
    outline = MODELS.load(model.kind).outline(model, model.vocab_size or 0)
    opening = (
        TEXT.line(
            "abstract, another kind",
            phrase=outline.phrase,
            size=size,
            hidden=str(model.hidden_size),
            context=plural(model.context_length, "token"),
        )
        if outline is not None
        else TEXT.line(
            "abstract",
            size=size,
            layers=plural(model.num_layers, "layer"),
            heads=plural(model.num_heads, "head"),
            hidden=str(model.hidden_size),
            context=plural(model.context_length, "token"),
        )
    )
    results = (EXPERIMENTS.load(name).said(inputs) for name in EXPERIMENTS)
    return " ".join([opening, *(sentence for sentence in results if sentence)])
