"""The model: its drawing, its equations, its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.config import ModelConfig
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.training.outlined import blocks as outlined
from tinylm.model.base import GenerativeModel
from tinylm.registry import ACTIVATIONS, MODELS, POSITIONS
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, percent, plural, setting
from tinylm.report.passages import passages

TEXT = passages(__file__)
_SVG = "figures/architecture.svg"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without ``training``, which counts the parameters."""
    training = results.results.get("training")
    if training is None:
        return []
    model = results.config.model
    kind: type[GenerativeModel] = MODELS.load(model.kind)
    outline = kind.outline(model, _vocab_size(results))
    if outline is not None:
        return outlined(results, outline)
    layers, heads = plural(model.num_layers, "layer"), plural(model.num_heads, "head")
    drawn = results.has_figure(_SVG)
    shown = " " + TEXT.line("architecture, where it is drawn") if drawn else ""
    blocks: list[Block] = [
        Heading(1, "Architecture", "sec:architecture"),
        *TEXT.blocks("architecture", layers=layers, drawn=shown),
    ]
    if drawn:
        frame = (
            "The blue frame stands once"
            if model.num_layers == 1
            else f"The blue frame is repeated {model.num_layers} times, each time with its own "
            "parameters"
        )
        blocks.append(
            Figure(
                "fig:architecture",
                _SVG,
                TEXT.line("figure of the architecture", frame=frame),
                TEXT.line(
                    "figure of the architecture, without seeing it",
                    layers=layers,
                    heads=heads,
                    size=str(model.resolved_head_dim),
                    hidden=str(model.hidden_size),
                ),
            )
        )
    blocks += _embedding(model)
    blocks += _attention(model)
    blocks += [Paragraph(kind.differs.text)] if kind.differs else []
    blocks += _rest(model)
    blocks += _parameters(results, training)
    return blocks


def _embedding(model: ModelConfig) -> list[Block]:
    """Return how a token enters, and how its position does."""
    encoding = POSITIONS.load(model.positions)
    hidden = str(model.hidden_size)
    if not model.scale_embeddings:
        embedding = TEXT.line("embedding, not scaled")
    elif encoding.adds():
        embedding = TEXT.line("embedding, scaled", hidden=hidden)
    else:
        embedding = TEXT.line("embedding, scaled where nothing is added", hidden=hidden)
    explanation = encoding.explanation(model)
    blocks: list[Block] = [
        Heading(2, "Embedding and positions", "sec:embedding"),
        Paragraph(f"{embedding} {explanation.text}"),
    ]
    if explanation.equation:
        blocks += [Equation(explanation.equation), Paragraph(explanation.rest)]
    return blocks


def _attention(model: ModelConfig) -> list[Block]:
    hidden, heads, dim = model.hidden_size, model.num_heads, model.resolved_head_dim
    width = heads * dim
    if hidden != width:
        sizes = (
            f"Because {plural(heads, 'head')} of {dim} dimensions make {width} and not {hidden}, "
            f"the projections lead from {hidden} to {width} and back; the scores are divided by "
            f"$sqrt({dim})$, the head's own dimension."
        )
    elif heads == 1:
        sizes = f"The head has {dim} dimensions."
    else:
        sizes = f"Each of the {heads} heads has {dim} dimensions, {width} in all."
    return [
        Heading(2, "Masked self-attention", "sec:selfattention"),
        *TEXT.blocks("self-attention", sizes=sizes),
    ]


def _rest(model: ModelConfig) -> list[Block]:
    hidden, ffn = model.hidden_size, model.resolved_ffn_size
    activation = ACTIVATIONS.load(model.activation)
    return [
        Heading(2, "Feed-forward, normalization, unembedding", "sec:rest"),
        *TEXT.blocks(
            "feed-forward and norms",
            units=plural(ffn, "inner unit"),
            source=activation.source,
            function=activation.formula.format(x="x W_1 + b_1") + " W_2 + b_2",
            hidden=str(hidden),
            ffn=str(ffn),
            placement=TEXT.line("post-norm")
            if model.norm_placement == "post"
            else TEXT.line("pre-norm"),
            dropout=TEXT.line("dropout", probability=setting(model.dropout))
            if model.dropout
            else TEXT.line("no dropout"),
            unembedding=TEXT.line("tied unembedding")
            if model.tie_embeddings
            else TEXT.line("unembedding with weights of its own"),
        ),
    ]


