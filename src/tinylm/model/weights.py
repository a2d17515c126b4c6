"""The tensors of a model by name: what a checkpoint holds of it, taken out and put in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tinylm.errors import CheckpointError
from tinylm.model.base import Model

_ASIDE = "aside/"


def model_weights(model: Model) -> dict[str, Tensor]:
    """Return the model's weights by name; a tensor of several names only under its first.

    What it keeps aside is there too, as ``aside/…``.
    """
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    kept = {f"{_ASIDE}{name}": parameter for name, parameter in model.aside.items()}
    for name, tensor in {**model.state_dict(keep_vars=True), **kept}.items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach()
    return weights


def state_sha256(module: nn.Module) -> str:
    """Return a hash over a module's tensors that tells one from another.

    SHA-256 over the names, number formats, shapes and bytes of its state, at about 1 GB a second.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return digest.hexdigest()


def load_weights(
    model: Model, weights: Mapping[str, Tensor], source: Path, aside: bool = False
) -> None:
    """Copy weights into a model.

    Args:
        model: of the same parts as the one that was saved.
        weights: as ``model_weights`` gives them.
        source: of the weights, for messages.
        aside: whether what the model keeps aside must be among them; else the model has it already,
            and a checkpoint of an earlier version lacks it.

    Raises:
        CheckpointError: naming the first missing, unexpected or wrongly shaped weight.
    """
    expected = model_weights(model)
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights:
            if name.startswith(_ASIDE) and not aside:
                continue
            raise CheckpointError(f"{source}: weight {name} is missing")
        if name not in expected:
            raise CheckpointError(f"{source}: weight {name} is not of this model")
        kind = expected[name].dtype
        if not kind.is_floating_point and weights[name].dtype != kind:
            raise CheckpointError(
                f"{source}: weight {name} is in {_shown(weights[name].dtype)}, its configuration "
                f"asks for {_shown(kind)}"
            )
        if weights[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{source}: weight {name} has shape {tuple(weights[name].shape)}, its "
                f"configuration asks for {tuple(expected[name].shape)}"
            )
    model.load_state_dict(dict(weights), strict=False)
    with torch.no_grad():
        for name, parameter in model.aside.items():
            if f"{_ASIDE}{name}" in weights:
                parameter.copy_(weights[f"{_ASIDE}{name}"])


def _shown(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
