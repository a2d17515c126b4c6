"""ZeRO's stages on several processes: what each rank holds and sends, beside the formulas."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tinylm.experiments.context import Context
from tinylm.experiments.zero.ranks import shape, work
from tinylm.experiments.zero.settings import ZeroExperiment
from tinylm.planning.limits import refuse_beyond_memory
from tinylm.planning.parameters import parameter_counts
from tinylm.planning.zero import FORMATS, zero_bytes, zero_numbers
from tinylm.training.zero.processes import run_ranks

_COUNTER = 4
"""Bytes of the step that Adam counts of each bucket."""
_SECONDS = 1_800
Row = dict[str, Any]


def run(context: Context) -> dict[str, Any]:
    """Train by every stage on each number of ranks, and measure.

    Returns:
        ``rows``, one for each number of ranks, format, number of micro-batches and stage: what
        ``ranks.work`` says of it on the first rank, and, in the formats that the formulas are of,
        what is ``planned``: bytes ``held`` by part and numbers ``sent`` by purpose, and the same
        ``padded``, with the zeros in the buckets and the optimizer's counters.

    Raises:
        ConfigError: if the processes need more memory than there is.
        TrainingError: if one of them failed; none is left then.
    """
    settings: ZeroExperiment = context.config.experiments.zero
    every = sorted(set(settings.ranks))
    parameters = parameter_counts(shape(settings))["total"]
    refuse_beyond_memory(
        f"the experiment zero on {every[-1]} ranks",
        # Three models in float64: trained alone, trained together, and where they began.
        {"parameters, gradients and states": every[-1] * 3 * 32 * parameters},
        "experiments.zero.hidden_size, vocab_size, num_layers or ranks",
    )
    rows: list[Row] = []
    with context.console.task("Training by every stage", len(every)) as done:
        for number, ranks in enumerate(every):
            done(number)
            (first, *_) = run_ranks(work, ranks, (settings,), seconds=_SECONDS)
            rows += [{"ranks": ranks, **row, **_planned(row, ranks, parameters)} for row in first]
        done(len(every))
    return {
        "parameters": parameters,
        "num_layers": settings.num_layers,
        "hidden_size": settings.hidden_size,
        "vocab_size": settings.vocab_size,
        "batch_size": settings.batch_size,
        "context_length": settings.context_length,
        "steps": settings.steps,
        "rows": rows,
    }


def _planned(row: Row, ranks: int, parameters: int) -> Row:
    """Return what the formulas say of a row, as they are and with what they leave out."""
    precision, stage = row["precision"], row["stage"]
    if precision not in FORMATS:
        return {}
    made = {}
    for name, numbers in (("planned", parameters), ("padded", parameters + row["padding"])):
        held = asdict(zero_bytes(stage, ranks, numbers, precision))
        if name == "padded":
            held["optimizer"] += _COUNTER * row["buckets"]
        sent = zero_numbers(stage, ranks, numbers, row["micro_batches"])
        made[name] = {"held": held, "sent": asdict(sent)}
    return made
