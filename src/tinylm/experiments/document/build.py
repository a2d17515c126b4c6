"""A run's results -> figures -> ``report.pdf`` and ``report.html``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from tinylm import __version__
from tinylm.atomic import write_bytes, write_text
from tinylm.config import RunConfig, load_config, overrides_between
from tinylm.errors import DataError, key_shown
from tinylm.experiments.document import reproduction, task
from tinylm.experiments.document.abstract import abstract
from tinylm.experiments.document.figures import draw_figures
from tinylm.experiments.document.inputs import ReportInputs, load_inputs
from tinylm.experiments.document.record import write_record
from tinylm.registry import EXPERIMENTS
from tinylm.report import html, typst
from tinylm.report.blocks import Block, Document, with_references
from tinylm.report.layout import arrange

UNUSABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What sections and figures raise when a result file does not hold what it should."""


def build_report(
    run_folder: str | Path,
    config: RunConfig | None = None,
    commands: Sequence[str] | None = None,
) -> dict[str, Path]:
    """Draw the figures of a run and write its report as PDF, Typst source and HTML.

    What it was made of is written beside it (``tinylm.experiments.document.record``).

    Results of experiments that ``report.experiments`` does not name are not read.

    Args:
        run_folder: the run's folder, with ``config.yaml`` and ``results/*.json``.
        config: what the results were made with; empty: ``config.yaml``.
        commands: the commands that repeat the run and its report; empty: those that follow from
            the folder and the configuration.

    Returns:
        ``pdf``, ``html`` and ``typst`` -> path.

    Raises:
        DataError: in one line, if results are missing or cannot be used.
    """
    inputs = load_inputs(run_folder, config, commands)
    if not inputs.results:
        command = [
            "tinylm",
            "report",
            "--run",
            str(inputs.folder),
            "--experiments",
            "data,training",
        ]
        raise DataError(
            f"{inputs.folder} has no results of the experiments to report on: run and report some: "
            + shlex.join(command)
        )
    draw(inputs)
    paths = write_document(assemble(inputs), inputs, "report")
    stored = load_config(inputs.folder / "config.yaml")
    write_record(inputs.folder, inputs.results, overrides_between(stored, inputs.config))
    return paths


def write_document(document: Document, inputs: ReportInputs, stem: str) -> dict[str, Path]:
    """Write a document into the run's folder as ``stem.pdf``, ``stem.html`` and ``stem.typ``.

    Returns:
        ``pdf``, ``html`` and ``typst`` -> path.

    Raises:
        DataError: if it cannot be printed.
    """
    document = arrange(document, inputs.folder, inputs.date)
    source = typst.source(document, inputs.date)
    content = {
        "pdf": typst.pdf(source, inputs.folder, inputs.date),
        "html": html.page(document, inputs.folder).encode("utf-8"),
    }
    paths = {"typst": inputs.folder / f"{stem}.typ"}
    write_text(paths["typst"], source)
    for form, whole in content.items():
        paths[form] = inputs.folder / f"{stem}.{form}"
        write_bytes(paths[form], whole)
    return paths


def draw(inputs: ReportInputs) -> None:
    """Write the figures that the results allow into the run's folder ``figures``.

    Raises:
        DataError: if a result lacks what its figure needs.
    """
    try:
        draw_figures(inputs)
    except UNUSABLE as error:
        raise DataError(incomplete(inputs, "a figure", error)) from error


def assemble(inputs: ReportInputs) -> Document:
    """Return the report as blocks, sections in the registry's order.

    Raises:
        DataError: if a result lacks what its section tells.
    """
    blocks = list(task.blocks(inputs))
    for name in EXPERIMENTS:
        try:
            blocks.extend(EXPERIMENTS.load(name).blocks(inputs))
        except UNUSABLE as error:
            raise DataError(incomplete(inputs, f"section {name!r}", error)) from error
    blocks.extend(reproduction.blocks(inputs))
    try:
        summary = abstract(inputs)
    except UNUSABLE as error:
        raise DataError(incomplete(inputs, "the abstract", error)) from error
    return as_document(inputs, inputs.config.report.title, summary, blocks)


def as_document(
    inputs: ReportInputs, title: str, summary: str, blocks: Sequence[Block]
) -> Document:
    """Return blocks under a title and an abstract, with the references that they cite."""
    return Document(
        title=title,
        author=inputs.config.report.author,
        date=f"{inputs.date.day} {inputs.date:%B %Y}",
        abstract=summary,
        blocks=tuple(with_references(blocks, [summary])),
        footer=f"tinylm {__version__}",
    )


def incomplete(inputs: ReportInputs, part: str, error: Exception) -> str:
    """Return in one line that results do not hold what a part of the report needs."""
    problem = f"no {error}" if isinstance(error, KeyError) else str(error)
    return (
        f"{inputs.folder}/results cannot be made into {part} of the report "
        f"({key_shown(problem)}): run the experiments again with this version of tinylm"
    )
