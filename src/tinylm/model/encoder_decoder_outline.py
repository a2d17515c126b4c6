"""An encoder–decoder in words and boxes, for the report."""

from __future__ import annotations

from tinylm.config import ModelConfig
from tinylm.model.outline import Box, Outline, Passage, Stack
from tinylm.registry import ACTIVATIONS, POSITIONS


def outline_of(config: ModelConfig, vocab_size: int) -> Outline:
    """Return the description of a model of these sizes."""
    hidden, layers, inner = config.hidden_size, config.num_layers, config.resolved_ffn_size
    heads, dim = config.num_heads, config.resolved_head_dim
    width, bias = heads * dim, config.bias
    each = f"{layers} layer" if layers == 1 else f"{layers} layers"
    head = "1 head" if heads == 1 else f"{heads} heads"
    norm_first = config.norm_placement == "pre"
    embedded = Box(f"Token embedding\n{vocab_size:,} × {hidden}", "embedding")
    encoding = POSITIONS.load(config.positions)
    learned = "positions" if encoding.num_parameters(config) else ""
    placed = (Box(encoding.label.capitalize(), learned),)
    last = (Box("LayerNorm"),) if norm_first else ()
    attends = f"{hidden} → {heads} × {dim} → {hidden}"
    feeds = f"{hidden} → {inner:,} → {hidden}"
    product = f"3·{hidden}·{width} + {width}·{hidden}" + (
        f" + 3·{width} + {hidden}" if bias else ""
    )
    feed = f"2·{hidden}·{inner:,}" + (f" + {inner:,} + {hidden}" if bias else "")
    norms = 5 * layers + 2 * norm_first
    output = f"{hidden}·{vocab_size:,}" + (f" + {vocab_size:,}" if bias else "")
    sums = {
        "embedding": f"{vocab_size:,}·{hidden}",
        "positions": f"{config.context_length}·{hidden}" if learned else "none",
        "encoder attention": f"{layers}·({product})",
        "encoder feed-forward": f"{layers}·({feed})",
        "attention": f"{layers}·({product})",
        "cross-attention": f"{layers}·({product})",
        "feed-forward": f"{layers}·({feed})",
        "norms": f"{norms}·{f'2·{hidden}' if bias else hidden}",
        "unembedding": "the embedding's" if config.tie_embeddings else output,
    }
    return Outline(
        phrase=f"an encoder–decoder Transformer with {each} in each stack and {head}",
        text=(
            "The model is the Transformer of Vaswani et al. [[vaswani2017]] with both of its "
            f"stacks, {each} each. The encoder reads a source, in which every token sees every "
            "other one. The decoder reads from the last token of the source on and writes token "
            "after token: each sees those before it, and, by cross-attention in every layer, what "
            "the encoder has made of the whole source. It is trained on windows of text of which "
            "the first part, of a length drawn evenly, is the source, and the rest is written."
        ),
        passages=(
            _embedding(config),
            _attention(config),
            _cross_attention(config),
            _rest(config),
        ),
        before=(embedded, *placed),
        layer=(
            Box(f"Masked self-attention\n{attends}", "attention"),
            Box(f"Cross-attention\n{attends}", "cross-attention", reads=True),
            Box(f"Feed-forward\n{feeds}", "feed-forward"),
        ),
        after=(*last, Box(f"Linear (unembedding)\n{hidden} → {vocab_size:,}", "unembedding")),
        sums=sums,
        source=Stack(
            title="encoder",
            tokens="token ids of the source",
            before=(Box(f"Token embedding\nthe same {vocab_size:,} × {hidden}"), *_again(placed)),
            layer=(
                Box(f"Self-attention\n{attends}", "encoder attention"),
                Box(f"Feed-forward\n{feeds}", "encoder feed-forward"),
            ),
            after=(*last, Box("Memory")),
        ),
        title="decoder",
        tokens="from its last token on",
        in_layer=(
            "Each box in a frame stands in a residual branch with dropout and LayerNorm, the norm "
            + ("before the box" if norm_first else "after the sum")
        ),
    )


def _again(boxes: tuple[Box, ...]) -> tuple[Box, ...]:
    """Return boxes without parameters, which are counted elsewhere."""
    return tuple(Box(box.text) for box in boxes)


def _embedding(config: ModelConfig) -> Passage:
    encoding = POSITIONS.load(config.positions)
    explanation = encoding.explanation(config)
    scaled = (
        f"multiplied by $sqrt({config.hidden_size})$" if config.scale_embeddings else "as it is"
    )
    return Passage(
        "Embedding and positions",
        "embedding",
        f"Token $w$ enters either stack as row $w$ of one and the same embedding matrix "
        f"[[vaswani2017]], {scaled}. Positions are counted from 0 in each stack. "
        f"{explanation.text}",
        (explanation.equation,) if explanation.equation else (),
        explanation.rest,
    )


def _attention(config: ModelConfig) -> Passage:
    return Passage(
        "Self-attention",
        "selfattention",
        "In both stacks queries, keys and values come from the same tokens, by one projection"
        + (
            f" for all {config.num_heads} heads of {config.resolved_head_dim} dimensions:"
            if config.num_heads > 1
            else ":"
        ),
        (f'"Attention"(Q, K, V) = "softmax"((Q K^T) / sqrt({config.resolved_head_dim}) + M) V',),
        "In the decoder $M$ is minus infinity where a key stands after the query; in the encoder "
        "it hides padding alone.",
    )


def _cross_attention(config: ModelConfig) -> Passage:
    return Passage(
        "Cross-attention",
        "crossattention",
        "Each layer of the decoder has a second attention, whose queries come from the decoder's "
        "residual stream $x$ and whose keys and values come from the memory $m$, the output of the "
        "encoder's last layer:",
        ("Q = x W_Q + b_Q, wide K = m W_K + b_K, wide V = m W_V + b_V",)
        if config.bias
        else ("Q = x W_Q, wide K = m W_K, wide V = m W_V",),
        "No positions act here: where a token of the source stands is in the memory itself. While "
        "a text is written, $K$ and $V$ of the source stay as they are, so that they are computed "
        "once and kept beside the growing cache of the self-attention.",
    )


def _rest(config: ModelConfig) -> Passage:
    activation = ACTIVATIONS.load(config.activation)
    norm = (
        "LayerNorm [[ba2016]] stands before each part of a layer, and once behind the last layer "
        "of each stack (pre-norm [[xiong2020]])."
        if config.norm_placement == "pre"
        else "LayerNorm [[ba2016]] stands behind each residual sum (post-norm, as in the paper)."
    )
    dropout = (
        f"Dropout [[srivastava2014]] with probability {config.dropout:g} acts on the embeddings, "
        "the attention weights and each part's output."
        if config.dropout
        else "There is no dropout."
    )
    unembedding = (
        "The unembedding is the embedding matrix itself [[press2017]]."
        if config.tie_embeddings
        else "The unembedding has weights of its own."
    )
    return Passage(
        "Feed-forward, normalization, unembedding",
        "rest",
        f"The last part of every layer has {config.resolved_ffn_size:,} inner units and an "
        f"activation {activation.source}:",
        (f'"FFN"(x) = {activation.formula.format(x="x W_1 + b_1")} W_2 + b_2',),
        f"{norm} {dropout} {unembedding}",
    )
