"""How to repeat the run: machine, commands, configuration."""

from __future__ import annotations

from typing import Any

from tinylm.config import dump_yaml
from tinylm.experiments.document import experiment_costs
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import Block, Code, Heading, Table, literal
from tinylm.report.formatting import significant
from tinylm.report.passages import passages

TEXT = passages(__file__)
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
    blocks: list[Block] = [Heading(1, "Reproduction", "sec:reproduction")]
    rows = tuple(
        (_NAMES.get(key, literal(key)), literal(_value(key, results.environment[key])))
        for key in [*_NAMES, *(key for key in results.environment if key not in _NAMES)]
        if results.environment.get(key) is not None
    )
    if rows:
        blocks += [
            *TEXT.blocks("environment"),
            Table("tab:environment", TEXT.line("table of the environment"), ("", ""), rows, "lp"),
        ]
    blocks += experiment_costs.blocks(results)
    if results.commands:
        blocks += [
            Heading(2, "Commands", "sec:commands"),
            *TEXT.blocks("commands"),
            Code("\n".join(results.commands)),
            *TEXT.blocks(
                "seeds",
                data=str(results.config.data.seed),
                training=str(results.config.training.seed),
                evaluation=str(results.config.evaluation.seed),
                generation=str(results.config.generation.seed),
            ),
        ]
    blocks += [
        *TEXT.blocks("where the configuration stands"),
        Heading(1, "Configuration", "sec:configuration", appendix=True),
        *TEXT.blocks("configuration"),
        Code(dump_yaml(results.config).rstrip()),
    ]
    return blocks


def _value(key: str, value: Any) -> str:
    if key == "memory_gib":
        return f"{significant(float(value))} GiB"
    return str(value)
