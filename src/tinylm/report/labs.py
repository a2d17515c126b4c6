"""One lab's own short document: its section of the report, standing alone."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinylm import __version__
from tinylm.config import RunConfig, to_dict
from tinylm.errors import DataError
from tinylm.registry import SECTIONS
from tinylm.report.blocks import (
    Block,
    Code,
    Document,
    Heading,
    Paragraph,
    code,
    plain_text,
    with_references,
)
from tinylm.report.build import UNUSABLE, draw, incomplete, write_document
from tinylm.report.formatting import duration
from tinylm.report.inputs import ReportInputs, load_inputs
from tinylm.report.measurements import hardware


def build_lab(
    run_folder: str | Path, name: str, config: RunConfig, commands: Sequence[str]
) -> dict[str, Path]:
    """Draw a lab's figures and write its document into the run's folder.

    Args:
        run_folder: the run's folder, with ``config.yaml`` and ``results/NAME.json``.
        name: the lab: an experiment with a section of its own, such as ``lab-svd``.
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
    """Return a lab's section as a document: its heading is the title, its parts the sections.

    Raises:
        DataError: if there is no result, or it lacks what the section tells.
    """
    if name not in inputs.results:
        raise DataError(f"{inputs.folder} has no result of {name}: run that lab first")
    module = importlib.import_module(SECTIONS[name].partition(":")[0])
    try:
        title, *section = module.blocks(inputs)
        summary = module.summary(inputs.results[name])
    except UNUSABLE as error:
        raise DataError(incomplete(inputs, f"section {name!r}", error)) from error
    blocks = [
        *(replace(block, level=1) if isinstance(block, Heading) else block for block in section),
        *_reproduction(inputs, name),
    ]
    return Document(
        title=plain_text(title.text),
        author=inputs.config.report.author,
        date=f"{inputs.date.day} {inputs.date:%B %Y}",
        abstract=summary,
        blocks=tuple(with_references(blocks, [summary])),
        footer=f"tinylm {__version__}",
    )


def _reproduction(inputs: ReportInputs, name: str) -> list[Block]:
    found = inputs.results[name]
    section = name.replace("-", "_")
    settings = to_dict(inputs.config)["experiments"][section]
    took = ""
    if "seconds" in found:
        took = f"It took {duration(found['seconds'])} on {hardware(found)}. "
    return [
        Heading(1, "Reproduction", "sec:lab-reproduction", after_floats=True),
        Paragraph(
            "Every number, figure and comparison above is computed from "
            f"{code(f'results/{name}.json')}. {took}The lab is run again by"
        ),
        Code("\n".join(inputs.commands)),
        Paragraph(f"with these settings, each a key of {code(f'experiments.{section}')}:"),
        Code("\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())),
    ]
