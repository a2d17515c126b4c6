"""A recurrent layer: the products with all tokens at once, and a cell over the steps."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.model.dropout import Dropout
from tinylm.model.loss import at_least_float32
from tinylm.model.reading import Reading
from tinylm.model.recurrent.cells import PLAIN_PRODUCTS, Cell, Products, at_once, in_steps


class RecurrentLayer(nn.Module):
    """A cell with its two linear maps, of the tokens and of the state, and dropout on its output.

    There is no dropout from step to step (Zaremba, Sutskever and Vinyals 2014).
    """

    products: ClassVar[Products] = PLAIN_PRODUCTS

    def __init__(
        self,
        config: ModelConfig,
        cell: Cell,
        index: int,
        part: str = "",
        size: int | None = None,
        reverse: bool = False,
    ) -> None:
        """Build the layer.

        Args:
            config: of the model.
            cell: the recurrence.
            index: of the layer.
            part: where in the layer it stands, as ``encoder``; empty: it is the layer.
            size: of its state; empty: hidden_size, which is what it gets of a token in any case.
            reverse: whether it reads from the last token to the first.
        """
        super().__init__()
        self.name = f"layers.{index}" + (f".{part}" if part else "")
        self.index = index
        self.cell = cell
        self.reverse = reverse
        size = config.hidden_size if size is None else size
        self.input = nn.Linear(config.hidden_size, cell.gates * size, bias=config.bias)
        self.recurrent = nn.Linear(
            size, cell.gates * size, bias=config.bias and cell.recurrent_bias
        )
        self.dropout = Dropout(config.dropout)

    @torch.no_grad()
    def initialise(self) -> None:
        """Draw the maps of each gate, of the tokens by Glorot and of the state orthogonal.

        That of a layer's output, which is smaller than an embedding, begins as much larger.
        """
        size = self.recurrent.in_features
        for own in torch.split(self.input.weight, size):
            nn.init.xavier_uniform_(own)
        if self.index:
            self.input.weight /= self.cell.start_size
        for own in torch.split(self.recurrent.weight, size):
            nn.init.orthogonal_(own)
        for bias in (self.input.bias, self.recurrent.bias):
            if bias is not None:
                nn.init.zeros_(bias)
        if self.input.bias is not None and self.cell.open_gate is not None:
            self.input.bias.view(self.cell.gates, size)[self.cell.open_gate] = 1

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map what the layer below gave, (batch, seq, hidden), to this layer's output."""
        hooks = reading.hooks
        given = self.products_with(x, reading)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            # The state goes through as many products as there are steps: they stay exact.
            with torch.autocast(kind, enabled=False):
                states = self._recur(at_least_float32(given), reading)
        else:
            states = self._recur(given, reading)
        x = hooks(f"{self.name}.state", states.transpose(0, 1))  # (batch, seq, hidden)
        return hooks(f"{self.name}.output", self.dropout(x))

    def products_with(self, x: Tensor, reading: Reading) -> Tensor:
        """Return the products with all tokens, (seq, batch, gates * hidden)."""
        hooks = reading.hooks
        x = hooks(f"{self.name}.input", x)
        if plain(self.input):
            # Steps first, as the layer below left them in memory, so that nothing is copied.
            given = self.input(x.transpose(0, 1)).transpose(0, 1)
        else:
            given = self.input(x)  # (batch, seq, gates * hidden)
        return hooks(f"{self.name}.given", given).transpose(0, 1)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _recur(self, given: Tensor, reading: Reading) -> Tensor:
        """Return the state after every step, (seq, batch, hidden)."""
        kept: Any = reading.carried
        state = None if kept is None else kept.before(self.index)
        if state is None:
            size = self.recurrent.in_features
            zeros = given.new_zeros(given.shape[1], size)
            state = (zeros,) * self.cell.states
        real = None if reading.real is None else reading.real.T[:, :, None]  # (seq, batch, 1)
        if self.reverse:
            given, real = given.flip(0), None if real is None else real.flip(0)
        if plain(self.recurrent):
            weight, bias = self.recurrent.weight, self.recurrent.bias
            states, after = at_once(self.cell, given, state, weight, bias, real, self.products)
        else:
            states, after = in_steps(self.cell, given, state, self.recurrent, real)
        if kept is not None:
            kept.put(self.index, after)
        return states.flip(0) if self.reverse else states


def plain(module: nn.Module) -> bool:
    """Whether a map is ``x @ weight.T + bias``, and nothing watches it.

    Where something else stands in its place, or a hook sees what goes in, it is called as any map
    is, with texts first or step by step, and autograd goes back through every step. So is a form
    of the map that is laid out for inference, and may round its weights.
    """
    watched = module._forward_hooks or module._forward_pre_hooks
    laid_out = getattr(module, "for_inference", False) and not torch.is_grad_enabled()
    return isinstance(module, nn.Linear) and not watched and not laid_out
