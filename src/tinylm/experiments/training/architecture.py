"""The model: its drawing, its equations, its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.config import ModelConfig
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import ACTIVATIONS, POSITIONS
from tinylm.report.blocks import Block, Equation, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, percent, plural, setting

_SVG = "figures/architecture.svg"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without ``training``, which counts the parameters."""
    training = results.results.get("training")
    if training is None:
        return []
    model = results.config.model
    layers, heads = plural(model.num_layers, "layer"), plural(model.num_heads, "head")
    drawn = results.has_figure(_SVG)
    shown = " [[fig:architecture]] draws it with the sizes of this run." if drawn else ""
    made: list[Block] = [
        Heading(1, "Architecture", "sec:architecture"),
        Paragraph(
            "The model is the decoder of the Transformer [[vaswani2017]] without the encoder and "
            f"the attention to it: an embedding with positions, {layers} of masked self-attention "
            "and feed-forward, and a linear map to one score for each word of the vocabulary."
            f"{shown}"
        ),
    ]
    if drawn:
        frame = (
            "The frame stands once"
            if model.num_layers == 1
            else f"The frame is repeated {model.num_layers} times, each time with parameters of "
            "its own"
        )
        made.append(
            Figure(
                "fig:architecture",
                _SVG,
                f"The model of this run, read from the bottom up. {frame}; *seq* is the number of "
                "tokens read.",
                f"Diagram of a decoder with {layers}, {heads} of {model.resolved_head_dim}, hidden "
                f"size {model.hidden_size}.",
            )
        )
    made += _embedding(model)
    made += _attention(model)
    made += _rest(model)
    made += _parameters(results, training)
    return made


def _embedding(model: ModelConfig) -> list[Block]:
    """Return how a token enters, and how its position does."""
    encoding = POSITIONS.load(model.positions)
    start = "Token $w$ enters as row $w$ of the embedding matrix"
    if model.scale_embeddings:
        start += f", multiplied by $sqrt({model.hidden_size})$"
        if encoding.adds():
            start += " so that the positions do not drown it"
    explanation = encoding.explanation(model)
    made: list[Block] = [
        Heading(2, "Embedding and positions", "sec:embedding"),
        Paragraph(f"{start}. {explanation.text}"),
    ]
    if explanation.equation:
        made += [Equation(explanation.equation), Paragraph(explanation.rest)]
    return made


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
        Paragraph(
            "Every token asks a question (its query) of itself and of the tokens before it. Each "
            "of these answers with its key and passes on its value. With queries $Q$, keys $K$ and "
            "values $V$ as rows, a head computes [[vaswani2017]]"
        ),
        Equation('"attention"(Q, K, V) = "softmax"((Q K^top) / sqrt(d_"head") + M) V'),
        Paragraph(
            "where $M_(i j)$ is 0 for $j <= i$ and $-infinity$ for $j > i$. No token sees those "
            "after it; otherwise predicting the next token would be mere copying. The division "
            "keeps the scores near unit variance; larger ones would push the softmax to where "
            f"its gradient vanishes. {sizes}"
        ),
    ]


def _rest(model: ModelConfig) -> list[Block]:
    hidden, ffn = model.hidden_size, model.resolved_ffn_size
    if model.norm_placement == "post":
        placement = (
            "It comes after each residual sum, $x arrow.l \"LayerNorm\"(x + \"part\"(x))$, as in "
            "the original (*post-norm*). Such a model tends to need a careful learning rate when "
            "it is deep [[xiong2020]]; how this one trained is told in [[sec:training]]."
        )  # fmt: skip
    else:
        placement = (
            'It comes before each part, $x arrow.l x + "part"("LayerNorm"(x))$, with one more at '
            "the end (*pre-norm*), which keeps a straight path for the gradient through all "
            "layers [[xiong2020]]."
        )
    activation = ACTIVATIONS.load(model.activation)
    function = activation.formula.format(x="x W_1 + b_1") + " W_2 + b_2"
    dropout = (
        f" Dropout [[srivastava2014]] with probability {setting(model.dropout)} acts on the "
        "embedding, on the attention pattern and on what each part adds, in training only."
        if model.dropout
        else " There is no dropout."
    )
    tied = (
        "The output map is the embedding matrix itself [[press2017]], which saves parameters and "
        "gives words with similar vectors similar probabilities."
        if model.tie_embeddings
        else "The output map has weights of its own; tying it to the embedding [[press2017]] is "
        "an option that was not used."
    )
    return [
        Heading(2, "Feed-forward, normalisation, output", "sec:rest"),
        Paragraph(
            f"Attention moves information between positions; the feed-forward part works on each "
            f"position by itself, through {plural(ffn, 'inner unit')} {activation.source}:"
        ),
        Equation(
            f'"feed-forward"(x) = {function}, wide '
            f"W_1 in RR^({hidden} times {ffn}), thick W_2 in RR^({ffn} times {hidden})"
        ),
        Paragraph(
            "Both are bypassed by a residual connection, so that a layer adds to its input "
            "instead of replacing it. Layer normalisation [[ba2016]] keeps the residual stream at "
            "one scale, with mean $mu$ and variance $sigma^2$ over the "
            f"{hidden} dimensions and learned $gamma$ and $beta$:"
        ),
        Equation('"LayerNorm"(x) = gamma dot (x - mu) / sqrt(sigma^2 + epsilon) + beta'),
        Paragraph(f"{placement}{dropout} {tied}"),
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
    words = counts["embedding"] + counts.get("unembedding", 0)
    inside = counts["attention"] + counts["feed-forward"]
    single, reading = percent(words / total), percent(inside / total)
    are_rows = "are rows for single words in embedding and output"
    if words > total / 2:
        shares = f"More than half of them, {single}, {are_rows}; {reading} belong to the layers."
    elif inside > total / 2:
        shares = f"More than half of them, {reading}, belong to the layers; {single} {are_rows}."
    else:
        shares = f"Of these {single} {are_rows}, and {reading} belong to the layers."
    trained_count = training["parameters_trained"]
    trained = (
        "All of them are trained."
        if trained_count == total
        else f"{count(total - trained_count)} are frozen word vectors; the other "
        f"{count(trained_count)} are trained."
    )
    return [
        Heading(2, "Parameters", "sec:parameters"),
        Paragraph(
            f"The model has {count(total)} parameters ([[tab:parameters]]). {shares} {trained}"
        ),
        Table(
            "tab:parameters",
            f"Parameters by part, for a vocabulary of {count(vocab)}, hidden size {hidden}, "
            f"{plural(layers, 'layer')}, {plural(model.num_heads, 'head')} of "
            f"{model.resolved_head_dim} and {plural(ffn, 'inner feed-forward unit')}.",
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
