"""The decoder-only Transformer: embeddings, decoder layers, unembedding.

Vaswani et al. 2017 without the encoder and cross-attention: embeddings times sqrt(hidden_size)
plus sinusoidal positions, then layers of masked self-attention and feed-forward, each followed
by dropout, residual sum and LayerNorm (post-norm; pre-norm as in GPT-2 is an option).

Initialisation: linear maps by Glorot and Bengio 2010 (uniform, equation 16), biases 0, norms 1,
embeddings N(0, 1/hidden_size) so that they have unit variance once scaled by sqrt(hidden_size);
without that scaling N(0, 0.02), as in GPT-2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.attention import Attention
from tinylm.model.base import (
    GenerativeModel,
    LayerRunner,
    Model,
    parameter_sizes,
    refuse_many_reads,
)
from tinylm.model.cache import KVCache
from tinylm.model.dropout import Dropout
from tinylm.model.hooks import NO_HOOKS, Hooks, as_patterns
from tinylm.model.layers import FeedForward, LayerNorm, last_norm
from tinylm.model.positions import Positions
from tinylm.model.read_text import ReadTexts
from tinylm.model.reading import Ahead, Reading
from tinylm.planning.costs import Costs
from tinylm.planning.decoder import DecoderCosts
from tinylm.registry import POSITIONS


class DecoderLayer(nn.Module):
    """Self-attention and feed-forward, each in a residual branch with dropout and LayerNorm."""

    def __init__(self, config: ModelConfig, index: int, stack: str = "layers") -> None:
        super().__init__()
        self.name = f"{stack}.{index}"
        self.norm_first = config.norm_placement == "pre"
        self.attention = Attention(config, index, f"{self.name}.attention")
        self.attention_norm = LayerNorm(config.hidden_size, config.norm_eps, config.bias)
        self.feed_forward = FeedForward(config, f"{self.name}.feed_forward")
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.norm_eps, config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map the residual stream, (batch, seq, hidden), to the next layer's."""
        hooks = reading.hooks
        x = hooks(f"{self.name}.input", x)
        if self.norm_first:
            x = x + self.dropout(self.attention(self.attention_norm(x), reading))
            x = hooks(f"{self.name}.middle", x)
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x), hooks))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, reading)))
            x = hooks(f"{self.name}.middle", x)
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x, hooks)))
        return hooks(f"{self.name}.residual", x)