def _parameters(results: ReportInputs, training: Mapping[str, Any]) -> list[Block]:
    model, counts = results.config.model, training["parameters"]
    total = counts["total"]
    vocab = _vocab_size(results)
    hidden, ffn, layers = model.hidden_size, model.resolved_ffn_size, model.num_layers
    width = model.num_heads * model.resolved_head_dim
    bias = model.bias
    norms = 2 * layers + (1 if model.norm_placement == "pre" else 0)
    attention = f"{hidden}·3·{width} + {width}·{hidden}"
    feed = f"{hidden}·{ffn:,} + {ffn:,}·{hidden}"
    output, each = f"{hidden}·{vocab:,}", str(hidden)
    if bias:
        attention += f" + 3·{width} + {hidden}"
        feed += f" + {ffn:,} + {hidden}"
        output += f" + {vocab:,}"
        each = f"2·{hidden}"
    sums = {
        "embedding": f"{vocab:,}·{hidden}",
        "positions": f"{model.context_length}·{hidden}" if counts.get("positions") else "none",
        "attention": f"{layers}·({attention})",
        "feed-forward": f"{layers}·({feed})",
        "norms": f"{norms}·{each}",
        "unembedding": "the embedding's" if model.tie_embeddings else output,
    }
    names = [name for name in sums if name in counts]
    rows = [
        (name.capitalize(), sums[name], count(counts[name]), percent(counts[name] / total))
        for name in names
    ]
    rows.append(("Total", "", count(total), percent(1.0)))
    outside = counts["embedding"] + counts.get("unembedding", 0)
    # The norm behind the last layer of a pre-norm model is in no layer.
    inside = counts["attention"] + counts["feed-forward"] + counts["norms"] * 2 * layers // norms
    share_outside, share_inside = percent(outside / total), percent(inside / total)
    in_embedding = (
        "are in the embedding, which is the unembedding as well"
        if model.tie_embeddings
        else "are in the embedding and the unembedding"
    )
    if outside > total / 2:
        shares = (
            f"More than half of them, {share_outside}, {in_embedding}; {share_inside} are in the "
            "layers."
        )
    elif inside > total / 2:
        shares = (
            f"More than half of them, {share_inside}, are in the layers; {share_outside} "
            f"{in_embedding}."
        )
    else:
        shares = f"Of these {share_outside} {in_embedding}, and {share_inside} are in the layers."
    trained_count = training["parameters_trained"]
    trained = (
        "All of them are trained."
        if trained_count == total
        else f"{count(total - trained_count)} are frozen word vectors; the other "
        f"{count(trained_count)} are trained."
    )
    return [
        Heading(2, "Parameters", "sec:parameters"),
        *TEXT.blocks("parameters", total=count(total), shares=shares, trained=trained),
        Table(
            "tab:parameters",
            TEXT.line(
                "table of parameters",
                vocabulary=count(vocab),
                hidden=str(hidden),
                layers=plural(layers, "layer"),
                heads=plural(model.num_heads, "head"),
                size=str(model.resolved_head_dim),
                units=plural(ffn, "inner feed-forward unit"),
            ),
            ("Part", "Sum", "Parameters", "Share"),
            tuple(rows),
            "llrr",
            emphasised=(len(rows) - 1,),
        ),
    ]


def _vocab_size(results: ReportInputs) -> int:
    """Return the model's vocabulary: as configured, or as many rows as the embedding has."""
    configured = results.config.model.vocab_size
    if configured is not None:
        return configured
    counts = results.results["training"]["parameters"]
    return int(counts["embedding"]) // results.config.model.hidden_size
