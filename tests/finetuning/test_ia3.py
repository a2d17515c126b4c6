"""(IA)^3 beside peft with the same weights, its vectors by hand, and its files."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tinylm.config.finetuning import BottleneckConfig, LoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import activate, attach, fold, merge, trained_parameters
from tinylm.finetuning.ia3 import IA3Config
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.model.decoder import DecoderLM, record

Models = Callable[..., DecoderLM]
IDS = torch.randint(0, 23, (3, 8), generator=torch.Generator().manual_seed(3))
WEIGHTS = torch.randn(3, 8, 23, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
EVERYTHING = IA3Config(
    targets=("attention.*", "feed_forward.*", "unembedding"),
    feed_forward=("attention.output", "feed_forward.contract"),
)


@pytest.fixture
def base(small_model: Models) -> DecoderLM:
    model = small_model(context_length=16, dropout=0.0).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # biases that are not 0, which would hide whether they are scaled
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).double() / 5)
    return model


def randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.copy_(1 + torch.randn(parameter.shape, generator=generator) / 3)


def as_peft(base: nn.Module, model: nn.Module) -> Any:
    """Return peft's (IA)^3 on a copy of the base, with the numbers of ours, its queries at 1."""
    ours = trained_parameters(model, "default")
    paths = [name.removesuffix(".ia3_l") for name in ours]
    inputs = [path for path in paths if len(ours[f"{path}.ia3_l"]) == 1]
    config = peft.IA3Config(target_modules=paths, feedforward_modules=inputs)
    other = peft.get_peft_model(copy.deepcopy(base), config)
    with torch.no_grad():
        for path in paths:
            theirs, vector = peft_vector(other, path), ours[f"{path}.ia3_l"]
            theirs[theirs.shape[0] - vector.shape[0] :].copy_(vector)
    return other


def peft_vector(model: Any, path: str) -> Tensor:
    vector: Tensor = model.get_submodule(f"base_model.model.{path}").ia3_l["default"]
    return vector


@pytest.mark.parametrize("settings", [IA3Config(), EVERYTHING])
@pytest.mark.parametrize("bias", [True, False])
def test_outputs_and_gradients_are_those_of_peft(
    small_model: Models, base: DecoderLM, settings: IA3Config, bias: bool
) -> None:
    if not bias:
        base = small_model(context_length=16, dropout=0.0, bias=False).double()
    model = attach(copy.deepcopy(base), "ia3", settings)
    randomise(model)
    other = as_peft(base, model)
    ours, theirs = model(IDS), other(IDS)
    torch.testing.assert_close(ours, theirs)
    (ours * WEIGHTS).sum().backward()
    (theirs * WEIGHTS).sum().backward()
    for name, parameter in trained_parameters(model, "default").items():
        wanted = peft_vector(other, name.removesuffix(".ia3_l")).grad
        assert parameter.grad is not None
        assert wanted is not None
        assert parameter.grad.any(), name
        torch.testing.assert_close(parameter.grad, wanted[len(wanted) - len(parameter) :])
    model.eval()
    merge(model)
    other.eval().merge_adapter()
    for name in trained_parameters(model, "default"):
        path = name.removesuffix(".ia3_l")
        layer = other.get_submodule(f"base_model.model.{path}").base_layer
        merged = model.get_submodule(path).merged
        torch.testing.assert_close(merged.weight, layer.weight)
        torch.testing.assert_close(merged.bias, layer.bias)
    torch.testing.assert_close(model(IDS), other(IDS))


def test_keys_values_and_inner_activations_are_multiplied_and_nothing_else(
    base: DecoderLM,
) -> None:
    model = attach(copy.deepcopy(base), "ia3", IA3Config())
    randomise(model)
    parts = ("attention.query", "attention.key", "attention.value", "feed_forward.inner")
    names = [f"layers.0.{part}" for part in parts]
    with torch.no_grad():
        _, before = record(base, names, IDS)
        _, after = record(model, names, IDS)
        heads, size = base.config.num_heads, base.config.resolved_head_dim
        scales = trained_parameters(model, "default")
        vectors = scales["layers.0.attention.query_key_value.ia3_l"].view(2, heads, 1, size)
        query, key, value, _ = names
        assert torch.equal(after[query], before[query])
        torch.testing.assert_close(after[key], before[key] * vectors[0])
        torch.testing.assert_close(after[value], before[value] * vectors[1])
        # What goes into the second map is multiplied, not what the hook sees before it.
        feed_forward, plain = model.layers[0].feed_forward, base.layers[0].feed_forward
        x = torch.randn(4, base.config.hidden_size, dtype=torch.float64)
        inner = plain.activation(plain.expand(x))
        scaled = inner * scales["layers.0.feed_forward.contract.ia3_l"]
        torch.testing.assert_close(feed_forward(x), plain.contract(scaled))


