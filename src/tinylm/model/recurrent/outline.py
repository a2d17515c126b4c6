"""A recurrent model in words and boxes, for the report."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.model.outline import Box, Outline, Passage
from tinylm.model.recurrent.cells import Cell


def outline_of(cell: Cell, config: ModelConfig, vocab_size: int) -> Outline:
    """Return the description of a model of a cell."""
    hidden, layers = config.hidden_size, config.num_layers
    plural = "layer" if layers == 1 else "layers"
    out = cell.gates * hidden
    dropout = (
        f"Dropout [[srivastava2014]] with probability {config.dropout:g} acts on the embedding and "
        "on the output of each layer, never from one step to the next [[zaremba2014]]."
        if config.dropout
        else "There is no dropout."
    )
    scaled = f", multiplied by $sqrt({hidden})$" if config.scale_embeddings else ""
    unembedding = (
        "The unembedding is the embedding matrix itself [[press2017]]."
        if config.tie_embeddings
        else "The unembedding has weights of its own."
    )
    dropped = (Box(f"Dropout {config.dropout:g}"),) if config.dropout else ()
    biases = config.bias * (1 + cell.recurrent_bias)
    map_input = f"{hidden}·{out:,}" + (f" + {out:,}" if config.bias else "")
    map_state = f"{hidden}·{out:,}" + (f" + {out:,}" if biases > 1 else "")
    output = f"{hidden}·{vocab_size:,}" + (f" + {vocab_size:,}" if config.bias else "")
    return Outline(
        phrase=f"a language model of {layers} {cell.label} {plural}",
        text=(
            "The model is recurrent [[mikolov2010]]: it reads a text token by token, and what it "
            f"knows of the tokens so far is a state of {cell.states * hidden:,} numbers in each of "
            f"{layers} {plural}, however long the text is. The state of the last layer is mapped "
            "to a score for each token of the vocabulary."
        ),
        passages=(
            Passage(
                "Embedding",
                "embedding",
                f"Token $w$ enters as row $w$ of the embedding matrix{scaled}. There is no "
                f"encoding of positions: the order of the steps is the order of the tokens. "
                f"{dropout}",
            ),
            Passage(f"The {cell.label}", "cell", cell.explanation, cell.equations, cell.gradient),
            Passage(
                "Unembedding",
                "rest",
                f"A linear map leads from the last layer's state, {hidden} numbers, to the scores. "
                f"{unembedding}",
            ),
        ),
        before=(
            Box(f"Token embedding\n{vocab_size:,} × {hidden}", "embedding"),
            *dropped,
        ),
        layer=(
            Box(f"Linear, all steps at once\n{hidden} → {out:,}", "input"),
            Box(f"{cell.label}, step by step\n{hidden} → {out:,}", "recurrent", loop=True),
            *dropped,
        ),
        after=(Box(f"Linear (unembedding)\n{hidden} → {vocab_size:,}", "unembedding"),),
        sums={
            "embedding": f"{vocab_size:,}·{hidden}",
            "input": f"{layers}·({map_input})",
            "recurrent": f"{layers}·({map_state})",
            "unembedding": "the embedding's" if config.tie_embeddings else output,
        },
    )
