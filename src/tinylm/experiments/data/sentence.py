"""What the report's abstract says of the corpus."""

from __future__ import annotations

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.units import unit_of
from tinylm.report.blocks import code
from tinylm.report.formatting import count, millions, plural


def sentence(inputs: ReportInputs) -> str:
    """Return one sentence as inline markup, or nothing."""
    data = inputs.results["data"]
    train, unit = data["splits"]["train"], unit_of(data)
    return (
        f"The corpus {code(data['corpus_name'])} has "
        f"{plural(train['stories'], f'training {unit.item}', f'training {unit.items}')} with "
        f"{millions(train['tokens'])} tokens and a vocabulary of "
        f"{count(data['vocab_size'])}."
    )
