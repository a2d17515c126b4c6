"""LoRA beside peft with the same weights, its start, its scales, and LoRA+'s two learning rates."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn

from tinylm.config import TrainingConfig
from tinylm.config.finetuning import LoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import adapter_of, attach, merge, trained_parameters
from tinylm.finetuning.lora import LowRank
from tinylm.finetuning.sites import wrappers
from tinylm.model.decoder import DecoderLM
from tinylm.registry import OPTIMIZERS
from tinylm.training.optimizers import (
    build_optimizer,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rate,
)

Models = Callable[..., DecoderLM]
IDS = torch.randint(0, 23, (3, 8), generator=torch.Generator().manual_seed(3))
BIASES = {"none": "none", "adapted": "lora_only", "all": "all"}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 4))


def randomise(model: nn.Module, name: str = "default") -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trained_parameters(model, name).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)


def as_peft(base: nn.Module, model: nn.Module, settings: LoraConfig) -> Any:
    """Return peft's LoRA on a copy of the base, with the numbers of ours."""
    targets = [path for path, _ in wrappers(model)]
    config = peft.LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=targets,
        use_rslora=settings.scaling == "rank-stabilised",
        bias=BIASES[settings.bias],  # type: ignore[arg-type]
    )
    other = peft.get_peft_model(copy.deepcopy(base), config).train(model.training)
    theirs = peft_parameters(other, trained_parameters(model, "default"))
    with torch.no_grad():
        for name, parameter in trained_parameters(model, "default").items():
            theirs[name].copy_(parameter)
    return other


def peft_parameters(model: Any, names: Any) -> dict[str, nn.Parameter]:
    """Return peft's trainable parameters under our names, each of which must be there."""
    parameters = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            ours = name.removeprefix("base_model.model.").removesuffix(".default.weight")
            parameters[ours.replace(".base_layer", "")] = parameter
    assert parameters.keys() == set(names)
    return parameters


@pytest.mark.parametrize("bias", ["none", "adapted", "all"])
@pytest.mark.parametrize("scaling", ["standard", "rank-stabilised"])
def test_outputs_and_gradients_are_those_of_peft(
    small_model: Models, scaling: str, bias: str
) -> None:
    settings = LoraConfig(
        rank=3,
        alpha=5,
        scaling=scaling,  # type: ignore[arg-type]
        bias=bias,  # type: ignore[arg-type]
        targets=("attention.query_key_value", "layers.1.*.contract", "unembedding"),
    )
    base = small_model(dropout=0.0).double().train()
    model = attach(copy.deepcopy(base), "lora", settings)
    randomise(model)
    other = as_peft(base, model, settings)
    weights = torch.randn(3, 8, 23, dtype=torch.float64)
    ours, theirs = model(IDS), other(IDS)
    torch.testing.assert_close(ours, theirs)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    trained = trained_parameters(model, "default")
    parameters = peft_parameters(other, trained)
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
        torch.testing.assert_close(parameter.grad, parameters[name].grad)
    assert not any(p.grad is not None for n, p in model.named_parameters() if "base.weight" in n)
    model.eval()
    merge(model)
    other.merge_adapter()
    for path, wrapper in wrappers(model):
        layer = other.get_submodule(f"base_model.model.{path}")
        torch.testing.assert_close(wrapper.merged.weight, layer.base_layer.weight)
    torch.testing.assert_close(model(IDS), other.eval()(IDS))


def test_a_plain_network_is_that_of_peft_too() -> None:
    settings = LoraConfig(rank=2, alpha=3, targets=("0", "4"))
    base = network().double()
    model = attach(copy.deepcopy(base), "lora", settings)
    randomise(model)
    other = as_peft(base, model, settings)
    x = torch.randn(5, 6, dtype=torch.float64)
    torch.testing.assert_close(model(x), other(x))


