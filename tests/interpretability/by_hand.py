"""A decoder written out head by head, whose every part's output and input can be set.

The slow and obvious form, in float64, for methods that hold some parts of a run as they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tinylm.model.decoder import DecoderLM

Part = tuple[Any, ...]
"""``("embedding",)``, ``("head", layer, head)`` or ``("ff", layer)``; as a reader also
``("query", layer, head)``, ``("key", …)`` and ``("value", …)``."""


@dataclass
class ByHand:
    """What was computed."""

    logits: Tensor
    """(seq, vocab)."""
    wrote: dict[Part, Tensor] = field(default_factory=dict)
    """What each part adds to the stream, (seq, hidden)."""
    streams: dict[Part, Tensor] = field(default_factory=dict)
    """The stream, before any norm, that each part reads, (seq, hidden)."""


@torch.no_grad()
def by_hand(
    model: DecoderLM,
    ids: Tensor,
    writes: Mapping[Part, Tensor] = {},
    reads: Mapping[Part, Tensor] = {},
) -> ByHand:
    """Run a text, (seq,), with some parts' outputs or inputs set.

    Args:
        model: with relu and encodings that are added to the embedding.
        ids: of the text.
        writes: what parts write, in place of what they compute.
        reads: the stream that parts read, in place of the one that there is.
    """
    config = model.config
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    hidden, heads, size = config.hidden_size, config.num_heads, config.resolved_head_dim
    pre = config.norm_placement == "pre"
    seq = len(ids)
    result = ByHand(torch.empty(0))

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (hidden,), weights[f"{name}.weight"], weights[f"{name}.bias"],
                            config.norm_eps)  # fmt: skip

    def wrote(part: Part, value: Tensor) -> Tensor:
        result.wrote[part] = writes.get(part, value)
        return result.wrote[part]

    def read(part: Part, stream: Tensor, name: str) -> Tensor:
        result.streams[part] = stream
        stream = reads.get(part, stream)
        return norm(name, stream) if pre else stream

    scale = math.sqrt(hidden) if config.scale_embeddings else 1.0
    embedded = wrote(("embedding",), weights["embedding.weight"][ids] * scale)
    zero = torch.zeros(1, seq, hidden, dtype=embedded.dtype)
    stream = embedded + model.positions.add(zero, torch.arange(seq)[None])[0]
    ahead = torch.ones(seq, seq).triu(1).bool()
    for i in range(config.num_layers):
        name = f"layers.{i}"
        joint = weights[f"{name}.attention.query_key_value.weight"].view(3, heads, size, hidden)
        biases = weights[f"{name}.attention.query_key_value.bias"].view(3, heads, size)
        output = weights[f"{name}.attention.output.weight"]
        added = weights[f"{name}.attention.output.bias"].expand(seq, hidden)
        for head in range(heads):
            query, key, value = (
                read((part, i, head), stream, f"{name}.attention_norm") @ joint[j, head].T
                + biases[j, head]
                for j, part in enumerate(("query", "key", "value"))
            )
            scores = (query @ key.T / math.sqrt(size)).masked_fill(ahead, -math.inf)
            mixed = scores.softmax(-1) @ value
            columns = output[:, head * size : (head + 1) * size]
            added = added + wrote(("head", i, head), mixed @ columns.T)
        stream = stream + added if pre else norm(f"{name}.attention_norm", stream + added)
        x = read(("ff", i), stream, f"{name}.feed_forward_norm")
        inner = (
            x @ weights[f"{name}.feed_forward.expand.weight"].T
            + weights[f"{name}.feed_forward.expand.bias"]
        ).relu()
        added = wrote(
            ("ff", i),
            inner @ weights[f"{name}.feed_forward.contract.weight"].T
            + weights[f"{name}.feed_forward.contract.bias"],
        )
        stream = stream + added if pre else norm(f"{name}.feed_forward_norm", stream + added)
    if pre:
        stream = norm("final_norm", stream)
    result.logits = stream @ weights["unembedding.weight"].T + weights["unembedding.bias"]
    return result
