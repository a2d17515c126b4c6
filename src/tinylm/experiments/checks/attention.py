"""Attention from scratch, against torch's own on the same queries, keys and values.

Torch's ``scaled_dot_product_attention`` gives the mixed values; given the identity matrix as values
it gives the pattern. All layers are compared, on texts of different lengths, padded on the right
and on the left; the rows of padded queries mean nothing and are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tinylm.data.windows import pad_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    device_of,
    in_float64,
    largest,
    ragged_stories,
    worst,
)
from tinylm.model.decoder import DecoderLM, record

_ROWS = 3
_LONGEST = 64


def run(subject: Subject) -> Finding | None:
    """Compare pattern and mixed values of every head with torch's; None: there are no such heads.

    Those of the decoder are meant, of one read from left to right.
    """
    model = in_float64(subject.lm.model)
    if not isinstance(model, DecoderLM) or not model.attends:
        return None
    device = device_of(model)
    texts = ragged_stories(subject.validation, _ROWS, min(_LONGEST, model.config.context_length))
    differences = []
    cases = 0
    for ids, real in (pad_rows(texts), pad_rows(texts, left=True)):
        ids, real = ids.to(device), real.to(device)
        with torch.no_grad():
            _, kept = record(model, ["layers.*.attention.*"], ids, real)
            mask = _mask(model, real)
            for layer in range(model.config.num_layers):
                difference, count = _compare(kept, f"layers.{layer}.attention", mask, real)
                differences.append(difference)
                cases += count
    return Finding(
        compared="attention pattern and mixed values, against torch's scaled_dot_product_attention "
        f"on the same queries, keys and values ({model.config.num_layers} layers, "
        f"{model.config.num_heads} heads, float64)",
        cases=cases,
        unit="numbers",
        difference=worst(differences),
        bound=1e-10,
    )


def _mask(model: DecoderLM, real: Tensor) -> Tensor:
    """Return what torch adds to the scores, (batch, heads or 1, seq, seq), float64."""
    batch, seq = real.shape
    mask = torch.full((batch, 1, seq, seq), float("-inf"), dtype=torch.float64)
    places = torch.zeros(batch, seq, dtype=torch.long)
    for row in range(batch):
        keys: list[int] = []
        for query in range(seq):
            if real[row, query]:
                places[row, query] = len(keys)
                keys.append(query)
            mask[row, 0, query, keys] = 0.0
    mask = mask.to(real.device)
    bias = model.positions.bias(places.to(real.device), places.to(real.device))
    return mask if bias is None else mask + bias


def _compare(kept: dict[str, Tensor], name: str, mask: Tensor, real: Tensor) -> tuple[float, int]:
    """Return the largest difference of a layer and how many numbers were compared."""
    query, key, value = (kept[f"{name}.{part}"] for part in ("query", "key", "value"))
    batch, heads, seq, _ = query.shape
    identity = torch.eye(seq, dtype=query.dtype, device=query.device)
    pattern = scaled_dot_product_attention(
        query, key, identity.expand(batch, heads, seq, seq), attn_mask=mask
    )
    mixed = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    computed = [kept[f"{name}.pattern"], kept[f"{name}.mixed"]]
    pairs = [
        (ours.transpose(1, 2)[real], reference.transpose(1, 2)[real])
        for ours, reference in zip(computed, (pattern, mixed), strict=True)
    ]
    return worst([largest(*pair) for pair in pairs]), sum(values.numel() for values, _ in pairs)
