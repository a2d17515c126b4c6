"""The norms that a vector passes between the part that wrote it and the one that reads it.

In a pre-norm model that is the norm in front of the reader; in a post-norm model every norm from
the writer's own on, by the residual path. Each is linear but for its scale, one positive number a
token, and its bias: ``through`` multiplies by the rest, mean and weight.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.model.base import GenerativeModel
from tinylm.model.layers import LayerNorm


def _post(model: GenerativeModel) -> bool:
    return model.config.norm_placement == "post"


def _norm(model: GenerativeModel, place: str) -> LayerNorm:
    norm = model.get_submodule(place)
    if not isinstance(norm, LayerNorm):
        raise ConfigError(
            f"{place} is inside a {type(norm).__name__}: merge the adapter, where that can be, or "
            "detach it"
        )
    return norm


def norms_of_layer(model: GenerativeModel, layer: int) -> list[LayerNorm]:
    """Return the norms that what stood before a layer passes in it, by the residual path."""
    if not _post(model):
        return []
    parts = ("attention_norm", "feed_forward_norm")
    return [_norm(model, f"layers.{layer}.{part}") for part in parts]


def norms_in_front(model: GenerativeModel, layer: int) -> list[LayerNorm]:
    """Return the norm that the heads of a layer, alone, read through."""
    if _post(model):
        return []
    if layer == model.config.num_layers:
        return [_norm(model, "final_norm")]
    return [_norm(model, f"layers.{layer}.attention_norm")]


def norms_between(model: GenerativeModel, earlier: int, later: int) -> list[LayerNorm]:
    """Return the norms from what the heads of a layer write to what a later layer reads.

    In a pre-norm model the norm in front of a later head belongs to what that reads by; the one in
    front of the unembedding, which stands for the layer after the last, is counted here.
    """
    passed = [norm for i in range(earlier, later) for norm in norms_of_layer(model, i)]
    return passed + (norms_in_front(model, later) if later == model.config.num_layers else [])


def through(rows: Tensor, norms: Sequence[LayerNorm], reading_side: bool = False) -> Tensor:
    """Return rows, (..., hidden), times the matrices of norms with their scale left out.

    Args:
        rows: vectors of the stream, or, on the reading side, what they are multiplied by.
        norms: in the order in which a vector passes them.
        reading_side: multiply by the transposed matrices, the last norm first.
    """
    for norm in reversed(norms) if reading_side else norms:
        weight = norm.weight.detach().to(rows)
        if reading_side:
            rows = rows * weight
            rows = rows - rows.mean(-1, keepdim=True)
        else:
            rows = (rows - rows.mean(-1, keepdim=True)) * weight
    return rows
