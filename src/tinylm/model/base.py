"""What training, generation and checkpoints need of a model, whatever it is made of.

A model has a configuration, a forward pass to its residual stream, and a last map to logits. One
that texts can be made with also has a fresh decoding state. What is registered in ``MODELS`` is
built from its configuration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.loss import token_losses
from tinylm.model.reading import Reading

LayerRunner = Callable[[Iterable[nn.Module], Tensor, Reading], Tensor]
"""Gets the layers, the residual stream and what goes with it, and returns the residual stream after
the last layer: ``decoder.in_turn``, or what computes the same in another way."""


class DecodingState(Protocol):
    """What a model writes down of the texts that it continues, so that it reads each token once."""

    batch_size: int
    """Texts."""
    length: int
    """Tokens read of each text, padding included."""
    capacity: int
    """Most tokens that it holds."""

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; the number of texts may change.

        Args:
            rows: (new batch,), int64.
            shared: first tokens that are the same in text i and in text ``rows[i]``.
        """
        ...


class Model(nn.Module):
    """A network over token ids that can be trained and saved."""

    config: ModelConfig
    """What it is built from."""
    layer_runner: LayerRunner | None = None
    """How the layers are run, as gradient checkpointing does; None: in turn."""

    def residual(self, ids: Tensor, *, real: Tensor | None = None) -> Tensor:
        """Return what logits are computed from, (batch, seq, hidden).

        Args:
            ids: (batch, seq).
            real: (batch, seq), bool, False where a token is padding; None: all are real.
        """
        raise NotImplementedError

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map what ``residual`` returns, (..., hidden), to logits, (..., classes)."""
        raise NotImplementedError

    def summed_loss(self, x: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """Return the sum of the cross-entropies of the labels, in nats.

        Args:
            x: what ``residual`` returns, (batch, seq, hidden).
            labels: (batch, seq), int64.
            ignored: label of positions that do not count.

        Returns:
            A scalar, in float32 at least.
        """
        return token_losses(self.unembed(x), labels, ignored).sum()

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> DecodingState:
        """Return what is written down of texts that are empty yet.

        Args:
            batch_size: texts.
            max_batch_size: texts to make room for, if ``reorder`` will make more of them.

        Raises:
            GenerationError: if no text can be made with this model.
        """
        raise GenerationError(f"a {type(self).__name__} makes no text: take a language model")


class GenerativeModel(Model):
    """A model that continues texts token by token."""

    def residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        causal: bool = True,
        cache: Any = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the residual stream after the last layer; ``DecoderLM.residual`` says of what."""
        raise NotImplementedError
