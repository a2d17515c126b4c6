"""A model whose weights are set by hand, so that what every method ought to find is known.

Two pre-norm layers without a feed-forward part (its weights are 0). The stream has four blocks:
the token, the token before it, the prediction, the position. Head ``PREVIOUS`` attends to the
previous token, by the positions, and writes what it was into the second block. Head ``INDUCTION``
looks for a key whose token before is the query's own token (K-composition with the first head),
and writes the token that stands there as the prediction; a query without such a key rests on
``<sos>``. So ``A B … A`` goes on with ``B``. All other heads have small random weights.

Blocks hold centred vectors of one length, so that LayerNorm multiplies by one number a layer
(positions 0 aside), and what a head reads is what was written, scaled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.model.helpers import build
from tinylm.model.decoder import DecoderLM

PREVIOUS = (0, 1)
"""Layer and head of the previous-token head."""
INDUCTION = (1, 2)
"""Layer and head of the induction head."""
SOS = 2
VOCAB = 20
CONTEXT = 32
_TOKEN, _BEFORE, _PREDICTION = slice(0, 20), slice(20, 40), slice(40, 60)
_POSITION = slice(60, 60 + CONTEXT)
_HIDDEN, _HEAD_DIM, _HEADS = 60 + CONTEXT, 32, 3
_SHARPNESS = 30.0
"""Score of a key that is looked for, less that of any other."""


@torch.no_grad()
def planted_model(previous: bool = True, induction: bool = True, noise: float = 0.01) -> DecoderLM:
    """Return the model in float64 and eval mode.

    Args:
        previous: whether the previous-token head is there; else it is as the others are.
        induction: the same of the induction head.
        noise: standard deviation of the other heads' weights.
    """
    model = build(
        vocab_size=VOCAB,
        context_length=CONTEXT,
        num_layers=2,
        num_heads=_HEADS,
        hidden_size=_HIDDEN,
        head_dim=_HEAD_DIM,
        ffn_size=4,
        norm_placement="pre",
        positions="learned",
        scale_embeddings=False,
    )
    for parameter in model.layers.parameters():
        parameter.zero_()
    for name, parameter in model.layers.named_parameters():
        if name.endswith("norm.weight"):
            parameter.fill_(1)
        elif "attention" in name and name.endswith("weight"):
            parameter.normal_(std=noise)
    _write(model.embedding.weight, slice(None), _TOKEN, _centred(VOCAB))
    positions = model.get_parameter("positions.table.weight")
    _write(positions, slice(None), _POSITION, _centred(CONTEXT))
    model.unembedding.weight.zero_()
    model.unembedding.weight[:, _PREDICTION] = 2 * torch.eye(VOCAB, dtype=torch.float64)

    first, second = _scale(2), _scale(3)  # of two blocks of length 1, and of three
    if previous:
        back = torch.ones(CONTEXT - 1, dtype=torch.float64).diag(-1)  # position p -> p - 1
        gain = _gain(first)
        tokens = torch.eye(VOCAB, _HEAD_DIM, dtype=torch.float64)
        _plant(
            model,
            PREVIOUS,
            query=(_POSITION, gain * back),
            key=(_POSITION, gain * torch.eye(CONTEXT, dtype=torch.float64)),
            value=(_TOKEN, tokens),
            output=(_BEFORE, tokens.T / first),
        )
    if induction:
        gain = _gain(second)
        tokens = torch.eye(VOCAB, _HEAD_DIM, dtype=torch.float64)
        _plant(
            model,
            INDUCTION,
            query=(_TOKEN, gain * tokens),
            key=(_BEFORE, gain * tokens),
            value=(_TOKEN, tokens),
            output=(_PREDICTION, 3 * tokens.T / second),
        )
        # One dimension of the head is the same for all queries and asks for <sos>.
        layer, head = INDUCTION
        projection = f"layers.{layer}.attention.query_key_value"
        spare = head * _HEAD_DIM + VOCAB
        model.get_parameter(f"{projection}.bias")[spare] = gain * second / 2
        model.get_parameter(f"{projection}.weight")[_HEADS * _HEAD_DIM + spare, SOS] = gain
    return model


def repeated_text(length: int, seed: int = 0) -> list[int]:
    """Return ``<sos>`` and ``length`` different tokens, twice."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [i for i in torch.randperm(VOCAB, generator=generator).tolist() if i != SOS][:length]
    return [SOS, *tokens, *tokens]


def _centred(size: int) -> Tensor:
    """Return vectors of length 1 and mean 0, a row each, as far apart as can be."""
    rows = torch.eye(size, dtype=torch.float64) - 1 / size
    return rows / math.sqrt(1 - 1 / size)


def _scale(blocks: int) -> float:
    """Return what LayerNorm multiplies a stream by that holds so many vectors of length 1."""
    return math.sqrt(_HIDDEN / blocks)


def _gain(scale: float) -> float:
    """Return the weight of queries and of keys that gives the score of a match its size."""
    return math.sqrt(_SHARPNESS * math.sqrt(_HEAD_DIM)) / scale


def _write(matrix: Tensor, rows: slice, columns: slice, values: Tensor) -> None:
    matrix[rows] = 0
    matrix[rows, columns] = values


def _plant(
    model: DecoderLM,
    place: tuple[int, int],
    query: tuple[slice, Tensor],
    key: tuple[slice, Tensor],
    value: tuple[slice, Tensor],
    output: tuple[slice, Tensor],
) -> None:
    """Set W_Q, W_K and W_V, (block, head_dim) each, and W_O, (head_dim, block), of a head."""
    layer, head = place
    projection = model.get_parameter(f"layers.{layer}.attention.query_key_value.weight")
    for part, (block, weight) in enumerate((query, key, value)):
        start = (part * _HEADS + head) * _HEAD_DIM
        rows = slice(start, start + _HEAD_DIM)
        _write(projection, rows, block, weight.T)
    block, weight = output
    columns = slice(head * _HEAD_DIM, (head + 1) * _HEAD_DIM)
    output_map = model.get_parameter(f"layers.{layer}.attention.output.weight")
    output_map[:, columns] = 0
    output_map[block, columns] = weight.T
