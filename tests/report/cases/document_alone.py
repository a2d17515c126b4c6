"""What is said around a lab's section where it stands alone."""

from __future__ import annotations

from pathlib import Path

from tests.report import fixtures
from tests.report.telling import Phrase, Results, table_of
from tinylm.errors import DataError
from tinylm.experiments.document.alone import document
from tinylm.experiments.document.inputs import ReportInputs


def refused(results: Results) -> str:
    try:
        document(ReportInputs(fixtures.config(), results, Path("runs/a")), "lab-svd")
    except DataError as error:
        return str(error).partition(" (")[0]
    return "not refused"


PHRASES = [
    Phrase("runs/a has no result of lab-svd: run that experiment first", lambda: refused({})),
    Phrase(
        "runs/a/results cannot be made into section 'lab-svd' of the report",
        lambda: refused({"lab-svd": {"example": {}}}),
    ),
]
CASES = [
    case
    for lab in ("lab-svd", "lab-mnist")
    for case in table_of(
        lab,
        (None, "The experiment took 1\u00a0min"),
        (None, "otherwise they are called not measurably different."),
        (lambda result: result.pop("seconds"), "The following commands repeat the experiment:",
         "The experiment took"),
        alone=True,
    )
]  # fmt: skip
CASES += table_of("data", (None, "commands repeat the experiment:", "Its settings"), alone=True)
CASES += table_of("training", (None, "In 4,860 steps and"), alone=True)