def in_turn(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
    """Run ``x``, (batch, seq, hidden), through the layers, keeping all that autograd keeps."""
    for layer in layers:
        x = layer(x, reading)
    return x


class DecoderLM(GenerativeModel):
    """A decoder-only language model: token ids in, logits out.

    Who sees whom is decided by ``sight`` alone; kinds that differ in nothing else override it.
    """

    label = "decoder-only Transformer"
    settings = tuple(field.name for field in fields(ModelConfig) if field.name != "kind")
    costs: ClassVar[Costs] = DecoderCosts()
    places_beyond: ClassVar[int] = 0
    """Places after the context that have positions, too."""
    parts: ClassVar[tuple[str, ...]] = (
        *("embedding", "positions", "attention", "feed-forward", "norms", "unembedding"),
    )
    """Of ``parameter_counts``."""
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
        placed = replace(config, context_length=config.context_length + self.places_beyond)
        self.positions: Positions = POSITIONS.load(config.positions)(placed)
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_layers))
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
        cache: KVCache | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the residual stream after the last layer (and final norm).

        Args:
            ids: token ids, (batch, seq); or give embeddings.
            embeddings: (batch, seq, hidden), unscaled, in place of ``embedding(ids)``.
            positions: (batch or 1, seq), int64; empty: each real token's running count.
            real: (batch, seq), bool, False where a token is padding; empty: all are real.
            given: without effect: a token sees what stands before it in any case.
            hidden: likewise.
            causal: whether a token sees none that stand after it; else it sees all real ones.
            cache: tokens read before; the new ones are added to it.
            hooks: see and replace activations (``self.hooks``).

        Returns:
            (batch, seq, hidden).

        Raises:
            GenerationError: if the sequence is longer than the context, or a position beyond it.
        """
        if (ids is None) == (embeddings is None):
            raise GenerationError("give the model either ids or embeddings")
        if embeddings is None:
            embeddings = self.embedding(ids)
        seq = embeddings.shape[1]
        counted_from_zero = positions is None and cache is None
        if positions is None:
            positions = self._running_positions(embeddings, real, cache)
            if seq > self.config.context_length + self.places_beyond:
                raise GenerationError(
                    f"{seq} tokens do not fit into model.context_length = "
                    f"{self.config.context_length}: cut the sequence or train a longer context"
                )
        if not counted_from_zero:
            self._refuse_beyond_context(positions)
        if cache is not None:
            cache.extend(positions, real)
        blocked, ahead = self.sight(seq, real, given, causal, cache, embeddings.device)
        reading = Reading(
            encoding=self.positions,
            positions=positions,
            blocked=blocked,
            ahead=ahead,
            cache=cache,
            hooks=hooks,
        )

        x = hooks("embedding", embeddings * self.embedding_scale)
        x = self.dropout(self.positions.add(x, positions))  # (batch, seq, hidden)
        x = self.run_layers(x, reading)
        return hooks("final", self.final_norm(x))

    def sight(
        self,
        seq: int,
        real: Tensor | None,
        given: Tensor | None,
        causal: bool,
        cache: KVCache | None,
        device: torch.device,
    ) -> tuple[Tensor | None, Ahead]:
        """Return who sees whom.

        Args:
            seq: new tokens of each row.
            real: as of ``residual``.
            given: likewise.
            causal: likewise.
            cache: likewise; the new tokens are counted in it already.
            device: to be on.

        Returns:
            (batch or 1, 1, seq, keys), True where a query must not see a key, None: nowhere; and
            how many of the new tokens see those after them.
        """
        if causal:
            return _blocked_keys(seq, real, cache, device), "none"
        return _blocked_padding(seq, real, cache, device), "all"

    def run_layers(self, x: Tensor, reading: Reading) -> Tensor:
        """Run the residual stream, (batch, seq, hidden), through all layers."""
        return (self.layer_runner or in_turn)(self.layers, x, reading)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the residual stream, (..., hidden), to logits, (..., vocab)."""
        return hooks("logits", self.unembedding(x))

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> KVCache:
        """Return the decoding state of texts that are still empty.

        Args:
            batch_size: texts.
            max_batch_size: texts to make room for, if ``reorder`` will make more of them.
        """
        layers: Iterable[Any] = self.layers  # decoder layers, or what stands in their place
        prefixes = [p for layer in layers if (p := layer.attention.prefix()) is not None]
        virtual = prefixes[0][0].shape[1] if prefixes else 0
        state = self.new_cache(
            batch_size=batch_size,
            capacity=self.config.context_length + virtual,
            max_batch_size=max_batch_size,
        )
        if prefixes:
            state.begin(prefixes)
        return state

    def new_cache(self, **sizes: int) -> KVCache:
        """Return an empty cache that suits the model; ``sizes`` as of ``KVCache``."""
        weight = self.embedding.weight
        return KVCache(self.config, device=weight.device, dtype=weight.dtype, **sizes)

    def _running_positions(
        self, embeddings: Tensor, real: Tensor | None, cache: KVCache | ReadTexts | None
    ) -> Tensor:
        """Number the real tokens of each row from 0, counting those in the cache."""
        if real is None:
            places = torch.arange(embeddings.shape[1], device=embeddings.device)[None]
        else:
            places = real.cumsum(1) - 1
        if cache is not None and cache.length > 0:
            # Not the number of cached tokens: a cache may start at any position (a prefix).
            held = cache.positions
            if cache.padded:
                held = torch.where(cache.real, held, -1)
            places = places + held.amax(1, keepdim=True) + 1
        return places.clamp(min=0)  # padding before the first real token

    def _refuse_beyond_context(self, positions: Tensor) -> None:
        context = self.config.context_length
        largest = int(positions.max()) if positions.numel() else 0
        if largest >= context + self.places_beyond:
            raise GenerationError(
                f"position {largest} does not fit into model.context_length = {context}: "
                "read the last window again or train a longer context"
            )

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation for ``seq`` new tokens that see ``keys`` tokens."""
        config = self.config
        keys = seq if keys is None else keys
        residual = (batch, seq, config.hidden_size)
        heads = (batch, config.num_heads, seq, config.resolved_head_dim)
        scores = (batch, config.num_heads, seq, keys)
        in_layer: dict[str, tuple[int, ...]] = {
            "input": residual,
            "attention.query": heads,
            "attention.key": heads,
            "attention.value": heads,
            "attention.scores": scores,
            "attention.pattern": scores,
            "attention.mixed": heads,
            "attention.output": residual,
            "middle": residual,
            "feed_forward.inner": (batch, seq, config.resolved_ffn_size),
            "feed_forward.output": residual,
            "residual": residual,
        }
        shapes: dict[str, tuple[int, ...]] = {"embedding": residual}
        for i in range(config.num_layers):
            shapes.update({f"layers.{i}.{name}": shape for name, shape in in_layer.items()})
        shapes["final"] = residual
        shapes["logits"] = (batch, seq, config.resolved_vocab_size)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, each counted once, and their ``total``."""
        counts = dict.fromkeys(self.parts, 0)
        for name, size in parameter_sizes(self):
            if "norm" in name:
                counts["norms"] += size
            elif ".attention." in name:
                counts["attention"] += size
            elif ".feed_forward." in name:
                counts["feed-forward"] += size
            else:
                counts[name.partition(".")[0]] += size
        counts["total"] = sum(counts.values())
        return counts


