"""A run's results -> figures -> ``report.pdf`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinylm import __version__
from tinylm.atomic import write_bytes, write_text
from tinylm.errors import DataError
from tinylm.registry import SECTIONS
from tinylm.report import html, typst
from tinylm.report.abstract import abstract
from tinylm.report.attention import draw_attention
from tinylm.report.blocks import Block, Document, Heading, References, number
from tinylm.report.figures import save_figure
from tinylm.report.figures.architecture import architecture_figure
from tinylm.report.figures.curves import loss_figure, perplexity_figure, schedule_figure
from tinylm.report.figures.data import data_figure
from tinylm.report.figures.decoding import decoding_figure
from tinylm.report.figures.efficiency import (
    accumulation_figure,
    checkpointing_figure,
    growth_figure,
)
from tinylm.report.figures.growth import cost_figure
from tinylm.report.inputs import ReportInputs, load_inputs

_UNUSABLE = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What sections and figures raise when a result file does not hold what it should."""


def build_report(run_folder: str | Path, commands: Sequence[str] | None = None) -> dict[str, Path]:
    """Draw the figures of a run and write its report as PDF, Typst source and HTML.

    Args:
        run_folder: the run's folder, with ``config.yaml`` and ``results/*.json``.
        commands: the commands that repeat the run; empty: those that follow from the folder.

    Returns:
        ``pdf``, ``html`` and ``typst`` -> path.

    Raises:
        DataError: in one line, if results are missing or cannot be used.
    """
    inputs = load_inputs(run_folder, commands)
    if not inputs.results:
        raise DataError(
            f"{inputs.folder} has no results to report: run its experiments first "
            "(`tinylm experiment`)"
        )
    draw_figures(inputs)
    document = assemble(inputs)
    source = typst.source(document, inputs.date)
    content = {
        "pdf": typst.pdf(source, inputs.folder, inputs.date),
        "html": html.page(document, inputs.folder).encode("utf-8"),
    }
    paths = {"typst": inputs.folder / "report.typ"}
    write_text(paths["typst"], source)
    for form, whole in content.items():
        paths[form] = inputs.folder / f"report.{form}"
        write_bytes(paths[form], whole)
    return paths


def draw_figures(inputs: ReportInputs) -> None:
    """Write the figures that the results allow into the run's folder ``figures``.

    Raises:
        DataError: if a result lacks what its figure needs.
    """
    training, data = inputs.results.get("training"), inputs.results.get("data")
    attention = inputs.results.get("attention")
    try:
        if attention is not None:
            draw_attention(attention, inputs.figures)
        if data is not None:
            save_figure(data_figure(data), inputs.figures, "data")
        if training is not None:
            model = inputs.config.model
            counts = training["parameters"]
            vocab_size = model.vocab_size or counts["embedding"] // model.hidden_size
            drawing = architecture_figure(model, vocab_size, counts)
            save_figure(drawing, inputs.figures, "architecture")
            if training["curve"]:
                save_figure(loss_figure(training), inputs.figures, "loss")
                save_figure(schedule_figure(training), inputs.figures, "schedule")
            if training["validations"]:
                save_figure(perplexity_figure(training), inputs.figures, "perplexity")
        _draw_methods(inputs)
    except _UNUSABLE as error:
        raise DataError(_incomplete(inputs, "a figure", error)) from error


def _draw_methods(inputs: ReportInputs) -> None:
    """Write the figures of how training and generation are done."""
    found = inputs.results
    if cache := found.get("kv-cache"):
        save_figure(growth_figure(cache["growth"]), inputs.figures, "kv-cache")
    beam = found.get("beam-search")
    if beam and beam["comparisons"]:
        largest = max(beam["comparisons"], key=lambda one: one["num_prompts"])
        save_figure(decoding_figure(largest), inputs.figures, "beam-search")
    accumulation = found.get("accumulation")
    if accumulation and any(run["curve"] for run in accumulation["runs"]):
        save_figure(accumulation_figure(accumulation["runs"]), inputs.figures, "accumulation")
    checkpointing = found.get("gradient-checkpointing")
    if checkpointing and checkpointing["depth"]:
        drawing = checkpointing_figure(checkpointing["depth"], checkpointing["context"])
        save_figure(drawing, inputs.figures, "gradient-checkpointing")
    efficiency = found.get("efficiency")
    if efficiency and efficiency["growth"]:
        save_figure(cost_figure(efficiency["growth"]), inputs.figures, "efficiency")


def assemble(inputs: ReportInputs) -> Document:
    """Return the report as blocks, sections in the registry's order.

    Raises:
        DataError: if a result lacks what its section tells.
    """
    blocks: list[Block] = []
    for name in SECTIONS:
        try:
            blocks.extend(SECTIONS.load(name)(inputs))
        except _UNUSABLE as error:
            raise DataError(_incomplete(inputs, f"section {name!r}", error)) from error
    try:
        summary = abstract(inputs)
    except _UNUSABLE as error:
        raise DataError(_incomplete(inputs, "the abstract", error)) from error
    if number(blocks, [summary]).cited:
        blocks += [Heading(1, "References", "sec:references", numbered=False), References()]
    report = inputs.config.report
    return Document(
        title=report.title,
        author=report.author,
        date=f"{inputs.date.day} {inputs.date:%B %Y}",
        abstract=summary,
        blocks=tuple(blocks),
        footer=f"tinylm {__version__}",
    )


def _incomplete(inputs: ReportInputs, part: str, error: Exception) -> str:
    problem = f"no {error}" if isinstance(error, KeyError) else str(error)
    return (
        f"{inputs.folder}/results cannot be made into {part} of the report ({problem}): run the "
        "experiments again with this version of tinylm"
    )