def test_the_update_is_the_products_of_the_definition() -> None:
    """h = W x + alpha / r B A x, and alpha / sqrt(r) for rsLoRA, by hand."""
    linear = nn.Linear(2, 2, bias=False).double()
    for scaling, scale in (("standard", 3 / 2), ("rank-stabilised", 3 / math.sqrt(2))):
        model = nn.Sequential(copy.deepcopy(linear), nn.Linear(8, 8).double())
        settings = LoraConfig(rank=2, alpha=3, scaling=scaling, targets=("0",))  # type: ignore[arg-type]
        attach(model, "lora", settings)
        part = model[0].parts["default"]
        assert part.scale == scale
        with torch.no_grad():
            part.lora_A.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
            part.lora_B.copy_(torch.tensor([[3.0, 0.0], [1.0, 4.0]]))
        # A x = [5, -2] for x = [1, 2], and B of it = [15, -3].
        x = torch.tensor([1.0, 2.0], dtype=torch.float64)
        wanted = linear(x) + scale * torch.tensor([15.0, -3.0], dtype=torch.float64)
        torch.testing.assert_close(model[0](x), wanted)
        torch.testing.assert_close(
            part.weight_update(),
            scale * torch.tensor([[3.0, 6.0], [1.0, -2.0]], dtype=torch.float64),
        )


def test_it_starts_as_the_base_with_a_random_and_b_zero() -> None:
    torch.manual_seed(1)
    part = LowRank(nn.Linear(400, 300), 64, 1.0)
    bound = 1 / math.sqrt(400)  # sqrt(6 / ((1 + 5) * 400))
    assert not part.lora_B.any()
    assert part.lora_A.abs().max() <= bound
    assert part.lora_A.abs().max() > 0.999 * bound
    assert part.lora_A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)


def test_the_start_is_the_same_in_every_format() -> None:
    starts = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(0)
        part = LowRank(nn.Linear(6, 9, dtype=dtype, device="cpu"), 3, 1.0)
        assert part.lora_A.dtype == part.lora_B.dtype == dtype
        torch.manual_seed(0)
        nn.Linear(6, 9, dtype=dtype)
        starts.append(torch.empty(3, 6))
        nn.init.kaiming_uniform_(starts[-1], a=math.sqrt(5))
        assert torch.equal(part.lora_A, starts[-1].to(dtype))


def test_dropout_acts_on_the_input_of_the_update_only() -> None:
    torch.manual_seed(0)
    settings = LoraConfig(rank=1, alpha=1, dropout=0.25, targets=("0",))
    model = attach(nn.Sequential(nn.Linear(1, 1).double()), "lora", settings)
    randomise(model)
    x = torch.randn(4000, 1, dtype=torch.float64)
    plain = model[0].base(x)
    model.eval()
    update = model(x) - plain
    model.train()
    ratio = ((model(x) - plain) / update).squeeze()
    kept = ratio > 0.5
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 4 / 3), rtol=1e-4, atol=0)
    torch.testing.assert_close(ratio[~kept], torch.zeros_like(ratio[~kept]), rtol=0, atol=1e-9)
    assert kept.double().mean().item() == pytest.approx(0.75, abs=0.03)


def test_merging_has_no_part_of_dropout() -> None:
    model = attach(network().double(), "lora", LoraConfig(rank=2, dropout=0.5, targets=("0",)))
    randomise(model)
    x = torch.randn(5, 6, dtype=torch.float64)
    wanted = model.eval()(x)
    merge(model.train())
    torch.testing.assert_close(model.eval()(x), wanted)


@pytest.mark.parametrize(
    ("bias", "wanted"),
    [("none", []), ("adapted", ["2.bias"]), ("all", ["0.bias", "2.bias", "4.bias"])],
)
def test_the_biases_chosen_are_trained(bias: Any, wanted: list[str]) -> None:
    model = attach(network(), "lora", LoraConfig(rank=2, bias=bias, targets=("2",)))
    assert list(adapter_of(model, "default").own) == wanted


