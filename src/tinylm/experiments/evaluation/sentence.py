"""What the report's abstract says of the continuations."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.formatting import percent, plural


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    evaluation = inputs.results["evaluation"]
    stories = plural(evaluation["num_stories"], "unseen story", "unseen stories")
    return (
        f"Continuations of {stories} reach a corpus BLEU of {evaluation['bleu']['corpus']:.1f}; "
        f"{percent(evaluation['repetition']['generated'])} of their 4-grams repeat, against "
        f"{percent(evaluation['repetition']['true'])} in the true stories."
    )
