"""What the report's abstract says of the checks."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    rows = inputs.results["verification"]["rows"]
    if not rows:
        return ""
    failed = sum(not row["passed"] for row in rows)
    how = "*FAILED*" if failed else "passed"
    if len(rows) == 1:
        return f"The check of the program against a plain calculation {how}."
    which = f"{failed} of" if failed else "All"
    return f"{which} {len(rows)} checks of the program against plain calculations {how}."
