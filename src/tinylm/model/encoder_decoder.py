"""The Transformer of Vaswani et al. 2017: an encoder reads a source, a decoder writes after it.

The encoder is a stack of layers in which every token of the source sees every other. A layer of the
decoder has a third part between self-attention and feed-forward: cross-attention to what the last
layer of the encoder gives, the memory. Embedding matrix and positions are the same in both stacks
(section 3.4), the unembedding too with ``tie_embeddings``.

A row is one text, its first ``given`` tokens the source. The decoder reads from the last of them on
(``halves``), its positions counted from 0 there, so that one row of T tokens costs T + 1 in both
stacks together. At equal hidden size it has 7/3 of a decoder's numbers in the layers (12 h^2 a
layer of the encoder, 16 h^2 one of the decoder), and about 7/6 of its FLOPs where half of a row is
the source.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.attention import CrossAttention
from tinylm.model.base import GenerativeModel, parameter_sizes
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLayer, in_turn
from tinylm.model.dropout import Dropout
from tinylm.model.encoder_decoder_outline import outline_of
from tinylm.model.halves import Halves, taken
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.layers import LayerNorm, last_norm
from tinylm.model.outline import Outline
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.model.source_cache import TwoCaches
from tinylm.planning.encoder_decoder import EncoderDecoderCosts
from tinylm.registry import POSITIONS


class CrossDecoderLayer(DecoderLayer):
    """Self-attention, cross-attention and feed-forward, each in a residual branch with a norm."""

    def __init__(self, config: ModelConfig, index: int) -> None:
        super().__init__(config, index)
        self.cross_attention = CrossAttention(config, index, f"{self.name}.cross_attention")
        self.cross_attention_norm = LayerNorm(config.hidden_size, config.norm_eps, config.bias)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map the residual stream, (batch, seq, hidden), to the next layer's."""
        hooks = reading.hooks
        x = hooks(f"{self.name}.input", x)
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), reading))
            x = hooks(f"{self.name}.middle", x)
            x = x + self.dropout(self.cross_attention(self.cross_attention_norm(x), reading))
            x = hooks(f"{self.name}.crossed", x)
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x), hooks))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, reading)))
            x = hooks(f"{self.name}.middle", x)
            x = self.cross_attention_norm(x + self.dropout(self.cross_attention(x, reading)))
            x = hooks(f"{self.name}.crossed", x)
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x, hooks)))
        return hooks(f"{self.name}.residual", x)


