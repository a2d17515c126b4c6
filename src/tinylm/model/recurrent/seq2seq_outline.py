"""A recurrent sequence-to-sequence model in words and boxes, for the report."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.model.outline import Box, Outline, Passage, Stack
from tinylm.model.recurrent.cells import Cell


def outline_of(cell: Cell, additive: bool, config: ModelConfig, vocab_size: int) -> Outline:
    """Return the description of a model of a cell, with one of the two attentions."""
    hidden, layers = config.hidden_size, config.num_layers
    plural = "layer" if layers == 1 else "layers"
    name = "additive" if additive else "multiplicative"
    right, left = hidden - hidden // 2, hidden // 2
    both = "both ends" if additive else "left to right"
    ends = f"{hidden} → {right} + {left}" if additive else f"{hidden} → {hidden}"
    dropped = (Box(f"Dropout {config.dropout:g}"),) if config.dropout else ()
    parts = 2 + additive
    embedded = f"{vocab_size:,} × {hidden}"
    mixes = (
        "Its context goes into the decoder's next step, too. "
        if additive
        else "Nothing goes from it into the next step. "
    )
    return Outline(
        phrase=f"a {cell.label} encoder and decoder of {layers} {plural} with {name} attention",
        text=(
            "The model is a recurrent sequence-to-sequence model [[sutskever2014]] with attention "
            f"[[{_SOURCE[additive]}]]. An encoder of {layers} {plural} reads a source, the first "
            "tokens of a text, and leaves a state for each of them. A decoder of as many reads "
            "from the last token of the source on and writes token after token; for each it looks "
            "at the states of the source and takes their mean by weights of its own. It is trained "
            "on windows of text of which the first part, of a length drawn evenly, is the source, "
            "and the rest is written."
        ),
        passages=(
            _embedding(config),
            Passage(f"The {cell.label}", "cell", cell.explanation, cell.equations, cell.gradient),
            _encoder(cell, additive, config),
            _additive() if additive else _multiplicative(),
            _rest(config, additive),
        ),
        before=(Box(f"Token embedding\n{embedded}", "embedding"), *dropped),
        layer=(
            Box(f"{cell.label}, from left to right\n{hidden} → {hidden}", "decoder", loop=True),
            *dropped,
        ),
        after=(
            Box(
                f"{name.capitalize()} attention\n{parts}·{hidden} → {hidden}",
                "attention",
                reads=True,
            ),
            *dropped,
            Box(f"Linear (unembedding)\n{hidden} → {vocab_size:,}", "unembedding"),
        ),
        sums=_sums(cell, additive, config, vocab_size),
        source=Stack(
            title="encoder",
            tokens="token ids of the source",
            before=(Box(f"Token embedding\nthe same {embedded}"), *dropped),
            layer=(Box(f"{cell.label}, from {both}\n{ends}", "encoder", loop=True), *dropped),
            after=(Box("A state for each token"),),
        ),
        title="decoder",
        tokens="from its last token on",
        memory="which the attention reads at each step",
        in_layer=(
            f"{mixes}Each layer of the decoder begins with a state made of the one in which the "
            "encoder's layer ended, and an arrow that leads back is taken at the next token"
        ),
    )


_SOURCE = {True: "bahdanau2015", False: "luong2015"}


def _sums(cell: Cell, additive: bool, config: ModelConfig, vocab_size: int) -> dict[str, str]:
    """Return how many parameters each part has, as sums of products."""
    hidden, layers, gates = config.hidden_size, config.num_layers, cell.gates
    halves, bias = (hidden - hidden // 2, hidden // 2), int(config.bias)
    biases = bias * (1 + cell.recurrent_bias)

    def plus(count: int, out: int) -> str:
        return {0: "", 1: f" + {out:,}"}.get(count, f" + {count}·{out:,}")

    out = gates * hidden
    start = f" + {halves[1]}·{hidden}{plus(bias, hidden)}" if additive else ""
    encoder = f"2·{hidden}·{out:,}{plus(biases, out)}"
    if additive:
        squares = " + ".join(f"{half}·{gates * half:,}" for half in halves)
        encoder = f"{hidden}·{out:,} + {squares}{plus(biases, out)}"
    maps = f"{hidden}·{hidden}"
    if additive:
        maps = f"2·{maps} + {hidden} + {hidden}·{out:,}{plus(bias, hidden)}"
    output = f"{hidden}·{vocab_size:,}{plus(bias, vocab_size)}"
    return {
        "embedding": f"{vocab_size:,}·{hidden}",
        "encoder": f"{layers}·({encoder})",
        "decoder": f"{layers}·(2·{hidden}·{out:,}{plus(biases, out)}{start})",
        "attention": f"{maps} + {2 + additive}·{hidden}·{hidden}{plus(bias, hidden)}",
        "unembedding": "the embedding's" if config.tie_embeddings else output,
    }


def _embedding(config: ModelConfig) -> Passage:
    scaled = f", multiplied by $sqrt({config.hidden_size})$" if config.scale_embeddings else ""
    dropout = (
        f"Dropout [[srivastava2014]] with probability {config.dropout:g} acts on the embedding and "
        "on the output of each layer, never from one step to the next [[zaremba2014]]."
        if config.dropout
        else "There is no dropout."
    )
    return Passage(
        "Embedding",
        "embedding",
        f"Token $w$ enters encoder and decoder as row $w$ of one embedding matrix{scaled}. There "
        "is no encoding of positions: the order of the steps is the order of the tokens. "
        f"{dropout}",
    )


def _encoder(cell: Cell, additive: bool, config: ModelConfig) -> Passage:
    hidden = config.hidden_size
    if not additive:
        return Passage(
            "Encoder and first states",
            "encoder",
            "The encoder reads from left to right, and its last layer's outputs are the states "
            "$h_1$ … $h_S$ that the decoder looks at. Each layer of the decoder begins with output "
            "and cell in which the same layer of the encoder ended [[luong2015]].",
        )
    return Passage(
        "Encoder and first states",
        "encoder",
        "Each layer of the encoder reads the source from both ends [[schuster1997]] with a "
        f"{cell.label} of its own for each, {hidden - hidden // 2} and {hidden // 2} numbers wide, "
        "so that the state $h_j$ of a token, both together, is of what stands on either side. "
        "Each layer of the decoder begins with",
        ("s_0 = tanh(W_0 arrow.l(h)_1 + b_0),",),
        "where the arrow is for the state that came from the end, at the first token.",
    )


def _additive() -> Passage:
    return Passage(
        "Additive attention",
        "attention",
        "Before each step $t$ the last layer of the decoder looks at the states of the source with "
        "the state that it has, $s_(t-1)$ [[bahdanau2015]]:",
        (
            "e_(t j) = v^T tanh(W s_(t-1) + U h_j), wide alpha_(t j) = exp(e_(t j)) / (sum_k "
            "exp(e_(t k))), wide c_t = sum_j alpha_(t j) h_j",
        ),
        "The context $c_t$ is a part of what the cell is given at this step, beside the token, so "
        "that the steps follow each other. $U h_j$ is computed once for a source.",
    )


def _multiplicative() -> Passage:
    return Passage(
        "Multiplicative attention",
        "attention",
        "After each step $t$ the state of the decoder's last layer, $s_t$, looks at the states of "
        "the source [[luong2015]]:",
        (
            "e_(t j) = s_t^T W h_j, wide alpha_(t j) = exp(e_(t j)) / (sum_k exp(e_(t k))), wide "
            "c_t = sum_j alpha_(t j) h_j",
        ),
        "This is the score that the paper calls general. Its input feeding, the output of a step "
        "as an input of the next, is left out: so all steps look at once. $W h_j$ is computed once "
        "for a source.",
    )


def _rest(config: ModelConfig, additive: bool) -> Passage:
    joined = "s_t; c_t; x_t" if additive else "s_t; c_t"
    unembedding = (
        "The unembedding is the embedding matrix itself [[press2017]]."
        if config.tie_embeddings
        else "The unembedding has weights of its own."
    )
    given = ", and $x_t$, what the decoder's last layer is given," if additive else ""
    tanh = " (The paper has a maxout layer there.)" if additive else ""
    return Passage(
        "Output and unembedding",
        "rest",
        f"State and context{given} become the output,",
        (f"o_t = tanh(W_o [{joined}]" + (" + b_o)," if config.bias else "),"),),
        f"and a linear map leads from its {config.hidden_size} numbers to the scores of the "
        f"tokens.{tanh} {unembedding}",
    )
