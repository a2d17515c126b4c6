"""Masks: weights that are 0 and stay 0 while a model is trained on.

A masked module is the plain one, with a buffer beside its weight that says which numbers are kept,
a bit each. Whatever trains the model (``training.step``) sets the gradients of the others to 0
before it measures their norm, and the weights themselves after the optimizer's step: an optimizer
that has moved them by a moment of its own moves them back. Nothing else of the model knows of it: a
product with a masked matrix takes as long as with a full one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from tinylm.errors import CompressionError, shown
from tinylm.model.base import Model
from tinylm.model.changes import NAME, change
from tinylm.reading import checked, refusal

BUFFER = "mask_bits"
"""Name of the buffer: eight numbers of the weight a byte, in reading order, the first the lowest
bit; 1 is kept."""
CHANGE = "mask"
_BITS = torch.arange(8, dtype=torch.uint8)
_BYTES = torch.arange(256, dtype=torch.uint8)[:, None].bitwise_right_shift(_BITS).bitwise_and(1)
_EIGHTS = _BYTES.contiguous().view(torch.int64).flatten()
"""The eight bools that each byte stands for, as one number: unpacking is one look-up a byte."""


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Return path of a masked module -> which numbers of its weight are kept, bool, its shape."""
    return {path: _unpacked(module) for path, module in _masked(model)}


@torch.no_grad()
def hold(model: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set weights to 0, and hold them there from now on, beside those that are held already.

    Args:
        model: changed in place.
        masks: path of a module -> which numbers of its weight are kept, bool, its shape.

    Raises:
        CompressionError: if a module has no weight, or a mask another shape; nothing is changed.
    """
    modules = {path: _maskable(model, path) for path in masks}
    for path, module in modules.items():
        if masks[path].shape != module.weight.shape:
            raise CompressionError(
                f"the mask of {path} has shape {tuple(masks[path].shape)}, its weight "
                f"{tuple(module.weight.shape)}"
            )
    for path, module in modules.items():
        kept = masks[path].to(module.weight.device)
        if BUFFER in module._buffers:
            kept = kept & _unpacked(module)
        module.register_buffer(BUFFER, _packed(kept))
        module.weight.masked_fill_(~kept, 0.0)
    if isinstance(model, Model):
        _note(model, list(masks))


def mask_gradients(model: nn.Module) -> None:
    """Set the gradients of masked numbers to 0."""
    for _, module in _masked(model):
        if module.weight.grad is not None:
            module.weight.grad.masked_fill_(~_unpacked(module), 0.0)


@torch.no_grad()
def mask_weights(model: nn.Module) -> None:
    """Set masked numbers to 0, wherever an optimizer has moved them."""
    for _, module in _masked(model):
        module.weight.masked_fill_(~_unpacked(module), 0.0)


@with_config(extra="forbid")
class _Masked(TypedDict):
    modules: Annotated[list[str], Field(min_length=1)]


def made_again(model: Model, settings: Mapping[str, Any]) -> Model:
    """Hold weights of some modules; which ones, and that they are 0, the saved tensors say."""
    about = checked(_Masked, dict(settings), refusal("settings", CompressionError))
    for path in about["modules"]:
        module = _maskable(model, path)
        module.register_buffer(BUFFER, _packed(torch.ones_like(module.weight, dtype=torch.bool)))
    _note(model, about["modules"])
    return model


def _note(model: Model, paths: list[str]) -> None:
    """Write down that modules are masked, together with those that were before."""
    changes = list(model.changes)
    before: list[str] = []
    if changes and changes[-1][NAME] == CHANGE:
        before = changes.pop()["modules"]
    known = [path for each in changes if each[NAME] == CHANGE for path in each["modules"]]
    paths = [*before, *(path for path in paths if path not in (*before, *known))]
    model.write_changes([*changes, *([change(CHANGE, modules=paths)] if paths else [])])


def _masked(model: nn.Module) -> Iterator[tuple[str, Any]]:
    for path, module in model.named_modules():
        if BUFFER in module._buffers:
            yield path, module


def _maskable(model: nn.Module, path: str) -> Any:
    """Return a module that has a weight of its own.

    Raises:
        CompressionError: if there is none at a path.
    """
    module = dict(model.named_modules()).get(path)
    if module is None or module._parameters.get("weight") is None:
        raise CompressionError(f"{shown(path)} is no module with a weight that can be masked")
    return module


def _packed(kept: Tensor) -> Tensor:
    flat = nn.functional.pad(kept.flatten(), (0, -kept.numel() % 8)).view(-1, 8)
    return (flat.to(torch.uint8) << _BITS.to(kept.device)).sum(1, dtype=torch.uint8)


def _unpacked(module: Any) -> Tensor:
    bits, shape = module._buffers[BUFFER], module.weight.shape
    flat = _EIGHTS.to(bits.device).index_select(0, bits.int()).view(torch.bool)
    return flat[: shape.numel()].view(shape)
