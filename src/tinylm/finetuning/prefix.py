"""Prefix tuning: learned keys and values that every layer's attention sees before the text.

Li and Liang 2021, section 4. A prefix of n virtual tokens gives each layer n keys and n values of
its own; nothing else changes. The text's own positions stay what they were, counted from 0; the
virtual tokens stand before it, at -n to -1, which matters only to encodings that bias scores by
distance. Their keys are not rotated. (PEFT counts the text from n; with positions from n given, its
outputs are the same.)

While it is trained, the prefix comes out of a small network shared by all layers (section 4.3): n
rows of numbers, through a linear map, tanh and another linear map. ``inner_size = 0`` learns keys
and values directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import PrefixConfig
from tinylm.errors import AdapterError, GenerationError
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import plain_linear
from tinylm.finetuning.sites import (
    Wrapper,
    module_at,
    plain_modules,
    replace_module,
)
from tinylm.model.attention import Attention
from tinylm.model.cache import KVCache
from tinylm.model.reading import Past, Reading
from tinylm.planning.limits import refuse_beyond_memory

_DIRECT_START = 0.02
_NUMBERS = "layers.0.attention.prefix.numbers"
"""What the one tensor of a direct prefix is called; PEFT's is ``prompt_embeddings``."""


class PrefixNumbers(nn.Module):
    """Where the keys and values of all layers come from; shared by the layers' parts."""

    def __init__(self, attentions: Sequence[Attention], settings: PrefixConfig) -> None:
        super().__init__()
        first = attentions[0]
        width = first.num_heads * first.head_dim
        self.shape = (settings.length, len(attentions), 2, first.num_heads, first.head_dim)
        outputs = 2 * len(attentions) * width
        inner = settings.inner_size
        numbers = settings.length * (width + inner + outputs) + inner * (width + outputs)
        what = f"a prefix of {settings.length:,} virtual tokens"
        refuse_beyond_memory(what, {"numbers": 4 * numbers}, "length or inner_size")
        self.network: nn.Module | None = None
        if settings.inner_size:
            self.numbers = nn.Parameter(torch.randn(settings.length, width))
            self.network = nn.Sequential(
                nn.Linear(width, settings.inner_size),
                nn.Tanh(),
                nn.Linear(settings.inner_size, outputs),
            )
        else:
            self.numbers = nn.Parameter(torch.randn(settings.length, outputs) * _DIRECT_START)
        self.to(plain_linear(first.output).weight)

    def forward(self) -> Tensor:
        """Return keys and values, (length, layers, 2, heads, head_dim)."""
        numbers = self.numbers if self.network is None else self.network(self.numbers)
        return numbers.view(self.shape)


class PrefixPart(nn.Module):
    """One layer's share of a prefix."""

    def __init__(self, prefix: PrefixNumbers, layer: int) -> None:
        super().__init__()
        self.prefix = prefix
        self.layer = layer

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return keys and values, (heads, length, head_dim) each."""
        key, value = self.prefix()[:, self.layer].permute(1, 2, 0, 3)
        return key, value


class PrefixedAttention(Wrapper):
    """Attention that sees the keys and values of prefixes before those of the text."""

    base: Attention

    def prefix(self) -> tuple[Tensor, Tensor] | None:
        """Return the prefixes' keys and values, one after the other; see ``Attention.prefix``."""
        prefixes = [part() for part in self.parts.acting()]
        if not prefixes:
            return None
        key, value = (torch.cat(both, 1) for both in zip(*prefixes, strict=True))
        return key, value

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Mix as ``Attention`` does; arguments and result are the same.

        Raises:
            GenerationError: if there is a cache that does not begin with the prefixes.
        """
        prefix = self.prefix()
        if prefix is not None and reading.cache is not None:
            _refuse_other_state(reading.cache, prefix[0].shape[1])
        elif prefix is not None:
            past = PrefixPast(*prefix, reading.positions)
            blocked = reading.blocked
            if blocked is not None:  # nobody is kept from seeing the prefixes
                blocked = nn.functional.pad(blocked, (past.length, 0))
            reading = replace(reading, cache=past, blocked=blocked)
        mixed: Tensor = self.base(x, reading)
        return mixed

    def in_steps(self) -> nn.Module:
        """Return the base: the prefixes stand in the decoding state."""
        return self.base


class PrefixPast:
    """Prefixes before a text that is read at once (a ``model.reading.Past``)."""

    def __init__(self, key: Tensor, value: Tensor, positions: Tensor) -> None:
        self.key = key
        self.value = value
        self.length = key.shape[1]
        before = torch.arange(-self.length, 0, device=positions.device)
        self.positions = torch.cat([before.expand(len(positions), -1), positions], 1)

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefixes' and the text's keys and values; see ``Past.store``."""
        both = []
        for prefix, text in ((self.key, keys), (self.value, values)):
            rows = prefix.to(text.dtype).expand(text.shape[0], -1, -1, -1)
            both.append(torch.cat([rows, text], 2))
        return both[0], both[1]


