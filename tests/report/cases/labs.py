"""What is said around a lab's section where it stands alone."""

from __future__ import annotations

from pathlib import Path

from tests.report import fixtures
from tests.report.telling import Phrase, Results, table_of
from tinylm.errors import DataError
from tinylm.report.inputs import ReportInputs
from tinylm.report.labs import document


def refused(results: Results) -> str:
    try:
        document(ReportInputs(fixtures.config(), results, Path("runs/a")), "lab-svd")
    except DataError as error:
        return str(error).partition(" (")[0]
    return "not refused"


PHRASES = [
    Phrase("runs/a has no result of lab-svd: run that lab first", lambda: refused({})),
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
        (None, "It took 1\u00a0min"),
        (lambda found: found.pop("seconds"), f"results/{lab}.json. The lab is run again by",
         "It took"),
        alone=True,
    )
]  # fmt: skip
