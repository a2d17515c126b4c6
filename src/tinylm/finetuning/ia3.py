"""(IA)^3: keys, values and inner activations, each number multiplied by a learned one.

Liu et al. 2022, section 3.3. A layer has three vectors, which start at 1: ``l_k * K`` and
``l_v * V`` in attention, and ``l_ff * f(x W_1)`` before the second map of the feed-forward part.
They are ``2 * heads * head_dim + ffn_size`` numbers. A vector on the output of a linear map is one
on the rows of its weight and on its bias, a vector on its input one on the columns of the weight:
all can be merged. Of the joint projection of queries, keys and values, queries are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from tinylm.config import from_dict
from tinylm.config.finetuning import Targets
from tinylm.errors import AdapterError, key_shown, shown
from tinylm.finetuning.base import Method
from tinylm.finetuning.linear import MergeableLinear, add_parts, find_linears
from tinylm.finetuning.lora import sizes
from tinylm.finetuning.lora_files import PREFIX, target_modules
from tinylm.finetuning.sites import module_at, unwrapped
from tinylm.model.attention import Attention
from tinylm.model.paths import matches
from tinylm.numbers.linear import LinearMap
from tinylm.value_types import FROZEN

_VECTOR = ".ia3_l"
_JOINT = "query_key_value"
_FIELDS = {
    *("peft_type", "target_modules", "feedforward_modules", "init_ia3_weights"),
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "exclude_modules"),
}
"""Fields of PEFT's that are known, or say nothing of how the saved vectors act."""


@dataclass(frozen=True, config=FROZEN)
class IA3Config:
    """Learned multiples of keys, values and inner activations (Liu et al. 2022)."""

    targets: Targets = ("attention.query_key_value", "feed_forward.contract")
    """Linear maps that are scaled: paths or their ends, with * for anything."""
    feed_forward: tuple[str, ...] = ("feed_forward.contract",)
    """Those of the targets that end a feed-forward part: what goes into them is scaled, of the
    others what comes out."""


class Scale(nn.Module):
    """A vector on the input or the output of a linear map."""

    def __init__(self, linear: LinearMap, of_input: bool, left_alone: int) -> None:
        """Start at 1.

        Args:
            linear: the map.
            of_input: whether its input is scaled, or its output.
            left_alone: outputs, the first ones, that are not scaled.
        """
        super().__init__()
        outputs, inputs = sizes(linear)
        shape = (1, inputs) if of_input else (outputs - left_alone, 1)
        self.ia3_l = nn.Parameter(torch.ones(shape).to(linear.weight))
        self.of_input = of_input
        self.left_alone = 0 if of_input else left_alone

    def factors(self) -> Tensor:
        """Return the factors of the weight, (1, in) or (out, 1)."""
        if not self.left_alone:
            return self.ia3_l
        return torch.cat((self.ia3_l.new_ones(self.left_alone, 1), self.ia3_l))

    def forward(self, x: Tensor) -> Tensor:
        """Return the input or the output of the map, scaled."""
        return x * self.factors().flatten().to(x.dtype)


class ScaledLinear(MergeableLinear):
    """A linear map whose input and output are multiplied by vectors."""

    def apart(self, x: Tensor) -> Tensor:
        """Map ``x``, (..., in), to (..., out)."""
        scales = self._scales()
        for scale in scales:
            if scale.of_input:
                x = scale(x)
        y: Tensor = self.base(x)
        for scale in scales:
            if not scale.of_input:
                y = scale(y)
        return y

    def joint(self) -> tuple[Tensor, Tensor | None]:
        """Return the scaled weight and bias, in float32 at least."""
        return self._scaled(self.base.weight, wide=True), self._scaled_bias(wide=True)

    @property
    def weight(self) -> Tensor:
        """The weight that does what the module does, (out, in); gradients reach the vectors."""
        if self.merged is not None:
            self._refuse_training()
            return self.merged.weight
        return self._scaled(self.base.weight)

    @property
    def bias(self) -> Tensor | None:
        """The bias that does what the module does, (out,)."""
        return self._scaled_bias() if self.merged is None else self.merged.bias

    def refuse_merge(self) -> None:
        """Do nothing: vectors can be merged."""

    def _scales(self) -> list[Scale]:
        return [part for part in self.parts.acting() if isinstance(part, Scale)]

    def _scaled(self, weight: Tensor, wide: bool = False) -> Tensor:
        dtype = torch.promote_types(weight.dtype, torch.float32) if wide else weight.dtype
        scaled = weight.to(dtype)
        for scale in self._scales():
            scaled = scaled * scale.factors().to(dtype)
        return scaled

    def _scaled_bias(self, wide: bool = False) -> Tensor | None:
        bias: Tensor | None = self.base.bias
        outputs = [scale for scale in self._scales() if not scale.of_input]
        if bias is None or not outputs:
            return bias
        scaled = bias.to(torch.promote_types(bias.dtype, torch.float32)) if wide else bias
        for scale in outputs:
            scaled = scale(scaled)
        return scaled.to(bias.dtype)


