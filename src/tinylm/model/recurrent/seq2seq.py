"""Recurrent sequence-to-sequence models: an encoder reads the source, a decoder writes the rest.

Of a row the encoder reads the first ``given`` tokens, and the decoder goes on from the last of
them (``division``). There are as many layers of the encoder as of the decoder; a decoder's layer
begins with a state made of its encoder's, and the last attends (``pairs``). Two kinds:

``seq2seq-additive``        Bahdanau, Cho and Bengio 2015: GRU, an encoder that reads from both
                            ends, additive score of the state before the step. In place of the
                            paper's maxout before the unembedding there is tanh.
``seq2seq-multiplicative``  Luong, Pham and Manning 2015: LSTM, an encoder that reads from left to
                            right, the score "general" of the state after the step. The output is
                            not fed into the next step, so that all places look at once.

Initialisation as of recurrent language models (``lm``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.model.base import GenerativeModel, parameter_sizes
from tinylm.model.decoder import in_turn
from tinylm.model.drawing import draw_embedding, draw_map
from tinylm.model.dropout import Dropout
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.outline import Outline
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.model.recurrent.cells import Cell
from tinylm.model.recurrent.division import Division, divide
from tinylm.model.recurrent.gru import GRU
from tinylm.model.recurrent.lm import RecurrentLM
from tinylm.model.recurrent.lstm import LSTM
from tinylm.model.recurrent.pairs import (
    AdditiveLayer,
    AttendingLayer,
    MultiplicativeLayer,
    PairLayer,
)
from tinylm.model.recurrent.seq2seq_outline import outline_of
from tinylm.model.recurrent.state import SourceState
from tinylm.planning.seq2seq import Seq2SeqCosts


def _costs(cell: Cell, additive: bool) -> Seq2SeqCosts:
    return Seq2SeqCosts(
        cell.gates, cell.states, cell.recurrent_bias, cell.kept, cell.temporary, additive
    )


class Seq2SeqLM(GenerativeModel):
    """A recurrent encoder and decoder with attention; its kinds name cell and attention."""

    cell: ClassVar[Cell]
    last: ClassVar[type[AttendingLayer]]
    """Of the last layer, which attends."""
    both_ways: ClassVar[bool]
    """Whether the encoder reads from both ends."""
    settings: ClassVar[tuple[str, ...]] = RecurrentLM.settings
    attends = False
    view = "rest"
    needs_source = True
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        """Build and initialise the model from torch's global random state.

        Raises:
            ConfigError: if it needs more memory than there is, vocab_size is empty, or there is
                no width for two directions.
        """
        super().__init__()
        size = config.hidden_size
        if self.both_ways and size < 2:
            raise ConfigError(
                f"model.hidden_size = {size}: an encoder that reads from both ends needs 2 at least"
            )
        self.config = config
        self.begin()
        self.positions = Positions(config)  # none: the order of the steps is enough
        self.dropout = Dropout(config.dropout)
        count = config.num_layers
        self.layers = nn.ModuleList(
            (self.last if i == count - 1 else PairLayer)(config, self.cell, i, self.both_ways)
            for i in range(count)
        )
        self.end()

    @property
    def stepwise(self) -> frozenset[str]:
        """The maps of the states, and those of query and context where they are in the loop."""
        encoder = ("rightward.", "leftward.") if self.both_ways else ("",)
        own = (*(f"encoder.{end}recurrent" for end in encoder), "decoder.recurrent")
        count = self.config.num_layers
        names = {f"layers.{i}.{name}" for i in range(count) for name in own}
        in_loop = ("attention.query", "context") if self.last.additive else ()
        return frozenset(names | {f"layers.{count - 1}.{name}" for name in in_loop})

    @property
    def compiles(self) -> bool:
        """False: the loop over the steps stays a loop."""
        return False

    @torch.no_grad()
    def draw(self) -> None:
        """Draw the weights of a new model."""
        for layer in self.layers:
            assert isinstance(layer, PairLayer)
            layer.initialise()
        draw_map(self.unembedding)
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
        cache: SourceState | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the decoder's outputs.

        Args:
            ids: token ids, (batch, seq), of any length; or give embeddings.
            embeddings: (batch, seq, hidden), unscaled, in place of ``embedding(ids)``.
            positions: without effect: the order of the tokens is all that counts.
            real: (batch, seq), bool, False where a token is padding; empty: all are real.
            given: (batch,), how many first real tokens are the source; empty: the first alone.
                With a cache it counts in the first pass.
            hidden: without effect.
            causal: must be true.
            cache: of the tokens read before; the new ones are the decoder's.
            hooks: see and replace activations (``self.hooks``). What replaces a state or a weight
                of the attention is seen by what comes after it, not by later steps.

        Returns:
            (batch, seq, hidden); 0 in the source but at its last token, and at padding.

        Raises:
            GenerationError: if tokens are to see those after them, a source is empty or not whole,
                or the state is full.
        """
        if (ids is None) == (embeddings is None):
            raise GenerationError("give the model either ids or embeddings")
        if not causal:
            raise GenerationError(
                "a recurrent decoder writes from left to right: no token sees those after it"
            )
        if ids is not None:
            embeddings = self.embedding(ids.T).transpose(0, 1)  # steps first in memory
        assert embeddings is not None
        batch, seq = embeddings.shape[:2]
        going_on = cache is not None and cache.length > 0
        if cache is not None:
            cache.extend(seq)
        x = hooks("embedding", embeddings * self.embedding_scale)
        division: Division | None = None
        if not going_on:
            division = divide((batch, seq), real, given, x.device, whole=cache is not None)
            x = division.take(x)
        x = self.dropout(x)  # (batch, source + target, hidden)
        places = torch.empty(1, 0, dtype=torch.long, device=x.device)
        reading = Reading(self.positions, places, hooks=hooks, carried=cache)
        if division is None:
            reading = replace(reading, real=real)
        else:
            reading = replace(reading, real=division.real, source=division.source)
        x = (self.layer_runner or in_turn)(self.layers, x, reading)  # (batch, target, hidden)
        return hooks("final", x if division is None else division.put_back(x))

    def in_one_read(self, ids: Tensor, real: Tensor | None = None) -> dict[str, Tensor | None]:
        """Return that half of every text is its source; see ``GenerativeModel``."""
        lengths = torch.full((len(ids),), ids.shape[1]) if real is None else real.sum(1)
        return {"real": real, "given": (lengths // 2).clamp(min=1).to(ids.device)}

    def real_inputs(self, path: str, ids: Tensor, real: Tensor | None) -> Tensor:
        """Return which inputs of a map hold a token, each in its part; see ``GenerativeModel``."""
        given = self.in_one_read(ids, real)["given"]
        division = divide((len(ids), ids.shape[1]), real, given, ids.device)
        held = division.real
        if held is None:
            held = torch.ones_like(division.places.T, dtype=torch.bool)
        source, target = held[:, : division.source], held[:, division.source :]
        if ".start" in path:  # once a text
            return source.any(1)
        if ".leftward.recurrent" in path:
            return source.flip(1)
        if ".encoder." in path or ".attention.key" in path:
            return source
        return target if path.startswith("layers.") else ~division.absent.T

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the decoder's outputs, (..., hidden), to logits, (..., vocab)."""
        return hooks("logits", self.unembedding(x))

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> SourceState:
        """Return the state of texts that are still empty, for as many tokens as a window has.

        Args:
            batch_size: texts.
            max_batch_size: needs no announcement here.
        """
        return SourceState(batch_size, self.config.context_length)

    @classmethod
    def outline(cls, config: ModelConfig, vocab_size: int) -> Outline:
        """Return what a report says of a model of these sizes."""
        return outline_of(cls.cell, cls.last.additive, config, vocab_size)

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation for rows half of which is the source."""
        size, gates, count = self.config.hidden_size, self.cell.gates, self.config.num_layers
        source = max(1, seq // 2)
        target = seq - source + 1
        row = (batch, seq, size)

        def layer(name: str, places: int, width: int) -> dict[str, tuple[int, ...]]:
            into, given = (batch, places, size), (batch, places, gates * width)
            out = (batch, places, width)
            shapes = {"input": into, "given": given, "state": out, "output": out}
            return {f"{name}.{key}": shape for key, shape in shapes.items()}

        shapes: dict[str, tuple[int, ...]] = {"embedding": row}
        for i in range(count):
            name = f"layers.{i}"
            if self.both_ways:
                shapes |= layer(f"{name}.encoder.rightward", source, size - size // 2)
                shapes |= layer(f"{name}.encoder.leftward", source, size // 2)
            else:
                shapes |= layer(f"{name}.encoder", source, size)
            shapes |= layer(f"{name}.decoder", target, size)
        weights = (batch, target, source)
        if self.last.additive:
            del shapes[f"{name}.decoder.output"]  # the whole layer's is the only one
        else:
            shapes[f"{name}.attention.scores"] = weights
        shapes[f"{name}.attention.key"] = (batch, source, size)
        shapes[f"{name}.attention.pattern"] = weights
        shapes[f"{name}.attention.context"] = (batch, target, size)
        shapes[f"{name}.output"] = (batch, target, size)
        shapes["final"] = row
        shapes["logits"] = (batch, seq, self.config.resolved_vocab_size)
        return shapes

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, each counted once, and their ``total``."""
        parts = ("embedding", "encoder", "decoder", "attention", "unembedding")
        counts = dict.fromkeys(parts, 0)
        for name, size in parameter_sizes(self):
            part = name.partition(".")[0]
            if part == "layers":
                own = name.split(".")[2]
                part = own if own in counts else _PART_OF[own]
            counts[part] += size
        counts["total"] = sum(counts.values())
        return counts


_PART_OF = {"start": "decoder", "context": "attention", "combine": "attention"}


class AdditiveSeq2SeqLM(Seq2SeqLM):
    """GRUs with additive attention."""

    label = "GRU encoder and decoder with additive attention"
    cell = GRU
    last = AdditiveLayer
    both_ways = True
    costs = _costs(GRU, additive=True)


class MultiplicativeSeq2SeqLM(Seq2SeqLM):
    """LSTMs with multiplicative attention."""

    label = "LSTM encoder and decoder with multiplicative attention"
    cell = LSTM
    last = MultiplicativeLayer
    both_ways = False
    costs = _costs(LSTM, additive=False)
