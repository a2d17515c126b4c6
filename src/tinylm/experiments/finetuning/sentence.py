"""What the report's abstract says of adapting the model."""

from __future__ import annotations

import math

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.formatting import keyed, percent, significant


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    result = inputs.results["finetuning"]
    rows = keyed(result["methods"], "name")
    lora, whole = rows["lora"], rows["full"]
    before, after, full = (
        significant(math.exp(loss))
        for loss in (
            result["before"]["target_loss"],
            lora["target_loss"],
            whole["target_loss"],
        )
    )
    return (
        f"On stories of another kind, LoRA takes the perplexity of the run's model from {before} "
        f"to {after} by training {percent(lora['trained'] / whole['trained'])} of its parameters; "
        f"training all of them takes it to {full}."
    )