def _refuse_other_state(cache: Past, length: int) -> None:
    if not isinstance(cache, KVCache) or cache.prefix_length != length:
        raise GenerationError(
            f"the cache does not begin with the prefix of {length} tokens: take it from the "
            "model's decoding_state()"
        )


class Prefix(Method):
    """Prefix tuning of every attention of a model."""

    Settings = PrefixConfig
    learning_rate = 5e-3
    peft_type = "PREFIX_TUNING"
    label = "prefix"
    noun = "prefix tuning"
    explanation = (
        "*Prefix* tuning [[li2021]] learns the keys and values of {length} virtual tokens in "
        "every layer, which a small network makes of trained vectors."
    )

    @staticmethod
    def num_trained(model: nn.Module, settings: PrefixConfig) -> int:
        """Return those of the network and its input, or of keys and values (``base.Method``)."""
        attentions = [m for _, m in plain_modules(model) if isinstance(m, Attention)]
        width = attentions[0].num_heads * attentions[0].head_dim if attentions else 0
        outputs, inner = 2 * len(attentions) * width, settings.inner_size
        if not inner:
            return settings.length * outputs
        return settings.length * width + inner * (width + 1) + outputs * (inner + 1)

    @staticmethod
    def attach(model: nn.Module, name: str, settings: PrefixConfig) -> tuple[nn.Module, list[str]]:
        """Give every attention a prefix (``base.Method``).

        Raises:
            AdapterError: if the model has none.
        """
        layers = {path: m for path, m in plain_modules(model) if isinstance(m, Attention)}
        if not layers:
            raise AdapterError("method prefix needs a model with attention: take a decoder")
        prefix = PrefixNumbers(list(layers.values()), settings)
        for layer, path in enumerate(layers):
            there = module_at(model, path)
            inside = there
            while isinstance(inside, Wrapper) and not isinstance(inside, PrefixedAttention):
                inside = inside.base
            if not isinstance(inside, PrefixedAttention):
                inside = PrefixedAttention(there)
                replace_module(model, path, inside)
            inside.parts.add(name, PrefixPart(prefix, layer))
        return model, []

    @staticmethod
    def to_peft(
        model: nn.Module, settings: PrefixConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
        """Return PEFT's configuration and tensors of a direct prefix; no configuration for others.

        PEFT stores what its network puts out, from which the network cannot be trained on.
        """
        if settings.inner_size:
            return None, dict(tensors)
        attentions = [m for _, m in plain_modules(model) if isinstance(m, Attention)]
        heads, size = attentions[0].num_heads, attentions[0].head_dim
        fields = {
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "num_virtual_tokens": settings.length,
            "num_layers": len(attentions),
            "num_attention_heads": heads,
            "token_dim": heads * size,
            "num_transformer_submodules": 1,
            "prefix_projection": False,
            "encoder_hidden_size": None,
            "inference_mode": True,
        }
        return fields, {"prompt_embeddings": tensors[_NUMBERS]}

    @staticmethod
    def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under our names."""
        return {_NUMBERS if k == "prompt_embeddings" else k: value for k, value in tensors.items()}

    @staticmethod
    def settings_from_peft(
        fields: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
    ) -> PrefixConfig:
        """Return the settings of a prefix that PEFT wrote, which is stored without its network.

        Raises:
            AdapterError: if there is no prefix in it.
        """
        if _NUMBERS not in tensors:
            raise AdapterError(f"{source}: its tensors hold no prompt_embeddings")
        return PrefixConfig(length=len(tensors[_NUMBERS]), inner_size=0)
