"""The abstract: the whole report in a paragraph, computed from its results."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import EXPERIMENTS
from tinylm.report.formatting import millions, plural


def abstract(inputs: ReportInputs) -> str:
    """Return inline markup: a sentence on the model, and those of the experiments."""
    model, training = inputs.config.model, inputs.results.get("training")
    size = f" of {millions(training['parameters']['total'])} parameters" if training else ""
    sentences = [
        f"A decoder-only Transformer{size} ({plural(model.num_layers, 'layer')}, "
        f"{plural(model.num_heads, 'head')}, hidden size {model.hidden_size}, context of "
        f"{plural(model.context_length, 'token')}) was built from basic tensor operations."
    ]
    told = (EXPERIMENTS.load(name).told(inputs) for name in EXPERIMENTS)
    return " ".join([*sentences, *(sentence for sentence in told if sentence)])
