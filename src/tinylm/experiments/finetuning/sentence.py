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
    share = percent(lora["trained"] / whole["trained"])
    return (
        f"On texts of another kind the model has a perplexity of {before}; LoRA, which trains "
        f"{share} as many parameters as the model has, reaches {after}, full fine-tuning {full}."
    )
