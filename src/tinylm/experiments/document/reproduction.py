"""How to repeat the run: machine, commands, configuration."""

from __future__ import annotations

from typing import Any

from tinylm.config import dump_yaml
from tinylm.experiments.document import experiment_costs
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Code, Heading, Paragraph, Table, literal
from tinylm.report.formatting import significant

_NAMES = {
    "tinylm": "tinylm",
    "python": "Python",
    "torch": "PyTorch",
    "numpy": "NumPy",
    "platform": "Platform",
    "cpu": "Processor",
    "cores": "Cores",
    "threads": "Threads used",
    "memory_gib": "Memory",
    "device": "Device",
}


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section; environment and times appear as far as experiments left them."""
    made: list[Block] = [Heading(1, "Reproduction", "sec:reproduction", after_floats=True)]
    rows = tuple(
        (_NAMES.get(key, literal(key)), literal(_value(key, results.environment[key])))
        for key in [*_NAMES, *(key for key in results.environment if key not in _NAMES)]
        if results.environment.get(key) is not None
    )
    if rows:
        made += [
            Paragraph("The run was made on the machine of [[tab:environment]]."),
            Table("tab:environment", "Environment of the run.", ("", ""), rows, "lp"),
        ]
    made += experiment_costs.blocks(results)
    if results.commands:
        made += [
            Heading(2, "Commands", "sec:commands"),
            Paragraph("The run and this report are made again by"),
            Code("\n".join(results.commands)),
            Paragraph(
                f"Every random choice depends on a seed: {results.config.data.seed} for the data, "
                f"{results.config.training.seed} for initialisation, dropout and data order, "
                f"{results.config.evaluation.seed} for the continuations. On one machine, with "
                "the same versions and number of threads, a CPU run gives the same numbers bit "
                "for bit; on another machine or on a GPU they can differ in the last digits, and "
                "such differences grow during training."
            ),
        ]
    made += [
        Paragraph("[[sec:configuration]] is the configuration with every setting resolved."),
        Heading(1, "Configuration", "sec:configuration", appendix=True),
        Paragraph("What the results of this report were made with, every setting resolved."),
        Code(dump_yaml(results.config).rstrip()),
    ]
    return made


def _value(key: str, value: Any) -> str:
    if key == "memory_gib":
        return f"{significant(float(value))} GiB"
    return str(value)
