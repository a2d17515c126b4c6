"""Small models with no round numbers in them, in float64, and comparisons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tinylm.config import ModelConfig
from tinylm.model.decoder import DecoderLM
from tinylm.registry import POSITIONS

ENCODINGS = list(POSITIONS)
NORM_PLACEMENTS = ["post", "pre"]

SMALL: dict[str, Any] = {
    "vocab_size": 23,
    "context_length": 16,
    "num_layers": 2,
    "num_heads": 3,
    "hidden_size": 10,
    "head_dim": 4,
    "ffn_size": 14,
    "dropout": 0.0,
}


def build(seed: int = 0, **changes: Any) -> DecoderLM:
    """Return a float64 model in eval mode, tables too, as it is initialised."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(seed)
        return DecoderLM(ModelConfig(**{**SMALL, **changes})).eval()
    finally:
        torch.set_default_dtype(before)


def build_random(seed: int = 0, **changes: Any) -> DecoderLM:
    """Return a float64 model whose biases and norms are not 0 and 1, so that none can hide."""
    model = build(seed, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def random_ids(model: DecoderLM, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(model.config.resolved_vocab_size, shape, generator=generator)


def largest_difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).detach().abs().max())


def assert_layer_norm_is_torchs(norm: Any, size: int, eps: float) -> None:
    """Compare a LayerNorm in float64 and its gradients with torch's, at random weights."""
    nn.init.normal_(norm.weight)
    if norm.bias is not None:
        nn.init.normal_(norm.bias)
    x = (3 * torch.randn(2, 5, size, dtype=torch.float64) + 7).requires_grad_()
    upstream = torch.randn_like(x)
    parameters = [x, *norm.parameters()]

    ours = norm(x)
    theirs = F.layer_norm(x, (size,), norm.weight, norm.bias, eps)

    assert largest_difference(ours, theirs) < 1e-12
    with torch.no_grad():
        assert largest_difference(norm(x), theirs) < 1e-12
    our_gradients = torch.autograd.grad(ours, parameters, upstream)
    their_gradients = torch.autograd.grad(theirs, parameters, upstream)
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        assert largest_difference(mine, other) < 1e-10
