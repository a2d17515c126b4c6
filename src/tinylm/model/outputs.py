"""Whether a model's outputs are numbers at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

_ROWS = 8


@torch.no_grad()
def not_finite(model: GenerativeModel) -> str | None:
    """Say which map first gives numbers that are not finite, as all of the vocabulary is read.

    Args:
        model: left as it is.

    Returns:
        ``the output of PATH``, a module with weights, or None if all logits are finite.
    """
    places: list[str] = []

    def see(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not output.isfinite().all():
                places.append(path)

        return hook

    config = model.config
    length = min(config.context_length, config.resolved_vocab_size)
    ids = torch.arange(config.resolved_vocab_size, device=model.embedding.weight.device)
    rows = nn.functional.pad(ids, (0, -len(ids) % length)).view(-1, length)
    hooks = [
        module.register_forward_hook(see(path))
        for path, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    ]
    try:
        with evaluating(model):
            for some in torch.split(rows, _ROWS):
                logits = model(some)
                if not logits.isfinite().all():
                    return f"the output of {places[0] if places else 'the model'}"
    finally:
        for hook in hooks:
            hook.remove()
    return None