class Encoder(nn.Module):
    """The stack that reads the source."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(config, i, "encoder.layers") for i in range(config.num_layers)
        )
        self.final_norm = last_norm(config)


class EncoderDecoderLM(GenerativeModel):
    """An encoder–decoder over rows of ids: their first tokens are the source."""

    label = "encoder–decoder Transformer"
    settings = tuple(field.name for field in fields(ModelConfig) if field.name != "kind")
    attends = False
    view = "rest"
    needs_source = True
    costs = EncoderDecoderCosts()
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        """Build and initialise the model from torch's global random state.

        Raises:
            ConfigError: if sizes contradict each other, need more memory than there is, or
                vocab_size is empty.
        """
        super().__init__()
        self.config = config
        self.begin()
        self.positions: Positions = POSITIONS.load(config.positions)(config)
        self.dropout = Dropout(config.dropout)
        self.encoder = Encoder(config)
        self.layers = nn.ModuleList(CrossDecoderLayer(config, i) for i in range(config.num_layers))
        self.final_norm = last_norm(config)
        self.end()

    def residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        given: Tensor | None = None,
        hidden: Tensor | None = None,
        causal: bool = True,
        cache: TwoCaches | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the decoder's residual stream after its last layer (and final norm).

        Args:
            ids: token ids, (batch, seq); or give embeddings.
            embeddings: (batch, seq, hidden), unscaled, in place of ``embedding(ids)``.
            positions: (batch or 1, seq), int64, of the tokens in their rows; empty: each real
                token's running count. The decoder counts from the last token of the source.
            real: (batch, seq), bool, False where a token is padding; empty: all are real.
            given: (batch,), how many first real tokens of a row the encoder reads; empty: the
                first alone.
            hidden: without effect: the encoder sees the whole source, the decoder what it wrote.
            causal: must be true.
            cache: texts read before, of which the new tokens are written; or empty texts.
            hooks: see and replace activations (``self.hooks``).

        Returns:
            (batch, seq, hidden), 0 at places before the last token of the source.

        Raises:
            GenerationError: if the sequence is longer than the context, or a position beyond it.
        """
        if (ids is None) == (embeddings is None):
            raise GenerationError("give the model either ids or embeddings")
        if not causal:
            raise GenerationError(
                "an encoder–decoder writes from left to right: no written token sees those after it"
            )
        x = ids if embeddings is None else embeddings
        assert x is not None
        context = self.config.context_length
        if positions is None and x.shape[1] > context:
            raise GenerationError(
                f"{x.shape[1]} tokens do not fit into model.context_length = {context}: cut the "
                "sequence or train a longer context"
            )
        if positions is not None and positions.numel() and int(positions.max()) >= context:
            raise GenerationError(
                f"position {int(positions.max())} does not fit into model.context_length = "
                f"{context}: read the last window again or train a longer context"
            )
        if cache is not None and cache.length:
            return self._go_on(x, positions, real, cache, hooks)
        halves = Halves.of(x, real, given)
        memory, blocked = self._read_source(x, positions, halves, hooks)
        if positions is None:
            ends = halves.lengths - 1
            places = torch.arange(halves.written.shape[1], device=x.device)[None]
        else:
            ends = taken(positions, halves.ends)[:, 0]
            places = (taken(positions, halves.written) - ends[:, None]).clamp(min=0)
        past = None
        if cache is not None:
            cache.begin(x.shape[1], places.shape[1], blocked, ends)
            past = cache.written
            past.extend(places, halves.written_real)
        reading = Reading(
            encoding=self.positions,
            positions=places,
            blocked=blocked_after(places.shape[1], past, x.device),
            cache=past,
            hooks=hooks,
            memory=memory,
            memory_blocked=blocked,
            crossed=None if cache is None else cache.source,
        )
        written = self._embedded(taken(x, halves.written), places, "embedding", hooks)
        written = self.final_norm(self.run_layers(self.layers, written, reading))
        return hooks("final", halves.back(written))

    def in_one_read(self, ids: Tensor, real: Tensor | None = None) -> dict[str, Tensor | None]:
        """Return that half of every text is its source; see ``GenerativeModel``."""
        return {"real": real, "given": self._in_half(ids, real).lengths}

    def real_inputs(self, path: str, ids: Tensor, real: Tensor | None) -> Tensor | None:
        """Return which inputs of a map hold a token, each in its half; see ``GenerativeModel``."""
        halves = self._in_half(ids, real)
        if path.startswith("encoder.") or ".cross_attention.key_value" in path:
            return halves.source_real
        if path.startswith("layers."):
            return halves.written_real
        # The unembedding gets whole rows, in which the source but its last token has no part.
        held = torch.ones_like(ids, dtype=torch.bool) if real is None else real
        return held & (held.cumsum(1) >= halves.lengths[:, None])

    @staticmethod
    def _in_half(ids: Tensor, real: Tensor | None) -> Halves:
        batch, seq = ids.shape
        counts = torch.full((batch,), seq, device=ids.device) if real is None else real.sum(1)
        return Halves.of(ids, real, counts // 2)

    def _read_source(
        self, x: Tensor, positions: Tensor | None, halves: Halves, hooks: Hooks
    ) -> tuple[Tensor, Tensor | None]:
        """Return the memory, (batch, source, hidden), and where it is padding, or None."""
        places = torch.arange(halves.source.shape[1], device=x.device)[None]
        if positions is not None:
            places = taken(positions, halves.source)
        blocked = None if halves.source_real is None else ~halves.source_real[:, None, None, :]
        reading = Reading(
            encoding=self.positions,
            positions=places,
            blocked=None if blocked is None else blocked.expand(-1, -1, places.shape[1], -1),
            hooks=hooks,
        )
        source = self._embedded(taken(x, halves.source), places, "encoder.embedding", hooks)
        source = self.run_layers(self.encoder.layers, source, reading)
        return hooks("encoder.final", self.encoder.final_norm(source)), blocked

    def _go_on(
        self,
        x: Tensor,
        positions: Tensor | None,
        real: Tensor | None,
        cache: TwoCaches,
        hooks: Hooks,
    ) -> Tensor:
        """Read further tokens of texts, all of which the decoder reads."""
        cache.extend(x.shape[1])
        if positions is not None:
            places = (positions - cache.origins(x.device)).clamp(min=0)
        else:
            past = cache.written.positions.masked_fill(~cache.written.real, -1)
            count = torch.arange(1, x.shape[1] + 1, device=x.device)
            places = past.amax(1, keepdim=True) + (count if real is None else real.cumsum(1))
            places = places.clamp(min=0)
        cache.written.extend(places, real)
        reading = Reading(
            encoding=self.positions,
            positions=places,
            blocked=blocked_after(x.shape[1], cache.written, x.device),
            cache=cache.written,
            hooks=hooks,
            crossed=cache.source,
        )
        written = self._embedded(x, places, "embedding", hooks)
        written = self.run_layers(self.layers, written, reading)
        return hooks("final", self.final_norm(written))

    def _embedded(self, x: Tensor, places: Tensor, name: str, hooks: Hooks) -> Tensor:
        """Return what a stack begins with, (batch, seq, hidden), of ids or embeddings."""
        if not x.is_floating_point():
            x = self.embedding(x)
        x = hooks(name, x * self.embedding_scale)
        dropped: Tensor = self.dropout(self.positions.add(x, places))
        return dropped

    def run_layers(self, layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        """Run ``x``, (batch, seq, hidden), through all layers of a stack."""
        return (self.layer_runner or in_turn)(layers, x, reading)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the residual stream, (..., hidden), to logits, (..., vocab)."""
        return hooks("logits", self.unembedding(x))

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> TwoCaches:
        """Return the decoding state of texts that are still empty.

        Args:
            batch_size: texts.
            max_batch_size: texts to make room for, if ``reorder`` will make more of them.
        """
        layers: Iterable[Any] = self.layers  # decoder layers, or what stands in their place
        prefixes = [p for layer in layers if (p := layer.attention.prefix()) is not None]
        virtual = prefixes[0][0].shape[1] if prefixes else 0

        def new_cache(texts: int, tokens: int) -> KVCache:
            cache = self.new_cache(
                batch_size=texts, capacity=tokens + virtual, max_batch_size=max_batch_size
            )
            if prefixes:
                cache.begin(prefixes)
            return cache

        return TwoCaches(batch_size, self.config.context_length, new_cache)

    def new_cache(self, **sizes: int) -> KVCache:
        """Return an empty cache of what is written; ``sizes`` as of ``KVCache``."""
        weight = self.embedding.weight
        return KVCache(self.config, device=weight.device, dtype=weight.dtype, **sizes)

    @classmethod
    def outline(cls, config: ModelConfig, vocab_size: int) -> Outline:
        """Return what a report says of a model of these sizes."""
        return outline_of(config, vocab_size)

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation of rows of ``seq`` tokens, half of them the source.

        Args:
            batch: rows.
            seq: tokens of each.
            keys: without effect: of a row that is read at once, both stacks see themselves.
        """
        config = self.config
        source = max(1, seq // 2)
        written = seq - source + 1
        hidden, heads, size = config.hidden_size, config.num_heads, config.resolved_head_dim

        def attention(queries: int, keys: int) -> dict[str, tuple[int, ...]]:
            return {
                "query": (batch, heads, queries, size),
                "key": (batch, heads, keys, size),
                "value": (batch, heads, keys, size),
                "scores": (batch, heads, queries, keys),
                "pattern": (batch, heads, queries, keys),
                "mixed": (batch, heads, queries, size),
                "output": (batch, queries, hidden),
            }

        def layer(tokens: int, crosses: bool) -> dict[str, tuple[int, ...]]:
            stream = (batch, tokens, hidden)
            inside: dict[str, tuple[int, ...]] = {"input": stream, "middle": stream}
            inside |= {f"attention.{k}": v for k, v in attention(tokens, tokens).items()}
            if crosses:
                crossed = attention(tokens, source)
                inside |= {f"cross_attention.{k}": v for k, v in crossed.items()}
                inside["crossed"] = stream
            inside["feed_forward.inner"] = (batch, tokens, config.resolved_ffn_size)
            return inside | {"feed_forward.output": stream, "residual": stream}

        shapes: dict[str, tuple[int, ...]] = {"encoder.embedding": (batch, source, hidden)}
        for i in range(config.num_layers):
            own = layer(source, False)
            shapes |= {f"encoder.layers.{i}.{name}": shape for name, shape in own.items()}
        shapes |= {
            "encoder.final": (batch, source, hidden),
            "embedding": (batch, written, hidden),
        }
        for i in range(config.num_layers):
            own = layer(written, True)
            shapes |= {f"layers.{i}.{name}": shape for name, shape in own.items()}
        shapes["final"] = (batch, seq, hidden)
        shapes["logits"] = (batch, seq, config.resolved_vocab_size)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, each counted once, and their ``total``."""
        counts = dict.fromkeys(self.costs.PARTS, 0)
        for name, size in parameter_sizes(self):
            counts[_part_of(name)] += size
        counts["total"] = sum(counts.values())
        return counts


def _part_of(name: str) -> str:
    """Return the part of the model that a parameter belongs to."""
    if "norm" in name:
        return "norms"
    if ".cross_attention." in name:
        return "cross-attention"
    for part in ("attention", "feed_forward"):
        if f".{part}." in name:
            part = part.replace("_", "-")
            return f"encoder {part}" if name.startswith("encoder.") else part
    return name.partition(".")[0]


def blocked_after(new: int, cache: KVCache | None, device: torch.device) -> Tensor | None:
    """Return which keys the newest tokens must not see: those after them, and padding.

    Args:
        new: tokens.
        cache: has them and those before; None: there are none before, and padding is behind them.
        device: of the mask.

    Returns:
        (batch or 1, 1, new, keys), True where a key must not be seen; None: nowhere.
    """
    padded = cache is not None and cache.padded
    if new == 1 and cache is not None and not padded:
        return None
    keys = new if cache is None else cache.length
    place = torch.arange(keys - new, keys, device=device)[:, None]
    blocked = (torch.arange(keys, device=device) > place)[None, None]
    if cache is not None and padded:
        return blocked | ~cache.real[:, None, None, :]
    return blocked
