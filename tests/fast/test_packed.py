"""Packed linear maps: the same numbers to rounding, and a model that is otherwise the same."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import nn

from tinylm.config import GenerationConfig, TrainingConfig
from tinylm.data.windows import Batch
from tinylm.fast import for_decoding
from tinylm.fast.cache import StepCache
from tinylm.fast.packed import BFloat16Linear, Int8Linear, PackedLinear, can_quantize
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

MakeModel = Callable[..., DecoderLM]
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN"
)


def as_class(linear: nn.Linear, kind: type[nn.Linear]) -> nn.Linear:
    """Return a copy of a linear map, quick, with the same parameters."""
    other = copy.copy(linear)
    other.__class__ = kind
    return other


@needs_onednn
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_map_equals_the_plain_one(rows: int, bias: bool) -> None:
    torch.manual_seed(rows)
    linear = nn.Linear(37, 53, bias=bias)
    x = torch.randn(rows, 2, 37)
    with torch.inference_mode():
        expected = linear(x)
        rectified = as_class(linear, PackedLinear)(x, relu=True)
        assert (rectified - expected.relu()).abs().max() < 1e-5
        difference = (as_class(linear, PackedLinear)(x) - expected).abs().max()
        rounded = as_class(linear, BFloat16Linear)(x)
    assert difference < 1e-5
    assert rounded.dtype == torch.bfloat16
    error = (rounded - expected).abs().max()
    assert 0 < error < 0.02 * expected.abs().max()


@needs_onednn
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"positions": "rotary", "norm_placement": "pre"},
        {"positions": "learned", "bias": False, "tie_embeddings": True},
    ],
)
def test_logits_are_the_same_to_rounding(
    small_model: MakeModel, settings: dict[str, object]
) -> None:
    model = small_model(**settings)
    other = for_decoding(model)
    assert sum(type(module) is PackedLinear for module in other.modules()) == 4 * 2 + 1
    assert not any(type(module) is nn.Linear for module in other.modules())
    ids = torch.randint(4, 23, (3, 8))
    cache = KVCache(model.config, 3)
    with torch.inference_mode():
        expected = model(ids)
        assert (other(ids) - expected).abs().max() < 1e-5 * expected.abs().max()
        pieces = [other(ids[:, :5], cache=cache), other(ids[:, 5:], cache=cache)]
        assert (torch.cat(pieces, 1) - expected).abs().max() < 1e-5 * expected.abs().max()


@needs_onednn
def test_the_model_itself_is_left_alone(small_model: MakeModel) -> None:
    model = small_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = for_decoding(model)
    assert other is not model
    assert other.embedding.weight is model.embedding.weight  # shared, not copied
    assert all(type(layer.attention.output) is nn.Linear for layer in model.layers)
    assert all(p.requires_grad for p in model.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


@needs_onednn
def test_generation_sees_weights_that_have_changed(small_model: MakeModel) -> None:
    model = small_model()
    config = GenerationConfig(strategy="greedy", max_new_tokens=6, min_new_tokens=6)
    first = generate(model, [[2, 5, 6]], config, SPECIAL)
    with torch.no_grad():
        model.unembedding.weight.neg_()
    second = generate(model, [[2, 5, 6]], config, SPECIAL)
    assert first[0].ids != second[0].ids
    assert second == generate(model, [[2, 5, 6]], config, SPECIAL)


@needs_onednn
@pytest.mark.parametrize("optimizer", ["adam", "torch-adamw", "sgd"])
def test_generation_sees_weights_that_training_has_moved(
    optimizer: str, small_model: MakeModel
) -> None:
    """torch's fused optimizers do not count their changes."""
    model = small_model()
    settings = TrainingConfig(device="cpu", optimizer=optimizer, learning_rate=0.3)
    step = TrainingStep(model, next_token_loss, settings)
    assert step.speed.optimizer.startswith("torch-")
    config = GenerationConfig(strategy="greedy", max_new_tokens=6, min_new_tokens=6)
    ids = torch.randint(4, 23, (4, 8), generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        generate(model, [[2, 5, 6]], config, SPECIAL)
        step.backward([Batch(ids[:, :-1], ids[:, 1:])])
        step.update()
        (now,) = generate(model, [[2, 5, 6]], config, SPECIAL)
        (fresh,) = generate(copy.deepcopy(model), [[2, 5, 6]], config, SPECIAL)
        assert now == fresh


@pytest.mark.parametrize("strategy", ["greedy", "sampling", "beam"])
@pytest.mark.parametrize("linear", ["packed", "packed-bf16", "packed-int8"])
def test_texts_are_those_of_the_plain_model(
    small_model: MakeModel, strategy: str, linear: Literal["packed", "packed-bf16", "packed-int8"]
) -> None:
    """In float32 the same ids; in fewer bits a text nearly as likely under the plain model."""
    model = small_model(seed=3)
    prompts = [[2, 5, 6], [2, 7], [2, 8, 9, 10]]
    settings = {"strategy": strategy, "max_new_tokens": 7, "seed": 1}
    plain = generate(model, prompts, GenerationConfig(linear="plain", **settings), SPECIAL)
    packed = generate(model, prompts, GenerationConfig(linear=linear, **settings), SPECIAL)
    if linear == "packed":
        assert [result.ids for result in packed] == [result.ids for result in plain]
    for result, expected in zip(packed, plain, strict=True):
        if result.ids == expected.ids:
            tolerance = 1e-4 if linear == "packed" else 0.5
            assert result.log_probability == pytest.approx(expected.log_probability, abs=tolerance)
    assert any(result.ids == expected.ids for result, expected in zip(packed, plain, strict=True))


needs_int8 = pytest.mark.skipif(not can_quantize(), reason="torch has no 8-bit kernels here")


@needs_int8
@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("bias", [True, False])
def test_a_quantized_linear_map_is_what_its_definition_says(rows: int, bias: bool) -> None:
    """Weights at 127 levels an output, inputs at 255 over their range, products exact."""
    torch.manual_seed(rows)
    linear = nn.Linear(37, 53, bias=bias)
    x = torch.randn(rows, 2, 37)
    with torch.inference_mode():
        result = as_class(linear, Int8Linear)(x)
        scale = linear.weight.double().abs().amax(1, keepdim=True) / 127
        weight = (linear.weight.double() / scale).round() * scale
        low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
        step = (high - low) / 255
        zero = round(-low / step)
        inputs = (((x.double() / step).round() + zero).clamp(0, 255) - zero) * step
        expected = inputs @ weight.T
        if linear.bias is not None:
            expected += linear.bias
    assert result.dtype == torch.float32
    # A number that lies between two levels may be rounded either way.
    assert (result - expected).abs().max() < step * weight.abs().max()
    assert (result - expected).abs().mean() < 1e-4
    assert 0 < (result - linear(x)).abs().max() < 0.05 * result.abs().max()


@needs_int8
def test_a_row_of_zeros_is_quantized_to_zeros() -> None:
    linear = nn.Linear(5, 3, bias=False)
    nn.init.zeros_(linear.weight)
    assert not as_class(linear, Int8Linear)(torch.randn(2, 5)).any()


@needs_onednn
def test_a_copy_is_kept_until_something_changes(small_model: MakeModel) -> None:
    model = small_model()
    first = for_decoding(model)
    assert for_decoding(model) is first
    assert for_decoding(first) is first  # as it is packed already
    assert for_decoding(model, "bfloat16") is not first
    assert for_decoding(model) is first

    def changed() -> bool:
        nonlocal first
        before, first = first, for_decoding(model)
        return first is not before

    with torch.no_grad():
        model.layers[1].feed_forward.expand.bias.add_(1)
    assert changed()
    model.load_state_dict(model.state_dict())
    assert changed()
    model.unembedding.weight.data = model.unembedding.weight.data.clone()
    assert changed()
    calls: list[int] = []
    handle = model.unembedding.register_forward_hook(lambda *_: calls.append(1))
    assert changed()
    assert calls == [] and first(torch.tensor([[4]])).shape == (1, 1, 23) and calls == [1]
    handle.remove()
    assert changed()
    model.layers[0].attention.output = nn.Linear(12, 12)
    assert changed()
    model.train()
    assert changed()
    assert not changed()


@needs_onednn
def test_copies_die_with_their_model(small_model: MakeModel) -> None:
    model = small_model()
    weight = weakref.ref(for_decoding(model).embedding.weight)
    del model
    gc.collect()
    assert weight() is None


@needs_onednn
def test_a_cache_in_bfloat16_loses_nothing_of_packed_projections(small_model: MakeModel) -> None:
    model = for_decoding(small_model(), "bfloat16")
    ids = torch.randint(4, 23, (2, 8))
    with torch.inference_mode():
        logits = []
        for dtype in (torch.float32, torch.bfloat16):
            cache = StepCache(model.config, 2, dtype=dtype, tables=None)
            model(ids[:, :5], cache=cache)
            logits.append(model(ids[:, 5:], cache=cache))
    assert torch.equal(*logits)
    assert 2 * model.decoding_state(2).num_bytes == KVCache(model.config, 2).num_bytes


def test_in_float64_the_model_is_used_as_it_is(small_model: MakeModel) -> None:
    model = small_model().double()
    assert for_decoding(model) is model


def test_hooks_of_modules_are_still_called(small_model: MakeModel) -> None:
    model = small_model()
    seen: list[tuple[int, ...]] = []
    model.unembedding.register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
    model.layers[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    config = GenerationConfig(strategy="greedy", max_new_tokens=2, min_new_tokens=2)
    generate(model, [[2, 5, 6]], config, SPECIAL)
    assert seen == [(1, 3, 12), (1, 23), (1, 1, 12), (1, 23)]