def test_it_trains_so_many_numbers_as_the_paper_says(base: DecoderLM) -> None:
    model = attach(base, "ia3", IA3Config())
    config = base.config
    layer = 2 * config.num_heads * config.resolved_head_dim + config.resolved_ffn_size
    count = sum(p.numel() for p in trained_parameters(model, "default").values())
    assert count == config.num_layers * layer


@pytest.mark.parametrize("first", ["ia3", "lora"])
def test_with_lora_on_the_same_maps_it_is_merged_as_it_acts(base: DecoderLM, first: str) -> None:
    settings = {"ia3": IA3Config(), "lora": LoraConfig(rank=2, bias="adapted")}
    model = base
    for name in (first, *(settings.keys() - {first})):
        model = attach(model, name, settings[name], name)
        with torch.no_grad():
            for parameter in trained_parameters(model, name).values():
                parameter.add_(torch.randn_like(parameter) / 5)
    activate(model, list(settings))
    wanted = model(IDS)
    activate(model, ["lora"])
    assert not torch.allclose(model(IDS), wanted)
    activate(model, list(settings))
    merge(model.eval())
    torch.testing.assert_close(model(IDS), wanted)
    folded = fold(model)
    assert not [n for n, _ in folded.named_parameters() if "lora" in n or "ia3" in n]
    torch.testing.assert_close(folded(IDS), wanted)


def test_beside_what_cannot_be_merged_it_is_not_either(base: DecoderLM) -> None:
    model = attach(base, "bottleneck", BottleneckConfig(size=2), "narrow")
    model = attach(model, "ia3", IA3Config(), "scaled")
    activate(model, ["narrow", "scaled"])
    with pytest.raises(AdapterError, match="'narrow' is no update of the weights"):
        merge(model)


def test_peft_reads_ours_and_we_read_theirs(base: DecoderLM, tmp_path: Path) -> None:
    model = attach(copy.deepcopy(base), "ia3", EVERYTHING)
    randomise(model)
    wanted = model.eval()(IDS)
    save_adapter(model, "default", tmp_path / "ours")
    other = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "ours"))
    torch.testing.assert_close(other.eval()(IDS), wanted)
    other.save_pretrained(str(tmp_path / "theirs"))
    loaded = load_adapter(copy.deepcopy(base), tmp_path / "theirs")
    torch.testing.assert_close(loaded.eval()(IDS), wanted)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modules_to_save": ["unembedding"]}, "modules_to_save = .*plain .IA.*nothing beyond"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out = True"),
    ],
)
def test_what_peft_can_besides_is_refused(
    base: DecoderLM, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    peft.get_peft_model(
        copy.deepcopy(base),
        peft.IA3Config(target_modules=["contract"], feedforward_modules=["contract"]),
    ).save_pretrained(str(tmp_path))
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")
    with pytest.raises(AdapterError, match=message):
        load_adapter(base, tmp_path)


def test_scaled_queries_are_refused(base: DecoderLM, tmp_path: Path) -> None:
    model = attach(copy.deepcopy(base), "ia3", IA3Config())
    save_adapter(model, "default", tmp_path)
    (tmp_path / "tinylm.json").unlink()
    path = tmp_path / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = "base_model.model.layers.1.attention.query_key_value.ia3_l"
    tensors[name][0] = 1.5
    safetensors.torch.save_file(tensors, path)
    config = tmp_path / "adapter_config.json"
    values = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps(values | {"revision": None}), "utf-8")
    with pytest.raises(AdapterError, match=r"query_key_value\.ia3_l has shape") as raised:
        load_adapter(base, tmp_path)
    assert "\n" not in str(raised.value)


def test_an_input_that_is_no_target_is_refused(base: DecoderLM) -> None:
    settings = IA3Config(targets=("attention.query_key_value",))
    with pytest.raises(
        AdapterError, match=r"feed_forward 'feed_forward.contract' matches none.*\[\]"
    ):
        attach(base, "ia3", settings)
    attach(base, "ia3", IA3Config(targets=("attention.query_key_value",), feed_forward=()))
