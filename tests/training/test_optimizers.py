"""Adam, AdamW and SGD against torch's, a step by hand, state that moves between forms, clipping."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny import tiny_model
from tinylm.config import TrainingConfig
from tinylm.errors import TrainingError
from tinylm.registry import OPTIMIZERS
from tinylm.training.optimizers import (
    SGD,
    Adam,
    AdamW,
    build_optimizer,
    clip_gradients,
    optimizer_tensors,
    restore_optimizer,
    same_state,
    set_learning_rate,
)

STEPS = 120


def parameters(seed: int = 0) -> list[nn.Parameter]:
    """A matrix, a vector, a scalar, a frozen one, one with gaps and one never given a gradient."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(5, 7), (7,), (), (3, 2), (4, 4), (2,)]
    made = [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in shapes
    ]
    made[3].requires_grad_(False)
    return made


def give_gradients(made: Sequence[nn.Parameter], step: int, first: int = 0) -> None:
    """Set the same gradients for the same step: huge, tiny and zero ones among them."""
    generator = torch.Generator().manual_seed(1000 + step)
    for index, parameter in enumerate(made):
        gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        gradient = gradient * 10.0 ** (step % 7 - 4)
        missing = index in (3, 5) or (index == 4 and step % 3 == first)
        parameter.grad = None if missing else gradient
        if index == 1 and parameter.grad is not None:
            parameter.grad[2] = 0.0


def largest_difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return max(
        ((a - b).abs() / b.abs().clamp(min=1)).max().item()
        for a, b in zip(left, right, strict=True)
    )


