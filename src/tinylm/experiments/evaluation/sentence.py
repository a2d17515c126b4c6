"""What the report's abstract says of the continuations."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Verdict
from tinylm.report.formatting import percent, plural


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    evaluation = inputs.results["evaluation"]
    targets = evaluation.get("targets")
    if targets is not None:
        return (
            f"Of {plural(targets['pairs'], 'unseen pair')}, {percent(targets['exact_match'])} of "
            "the targets are written exactly by greedy decoding; corpus BLEU is "
            f"{targets['bleu']['corpus']:.1f}."
        )
    stories = plural(evaluation["num_stories"], "unseen story", "unseen stories")
    true = f"{percent(evaluation['repetition']['true'])} of the true continuations"
    repetition = {
        Verdict.MORE: f"more than the {true}",
        Verdict.LESS: f"fewer than the {true}",
        Verdict.ALIKE: f"not measurably different from the {true}",
        Verdict.UNKNOWN: f"which could not be compared with the {true}",
    }[Difference.from_result(evaluation["differences"]["repetition"]).verdict]
    return (
        f"Continuations of {stories} reach a corpus BLEU of {evaluation['bleu']['corpus']:.1f}; "
        f"{percent(evaluation['repetition']['generated'])} of their 4-grams are repeats, "
        f"{repetition}."
    )
