"""Numbers that the sections on fine-tuning share."""

from __future__ import annotations

from tests.report.cases.finetuning import losses
from tests.report.telling import table_of

CASES = table_of(
    "finetuning",
    # A gain is a share of what full fine-tuning gains, if that is anything.
    (losses(full=2.90), "full fine-tuning\n3·10⁻⁴\n6,000,000\n100\u202f%\n18.2\n–", "93\u202f%"),
    (losses(full=2.899), "full fine-tuning\n3·10⁻⁴\n6,000,000\n100\u202f%\n18.2\n100\u202f%"),
    # Differences in percent while they are small, then as a ratio.
    (losses(dylora=2.62 + 0.40), "DyLoRA (serving every rank) is higher by 49.2\u202f%"),
    (losses(dylora=2.62 + 0.41), "DyLoRA (serving every rank) is higher by a factor of 1.51"),
    (losses(plus=2.62 - 0.40, full=2.0), "for B) is lower by 33.0\u202f%"),
)
