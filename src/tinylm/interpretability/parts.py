"""The residual stream as the sum of what each part of the model wrote to it.

Every norm is an affine map once its scale is frozen at what it was: it subtracts the mean,
multiplies by the scale and its weight, and adds its bias. So the stream, and with it each logit, is
exactly the sum of what the embedding, the positions, every head, every feed-forward part and every
bias wrote, each sent through the norms that came after it (Elhage et al. 2021). In a pre-norm model
that is the final norm alone. In a post-norm model it is every norm from the part's own on, so that
what a part adds says less of the part alone: the scales it passes depend on all parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.interpretability.trace import Trace
from tinylm.interpretability.weights import affine, maps_of


@dataclass(frozen=True, eq=False)
class Parts:
    """What each part wrote, as it stands in the stream that the unembedding reads."""

    names: tuple[str, ...]
    """``embedding``, ``positions``, ``layers.0.head.0``, …, ``layers.0.attention.bias``,
    ``layers.0.feed_forward``, ``layers.0.feed_forward.bias``, ``norms``."""
    values: Tensor
    """(parts, batch, seq, hidden)."""

    def __getitem__(self, name: str) -> Tensor:
        """Return one part's, (batch, seq, hidden).

        Raises:
            ConfigError: if there is no such part.
        """
        if name not in self.names:
            raise ConfigError(f"there is no part {name!r}; there are: {', '.join(self.names)}")
        return self.values[self.names.index(name)]


@torch.no_grad()
def parts_of(trace: Trace) -> Parts:
    """Return what each part wrote, with the scales of all norms frozen.

    Their sum is what the unembedding reads, ``trace["final"]``, to rounding.

    Args:
        trace: of all activations.

    Raises:
        ConfigError: if an adapter that is no linear map writes to the stream beside the parts.
    """
    config = trace.model.config
    post = config.norm_placement == "post"
    embedding = trace["embedding"]
    names = ["embedding", "positions"]
    values = [embedding, trace["layers.0.input"] - embedding]
    bias = torch.zeros_like(embedding)  # what the norms' biases have come to

    def write(name: str, value: Tensor) -> None:
        names.append(name)
        values.append(value)

    def pass_norm(place: str) -> None:
        nonlocal bias
        norm, (_, scale) = trace.norm(place), trace.normalised(place)
        factor = scale * norm.weight  # (batch, seq, hidden)
        for i, value in enumerate(values):
            values[i] = (value - value.mean(-1, keepdim=True)) * factor
        bias = (bias - bias.mean(-1, keepdim=True)) * factor
        if norm.bias is not None:
            bias = bias + norm.bias

    for i in range(config.num_layers):
        heads, attention = trace.head_outputs(i), trace[f"layers.{i}.attention.output"]
        for head in range(config.num_heads):
            write(f"layers.{i}.head.{head}", heads[:, head])
        _, shift = affine(maps_of(trace.model, i)[1], config.num_heads * config.resolved_head_dim)
        write(f"layers.{i}.attention.bias", shift.expand_as(attention))
        if post:
            pass_norm(f"layers.{i}.attention_norm")
        written = trace[f"layers.{i}.feed_forward.output"]
        shift = _contract_bias(trace, i)
        write(f"layers.{i}.feed_forward", written - shift)
        write(f"layers.{i}.feed_forward.bias", shift.expand_as(written))
        if post:
            pass_norm(f"layers.{i}.feed_forward_norm")
    if not post:
        pass_norm("final_norm")
    write("norms", bias)
    parts = Parts(tuple(names), torch.stack(values))
    _refuse_remainder(parts, trace)
    return parts


def _contract_bias(trace: Trace, layer: int) -> Tensor:
    module = trace.model.get_submodule(f"layers.{layer}.feed_forward")
    contract = getattr(module, "contract", None)
    if contract is None:
        raise ConfigError(
            f"the feed-forward part of layer {layer} is inside a {type(module).__name__}: "
            "merge the adapter, where that can be, or detach it"
        )
    return affine(contract, trace.model.config.resolved_ffn_size)[1]


def _refuse_remainder(parts: Parts, trace: Trace) -> None:
    """Refuse a model whose stream is more than the sum of its parts."""
    final = trace["final"]
    real = trace.real[..., None]
    rest = ((parts.values.sum(0) - final) * real).abs().max()
    tolerance = 1e-3 if final.itemsize <= 4 else 1e-9
    if float(rest) > tolerance * float((final * real).abs().max()):
        raise ConfigError(
            "the residual stream is not the sum of what its parts wrote: an adapter writes to it, "
            "too; merge it, where that can be, or detach it"
        )
