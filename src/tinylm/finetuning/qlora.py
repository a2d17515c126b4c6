"""QLoRA: LoRA over a base that is kept in 4 bits (Dettmers et al. 2023, section 3).

``y = x dequantize(W)^T + s B A x``: the base's matrices are stored in 4-bit NormalFloat
(``numbers.nf4``), are dequantized whenever they multiply, and never learn; A and B are in the
model's own format. What A and B learn includes mending what the quantization broke.

The matrices before quantization are not kept: that is the point. An adapter that is switched off
or removed leaves the quantized base. Merging and folding add the update to the dequantized matrix,
in the model's own format; rounding the sum to 4 bits once more would lose the update.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from tinylm.config.finetuning import QLoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import find_linears
from tinylm.finetuning.lora import add_low_rank, check_rank, low_rank_numbers
from tinylm.finetuning.lora_files import LoraFiles
from tinylm.finetuning.sites import Wrapper, module_at, plain_modules, replace_module
from tinylm.numbers.linear import LinearMap
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedLinear


class QLora(LoraFiles, Method):
    """LoRA on linear maps that are quantized."""

    Settings = QLoraConfig
    learning_rate = 3e-3
    label = "QLoRA"
    noun = "QLoRA"
    explanation = (
        "*QLoRA* [[dettmers2023]] is LoRA on matrices that are stored in 4-bit NormalFloat, with "
        "one scale per block of {block_size} weights, itself stored in 8 bits."
    )
    slow_because = "QLoRA computes its matrices from 4 bits whenever it multiplies by them."
    changes_of_lora = "4 bits"

    @staticmethod
    def num_trained(model: nn.Module, settings: QLoraConfig) -> int:
        """Return ``r (in + out)`` a map (``base.Method``)."""
        return low_rank_numbers(find_linears(model, settings.targets), settings.rank)

    @staticmethod
    def attach(model: nn.Module, name: str, settings: QLoraConfig) -> tuple[nn.Module, list[str]]:
        """Quantize the targets and add low-rank updates (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, is one tensor with another module's weight,
                or is quantized in another way already, or the rank is above that of a matrix.
        """
        linears = find_linears(model, settings.targets)
        check_rank(linears, settings.rank)
        _refuse_shared(model, linears)
        form = NormalFloat(settings.block_size, settings.double_quantization)
        _refuse_other_form(linears, form)
        for path, linear in linears.items():
            if not isinstance(linear, QuantizedLinear):
                quantized = QuantizedLinear(linear, form)
                _replace_base(model, path, quantized)
                linears[path] = quantized
        scale = settings.alpha / settings.rank
        add_low_rank(model, name, linears, settings.rank, scale, settings.dropout)
        return model, []


def _replace_base(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module in place of the plain one at a path, inside the wrappers that stand there."""
    there = module_at(model, path)
    if not isinstance(there, Wrapper):
        replace_module(model, path, new)
        return
    while isinstance(there.base, Wrapper):
        there = there.base
    there.base = new


def _refuse_shared(model: nn.Module, linears: Mapping[str, LinearMap]) -> None:
    """Refuse to quantize one of two uses of a tensor: the other would keep all of its bytes."""
    for path, linear in linears.items():
        weight = linear._parameters.get("weight")
        for other, module in plain_modules(model):
            shared = module._parameters.get("weight") is weight and module is not linear
            if weight is not None and shared:
                raise AdapterError(
                    f"{path}.weight and {other}.weight are one tensor, which cannot be quantized "
                    "in one place alone: leave it out of the targets"
                )


def _refuse_other_form(linears: Mapping[str, LinearMap], form: NormalFloat) -> None:
    for path, linear in linears.items():
        if not isinstance(linear, QuantizedLinear):
            continue
        held = linear.quantized.form
        if not isinstance(held, NormalFloat):
            raise AdapterError(
                f"{path} is quantized already, as {held.label}: adapt it by LoRA, which leaves the "
                "base as it is"
            )
        if held != form:
            raise AdapterError(
                f"{path} is quantized already, with block_size = {held.block_size} and "
                f"double_quantization = {str(held.double).lower()}: use the same for this adapter"
            )
