"""The verification experiment: optimised parts on this run's model, compared with plain versions.

Each check of the registry runs on the run's best checkpoint and its own data, and says how far
apart the two sides are. The result is one row a check; ``difference`` is null where none could be
measured (a check that ended with an error, NaN, sides that cannot be compared), and such a row
never passes.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tinylm.errors import TinylmError
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.context import Context, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.language_model import LanguageModel
from tinylm.registry import CHECKS
from tinylm.training.precision import resolve_device

# What a broken path may end with. Anything else is a mistake of a check itself, or of the system
# (a full disk), and is not turned into a row.
_FAILURES = (TinylmError, AssertionError, RuntimeError, ArithmeticError, LookupError, ValueError)


def run(context: Context) -> dict[str, Any]:
    """Run every check on the run's best checkpoint.

    Returns:
        ``rows``, one a check that applies to the kind of model: name, compared, cases, unit,
        difference (None: not measured), bound, passed, note, seconds; ``passed``, how many did;
        ``failed``, the names of the others.

    Raises:
        CheckpointError: if there is no checkpoint.
        DataError: if the data cannot be used.
    """
    with threads(context.config.training.threads), tempfile.TemporaryDirectory() as folder:
        device = resolve_device(context.config.training.device)
        with _same_random_state(device):
            subject = open_subject(context, Path(folder))
            rows = []
            with context.console.task("Verifying", len(CHECKS)) as done:
                for count, name in enumerate(CHECKS, 1):
                    row = check(name, subject)
                    rows += [] if row is None else [row]
                    done(count)
    failed = [row["name"] for row in rows if not row["passed"]]
    return {"rows": rows, "passed": len(rows) - len(failed), "failed": failed}


def open_subject(context: Context, folder: Path) -> Subject:
    """Load what the checks of a run work on.

    Args:
        context: the run.
        folder: where checks may write.

    Raises:
        CheckpointError: if there is no checkpoint.
        DataError: if the data cannot be used.
    """
    config = context.config
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    train, validation = (
        encoded_split(config.data, lm.tokenizer, split, context.console)
        for split in ("train", "validation")
    )
    return Subject(lm, config, train, validation, folder, config.training.seed)


def check(name: str, subject: Subject) -> dict[str, Any] | None:
    """Run one check and return its row; an error of the path that it checks fails the row.

    None: the model is of a kind that has nothing for it to check.
    """
    started = time.perf_counter()
    try:
        finding: Finding | None = CHECKS.load(name)(subject)
        if finding is None:
            return None
    except _FAILURES as error:
        text = " ".join(str(error).split()) or "no message"
        finding = Finding(
            compared="ended with an error",
            cases=0,
            unit="cases",
            difference=math.inf,
            bound=0.0,
            note=f"{type(error).__name__}: {text}",
        )
    return {
        "name": name,
        "compared": finding.compared,
        "cases": finding.cases,
        "unit": finding.unit,
        # JSON has no infinity and no NaN.
        "difference": finding.difference if math.isfinite(finding.difference) else None,
        "bound": finding.bound,
        "passed": finding.passed,
        "note": _note(finding),
        "seconds": time.perf_counter() - started,
    }


def _note(finding: Finding) -> str:
    if finding.note or math.isfinite(finding.difference):
        return finding.note
    return f"the difference is {finding.difference}"


@contextmanager
def _same_random_state(device: torch.device) -> Iterator[None]:
    """Restore the state of torch's random numbers after checks and loading draw from them."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