def test_sizes_and_biases_that_cannot_be_are_refused() -> None:
    with pytest.raises(AdapterError) as raised:
        attach(network(), "lora", LoraConfig(rank=7, targets=("0", "4")))
    assert str(raised.value) == (
        "rank 7: 0 is 9 x 6; set a rank of 1 to 4, or leave it out of the targets"
    )
    attach(network(), "lora", LoraConfig(rank=4, targets=("0", "4")))
    with pytest.raises(AdapterError, match="there are no such biases; set bias = none"):
        attach(
            nn.Sequential(nn.Linear(3, 3, bias=False)),
            "lora",
            LoraConfig(rank=1, bias="all", targets=("0",)),
        )


def gradients_of_one(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("copied", [False, True])
def test_lora_plus_moves_b_so_many_times_as_far(name: str, copied: bool) -> None:
    """At equal gradients, under a schedule, with every optimizer, and in a copy of the model."""
    settings = LoraConfig(rank=2, learning_rate_ratio=16, bias="all", targets=("0", "4"))
    model = attach(network().double(), "lora", settings)
    randomise(model)
    model = copy.deepcopy(model) if copied else model
    config = TrainingConfig(optimizer=name, learning_rate=1e-3, weight_decay=0.0)
    optimizer = build_optimizer(model, config)
    trained = trained_parameters(model, "default")
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trained)
    for factor in (1.0, 0.25):  # a schedule that set rates would lose the ratio
        assert set_learning_rate(optimizer, factor) == 1e-3 * factor
        before = {key: p.detach().clone() for key, p in trained.items()}
        gradients_of_one(model)
        optimizer.step()
        moved = {key: (before[key] - p.detach()).flatten() for key, p in trained.items()}
        a = moved["0.lora_A"][0]
        assert a > 0
        for key, distance in moved.items():
            ratio = 16.0 if key.endswith("lora_B") else 1.0
            torch.testing.assert_close(distance, (ratio * a).expand_as(distance))


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_without_a_ratio_the_groups_are_the_plain_ones(name: str) -> None:
    config = TrainingConfig(optimizer=name, learning_rate=1e-3, weight_decay=0.1)
    model = attach(network(), "lora", LoraConfig(rank=2, bias="all", targets=("0", "4")))
    groups = build_optimizer(model, config).param_groups
    assert [(len(g["params"]), g["weight_decay"], g["lr"], g["peak_lr"]) for g in groups] == [
        (4, 0.1, 1e-3, 1e-3),
        (3, 0.0, 1e-3, 1e-3),
    ]


def test_lora_plus_is_restored_with_its_optimizer() -> None:
    settings = LoraConfig(rank=2, learning_rate_ratio=4, targets=("0",))
    config = TrainingConfig(optimizer="adamw", learning_rate=1e-2)

    def made() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = attach(network(), "lora", settings)
        return model, build_optimizer(model, config)

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(torch.ones(3, 6)).square().sum().backward()
        optimizer.step()

    model, optimizer = made()
    for _ in range(5):
        step(model, optimizer)
    other, fresh = made()
    other.load_state_dict(model.state_dict())
    restore_optimizer(fresh, other, optimizer_tensors(optimizer, model))
    step(model, optimizer)
    step(other, fresh)
    for first, second in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


def test_gradients_are_those_of_finite_differences() -> None:
    model = attach(network().double(), "lora", LoraConfig(rank=2, targets=("0", "2")))
    randomise(model)
    x = torch.randn(3, 6, dtype=torch.float64)
    trained = trained_parameters(model, "default")

    def outputs(*values: Tensor) -> Tensor:
        names = {id(p): name for name, p in model.named_parameters()}
        given = {names[id(p)]: v for p, v in zip(trained.values(), values, strict=True)}
        output: Tensor = torch.func.functional_call(model, given, (x,))
        return output

    assert torch.autograd.gradcheck(
        outputs, tuple(p.detach().requires_grad_() for p in trained.values())
    )
