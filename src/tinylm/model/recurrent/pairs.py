"""A layer of a sequence-to-sequence model: an encoder's, a decoder's, and what joins them.

Both parts of the rows go through the same layer side by side: its encoder maps what it gets of the
source, and its decoder, which begins with a state made of the encoder's, what it gets of the rest.
The last layer attends: its decoder looks at the states of its encoder, and what leaves it is
tanh(W [state; context; …]) (Luong, Pham and Manning 2015, equation 5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.drawing import draw_map
from tinylm.model.dropout import Dropout
from tinylm.model.loss import at_least_float32
from tinylm.model.reading import Reading
from tinylm.model.recurrent.attention import (
    Attention,
    context_vectors,
    multiplicative_scores,
    weights_of,
)
from tinylm.model.recurrent.attentive import Attending, Recurrence, attentive_steps
from tinylm.model.recurrent.cells import Cell, Products, State
from tinylm.model.recurrent.gru import GRU
from tinylm.model.recurrent.layer import RecurrentLayer, plain


class Passed:
    """The state of one part of a layer: what it begins with, then what it ends with."""

    def __init__(self, state: State | None) -> None:
        self.state = state

    def before(self, layer: int) -> State | None:
        """Return the state to begin with; None: zeros."""
        return self.state

    def put(self, layer: int, state: State) -> None:
        """Take in the state at the end."""
        self.state = state


@dataclass(frozen=True)
class Source:
    """What a decoder attends to."""

    keys: Tensor
    """(batch, source, hidden)."""
    memory: Tensor
    """The encoder's states, (batch, source, hidden)."""
    blocked: Tensor | None
    """(batch, source), True where a text has no token; None: nowhere."""

    def select(self, rows: Tensor) -> Source:
        """Return the sources of some texts."""
        parts = (self.keys, self.memory, self.blocked)
        return Source(*(None if p is None else p.index_select(0, rows) for p in parts))  # type: ignore[arg-type]


class Kept(Protocol):
    """What is kept of texts from one pass to the next: the decoder's states, and the source."""

    source: Source | None

    def before(self, layer: int) -> State | None:
        """Return the state of a layer's decoder."""
        ...

    def put(self, layer: int, state: State) -> None:
        """Take in the state of a layer's decoder."""
        ...


