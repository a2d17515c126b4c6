"""Bottleneck adapters beside the sum that defines them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tinylm.config.finetuning import BottleneckConfig, LoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import activate, attach, trained_parameters
from tinylm.model.decoder import DecoderLM

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (2, 6), generator=torch.Generator().manual_seed(0))


def written_out(y: Tensor, values: dict[str, nn.Parameter], path: str, gelu: bool) -> Tensor:
    inner = y @ values[f"{path}.down.weight"].T + values[f"{path}.down.bias"]
    inner = nn.functional.gelu(inner) if gelu else inner.clamp(min=0)
    return y + inner @ values[f"{path}.up.weight"].T + values[f"{path}.up.bias"]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_outputs_pass_the_bottleneck_and_gradients_reach_it(activation: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    first, last = model[0], model[2]
    settings = BottleneckConfig(size=5, activation=activation, targets=(".0", ".2"))  # type: ignore[arg-type]
    attach(model, "bottleneck", settings)
    values = trained_parameters(model, "default")
    with torch.no_grad():
        for parameter in values.values():
            parameter.normal_()
    x = torch.randn(7, 4, dtype=torch.float64)
    gelu = activation == "gelu"
    wanted = written_out(last(written_out(first(x), values, "0", gelu).tanh()), values, "2", gelu)
    output = model(x)
    torch.testing.assert_close(output, wanted)
    toward = torch.randn_like(wanted)
    ours = torch.autograd.grad(output, list(values.values()), toward)
    theirs = torch.autograd.grad(wanted, list(values.values()), toward)
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)


def test_they_stand_after_attention_and_feed_forward_before_the_residual_sum(
    small_model: Models,
) -> None:
    model = attach(small_model(num_layers=1).double(), "bottleneck", BottleneckConfig(size=2))
    values = trained_parameters(model, "default")
    with torch.no_grad():
        for parameter in values.values():
            parameter.normal_()
    seen: dict[str, Tensor] = {}
    names = ("layers.0.input", "layers.0.attention.output", "layers.0.middle")
    names = (*names, "layers.0.feed_forward.output", "layers.0.residual")
    model(IDS, hooks=model.hooks(dict.fromkeys(names, seen.__setitem__)))
    layer = model.layers[0]
    mixed = written_out(seen["layers.0.attention.output"], values, "layers.0.attention", False)
    middle = layer.attention_norm(seen["layers.0.input"] + mixed)
    torch.testing.assert_close(seen["layers.0.middle"], middle)
    inner = written_out(
        seen["layers.0.feed_forward.output"], values, "layers.0.feed_forward", False
    )
    torch.testing.assert_close(
        seen["layers.0.residual"], layer.feed_forward_norm(seen["layers.0.middle"] + inner)
    )


def test_two_adapters_count_the_numbers_of_the_paper(small_model: Models) -> None:
    base = small_model(num_layers=3, hidden_size=12)
    model = attach(base, "bottleneck", BottleneckConfig(size=5))
    count = sum(parameter.numel() for parameter in trained_parameters(model, "default").values())
    assert count == 3 * 2 * (2 * 5 * 12 + 5 + 12)


def test_the_start_is_small_and_cut_off(small_model: Models) -> None:
    model = attach(small_model(hidden_size=48), "bottleneck", BottleneckConfig(size=32))
    for name, parameter in trained_parameters(model, "default").items():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.abs().max() <= 0.02
            assert float(parameter.detach().std()) == pytest.approx(
                0.0088, rel=0.1
            )  # 0.01, cut at 2 of it


def test_it_stands_around_a_map_with_lora_and_one_after_the_other(small_model: Models) -> None:
    model = attach(small_model(), "lora", LoraConfig(rank=2), "low")
    model = attach(model, "bottleneck", BottleneckConfig(size=3), "narrow")
    with torch.no_grad():
        for name in ("low", "narrow"):
            for parameter in trained_parameters(model, name).values():
                parameter.normal_(std=0.3)
    output = {}
    for names in ((), ("low",), ("narrow",), ("low", "narrow")):
        activate(model, names)
        output[names] = model(IDS)
    values = list(output.values())
    assert all(not torch.allclose(a, b) for i, a in enumerate(values) for b in values[i + 1 :])


def test_a_map_used_through_its_weight_is_refused_and_not_passed_by(small_model: Models) -> None:
    """The training step multiplies by ``unembedding.weight`` itself, torch's layers by others'."""
    model = small_model()
    weight = model.unembedding.weight
    attach(model, "bottleneck", BottleneckConfig(size=2, targets=("unembedding",)))
    start = model(IDS)
    with pytest.raises(AdapterError, match="past the bottleneck") as raised:
        model.unembedding.weight  # noqa: B018
    assert "\n" not in str(raised.value)
    activate(model, [])
    assert model.unembedding.weight is weight
    assert not torch.equal(model(IDS), start)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    attach(layer, "bottleneck", BottleneckConfig(size=2, targets=("linear2",)))
    with torch.no_grad(), pytest.raises(AdapterError, match="past the bottleneck"):
        layer(torch.randn(2, 3, 8))


def test_a_module_that_returns_no_tensor_is_refused() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mixing = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            mixed: Tensor = self.mixing(x, x, x)[0]
            return mixed

    model = attach(Network(), "bottleneck", BottleneckConfig(size=2, targets=("mixing",)))
    with pytest.raises(AdapterError, match="a MultiheadAttention, which returns a tuple"):
        model(torch.randn(2, 3, 8))


def test_a_module_without_a_linear_map_is_refused(small_model: Models) -> None:
    base = small_model()
    settings = BottleneckConfig(targets=("attention", "feed_forward_norm"))
    with pytest.raises(AdapterError, match="feed_forward_norm holds no linear map") as raised:
        attach(base, "bottleneck", settings)
    assert "\n" not in str(raised.value)
    assert all(parameter.requires_grad for parameter in base.parameters())
