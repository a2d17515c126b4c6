"""The architecture of a model that describes itself: its drawing, its passages, its parameters."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.model.outline import Outline
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)
_SVG = "figures/architecture.svg"


def blocks(results: ReportInputs, outline: Outline) -> list[Block]:
    """Return the section; there is a result of ``training``."""
    model, training = results.config.model, results.results["training"]
    drawn = results.has_figure(_SVG)
    shown = " " + TEXT.line("architecture, where it is drawn") if drawn else ""
    made: list[Block] = [
        Heading(1, "Architecture", "sec:architecture"),
        Paragraph(outline.text + shown),
    ]
    if drawn:
        made.append(_figure(outline, model))
    for passage in outline.passages:
        made += [Heading(2, passage.title, f"sec:{passage.key}"), Paragraph(passage.text)]
        made += [Equation(equation) for equation in passage.equations]
        made += [Paragraph(passage.rest)] if passage.rest else []
    counts, trained = training["parameters"], training["parameters_trained"]
    total = counts["total"]
    rows = [
        (part.capitalize(), each, count(counts[part]), percent(counts[part] / total))
        for part, each in outline.sums.items()
    ]
    rows.append(("Total", "", count(total), percent(1.0)))
    words = counts["embedding"] + counts["unembedding"]
    shares = (
        f"Of these {percent(words / total)} are in embedding and unembedding, "
        f"{percent((total - words) / total)} in the layers."
    )
    frozen = (
        "All of them are trained."
        if trained == total
        else f"{count(total - trained)} are frozen word vectors; the other {count(trained)} are "
        "trained."
    )
    return [
        *made,
        Heading(2, "Parameters", "sec:parameters"),
        *TEXT.blocks("parameters", total=count(total), shares=shares, trained=frozen),
        Table(
            "tab:parameters",
            TEXT.line(
                "table of parameters of another kind",
                vocabulary=count(counts["embedding"] // model.hidden_size),
                hidden=str(model.hidden_size),
                layers=plural(model.num_layers, "layer"),
            ),
            ("Part", "Sum", "Parameters", "Share"),
            tuple(rows),
            "llrr",
            emphasised=(len(rows) - 1,),
        ),
    ]


def _figure(outline: Outline, model: ModelConfig) -> Figure:
    """Return the drawing and what stands under it."""
    frame = (
        "The blue frame stands once"
        if model.num_layers == 1
        else f"The blue frame is repeated {model.num_layers} times, each time with its own "
        "parameters"
    )
    beside = TEXT.line("arrows that lead back")
    if outline.source is not None:
        frame = frame.replace("The blue frame stands", "Each blue frame stands")
        frame = frame.replace("The blue frame is", "Each blue frame is")
        beside = TEXT.line(
            "arrows between two stacks", memory=outline.memory, in_layer=outline.in_layer
        )
    hidden = str(model.hidden_size)
    return Figure(
        "fig:architecture",
        _SVG,
        TEXT.line("figure of a model of another kind", frame=frame, beside=beside),
        TEXT.line(
            "figure of a model of another kind, without seeing it",
            phrase=outline.phrase,
            hidden=hidden,
        ),
        0.6 if outline.source is None else 1.0,
    )