CASES: list[tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = [
    (Adam, torch.optim.Adam, {}),
    (Adam, torch.optim.Adam, {"weight_decay": 0.1, "betas": (0.8, 0.99), "eps": 1e-6}),
    (Adam, torch.optim.Adam, {"betas": (0.0, 0.5)}),
    (AdamW, torch.optim.AdamW, {"weight_decay": 0.1}),
    (AdamW, torch.optim.AdamW, {"weight_decay": 0.0, "betas": (0.95, 0.999)}),
    (SGD, torch.optim.SGD, {}),
    (SGD, torch.optim.SGD, {"weight_decay": 0.2}),
    (SGD, torch.optim.SGD, {"momentum": 0.9}),
    (SGD, torch.optim.SGD, {"momentum": 0.7, "weight_decay": 0.05}),
]


@pytest.mark.parametrize(("ours", "theirs", "settings"), CASES)
def test_equal_to_torch_over_many_steps(
    ours: Callable[..., Any], theirs: Callable[..., Any], settings: dict[str, Any]
) -> None:
    mine, reference = parameters(), parameters()
    start = [parameter.detach().clone() for parameter in mine]
    optimizers = ours(mine, lr=3e-3, **settings), theirs(reference, lr=3e-3, **settings)
    for step in range(STEPS):
        for made, optimizer in zip((mine, reference), optimizers, strict=True):
            give_gradients(made, step)
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 * (1 + step % 5)  # a schedule at work
            optimizer.step()
    assert largest_difference(mine, reference) < 1e-12
    for index, moves in enumerate([True, True, True, False, True, False]):
        assert bool((mine[index] != start[index]).any()) is moves
    for parameter, twin in zip(mine, reference, strict=True):
        state, expected = optimizers[0].state[parameter], optimizers[1].state[twin]
        kept = {key: value for key, value in expected.items() if value is not None}
        assert state.keys() == kept.keys()
        for key, value in kept.items():
            assert torch.allclose(state[key], value, rtol=1e-12, atol=1e-15), key


def test_two_steps_of_adam_by_hand() -> None:
    parameter = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = Adam([{"params": [parameter]}], lr=0.1)
    parameter.grad = torch.tensor([0.5], dtype=torch.float64)
    optimizer.step()
    # m = 0.05, v = 0.00025; corrected 0.5 and 0.25: 1 - 0.1 * 0.5 / (0.5 + 1e-8)
    assert parameter.item() == pytest.approx(0.900000002, abs=1e-12)
    parameter.grad = torch.tensor([-0.25], dtype=torch.float64)
    optimizer.step()
    # m = 0.9 * 0.05 - 0.1 * 0.25 = 0.02, corrected by 1 - 0.81: 0.105263157895
    # v = 0.999 * 0.00025 + 0.001 * 0.0625 = 0.00031225, corrected by 1 - 0.998001: 0.156203101551
    # 0.900000002 - 0.1 * 0.105263157895 / (0.395225380067 + 1e-8)
    assert parameter.item() == pytest.approx(0.8733663, abs=1e-6)
    expected = 0.900000002 - 0.1 * 0.105263157894737 / (math.sqrt(0.156203101550775) + 1e-8)
    assert parameter.item() == pytest.approx(expected, abs=1e-11)


def test_decoupled_decay_shrinks_the_weight_alone_and_coupled_decay_enters_the_gradient() -> None:
    for kind, expected in ((AdamW, 2.0 * (1 - 0.1 * 0.5)), (Adam, 2.0 - 0.1)):
        parameter = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
        optimizer = kind([{"params": [parameter]}], lr=0.1, weight_decay=0.5)
        parameter.grad = torch.zeros(1, dtype=torch.float64)
        optimizer.step()
        assert parameter.item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
def test_closures_are_refused(kind: Callable[..., Any]) -> None:
    with pytest.raises(TrainingError, match="closure"):
        kind(parameters(), lr=0.1).step(lambda: 0.0)


# --- changing from ours to torch's fused form and back ---


def trained_steps(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: range
) -> torch.optim.Optimizer:
    for step in steps:
        give_gradients(list(model.parameters()), step, first=-1)
        for parameter in model.parameters():
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("family", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("first", ["ours", "torch"])
def test_a_run_can_change_between_ours_and_the_fused_form(family: str, first: str) -> None:
    names = [family, f"torch-{family}"] if first == "ours" else [f"torch-{family}", family]
    configs = [
        TrainingConfig(optimizer=name, weight_decay=0.1, learning_rate=1e-2) for name in names
    ]
    model = tiny_model().double()
    model.embedding.weight.requires_grad_(False)
    steady = copy.deepcopy(model)
    trained_steps(steady, build_optimizer(steady, configs[0]), range(20))

    optimizer = trained_steps(model, build_optimizer(model, configs[0]), range(10))
    kept = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    assert kept and not any(name.startswith("embedding") for name in kept)
    changed = build_optimizer(model, configs[1])
    restore_optimizer(changed, model, kept)
    trained_steps(model, changed, range(10, 20))
    assert largest_difference(list(model.parameters()), list(steady.parameters())) < 1e-12
    assert optimizer_tensors(changed, model).keys() == kept.keys()


def test_restored_state_is_a_copy_and_a_stranger_is_refused() -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, TrainingConfig())
    kept = {"unembedding.bias/exp_avg": torch.zeros(model.config.resolved_vocab_size)}
    restore_optimizer(optimizer, model, kept)
    state = optimizer.state[model.unembedding.bias]
    state["exp_avg"] += 1
    assert kept["unembedding.bias/exp_avg"].sum() == 0
    with pytest.raises(TrainingError, match=r"state of layers\.9\.x is not of this model"):
        restore_optimizer(optimizer, model, {"layers.9.x/exp_avg": torch.zeros(1)})


def test_which_optimizers_share_their_state() -> None:
    assert same_state("adam", "torch-adamw")
    assert same_state("torch-sgd", "sgd")
    assert not same_state("adam", "sgd")


# --- what a run's optimizer is made of ---


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_trained_parameter_once_and_only_matrices_decayed(name: str) -> None:
    model = tiny_model(tie_embeddings=True)
    model.layers[0].attention_norm.requires_grad_(False)
    optimizer = build_optimizer(model, TrainingConfig(optimizer=name, weight_decay=0.3))
    inside = [p for group in optimizer.param_groups for p in group["params"]]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sorted(map(id, inside)) == sorted(map(id, trained))
    for group in optimizer.param_groups:
        decays = {parameter.dim() >= 2 for parameter in group["params"]}
        assert decays == {group["weight_decay"] == 0.3}
        assert group["peak_lr"] == 3e-4


def test_settings_reach_the_optimizer() -> None:
    config = TrainingConfig(beta1=0.5, beta2=0.7, eps=1e-3, learning_rate=0.2)
    group = build_optimizer(tiny_model(), config).param_groups[0]
    assert (group["betas"], group["eps"], group["lr"]) == ((0.5, 0.7), 1e-3, 0.2)
    config = TrainingConfig(optimizer="sgd", beta1=0.5)
    assert build_optimizer(tiny_model(), config).param_groups[0]["momentum"] == 0.5


def test_a_schedule_keeps_the_ratio_of_the_groups_rates() -> None:
    """LoRA+ gives B a rate 16 times A's; writing one rate into every group would erase it."""
    model = tiny_model()
    optimizer = build_optimizer(model, TrainingConfig(learning_rate=1e-3))
    optimizer.param_groups[1]["peak_lr"] = 16e-3
    for factor in (0.1, 1.0, 0.5, 0.0, 0.25):
        assert set_learning_rate(optimizer, factor) == pytest.approx(1e-3 * factor)
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([1e-3 * factor, 16e-3 * factor])


# --- clipping ---


@pytest.mark.parametrize("largest", [0.01, 1.0, 1e6])
def test_clipping_as_torch_does(largest: float) -> None:
    mine, reference = parameters(), parameters()
    give_gradients(mine, 5)
    give_gradients(reference, 5)
    norm = clip_gradients(mine, largest)
    expected = float(torch.nn.utils.clip_grad_norm_(reference, largest))
    assert norm == pytest.approx(expected, rel=1e-12)
    # torch divides by norm + 1e-6 and so falls short of the norm asked for; ours meets it.
    correction = (expected + 1e-6) / expected if expected > largest else 1.0
    for parameter, twin in zip(mine, reference, strict=True):
        assert (parameter.grad is None) == (twin.grad is None)
        if parameter.grad is not None and twin.grad is not None:
            torch.testing.assert_close(parameter.grad, twin.grad * correction, rtol=1e-9, atol=0)
    after = torch.cat([p.grad.flatten() for p in mine if p.grad is not None]).norm().item()
    assert after == pytest.approx(min(norm, largest), rel=1e-12)


def test_clipping_by_hand_switched_off_and_without_gradients() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    assert clip_gradients([parameter], 1.0) == 0.0
    parameter.grad = torch.tensor([3.0, 4.0])
    assert clip_gradients([parameter], 0.0) == pytest.approx(5.0)
    assert parameter.grad.tolist() == [3.0, 4.0]
    assert clip_gradients([parameter], 1.0) == pytest.approx(5.0)
    assert parameter.grad.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("transposed", [False, True])
def test_adam_in_pieces_equals_torchs(transposed: bool) -> None:
    """A parameter of several pieces and a rest, and one whose rows are not side by side."""

    def made() -> nn.Parameter:
        values = torch.randn(700, 301, generator=torch.Generator().manual_seed(0)).double()
        return nn.Parameter(values.T if transposed else values)

    ours, theirs = made(), made()
    assert ours.numel() > 3 * 2**16
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.01}
    adam, torchs = Adam([{"params": [ours]}], **settings), torch.optim.Adam([theirs], **settings)
    for step in range(5):
        gradient = torch.randn(ours.shape, generator=torch.Generator().manual_seed(step)).double()
        ours.grad = gradient.clone() if step % 2 else gradient.T.contiguous().T
        theirs.grad = gradient.clone()
        adam.step()
        torchs.step()
    assert (ours - theirs).abs().max() < 1e-12
    assert (ours - made()).abs().min() > 0


def test_the_norm_does_not_depend_on_where_in_memory_gradients_stand() -> None:
    """As ``torch.dot`` does, in the last bit: a resumed run would not end as another."""
    numbers = torch.randn(3001, generator=torch.Generator().manual_seed(0))
    norms = set()
    for offset in range(16):
        parameter = nn.Parameter(torch.zeros(3001))
        parameter.grad = torch.empty(3100)[offset : offset + 3001].copy_(numbers)
        norms.add(clip_gradients([parameter], 1.0))
    assert len(norms) == 1
