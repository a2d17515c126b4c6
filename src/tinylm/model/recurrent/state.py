"""What a recurrent model keeps of the texts that it reads: a state a layer, of constant size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.model.cache import taken
from tinylm.model.recurrent.cells import State

if TYPE_CHECKING:
    from tinylm.model.recurrent.pairs import Source


class RecurrentState:
    """The states of all layers after the tokens read so far, for a batch of texts.

    ``num_layers * states * batch * hidden_size`` numbers, however long the texts are. Of that there
    is no more to be said than the states: no positions, and padding leaves none.
    """

    def __init__(self, batch_size: int, capacity: int) -> None:
        """Begin with texts that are still empty, whose states are 0.

        Args:
            batch_size: texts.
            capacity: tokens that may be read of each.
        """
        self.batch_size = batch_size
        """Texts."""
        self.capacity = capacity
        """Most tokens of each."""
        self.length = 0
        """Tokens read of each text, padding included."""
        self._layers: dict[int, State] = {}

    def extend(self, tokens: int) -> None:
        """Count tokens that are read now.

        Raises:
            GenerationError: if there are more than may be read.
        """
        if self.length + tokens > self.capacity:
            raise GenerationError(
                f"the state is for texts of {self.capacity} tokens and {self.length + tokens} are "
                "needed: read the last window again"
            )
        self.length += tokens

    def before(self, layer: int) -> State | None:
        """Return a layer's state, (batch, hidden) each; None: nothing was read yet."""
        return self._layers.get(layer)

    def put(self, layer: int, state: State) -> None:
        """Keep a layer's state after the new tokens."""
        self._layers[layer] = state

    def detach(self) -> None:
        """Let no gradient go back to the tokens read so far."""
        # Copied, because the bits of a product depend on where in memory its factors begin, and a
        # state that was saved and read again begins elsewhere than a row of all states.
        for layer, state in self._layers.items():
            self._layers[layer] = tuple(part.detach().clone() for part in state)

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; the number of texts may change.

        Args:
            rows: (new batch,), int64.
            shared: first tokens that are the same; the state is of all, so that it does not matter.

        Raises:
            GenerationError: if there is no such text.
        """
        self.batch_size = len(taken(rows, self.batch_size))
        for layer, state in self._layers.items():
            self._layers[layer] = tuple(
                part.index_select(0, rows.to(part.device)) for part in state
            )

    @property
    def num_bytes(self) -> int:
        """Bytes of the states."""
        return sum(
            part.numel() * part.element_size() for state in self._layers.values() for part in state
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the states by name, such as ``0.1``: layer, and place in its state."""
        return {
            f"{layer}.{place}": part
            for layer, state in self._layers.items()
            for place, part in enumerate(state)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the states that ``tensors`` returned."""
        layers: dict[int, dict[int, Tensor]] = {}
        for name, part in tensors.items():
            layer, _, place = name.partition(".")
            layers.setdefault(int(layer), {})[int(place)] = part.clone()
        self._layers = {
            layer: tuple(parts[place] for place in sorted(parts)) for layer, parts in layers.items()
        }


class SourceState(RecurrentState):
    """The states of a decoder's layers, and the source that it looks at, with its keys.

    The source is read once, in the first pass, and stays as it is, so that every new token costs
    the same: ``2 * batch * source * hidden_size`` numbers beside the states.
    """

    def __init__(self, batch_size: int, capacity: int) -> None:
        """Begin with texts that are still empty; see ``RecurrentState``."""
        super().__init__(batch_size, capacity)
        self.source: Source | None = None
        """What the decoder looks at; None: nothing was read yet."""

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; see ``RecurrentState``."""
        super().reorder(rows, shared)
        if self.source is not None:
            self.source = self.source.select(rows.to(self.source.memory.device))

    @property
    def num_bytes(self) -> int:
        """Bytes of the states, and of the source's states and keys."""
        source = self.source
        kept = () if source is None else (source.keys, source.memory)
        return super().num_bytes + sum(part.numel() * part.element_size() for part in kept)
