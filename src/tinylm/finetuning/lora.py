"""LoRA: a frozen matrix plus a trained one of low rank (Hu et al. 2021, section 4).

``h = W x + s B A x`` with A, (r, in), and B, (out, r). A starts random and B at zero, so that the
model starts as it was. The scale s is alpha / r (section 4.1), or alpha / sqrt(r), with which the
size of the update does not shrink as the rank grows (rsLoRA; Kalajdzievski 2023, theorem 3.2).
``r (in + out)`` numbers are trained instead of ``in * out``; merged, W + s B A costs nothing.

B may learn at a multiple of A's rate (LoRA+; Hayou, Ghosh and Yu 2024, section 4): at equal rates
wide models barely learn in B's direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import LoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import add_parts, find_linears
from tinylm.finetuning.lora_files import LoraFiles
from tinylm.finetuning.sites import plain_parameters
from tinylm.model.dropout import Dropout
from tinylm.numbers.linear import LinearMap


class LowRank(nn.Module):
    """``scale * B A dropout(x)``."""

    def __init__(
        self,
        linear: LinearMap,
        rank: int,
        scale: float,
        dropout: float = 0.0,
        learning_rate_ratio: float = 1.0,
    ) -> None:
        """Draw A as the paper's own code does, uniform within 1 / sqrt(in), and set B to zero.

        Args:
            linear: the map that is adapted; gives sizes, device and number format.
            rank: r.
            scale: s.
            dropout: probability, on the input of A only.
            learning_rate_ratio: B's learning rate as a multiple of A's.
        """
        super().__init__()
        out_features, in_features = sizes(linear)
        # Drawn on the CPU, so that every device starts from the same numbers.
        start = torch.empty(rank, in_features)
        nn.init.kaiming_uniform_(start, a=math.sqrt(5))
        self.lora_A = nn.Parameter(start.to(linear.weight))
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank).to(linear.weight))
        self.scale = scale
        self.dropout = Dropout(dropout)
        self.rate_factors = {"lora_B": learning_rate_ratio}
        """Learning rates of parameters as multiples of the others', for the optimizer."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the update of the output, (..., out), for ``x``, (..., in)."""
        low, high, scale = self.factors(self.training)
        inner = nn.functional.linear(self.dropout(x.to(low.dtype)), low)  # (..., rank)
        return nn.functional.linear(inner, high) * scale

    def weight_update(self) -> Tensor:
        """Return ``scale * B A``, (out, in); dropout has no part in it."""
        low, high, scale = self.factors(self.training and torch.is_grad_enabled())
        return scale * (high @ low)

    def factors(self, training: bool) -> tuple[Tensor, Tensor, float]:
        """Return A, (rank, in), B, (out, rank), and the scale, which may differ in training."""
        return self.lora_A, self.lora_B, self.scale


class Lora(LoraFiles, Method):
    """LoRA, rsLoRA and LoRA+ on linear maps."""

    Settings = LoraConfig
    learning_rate = 3e-3
    peft_type = "LORA"
    label = "LoRA"
    noun = "LoRA"
    explanation = (
        "*LoRA* [[hu2022]] adds to a frozen matrix $W$ a product of two thin ones, "
        "$W + alpha/r B A$ with $r$ rows in $A$; $A$ starts random and $B$ at zero. Here "
        "$r = {rank}$ and $alpha = {alpha}$."
    )

    @staticmethod
    def num_trained(model: nn.Module, settings: LoraConfig) -> int:
        """Return ``r (in + out)`` a map, and the biases trained as well (``base.Method``)."""
        linears = find_linears(model, settings.targets)
        parameters = plain_parameters(model)
        biases = trained_biases(model, linears, settings.bias)
        return low_rank_numbers(linears, settings.rank) + sum(
            parameters[name].numel() for name in biases
        )

    @staticmethod
    def attach(model: nn.Module, name: str, settings: LoraConfig) -> tuple[nn.Module, list[str]]:
        """Add low-rank updates (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, the rank is above that of a matrix, or
                biases are to be trained where there are none.
        """
        linears = find_linears(model, settings.targets)
        check_rank(linears, settings.rank)
        biases = trained_biases(model, linears, settings.bias)
        root = settings.scaling == "rank-stabilised"
        scale = settings.alpha / (math.sqrt(settings.rank) if root else settings.rank)
        add_low_rank(
            model,
            name,
            linears,
            settings.rank,
            scale,
            settings.dropout,
            settings.learning_rate_ratio,
        )
        return model, biases


def add_low_rank(
    model: nn.Module,
    name: str,
    linears: Mapping[str, LinearMap],
    rank: int,
    scale: float,
    dropout: float = 0.0,
    learning_rate_ratio: float = 1.0,
) -> None:
    """Give each linear map a ``LowRank`` part of the adapter ``name``; arguments as there."""

    def make(_: str, linear: LinearMap) -> LowRank:
        return LowRank(linear, rank, scale, dropout, learning_rate_ratio)

    add_parts(model, name, linears, make)


def low_rank_numbers(linears: Mapping[str, LinearMap], rank: int) -> int:
    """Return how many numbers the low-rank updates of linear maps have, ``r (in + out)`` each."""
    return rank * sum(sum(sizes(linear)) for linear in linears.values())


def check_rank(linears: Mapping[str, LinearMap], rank: int) -> None:
    """Refuse a rank that a matrix cannot have.

    Raises:
        AdapterError: naming the first such matrix and the largest rank that fits all.
    """
    most = min(min(sizes(linear)) for linear in linears.values())
    for path, linear in linears.items():
        out_features, in_features = sizes(linear)
        if rank > min(out_features, in_features):
            raise AdapterError(
                f"rank {rank}: {path} is {out_features} x {in_features}; set a rank of 1 to "
                f"{most}, or leave it out of the targets"
            )


def trained_biases(model: nn.Module, adapted: Iterable[str], choice: str) -> list[str]:
    """Return the names of the base's biases that are trained as well.

    Args:
        model: the model.
        adapted: paths of the adapted maps.
        choice: none, adapted (those of the adapted maps) or all.

    Raises:
        AdapterError: if there are none to train.
    """
    if choice == "none":
        return []
    known = [name for name in plain_parameters(model) if name.split(".")[-1] == "bias"]
    wanted = {f"{path}.bias" for path in adapted}
    trained = [name for name in known if choice == "all" or name in wanted]
    if not trained:
        raise AdapterError(f"bias = {choice}: there are no such biases; set bias = none")
    return trained


def sizes(linear: LinearMap) -> tuple[int, int]:
    """Return the outputs and inputs of a linear map."""
    return linear.out_features, linear.in_features
