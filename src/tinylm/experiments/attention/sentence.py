"""What the report's abstract says of the heads."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.formatting import plural


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    heads = inputs.results["attention"].get("heads")
    if not heads:
        return ""
    if len(heads) == 1:
        return "What the one attention head does is measured."
    kinds = plural(len({head["role"] for head in heads}), "kind")
    return f"The {len(heads)} attention heads are measured one by one and fall into {kinds}."
