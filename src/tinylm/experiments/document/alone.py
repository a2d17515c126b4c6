"""One experiment's own short document: its section of the report, standing alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinylm.config import RunConfig, to_dict
from tinylm.errors import DataError
from tinylm.experiments.document.build import (
    UNUSABLE,
    as_document,
    draw,
    incomplete,
    write_document,
)
from tinylm.experiments.document.inputs import ReportInputs, load_inputs
from tinylm.experiments.experiment import Experiment
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import Block, Code, Document, Heading, code, plain_text
from tinylm.report.formatting import duration
from tinylm.report.measurements import hardware
from tinylm.report.passages import passages

TEXT = passages(__file__)


def build_alone(
    run_folder: str | Path, name: str, config: RunConfig, commands: Sequence[str]
) -> dict[str, Path]:
    """Draw an experiment's figures and write its own document into the run's folder.

    Args:
        run_folder: the run's folder, with ``config.yaml`` and ``results/NAME.json``.
        name: of the experiment.
        config: what the result was made with.
        commands: the commands that repeat it.

    Returns:
        ``pdf``, ``html`` and ``typst`` -> path of ``NAME.pdf``, ``NAME.html`` and ``NAME.typ``.

    Raises:
        DataError: in one line, if its result is missing or cannot be used.
    """
    inputs = load_inputs(run_folder, config, commands, [name])
    draw(inputs)
    return write_document(document(inputs, name), inputs, name)


def document(inputs: ReportInputs, name: str) -> Document:
    """Return an experiment's section as a document: its heading is the title.

    Raises:
        DataError: if there is no result, or it lacks what the section tells.
    """
    if name not in inputs.results:
        raise DataError(f"{inputs.folder} has no result of {name}: run that experiment first")
    experiment: Experiment = EXPERIMENTS.load(name)
    try:
        section = experiment.blocks(inputs)
        summary = experiment.own_abstract(inputs)
    except UNUSABLE as error:
        raise DataError(incomplete(inputs, f"section {name!r}", error)) from error
    titles = [block for block in section if isinstance(block, Heading) and block.level == 1]
    if len(titles) == 1:  # which the document bears, so that its parts are the sections
        section = [
            replace(block, level=block.level - 1) if isinstance(block, Heading) else block
            for block in section
            if block not in titles
        ]
    first, *others = (plain_text(title.text) for title in titles)
    blocks = [*section, *_reproduction(inputs, name, experiment.key)]
    title = " and ".join([first, *(other[0].lower() + other[1:] for other in others)])
    return as_document(inputs, title, summary, blocks)


def _reproduction(inputs: ReportInputs, name: str, section: str) -> list[Block]:
    result = inputs.results[name]
    settings = to_dict(inputs.config)["experiments"].get(section, {})
    took = ""
    if "seconds" in result:
        took = (
            TEXT.line(
                "one experiment, its time",
                time=duration(result["seconds"]),
                hardware=hardware(result),
            )
            + " "
        )
    blocks: list[Block] = [
        Heading(1, "Reproduction", "sec:own-reproduction"),
        *TEXT.blocks(
            "one experiment, reproduction",
            result=code(f"results/{name}.json"),
            differences=TEXT.line("measurable differences"),
            took=took,
        ),
        Code("\n".join(inputs.commands)),
    ]
    if settings:
        blocks += [
            *TEXT.blocks("one experiment, settings", key=code(f"experiments.{section}")),
            Code("\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())),
        ]
    return blocks
