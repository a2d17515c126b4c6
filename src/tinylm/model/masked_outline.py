"""A masked language model in words and boxes, for the report."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.model.outline import Box, Outline, Passage
from tinylm.registry import ACTIVATIONS, POSITIONS


def outline_of(config: ModelConfig, vocab_size: int) -> Outline:
    """Return the description of a model of these sizes."""
    hidden, layers, heads = config.hidden_size, config.num_layers, config.num_heads
    dim, inner, bias = config.resolved_head_dim, config.resolved_ffn_size, config.bias
    width, pre = heads * dim, config.norm_placement == "pre"
    encoding, activation = POSITIONS.load(config.positions), ACTIVATIONS.load(config.activation)
    explained = encoding.explanation(config)
    scaled = f", multiplied by $sqrt({hidden})$" if config.scale_embeddings else ""
    norms = 2 * layers + pre
    norm = Box(f"LayerNorm  {hidden}")  # the numbers of all of them are in the table
    attention = Box(f"Self-attention, all see all\n{heads} heads × {dim}", "attention")
    feed = Box(f"Feed-forward, {activation.label}\n{hidden} → {inner:,} → {hidden}", "feed-forward")
    sums = {
        "embedding": f"{vocab_size:,}·{hidden}",
        "positions": f"({config.context_length} + 1)·{hidden}",
        "attention": f"{layers}·({hidden}·3·{width} + {width}·{hidden}"
        + (f" + 3·{width} + {hidden})" if bias else ")"),
        "feed-forward": f"{layers}·({hidden}·{inner:,} + {inner:,}·{hidden}"
        + (f" + {inner:,} + {hidden})" if bias else ")"),
        "norms": f"{norms}·{'2·' if bias else ''}{hidden}",
        "unembedding": "the embedding's"
        if config.tie_embeddings
        else f"{hidden}·{vocab_size:,}" + (f" + {vocab_size:,}" if bias else ""),
        "mask": str(hidden),
    }
    if not encoding.num_parameters(config):
        del sums["positions"]
    placement = "before the parts and after the last layer" if pre else "after each sum"
    dropout = (
        f"Dropout [[srivastava2014]] with probability {config.dropout:g} acts on the sum of "
        "embedding and position, on the attention weights and on both branches of a layer."
        if config.dropout
        else "There is no dropout."
    )
    return Outline(
        phrase=f"a masked language model of {layers} {'layer' if layers == 1 else 'layers'}",
        text=(
            "The model is an encoder alone [[devlin2019]]: every token of a text sees every other, "
            "those after it as well. It learns by finding hidden tokens from what stands on both "
            "sides of them."
        ),
        passages=(
            Passage(
                "Embedding and positions",
                "embedding",
                f"Token $w$ enters as row $w$ of the embedding matrix{scaled}; in place of a "
                f"hidden token's row stands a learned vector of {hidden} numbers, one for all. "
                f"{dropout} {explained.text}",
                (explained.equation,) if explained.equation else (),
                explained.rest if explained.equation else "",
            ),
            Passage(
                "What is hidden",
                "hidden",
                "Of a window of training 15 % of the tokens are hidden, and predicted. After its "
                "last token one place more is read, with the same vector, at which the token that "
                "follows the window is predicted; so that it can be told after a short text too, "
                "half of the windows are cut short, at a length drawn evenly. Training and "
                "validation losses are of these tokens: most of them are predicted from both "
                "sides, which is easier than from the left alone, and their perplexity is not to "
                "be compared with that of a model that reads from left to right.",
            ),
            Passage(
                "Probabilities and texts",
                "prefixes",
                "The probability of a text is taken token by token: each from the tokens before it "
                "alone, by a read of these and the place after them. A text of $T$ tokens takes "
                "$T$ reads, and so does writing it, since each new token changes what all others "
                "have seen: there is no cache.",
            ),
            Passage(
                "Layers",
                "layers",
                f"Each of the {layers} {'layer' if layers == 1 else 'layers'} has self-attention "
                f"[[vaswani2017]] with {heads} {'head' if heads == 1 else 'heads'} of {dim} "
                f"dimensions, without a mask, and a feed-forward part of {inner:,} inner units "
                f"with {activation.label}. Each adds to the stream, which is normalised "
                f"[[ba2016]] {placement}.",
            ),
        ),
        before=(
            Box(f"Token embedding\n{vocab_size:,} × {hidden}", "embedding"),
            Box(f"Vector of hidden tokens\nin place of theirs, {hidden}", "mask"),
            *(
                [Box(encoding.label.capitalize(), "positions" if "positions" in sums else "")]
                if encoding.adds()
                else []
            ),
        ),
        layer=(norm, attention, norm, feed) if pre else (attention, norm, feed, norm),
        after=(
            *([Box(f"LayerNorm  {hidden}")] if pre else []),
            Box(f"Linear (unembedding)\n{hidden} → {vocab_size:,}", "unembedding"),
        ),
        sums=sums,
    )