def _blocked_keys(
    seq: int, real: Tensor | None, cache: KVCache | None, device: torch.device
) -> Tensor | None:
    """Return (batch or 1, 1, seq, keys), True where a query must not see a key; None: nowhere.

    A query sees the real tokens up to and with its own place in the row.
    """
    if seq == 1 and cache is not None and not cache.padded:
        return None
    keys = seq if cache is None else cache.length
    query_place = torch.arange(keys - seq, keys, device=device)[:, None]
    blocked = torch.arange(keys, device=device)[None, :] > query_place  # (seq, keys)
    real_keys = real if cache is None else cache.real
    if real_keys is None:
        return blocked[None, None]
    return blocked[None, None] | ~real_keys[:, None, None, :]


def _blocked_padding(
    seq: int, real: Tensor | None, cache: KVCache | None, device: torch.device
) -> Tensor | None:
    """Return (batch, 1, seq, keys), True where a key is padding; None: all are real."""
    real_keys = real if cache is None else cache.real
    if real_keys is None:
        return None
    # A row a query, as the causal mask has; the view takes no memory.
    return (~real_keys)[:, None, None, :].expand(-1, 1, seq, -1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the block with the model in eval mode, then put each part back into its own mode."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def layers_run_by(model: Model, runner: LayerRunner | None) -> Iterator[None]:
    """Run the block with the model's layers run in another way; empty: its own."""
    before = model.layer_runner
    model.layer_runner = runner
    try:
        yield
    finally:
        model.layer_runner = before


def record(
    model: GenerativeModel,
    patterns: str | Iterable[str],
    ids: Tensor,
    real: Tensor | None = None,
    gradients: bool = False,
    given: Tensor | None = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the model and keep the activations whose names match.

    Args:
        model: the model, in the mode (train or eval) that is wanted.
        patterns: a name or pattern with ``*``, or several.
        ids: (batch, seq).
        real: (batch, seq), False where a token is padding.
        gradients: keep what is needed to differentiate; else what is returned is detached.
        given: as of ``GenerativeModel.residual``.
        hidden: likewise.

    Returns:
        Logits, (batch, seq, vocab), and name -> activation.

    Raises:
        GenerationError: if it reads a text more than once.
    """
    if hidden is None:
        refuse_many_reads(model)
    kept: dict[str, Tensor] = {}

    def keep(name: str, activation: Tensor) -> None:
        kept[name] = activation if gradients else activation.detach()

    hooks = dict.fromkeys(as_patterns(patterns), keep)
    bound = model.hooks(hooks)
    logits: Tensor = model(ids, real=real, given=given, hidden=hidden, hooks=bound)
    return logits if gradients else logits.detach(), kept
