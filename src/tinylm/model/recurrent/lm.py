"""The recurrent language model: embedding, recurrent layers, unembedding (Mikolov et al. 2010).

A token enters as its embedding, goes through the layers one step after the other, and the state of
the last layer is mapped to the logits of what follows. With dropout as in Zaremba, Sutskever and
Vinyals 2014: on the embedding and on every layer's output, never from step to step.

Nothing tells the model where a token stands but the order of the steps, and what it knows of a text
is its state, of a size that does not grow: a token costs the same wherever it stands.

Initialisation: maps of the tokens by Glorot and Bengio 2010 for each gate, maps of the state
orthogonal for each gate (Saxe et al. 2014: no direction grows or vanishes at the first step),
biases 0, those of the LSTM's forget gate 1 (Jozefowicz et al. 2015); the embedding as the
decoder's. What reads a layer's output (the next layer's map, the unembedding) is divided by the
root mean square that outputs have at first, 0.68, 0.41 and 0.23 in an RNN, a GRU and an LSTM. A
signal that each layer made smaller would leave the logits near 0 for long: two layers of width 70
are after 300 steps at a loss of 2.8 (GRU) and 3.0 (LSTM) with it, 5.2 and 4.6 without, and 5.4 and
5.5 with the drawing of ``torch.nn``.
"""

from __future__ import annotations

import sys
from typing import ClassVar

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.base import GenerativeModel, parameter_sizes
from tinylm.model.decoder import in_turn
from tinylm.model.drawing import draw_embedding, draw_map
from tinylm.model.dropout import Dropout
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.outline import Outline
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.model.recurrent.cells import Cell
from tinylm.model.recurrent.elman import ELMAN, LINEAR
from tinylm.model.recurrent.gru import GRU
from tinylm.model.recurrent.layer import RecurrentLayer
from tinylm.model.recurrent.lstm import LSTM
from tinylm.model.recurrent.outline import outline_of
from tinylm.model.recurrent.state import RecurrentState
from tinylm.planning.recurrent import RecurrentCosts


def _said(cell: Cell) -> tuple[str, RecurrentCosts]:
    """Return what a kind says of itself by its cell: label and costs."""
    costs = RecurrentCosts(cell.gates, cell.states, cell.recurrent_bias, cell.kept, cell.temporary)
    return f"{cell.label} language model", costs


class RecurrentLM(GenerativeModel):
    """A language model of recurrent layers; its kinds name their cell."""

    cell: ClassVar[Cell]
    settings: ClassVar[tuple[str, ...]] = (
        *("vocab_size", "context_length", "num_layers", "hidden_size", "dropout"),
        *("scale_embeddings", "tie_embeddings", "bias"),
    )
    attends = False
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        """Build and initialise the model from torch's global random state.

        Raises:
            ConfigError: if it needs more memory than there is, or vocab_size is empty.
        """
        super().__init__()
        self.config = config
        self.begin()
        self.positions = Positions(config)  # none: the order of the steps is enough
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(config, self.cell, i) for i in range(config.num_layers)
        )
        self.end()

    @property
    def stepwise(self) -> frozenset[str]:
        """The maps of the states."""
        return frozenset(f"layers.{i}.recurrent" for i in range(self.config.num_layers))

    @property
    def compiles(self) -> bool:
        """False: the loop over the steps stays a loop."""
        return False

    @torch.no_grad()
    def draw(self) -> None:
        """Draw the weights of a new model."""
        for layer in self.layers:
            assert isinstance(layer, RecurrentLayer)
            layer.initialise()
        draw_map(self.unembedding)
        self.unembedding.weight /= self.cell.start_size
        draw_embedding(self.embedding, self.config)

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
        cache: RecurrentState | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the output of the last layer.

        Args:
            ids: token ids, (batch, seq), of any length; or give embeddings.
            embeddings: (batch, seq, hidden), unscaled, in place of ``embedding(ids)``.
            positions: without effect: the order of the tokens is all that counts.
            real: (batch, seq), bool, False where a token is padding, which leaves the state as it
                was; empty: all are real.
            given: without effect: the state is of all tokens before in any case.
            hidden: likewise.
            causal: must be true.
            cache: the state after the tokens read before; the new ones are read from it on.
            hooks: see and replace activations (``self.hooks``). What replaces a state is seen by
                the layers above it, not by the steps after it.

        Returns:
            (batch, seq, hidden).

        Raises:
            GenerationError: if tokens are to see those after them, or the state is full.
        """
        if (ids is None) == (embeddings is None):
            raise GenerationError("give the model either ids or embeddings")
        if not causal:
            raise GenerationError(
                f"a {self.cell.label} reads from left to right: no token sees those after it"
            )
        if ids is not None:
            embeddings = self.embedding(ids.T).transpose(0, 1)  # steps first in memory
        assert embeddings is not None
        if cache is not None:
            cache.extend(embeddings.shape[1])
        places = torch.empty(1, 0, dtype=torch.long, device=embeddings.device)
        reading = Reading(self.positions, places, hooks=hooks, real=real, carried=cache)
        x = hooks("embedding", embeddings * self.embedding_scale)
        x = self.dropout(x)  # (batch, seq, hidden)
        return hooks("final", (self.layer_runner or in_turn)(self.layers, x, reading))

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the last layer's output, (..., hidden), to logits, (..., vocab)."""
        return hooks("logits", self.unembedding(x))

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> RecurrentState:
        """Return the state of texts that are still empty, for as many tokens as a window has.

        Args:
            batch_size: texts.
            max_batch_size: needs no announcement here.
        """
        return RecurrentState(batch_size, self.config.context_length)

    def carried_state(self, batch_size: int) -> RecurrentState:
        """Return the state of texts that are still empty, however long they become."""
        return RecurrentState(batch_size, sys.maxsize)

    @classmethod
    def outline(cls, config: ModelConfig, vocab_size: int) -> Outline:
        """Return what a report says of a model of these sizes."""
        return outline_of(cls.cell, config, vocab_size)

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation for ``seq`` new tokens."""
        hidden = (batch, seq, self.config.hidden_size)
        shapes: dict[str, tuple[int, ...]] = {"embedding": hidden}
        for i in range(self.config.num_layers):
            shapes[f"layers.{i}.input"] = hidden
            shapes[f"layers.{i}.given"] = (*hidden[:2], self.cell.gates * hidden[2])
            shapes[f"layers.{i}.state"] = hidden
            shapes[f"layers.{i}.output"] = hidden
        shapes["final"] = hidden
        shapes["logits"] = (batch, seq, self.config.resolved_vocab_size)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, each counted once, and their ``total``."""
        counts = dict.fromkeys(("embedding", "input", "recurrent", "unembedding"), 0)
        for name, size in parameter_sizes(self):
            part = next((p for p in ("input", "recurrent") if f".{p}." in name), None)
            counts[part or name.partition(".")[0]] += size
        counts["total"] = sum(counts.values())
        return counts


class ElmanLM(RecurrentLM):
    """Of simple recurrent layers with tanh."""

    cell = ELMAN
    label, costs = _said(ELMAN)


class LinearLM(RecurrentLM):
    """Of linear recurrent layers: what the theory of gradients is about."""

    cell = LINEAR
    label, costs = _said(LINEAR)


class GRULM(RecurrentLM):
    """Of gated recurrent units."""

    cell = GRU
    label, costs = _said(GRU)


class LSTMLM(RecurrentLM):
    """Of long short-term memory."""

    cell = LSTM
    label, costs = _said(LSTM)
