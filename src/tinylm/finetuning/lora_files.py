"""PEFT's file layout for low-rank updates: its tensor names and its configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from tinylm.config import from_dict
from tinylm.config.finetuning import LoraConfig
from tinylm.errors import AdapterError, key_shown, shown
from tinylm.finetuning.sites import plain_modules

PREFIX = "base_model.model."
"""What PEFT writes before every name."""
_BIAS = {"none": "none", "adapted": "lora_only", "all": "all"}
# Fields that say nothing of how the saved update acts. Which maps it is on is read from the names
# of the tensors.
_IGNORED = {
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "target_modules", "exclude_modules", "layers_to_transform"),
    *("layers_pattern", "megatron_core", "qalora_group_size"),
}
# Other starts (PiSSA, OLoRA, CorDA, …) change the base as well.
_STARTS = (True, False, "gaussian", "orthogonal")


class LoraFiles:
    """How a method of low-rank updates is kept in PEFT's layout, as ``storage`` asks for it."""

    @staticmethod
    def to_peft(
        model: nn.Module, settings: Any, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the fields of PEFT's LoraConfig, and the tensors under its names.

        Args:
            model: with the adapter attached.
            settings: with rank, alpha, dropout; scaling and bias where the method has them.
            tensors: name as in ``trained_parameters`` -> tensor.
        """
        paths = [name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")]
        fields: dict[str, Any] = {
            "peft_type": "LORA",
            "task_type": None,
            "base_model_name_or_path": None,
            "inference_mode": True,
            "r": settings.rank,
            "lora_alpha": settings.alpha,
            "lora_dropout": settings.dropout,
            "use_rslora": getattr(settings, "scaling", "standard") == "rank-stabilised",
            "bias": _BIAS[getattr(settings, "bias", "none")],
            "target_modules": target_modules(model, paths),
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "modules_to_save": None,
        }
        biases = {f"{path}.bias" for path in paths}
        return fields, {_to_peft(name, biases): tensor for name, tensor in tensors.items()}

    @staticmethod
    def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return PEFT's tensors under the names of ``trained_parameters``."""
        return {_from_peft(name): tensor for name, tensor in tensors.items()}

    @staticmethod
    def settings_from_peft(
        fields: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
    ) -> LoraConfig:
        """Return the settings of a LoRA that PEFT saved.

        Args:
            fields: of PEFT's LoraConfig.
            tensors: under the names of ``trained_parameters``.
            source: the file that errors name.

        Raises:
            AdapterError: for a variant of LoRA that is not built here.
        """
        known = {"peft_type", "r", "lora_alpha", "lora_dropout", "bias", "use_rslora"}
        refused = [
            field
            for field, value in fields.items()
            if value and field not in known | _IGNORED | {"init_lora_weights"}
        ]
        if fields.get("init_lora_weights", True) not in _STARTS:
            refused.append("init_lora_weights")
        if refused:
            values = ", ".join(f"{key_shown(field)} = {shown(fields[field])}" for field in refused)
            raise AdapterError(
                f"{source}: {values}: plain LoRA and rsLoRA can be read, nothing that goes beyond"
            )
        paths = [name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")]
        if not paths:
            raise AdapterError(f"{source}: there is no lora_A.weight beside it: not a LoRA adapter")
        biases = {theirs: ours for ours, theirs in _BIAS.items()}
        chosen = {
            "rank": fields.get("r", 8),
            "alpha": fields.get("lora_alpha", 8),
            "dropout": fields.get("lora_dropout", 0.0),
            "scaling": "rank-stabilised" if fields.get("use_rslora") else "standard",
            "bias": biases.get(fields.get("bias", "none"), fields.get("bias")),
            "targets": [f".{path}" for path in paths],
        }
        return from_dict(LoraConfig, chosen, source)


def target_modules(model: nn.Module, paths: list[str]) -> list[str] | str:
    """Return the paths as PEFT takes them: a list of ends of paths, or an expression for all."""
    others = {path for path, _ in plain_modules(model)}.difference(paths)
    if any(other.endswith(f".{path}") for other in others for path in paths):
        return "|".join(map(re.escape, paths))
    return paths


def _to_peft(name: str, biases: set[str]) -> str:
    if name.endswith((".lora_A", ".lora_B")):
        return f"{PREFIX}{name}.weight"
    if name in biases:
        return f"{PREFIX}{name.removesuffix('bias')}base_layer.bias"
    return f"{PREFIX}{name}"


def _from_peft(name: str) -> str:
    name = name.removeprefix(PREFIX)
    if name.endswith((".lora_A.weight", ".lora_B.weight")):
        return name.removesuffix(".weight")
    if name.endswith(".base_layer.bias"):
        return f"{name.removesuffix('base_layer.bias')}bias"
    return name
