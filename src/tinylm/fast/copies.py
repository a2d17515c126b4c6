"""A model for decoding that shares its parameters with the one it was made from.

Generation takes it, so that the model itself stays as it is while a text is being made, even where
several threads generate texts or a text is left unfinished.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from tinylm.fast.decoding import Numbers, SteppingDecoderLM
from tinylm.fast.forms import DECODING, install
from tinylm.fast.kept import forget, state_of
from tinylm.fast.onednn import can_pack
from tinylm.fast.packed import can_quantize

Kind = TypeVar("Kind", bound=nn.Module)
_COPIES: WeakKeyDictionary[nn.Module, dict[Numbers, tuple[list[Any], nn.Module]]]
_COPIES = WeakKeyDictionary()


def for_decoding(model: Kind, numbers: Numbers = "float32") -> Kind:
    """Return a copy for decoding that shares all parameters, or the model itself.

    Args:
        model: in eval mode.
        numbers: format of the linear maps' weights and products.

    The model itself where it has a form for decoding already or can have none: on a GPU, in
    float64, where torch has no such kernels. A copy is kept with the model and given again as long
    as nothing has changed (``kept.state_of``).
    """
    weight = next(model.parameters())
    possible = can_quantize() if numbers == "int8" else can_pack(weight)
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not possible:
        return model
    modules = list(model.modules())
    if any(isinstance(module, SteppingDecoderLM) for module in modules):
        return model
    copies, state = _COPIES.setdefault(model, {}), state_of(modules)
    if numbers not in copies or copies[numbers][0] != state:
        other = _sharing(model)
        install(other, DECODING[numbers])
        copies[numbers] = (state, other)
    held: Any = copies[numbers][1]
    made: Kind = held
    return made


def _sharing(module: Kind) -> Kind:
    """Return a copy of a module, down to its parts, with the same parameters and buffers."""
    other = copy.copy(module)
    forget(other)
    other._modules = {
        name: None if child is None else _sharing(child) for name, child in module._modules.items()
    }
    return other
