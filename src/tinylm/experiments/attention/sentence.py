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
        return "The role of the single attention head was measured."
    roles = plural(len({head["role"] for head in heads}), "role")
    return f"The {len(heads)} attention heads were measured one by one; they have {roles}."
