"""What a kind of model costs is its own to say: the formulas behind a name in ``MODELS``.

The functions of this package ask the kind that a configuration names. Its class has an object with
these methods as ``costs``; the decoder's formulas stand in the modules of the functions, others in
modules of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

from tinylm.config import ModelConfig
from tinylm.registry import MODELS

PRODUCT_BYTES = {"fp32": 4, "bf16": 2}
"""Bytes of a number in matrix products, by precision."""


def halves(seq: int) -> tuple[int, int]:
    """Return how many tokens of a row of ``seq`` an encoder reads, and how many a decoder.

    Half of them are the source, whose last token is read by both.
    """
    source = max(1, seq // 2)
    return source, seq - source + 1


@dataclass(frozen=True)
class ForwardFlops:
    """FLOPs of a forward pass over one sequence; a kind's own parts are further fields."""

    unembedding: int

    @property
    def parts(self) -> dict[str, int]:
        """FLOPs by part, the unembedding last."""
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**{name: own[name] for name in own if name != "unembedding"}, **own}

    @property
    def layers(self) -> int:
        """All but the unembedding."""
        return self.total - self.unembedding

    @property
    def total(self) -> int:
        """All parts."""
        return sum(self.parts.values())


class Costs(Protocol):
    """The formulas of a kind of model; each argument is as of the function that asks for it.

    ``seq`` counts the tokens of a row. A kind that reads a source takes the first half of them,
    ``seq // 2``, as given.
    """

    def parameter_counts(self, config: ModelConfig) -> dict[str, int]:
        """See ``parameters.parameter_counts``."""
        ...

    def table_bytes(self, config: ModelConfig) -> int:
        """Return the bytes of tables that are no parameters, held while it is built."""
        ...

    def forward_flops(self, config: ModelConfig, seq: int, quick: bool) -> ForwardFlops:
        """See ``flops.forward_flops``."""
        ...

    def input_gradient_flops(self, config: ModelConfig, seq: int) -> int:
        """Return the FLOPs that the gradient of the embeddings takes, and nothing else needs."""
        ...

    def decoding_flops(self, config: ModelConfig, prompt: int, new: int, cached: bool) -> int:
        """See ``flops.decoding_flops``."""
        ...

    def decoding_bytes(
        self, config: ModelConfig, batch: int, tokens: int, bytes_per_number: int
    ) -> int:
        """See ``memory.kv_bytes``."""
        ...

    def layer_activation_bytes(
        self, config: ModelConfig, batch: int, seq: int, precision: str, quick: bool
    ) -> dict[str, int]:
        """See ``activations.layer_activation_bytes``."""
        ...

    def activation_bytes(
        self,
        config: ModelConfig,
        batch: int,
        seq: int,
        precision: str,
        segment: int,
        frozen_embedding: bool,
        quick: bool,
    ) -> dict[str, int]:
        """See ``activations.activation_bytes``; among the parts is ``loss``."""
        ...

    def backward_bytes(self, config: ModelConfig, tokens: int, precision: str, quick: bool) -> int:
        """Return what a layer's backward pass holds besides what was kept for it: an estimate."""
        ...

    def inner_size(self, config: ModelConfig) -> int:
        """Return the width of a layer's widest array, which a forward pass holds at one time."""
        ...


def costs_of(config: ModelConfig) -> Costs:
    """Return the formulas of the kind that a configuration names."""
    costs: Costs = MODELS.load(config.kind).costs
    return costs
