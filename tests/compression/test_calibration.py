"""Statistics of inputs beside what the model's own hooks see, texts read one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tinylm.compression.calibration import Columns, Gram, Histogram, linear_maps, observe
from tinylm.errors import CompressionError
from tinylm.fast import forms
from tinylm.model.decoder import DecoderLM, record

SEEN_BY = {
    "attention.query_key_value": "input",
    "attention.output": "attention.mixed",
    "feed_forward.expand": "middle",
    "feed_forward.contract": "feed_forward.inner",
}
"""A linear map of a post-norm layer -> the activation that it multiplies."""

TEXTS = 5
SEQ = 7


def texts(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return ids, and which are real: rows of different lengths, padded at either side."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 23, (TEXTS, SEQ), generator=generator)
    real = torch.ones(TEXTS, SEQ, dtype=torch.bool)
    real[1, 4:] = False
    real[2, :3] = False
    real[4, 1:] = False
    return ids.masked_fill(~real, 0), real


def inputs_one_by_one(model: DecoderLM, ids: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Return what each map multiplies, (tokens, in), from texts without any padding."""
    rows: dict[str, list[Tensor]] = {}
    for text, kept in zip(ids, real, strict=True):
        with torch.no_grad():
            _, activations = record(model, ["*"], text[kept][None])
        for path in linear_maps(model):
            layer = ".".join(path.split(".")[:2])
            if path == "unembedding":
                x = activations["final"]
            else:
                x = activations[f"{layer}.{SEEN_BY[path.removeprefix(f'{layer}.')]}"]
            if x.dim() == 4:  # (1, heads, seq, head_dim)
                x = x.transpose(1, 2).flatten(2)
            rows.setdefault(path, []).append(x[0])
    return {path: torch.cat(each) for path, each in rows.items()}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("quick", [False, True])
def test_statistics_are_those_of_all_real_tokens_at_once(
    small_model: Callable[..., DecoderLM], batch_size: int, quick: bool
) -> None:
    model = small_model().double()
    ids, real = texts()
    inputs = inputs_one_by_one(model, ids, real)
    if quick:
        forms.install(model)
    paths = list(linear_maps(model))
    assert len(paths) == 2 * 4 + 1
    kept = {path: (Gram(), Columns(), Histogram(-1.0, 1.5, 16)) for path in paths}
    observe(model, ids, kept, real, batch_size)
    for path, (gram, columns, histogram) in kept.items():
        x = inputs[path]
        assert gram.count == columns.count == len(x) == int(real.sum())
        close = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(gram.total, x.T @ x, **close)
        torch.testing.assert_close(gram.hessian, 2 / len(x) * x.T @ x, **close)
        torch.testing.assert_close(columns.norm, x.norm(dim=0), **close)
        torch.testing.assert_close(columns.mean_absolute, x.abs().mean(0), **close)
        torch.testing.assert_close(columns.largest_absolute, x.abs().amax(0), **close)
        torch.testing.assert_close(columns.least, x.amin(0), **close)
        torch.testing.assert_close(columns.most, x.amax(0), **close)
        inside = torch.histc(x, 16, -1.0, 1.5)  # leaves out what lies beyond
        inside[0] += (x < -1.0).sum()
        inside[-1] += (x > 1.5).sum()
        assert histogram.counts.tolist() == inside.long().tolist()
        change = torch.randn(3, x.shape[1], dtype=torch.float64)
        error = (x @ change.T).square().mean(0)
        torch.testing.assert_close(gram.error(change), error, **close)


def test_a_pass_ends_with_the_last_map_that_is_asked_for_and_leaves_nothing_behind(
    small_model: Callable[..., DecoderLM],
) -> None:
    model = small_model().train()
    reached: list[str] = []
    for path, module in linear_maps(model).items():
        module.register_forward_hook(lambda *_, path=path: reached.append(path))
    ids, _ = texts()
    columns = Columns()
    observe(model, ids, {"layers.0.attention.output": [columns]}, batch_size=TEXTS)
    assert reached == ["layers.0.attention.query_key_value"]
    assert model.training and model.dropout.training
    assert all(not module._forward_pre_hooks for module in model.modules())
    again = Columns()
    observe(model, ids, {"layers.0.attention.output": [again]})
    # No dropout: the same numbers.
    torch.testing.assert_close(again.norm, columns.norm, rtol=1e-6, atol=1e-6)


def test_nothing_to_calibrate_with_is_refused(small_model: Callable[..., DecoderLM]) -> None:
    model = small_model()
    ids, real = texts()
    for given, mask in ((ids[:0], None), (ids[:, :0], None), (ids, torch.zeros_like(real))):
        with pytest.raises(CompressionError, match="no text to calibrate with"):
            observe(model, given, {"unembedding": [Gram()]}, mask)
    with pytest.raises(CompressionError, match="no input was seen"):
        _ = Gram().hessian
    with pytest.raises(CompressionError, match="no input was seen"):
        _ = Columns().norm
    for low, high in ((0.0, 0.0), (1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(CompressionError, match="no histogram"):
            Histogram(low, high)


def test_a_map_that_is_reached_twice_or_never_is_refused(
    small_model: Callable[..., DecoderLM],
) -> None:
    model = small_model()
    ids, _ = texts()
    model.spare = torch.nn.Linear(3, 3)
    with pytest.raises(CompressionError, match="spare multiplies nothing"):
        observe(model, ids, {"spare": [Gram()], "unembedding": [Gram()]})
    model.layers[1].attention = model.layers[0].attention
    with pytest.raises(CompressionError, match="multiplies twice"):
        observe(model, ids, {"layers.0.attention.output": [Gram()], "unembedding": [Gram()]})