class IA3(Method):
    """(IA)^3 on linear maps."""

    Settings = IA3Config
    learning_rate = 5e-2
    label = "(IA)³"
    noun = "(IA)³"
    explanation = (
        "*(IA)³* [[liu2022]] multiplies keys, values and the inner activations of the feed-forward "
        "part by learned numbers, which start at 1."
    )
    peft_type = "IA3"

    @staticmethod
    def num_trained(model: nn.Module, settings: IA3Config) -> int:
        """Return a number for every input or output that is scaled (``base.Method``)."""
        linears = find_linears(model, settings.targets)
        inputs = _inputs(linears, settings)
        return sum(
            linear.in_features
            if path in inputs
            else linear.out_features - _left_alone(model, path, linear)
            for path, linear in linears.items()
        )

    @staticmethod
    def attach(model: nn.Module, name: str, settings: IA3Config) -> tuple[nn.Module, list[str]]:
        """Give every target a vector of ones (``base.Method``).

        Raises:
            AdapterError: if a target matches nothing, or ``feed_forward`` no target.
        """
        linears = find_linears(model, settings.targets)
        inputs = _inputs(linears, settings)

        def make(path: str, linear: LinearMap) -> Scale:
            return Scale(linear, path in inputs, _left_alone(model, path, linear))

        add_parts(model, name, linears, make, ScaledLinear)
        return model, []

    @staticmethod
    def to_peft(
        model: nn.Module, settings: IA3Config, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fields of PEFT's IA3Config, and the tensors under its names.

        PEFT scales the whole of a joint projection: its queries by 1.
        """
        paths = [name.removesuffix(_VECTOR) for name in tensors]
        linears = find_linears(model, settings.targets)
        chosen = _inputs(linears, settings)
        whole = {}
        for path, vector in zip(paths, tensors.values(), strict=True):
            if path not in chosen:
                unscaled = vector.new_ones(linears[path].out_features - len(vector), 1)
                vector = torch.cat((unscaled, vector))
            whole[f"{PREFIX}{path}{_VECTOR}"] = vector
        inputs = [path for path in paths if path in chosen]
        fields = {
            "peft_type": "IA3",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "target_modules": target_modules(model, paths),
            "feedforward_modules": target_modules(model, inputs) if inputs else [],
            "fan_in_fan_out": False,
            "init_ia3_weights": True,
            "modules_to_save": None,
        }
        return fields, whole

    @staticmethod
    def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return PEFT's tensors under our names; the ones of queries are left out."""
        made = {}
        for name, vector in tensors.items():
            third = len(vector) // 3
            if name.endswith(f"{_JOINT}{_VECTOR}") and third and bool((vector[:third] == 1).all()):
                vector = vector[third:].contiguous()
            made[name.removeprefix(PREFIX)] = vector
        return made

    @staticmethod
    def settings_from_peft(
        fields: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
    ) -> IA3Config:
        """Return the settings of an (IA)^3 that PEFT saved.

        Raises:
            AdapterError: for what goes beyond it, or where it is not told what is scaled.
        """
        refused = [field for field, value in fields.items() if value and field not in _FIELDS]
        if refused:
            values = ", ".join(f"{key_shown(field)} = {shown(fields[field])}" for field in refused)
            raise AdapterError(f"{source}: {values}: plain (IA)^3 can be read, nothing beyond it")
        vectors = {name: tensor for name, tensor in tensors.items() if name.endswith(_VECTOR)}
        if not vectors:
            raise AdapterError(f"{source}: there is no ia3_l beside it: not an (IA)^3 adapter")
        for name, vector in vectors.items():
            if vector.dim() != 2 or min(vector.shape) != 1 or vector.numel() == 1:
                raise AdapterError(
                    f"{source}: {key_shown(name)} has shape {tuple(vector.shape)}, that of a "
                    "vector of several outputs, (n, 1), or inputs, (1, n), can be read"
                )
        paths = {f".{name.removesuffix(_VECTOR)}": vector for name, vector in vectors.items()}
        inputs = [path for path, vector in paths.items() if len(vector) == 1]
        return from_dict(IA3Config, {"targets": list(paths), "feed_forward": inputs}, source)


def _inputs(linears: Mapping[str, LinearMap], settings: IA3Config) -> set[str]:
    """Return the paths of the targets whose inputs are scaled."""
    chosen: set[str] = set()
    for pattern in settings.feed_forward:
        matching = {path for path in linears if matches(path, pattern)}
        if not matching:
            raise AdapterError(
                f"feed_forward {shown(pattern)} matches none of the targets: set it to some of "
                "them, or to [] to scale what comes out of all"
            )
        chosen |= matching
    return chosen


def _left_alone(model: nn.Module, path: str, linear: LinearMap) -> int:
    """Return how many outputs of a map, the first ones, are queries."""
    above, _, last = path.rpartition(".")
    within = isinstance(unwrapped(module_at(model, above)), Attention)
    return linear.out_features // 3 if within and last == _JOINT else 0
