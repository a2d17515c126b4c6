"""What the report's abstract says of what training reached."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.training.section import speed
from tinylm.report.formatting import duration, millions, plural, significant


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    training, evaluation = inputs.results["training"], inputs.results.get("evaluation")
    # Training itself may have validated on a part of the split.
    reached = evaluation["validation"] if evaluation else training["best"]
    unigram = training.get("unigram_perplexity")
    took = "" if speed(training).disturbed else f" and {duration(training['seconds_training'])}"
    against = f"; a unigram model has {significant(unigram)}" if unigram else ""
    return (
        f"In {plural(training['steps'], 'step')}{took} on {millions(training['tokens_seen'])} "
        "tokens, the model reached a validation perplexity of "
        f"{significant(reached['perplexity'])}{against}."
    )
