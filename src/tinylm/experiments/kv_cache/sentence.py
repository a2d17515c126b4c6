"""What the report's abstract says of the cache."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Verdict
from tinylm.report.formatting import plural
from tinylm.report.measurements import compared, factor


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    samples = inputs.results["kv-cache"]["samples"]
    effect = compared(samples["cached"], samples["uncached"])
    batch = f"generation of {plural(samples['batch'], 'text')} as one batch"
    return {
        Verdict.LESS: f"A key-value cache makes {batch} faster, by a factor of "
        f"{factor(effect.inverse)}.",
        Verdict.MORE: f"A key-value cache makes {batch} slower, by a factor of {factor(effect)}.",
        Verdict.ALIKE: f"With and without a key-value cache the times of the {batch} are not "
        "measurably different.",
        Verdict.UNKNOWN: f"Whether a key-value cache makes {batch} faster could not be measured.",
    }[effect.verdict]