class Bidirectional(nn.Module):
    """Two recurrent layers of half the width, one from each end; a place has the states of both.

    (Schuster and Paliwal 1997.) So a place knows the tokens on both sides of it.
    """

    def __init__(self, config: ModelConfig, cell: Cell, index: int) -> None:
        super().__init__()
        size, inner = config.hidden_size, replace(config, dropout=0.0)
        self.rightward = RecurrentLayer(inner, cell, index, "encoder.rightward", size - size // 2)
        self.leftward = RecurrentLayer(
            inner, cell, index, "encoder.leftward", size // 2, reverse=True
        )
        self.dropout = Dropout(config.dropout)

    def initialise(self) -> None:
        """Draw the maps."""
        self.rightward.initialise()
        self.leftward.initialise()

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map the source, (batch, source, hidden), to the states; the leftward end is passed on."""
        right = self.rightward(x, replace(reading, carried=Passed(None)))
        both = torch.cat([right.transpose(0, 1), self.leftward(x, reading).transpose(0, 1)], -1)
        out: Tensor = self.dropout(both.transpose(0, 1))
        return out


class PairLayer(nn.Module):
    """An encoder's layer and a decoder's, which begins where the encoder ended."""

    encoder: RecurrentLayer | Bidirectional

    def __init__(self, config: ModelConfig, cell: Cell, index: int, both_ways: bool) -> None:
        """Build the layer.

        Args:
            config: of the model.
            cell: the recurrence.
            index: of the layer.
            both_ways: whether the encoder reads from both ends. The decoder then begins with
                tanh(W h) of the leftward state at the first token (Bahdanau et al. 2015, A.2.2);
                else with the state in which the encoder ends, as it is.
        """
        super().__init__()
        self.name = f"layers.{index}"
        self.index = index
        size = config.hidden_size
        if both_ways:
            self.encoder = Bidirectional(config, cell, index)
            self.start: nn.Linear | None = nn.Linear(size // 2, size, bias=config.bias)
        else:
            self.encoder = RecurrentLayer(config, cell, index, "encoder")
            self.start = None
        self.decoder = RecurrentLayer(config, cell, index, "decoder")

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the maps."""
        self.encoder.initialise()
        if self.start is not None:
            draw_map(self.start)
        self.decoder.initialise()

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map both parts, (batch, source + target, hidden), each by its own layer.

        In a later pass of the same texts there is no source: ``reading.source`` is 0.
        """
        target, encoded, state = self._read(x, reading)
        passed = Passed(state)
        written = self.decoder(target, replace(reading, real=_target(reading), carried=passed))
        self._keep(passed, reading)
        return written if encoded is None else _joined(encoded, written)

    def _read(self, x: Tensor, reading: Reading) -> tuple[Tensor, Tensor | None, State | None]:
        """Return the decoder's part, the encoder's states, and the state to begin writing with."""
        kept: Any = reading.carried
        source, target = x[:, : reading.source], x[:, reading.source :]
        if not reading.source:
            return target, None, kept.before(self.index)
        passed = Passed(None)
        real = None if reading.real is None else reading.real[:, : reading.source]
        encoded = self.encoder(source, replace(reading, real=real, carried=passed))
        state = passed.state
        if self.start is not None and state is not None:
            state = (at_least_float32(self.start(state[0])).tanh(),)
        return target, encoded, state

    def _keep(self, passed: Passed, reading: Reading) -> None:
        if reading.carried is not None and passed.state is not None:
            reading.carried.put(self.index, passed.state)


class AttendingLayer(PairLayer):
    """The last layer, whose decoder looks at the states of its encoder; see its kinds."""

    additive: ClassVar[bool]

    def __init__(self, config: ModelConfig, cell: Cell, index: int, both_ways: bool) -> None:
        """Build the layer; arguments as of ``PairLayer``."""
        super().__init__(replace(config, dropout=0.0), cell, index, both_ways)
        size = config.hidden_size
        self.attention = Attention(config, index, self.additive)
        self.combine = nn.Linear((2 + self.additive) * size, size, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the maps."""
        super().initialise()
        self.attention.initialise()
        draw_map(self.combine)
        # Of the states and of the context that is a mean of states.
        self.combine.weight[:, : 2 * self.combine.out_features] /= self.decoder.cell.start_size

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map both parts to the outputs of the decoder, (batch, target, hidden)."""
        target, encoded, state = self._read(x, reading)
        kept: Any = reading.carried
        seen = self._source(encoded, reading) if encoded is not None else kept.source
        if kept is not None:
            kept.source = seen
        passed = Passed(state)
        joined = self._write(target, seen, replace(reading, carried=passed))
        self._keep(passed, reading)
        if plain(self.combine):  # steps first, so that nothing is copied
            out = self.combine(joined).transpose(0, 1)
        else:
            out = self.combine(joined.transpose(0, 1))
        out = at_least_float32(out).tanh()  # (batch, target, hidden)
        return reading.hooks(f"{self.name}.output", self.dropout(out))

    def _source(self, encoded: Tensor, reading: Reading) -> Source:
        """Return what the decoder attends to, in float32 at least."""
        memory = encoded.contiguous()
        keys = reading.hooks(f"{self.attention.name}.key", self.attention.key(memory))
        blocked = None if reading.real is None else ~reading.real[:, : reading.source]
        return Source(at_least_float32(keys), memory, blocked)

    def _write(self, x: Tensor, seen: Source, reading: Reading) -> Tensor:
        """Return what becomes the output, (target, batch, parts * hidden); the state is passed."""
        raise NotImplementedError


class MultiplicativeLayer(AttendingLayer):
    """Looks with the new state (Luong et al. 2015), so that all places look at once.

    The output is not fed into the next step: that costs a loop, and only what it says of earlier
    looks is lost.
    """

    additive = False

    def _write(self, x: Tensor, seen: Source, reading: Reading) -> Tensor:
        hooks, name, kind = reading.hooks, self.attention.name, x.device.type
        states = self.decoder(x, replace(reading, real=_target(reading)))
        with torch.autocast(kind, enabled=False):
            blocked = None if seen.blocked is None else seen.blocked[:, None]
            scores = hooks(f"{name}.scores", multiplicative_scores(states, seen.keys))
            pattern = hooks(f"{name}.pattern", weights_of(scores, blocked))
            context = hooks(f"{name}.context", context_vectors(pattern, seen.memory))
        return torch.cat([states.transpose(0, 1), context.transpose(0, 1)], -1)


class AdditiveLayer(AttendingLayer):
    """Looks with the old state, and what it sees goes into the step (Bahdanau et al. 2015)."""

    additive = True
    attending: ClassVar[type[Attending]] = Attending

    def __init__(self, config: ModelConfig, cell: Cell, index: int, both_ways: bool) -> None:
        """Build the layer; arguments as of ``PairLayer``."""
        super().__init__(config, cell, index, both_ways)
        assert cell is GRU, "the attentive step is a GRU's"
        size = config.hidden_size
        self.context = nn.Linear(size, cell.gates * size, bias=False)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the maps."""
        super().initialise()
        for own in torch.split(self.context.weight, self.context.in_features):
            nn.init.xavier_uniform_(own)

    def _write(self, x: Tensor, seen: Source, reading: Reading) -> Tensor:
        given = self.decoder.products_with(x, reading)  # (target, batch, 3 * hidden)
        kind = x.device.type
        with torch.autocast(kind, enabled=False):
            states, contexts = self._recur(at_least_float32(given), seen, reading)
        states = reading.hooks(f"{self.decoder.name}.state", states.transpose(0, 1))
        return torch.cat([states.transpose(0, 1), contexts, x.transpose(0, 1)], -1)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _recur(self, given: Tensor, seen: Source, reading: Reading) -> tuple[Tensor, Tensor]:
        """Return states and contexts, (target, batch, hidden)."""
        passed: Any = reading.carried
        attention, recurrent = self.attention, self.decoder.recurrent
        real = _target(reading)
        rows = None if real is None else real.T[:, :, None]  # (target, batch, 1)
        seen_tensors = (seen.keys, seen.memory, seen.blocked, rows)
        maps = (recurrent, attention.query, self.context)
        if reading.hooks.active or not all(map(plain, maps)):
            hooks, name = reading.hooks, attention.name
            states, contexts, pattern = attentive_steps(
                given, passed.state, *seen_tensors, *maps, attention.vector
            )
            pattern = hooks(f"{name}.pattern", pattern)
            if hooks.active:  # what replaces the weights is seen by the output, not by later steps
                contexts = context_vectors(pattern, seen.memory).transpose(0, 1)
            contexts = hooks(f"{name}.context", contexts.transpose(0, 1)).transpose(0, 1)
        else:
            ways: tuple[Products, type[Attending]] = (self.decoder.products, self.attending)
            made: Any = Recurrence.apply(  # type: ignore[no-untyped-call]
                *(given, recurrent.weight, recurrent.bias, attention.query.weight),
                *(self.context.weight, attention.vector, *seen_tensors, ways, *passed.state),
            )
            states, contexts = made
        passed.put(self.index, (states[-1],))
        return states, contexts


def _target(reading: Reading) -> Tensor | None:
    """Return which places of the decoder's part hold a token, (batch, target)."""
    return None if reading.real is None else reading.real[:, reading.source :]


def _joined(encoded: Tensor, written: Tensor) -> Tensor:
    """Return both parts as one, steps first in memory."""
    both = torch.cat([encoded.transpose(0, 1), written.transpose(0, 1)])
    return both.transpose(0, 1)
