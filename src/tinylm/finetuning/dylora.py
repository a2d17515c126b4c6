"""DyLoRA: one training, and an update that is usable at every rank up to its own.

Valipour et al. 2022, section 4: each forward pass in training draws a rank b from 1 .. r, the same
for all adapted maps, and uses the first b rows of A and the first b columns of B alone:

    h = W x + (alpha / b) B[:, :b] A[:b] x

so that the first rows learn to do without the later ones. With ``frozen`` only the b-th row and
column learn. Cut to rank b, the update is a LoRA of rank b. A pass costs no more than LoRA's.

Gradient checkpointing runs a layer twice. The rank of the first run is found again by the random
state, which the second run gets back.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import DyLoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import adapter_of, adapters, choose_rank, is_merged
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import add_parts, find_linears
from tinylm.finetuning.lora import LowRank, check_rank, low_rank_numbers
from tinylm.finetuning.lora_files import LoraFiles
from tinylm.finetuning.sites import wrappers
from tinylm.numbers.linear import LinearMap

_CALLS_KEPT = 4096  # of all adapted maps; those of a few hundred forward passes


class Ranks:
    """The rank that all parts of an adapter use: chosen, or in training drawn once a pass."""

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.chosen = largest
        """Rank outside training."""
        self._drawn = largest
        self._seen: set[int] = set()  # parts that have used what was drawn
        self._calls: dict[tuple[int, int], tuple[int, bool]] = {}

    def draw(self, place: int) -> int:
        """Return the rank of a part's call in training.

        A part that has used the present rank already is in a new pass, which draws another one from
        torch's random state. A call with a random state seen before is an earlier one computed
        again, and gets the rank of then.

        Args:
            place: number of the part.
        """
        call = (place, hash(torch.get_rng_state().numpy().tobytes()))
        known = self._calls.get(call)
        if known is None:
            drew = place in self._seen or not self._seen
            rank = self._random() if drew else self._drawn
        else:
            rank, drew = known
            if drew:
                self._random()  # what is drawn after it must be the same, too
        if drew:
            self._drawn = rank
            self._seen.clear()
        self._seen.add(place)
        self._calls[call] = (rank, drew)
        if len(self._calls) > _CALLS_KEPT:
            del self._calls[next(iter(self._calls))]
        return rank

    def _random(self) -> int:
        return int(torch.randint(1, self.largest + 1, ()))


class NestedLowRank(LowRank):
    """``(alpha / b) B[:, :b] A[:b] dropout(x)`` with a rank b that changes."""

    def __init__(self, linear: LinearMap, settings: DyLoraConfig, ranks: Ranks, place: int) -> None:
        super().__init__(linear, settings.rank, settings.alpha, settings.dropout)
        self.frozen = settings.frozen
        self.ranks = ranks
        self.place = place

    def factors(self, training: bool) -> tuple[Tensor, Tensor, float]:
        """Return the first rows of A, (b, in), the first columns of B, (out, b), and alpha / b."""
        rank = self.ranks.draw(self.place) if training else self.ranks.chosen
        low, high = self.lora_A[:rank], self.lora_B[:, :rank]
        if training and self.frozen:
            low = torch.cat([low[:-1].detach(), low[-1:]])
            high = torch.cat([high[:, :-1].detach(), high[:, -1:]], 1)
        return low, high, self.scale / rank


class DyLora(LoraFiles, Method):
    """DyLoRA on linear maps."""

    Settings = DyLoraConfig
    learning_rate = 3e-3
    label = "DyLoRA"
    noun = "DyLoRA"
    explanation = (
        "*DyLoRA* [[valipour2022]] draws a rank $b <= r$ at every step and trains the first "
        "$b$ rows and columns only, so that one training serves every rank up to {rank}."
    )
    changes_of_lora = "serving every rank"

    @staticmethod
    def num_trained(model: nn.Module, settings: DyLoraConfig) -> int:
        """Return ``r (in + out)`` a map (``base.Method``)."""
        return low_rank_numbers(find_linears(model, settings.targets), settings.rank)

    @staticmethod
    def attach(model: nn.Module, name: str, settings: DyLoraConfig) -> tuple[nn.Module, list[str]]:
        """Add updates of every rank up to the largest, which is in use at first (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, or the rank is above that of a matrix.
        """
        linears = find_linears(model, settings.targets)
        check_rank(linears, settings.rank)
        ranks = Ranks(settings.rank)
        places = {path: place for place, path in enumerate(linears)}

        def make(path: str, linear: LinearMap) -> NestedLowRank:
            return NestedLowRank(linear, settings, ranks, places[path])

        add_parts(model, name, linears, make)
        return model, []


def set_rank(model: nn.Module, rank: int, name: str = "default") -> None:
    """Use a DyLoRA adapter at a rank from now on, outside training.

    Raises:
        AdapterError: for another method's adapter, a rank that it does not have, or a merged model.
    """
    settings = adapter_of(model, name).settings
    # A single one was never called by the name that it has within the model.
    who = f"adapter {name!r}" if len(adapters(model)) > 1 else "the adapter"
    if not isinstance(settings, DyLoraConfig):
        raise AdapterError(f"{who} has one rank only: train it with method dylora")
    if not 1 <= rank <= settings.rank:
        raise AdapterError(f"rank {rank}: {who} has ranks 1 to {settings.rank}")
    if is_merged(model):
        raise AdapterError("adapters are merged into the weights: unmerge before the rank changes")
    for _, wrapper in wrappers(model):
        for key, part in wrapper.parts.items():
            if key == name and isinstance(part, NestedLowRank):
                part.ranks.chosen = rank
    choose_rank(model, name, rank)
