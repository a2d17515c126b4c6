"""LongLoRA: LoRA towards a longer context, with sparse attention in training.

Chen et al. 2023, section 3. In training the text is cut into groups of G tokens, and a token
attends to the earlier ones of its group only: O(N G) scores in place of O(N^2). So that groups are
not blind to each other, half of the heads cut half a group later (shifted sparse attention, S^2).
The half groups at both ends then stay by themselves; the paper's implementation joins them by
wrapping around, and masks them apart. In evaluation attention is full, and the model is a plain
one: merged, it has no trace of the method. Embeddings and norms are trained as well, without which
LoRA does not reach a longer context (section 3.3).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import LongLoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import adapters
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import find_linears
from tinylm.finetuning.lora import add_low_rank, check_rank, low_rank_numbers
from tinylm.finetuning.sites import (
    Wrapper,
    module_at,
    plain_modules,
    plain_parameters,
    replace_module,
)
from tinylm.model.attention import Attention
from tinylm.model.base import GenerativeModel
from tinylm.model.changes import note
from tinylm.model.decoder import DecoderLM
from tinylm.model.layers import LayerNorm
from tinylm.model.reading import Reading
from tinylm.numbers.quantized import QuantizedEmbedding
from tinylm.planning.limits import refuse_model
from tinylm.registry import POSITIONS


class Groups(nn.Module):
    """The part of an adapter that says how large groups are; it has no parameters."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class GroupedAttention(Wrapper):
    """Attention that is cut into groups in training."""

    base: Attention

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Mix as ``Attention`` does; arguments and result are the same.

        With a cache, or while hooks watch whole patterns, attention is full in training, too.
        """
        sizes = [part.size for part in self.parts.acting() if isinstance(part, Groups)]
        whole = not self.training or reading.cache is not None or reading.hooks.active
        blocked = reading.blocked
        if blocked is None or whole or not sizes or x.shape[1] <= min(sizes):
            mixed: Tensor = self.base(x, reading)
            return mixed
        size = min(sizes)
        query, key, value = self.base.project(x, reading)
        bias = reading.encoding.bias(reading.positions, reading.positions)
        half = -(-self.base.num_heads // 2)

        def mix(heads: slice, shift: int) -> Tensor:
            rows = [
                self.base.mix(
                    query[:, heads, group],
                    key[:, heads, group],
                    value[:, heads, group],
                    blocked[:, :, group, group],
                    None if bias is None else bias[:, heads, group, group],
                )
                for group in groups(x.shape[1], size, shift)
            ]
            return torch.cat(rows, 2)

        plain, shifted = mix(slice(half), 0), mix(slice(half, None), size // 2)
        return self.base.join(torch.cat([plain, shifted], 1))

    def in_steps(self) -> nn.Module:
        """Return the base: with a cache attention is whole."""
        return self.base

    def refuse_merge(self) -> None:
        """Do nothing: in evaluation, and merged, attention is the base's own."""


def groups(length: int, size: int, shift: int) -> Iterator[slice]:
    """Yield the groups that a text of ``length`` tokens is cut into.

    Args:
        length: tokens.
        size: tokens of a group; the last one may have fewer.
        shift: tokens of the first group, 0 for as many as the others.
    """
    edges = [0, *range(shift or size, length, size), length]
    for start, end in pairwise(edges):
        yield slice(start, end)


class LongLora(Method):
    """LoRA, embeddings and norms of a decoder, trained with attention in groups."""

    Settings = LongLoraConfig
    learning_rate = 2e-3
    label = "LongLoRA"
    noun = "LongLoRA"
    explanation = (
        "*LongLoRA* [[chen2023]] is LoRA on attention alone, with embeddings and norms "
        "trained as well; in training on texts of more than {group_size} tokens, attention is "
        "limited to groups of that many."
    )

    @staticmethod
    def num_trained(model: nn.Module, settings: LongLoraConfig) -> int:
        """Return ``r (in + out)`` a map, and the embeddings and norms (``base.Method``)."""
        parameters = plain_parameters(model)
        return low_rank_numbers(find_linears(model, settings.targets), settings.rank) + sum(
            parameters[name].numel() for name in _trained_with_it(model, settings)
        )

    @staticmethod
    def attach(
        model: nn.Module, name: str, settings: LongLoraConfig
    ) -> tuple[nn.Module, list[str]]:
        """Add low-rank updates and group every attention in training (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, the rank is above that of a matrix, or the
                model has no attention.
        """
        linears = find_linears(model, settings.targets)
        check_rank(linears, settings.rank)
        attentions = [path for path, m in plain_modules(model) if isinstance(m, Attention)]
        if not attentions:
            raise AdapterError("method longlora needs a model with attention: take a decoder")
        trained = _trained_with_it(model, settings)
        scale = settings.alpha / settings.rank
        add_low_rank(model, name, linears, settings.rank, scale, settings.dropout)
        for path in attentions:
            there = module_at(model, path)
            inside = there
            while isinstance(inside, Wrapper) and not isinstance(inside, GroupedAttention):
                inside = inside.base
            if not isinstance(inside, GroupedAttention):
                inside = GroupedAttention(there)
                replace_module(model, path, inside)
            inside.parts.add(name, Groups(settings.group_size))
        return model, trained


def _trained_with_it(model: nn.Module, settings: LongLoraConfig) -> list[str]:
    """Return the names of the embeddings' and norms' parameters that are trained as well."""
    kinds: list[type[nn.Module]] = []
    if settings.train_embeddings:
        if any(isinstance(module, QuantizedEmbedding) for _, module in plain_modules(model)):
            raise AdapterError(
                "the embedding is quantized and cannot be trained: give -o train_embeddings=false"
            )
        kinds.append(nn.Embedding)
    if settings.train_norms:
        kinds.append(LayerNorm)
    return [
        f"{path}.{key}"
        for path, module in plain_modules(model)
        if isinstance(module, tuple(kinds))
        for key, _ in module.named_parameters(recurse=False)
    ]


def extended(model: GenerativeModel, context_length: int) -> GenerativeModel:
    """Return a copy of a model that reads a longer context.

    Positions are computed for the longer context where they are computed at all.

    Args:
        model: a decoder without adapters.
        context_length: of the copy.

    Raises:
        AdapterError: if it is shorter than the model's, beyond 64 bits, positions are learned, the
            model is no decoder or has adapters.
        ConfigError: if it needs more memory than there is.
    """
    if not isinstance(model, DecoderLM) or adapters(model):
        raise AdapterError(
            "a longer context is for a decoder without adapters: detach or fold them"
        )
    if context_length < model.config.context_length:
        raise AdapterError(
            f"context_length {context_length} is shorter than the model's "
            f"{model.config.context_length}: give a larger one"
        )
    if context_length > sys.maxsize:
        raise AdapterError(
            f"context_length {context_length:,} is more than any memory holds: give a smaller one"
        )
    if next(model.positions.parameters(), None) is not None:
        computed = [
            name for name in POSITIONS if not POSITIONS.load(name).num_parameters(model.config)
        ]
        raise AdapterError(
            f"model.positions = {model.config.positions}: there are none beyond the context that "
            f"was trained; train with one of {', '.join(computed)}"
        )
    config = replace(model.config, context_length=context_length)
    refuse_model(config)
    longer = copy.deepcopy(model)
    longer.write_changes(model.changes, built=model.built)
    longer.config = config
    longer.positions = POSITIONS.load(config.positions)(config).to(model.embedding.weight)
    note(longer, "extend", context_length=context_length)
    return longer.train(model.training)
