"""Adapters on a frozen base: nothing of the base ever moves, and every change can be taken back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tinylm.config import TrainingConfig
from tinylm.config.finetuning import BottleneckConfig, LoraConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import AdapterError, ConfigError
from tinylm.fast import for_decoding
from tinylm.finetuning.adapters import (
    activate,
    active_adapters,
    adapter_of,
    adapters,
    attach,
    detach,
    fingerprint,
    fold,
    is_merged,
    merge,
    trained_parameters,
    unmerge,
)
from tinylm.finetuning.linear import AdaptedLinear, wrap_linear
from tinylm.finetuning.lora import LowRank
from tinylm.finetuning.sites import plain_parameters, wrappers
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.linear import LinearLike
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

Models = Callable[..., DecoderLM]
IDS = torch.randint(0, 23, (3, 8), generator=torch.Generator().manual_seed(3))
LORA = LoraConfig(rank=3)
BIASED = LoraConfig(rank=3, bias="all", targets=("attention.output",))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 4)).double().eval()


def randomise(model: nn.Module, name: str, seed: int = 5) -> None:
    """Give an adapter numbers as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained_parameters(model, name).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)


def snapshot(model: nn.Module) -> tuple[Any, ...]:
    """Return all that must be as before when an operation is refused."""
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, id(p), p.requires_grad) for name, p in model.named_parameters()],
        adapters(model),
        active_adapters(model),
    )


def assert_same(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    for name, value in before[0].items():
        assert torch.equal(value, after[0][name]), name


def with_linear_weights(model: nn.Module, change: Callable[[str], Tensor]) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter += change(name)
    return other


def test_the_whole_life_of_an_adapter_leaves_the_base_as_it_was(small_model: Models) -> None:
    model = small_model().double()
    model.embedding.weight.requires_grad_(False)
    before = snapshot(model)
    start = model(IDS)
    assert attach(model, "lora", BIASED, "a") is model
    randomise(model, "a")
    changed = model(IDS)
    assert not torch.equal(changed, start)
    activate(model, [])
    assert torch.equal(model(IDS), start)
    activate(model, ["a"])
    assert torch.equal(model(IDS), changed)
    merge(model)
    assert is_merged(model)
    torch.testing.assert_close(model(IDS), changed)
    unmerge(model)
    assert torch.equal(model(IDS), changed)
    assert detach(model, "a") is model
    assert_same(before, snapshot(model))
    assert torch.equal(model(IDS), start)


@pytest.mark.parametrize("settings", [LORA, BIASED], ids=["plain", "biases"])
def test_only_the_adapter_is_trained(small_model: Models, settings: LoraConfig) -> None:
    model = attach(small_model(dropout=0.0), "lora", settings, "a")
    trained = trained_parameters(model, "a")
    assert {id(p) for p in model.parameters() if p.requires_grad} == {
        id(p) for p in trained.values()
    }
    base = {name: p.clone() for name, p in small_model().named_parameters()}
    config = TrainingConfig(optimizer="sgd", learning_rate=0.5, weight_decay=0.1)
    step = TrainingStep(model, next_token_loss, config)
    batch = Batch(IDS[:, :-1], IDS[:, 1:], None)
    for _ in range(3):
        step.backward([batch])
        step.update()
    assert all(parameter.grad is not None for parameter in trained.values())
    activate(model, [])
    for name, parameter in plain_parameters(model).items():
        assert torch.equal(parameter, base[name]), name
    activate(model, ["a"])
    for name, parameter in adapter_of(model, "a").own.items():
        assert not torch.equal(parameter, base[name]), name


def test_names_and_counts_of_what_is_trained() -> None:
    model = attach(network(), "lora", LoraConfig(rank=2, targets=("2",), bias="all"), "x")
    shapes = {key: tuple(p.shape) for key, p in trained_parameters(model, "x").items()}
    assert shapes == {"2.lora_A": (2, 9), "2.lora_B": (4, 2), "0.bias": (9,), "2.bias": (4,)}
    attach(model, "lora", LoraConfig(rank=1, targets=("0",)), "y")
    assert list(trained_parameters(model)) == [
        *("x/2.lora_A", "x/2.lora_B", "x/0.bias", "x/2.bias", "y/0.lora_A", "y/0.lora_B")
    ]
    assert adapters(model) == ["x", "y"]
    assert active_adapters(model) == ["y"]
    assert adapter_of(model, "y").method == "lora"


def test_switching_and_stacking_are_sums_of_updates() -> None:
    plain = network()
    x = torch.randn(5, 6, dtype=torch.float64)
    model = copy.deepcopy(plain)
    for seed, name in enumerate("ab"):
        attach(model, "lora", LoraConfig(rank=2, alpha=3, targets=("0", "2")), name)
        randomise(model, name, seed)
    updates = {
        adapter: {
            f"{path}.weight": 1.5 * part["lora_B"] @ part["lora_A"]
            for path, wrapper in wrappers(model)
            for part in [dict(wrapper.parts[adapter].named_parameters())]
        }
        for adapter in "ab"
    }
    for active in ([], ["a"], ["b"], ["a", "b"], ["b", "a"]):
        activate(model, active)
        wanted = with_linear_weights(
            plain,
            lambda name, active=active: sum(  # type: ignore[misc]
                (updates[adapter].get(name, torch.zeros(())) for adapter in active), torch.zeros(())
            ),
        )
        torch.testing.assert_close(model(x), wanted(x))
        trained = {id(p) for adapter in active for p in trained_parameters(model, adapter).values()}
        assert {id(p) for p in model.parameters() if p.requires_grad} == trained
        merge(model)
        torch.testing.assert_close(model(x), wanted(x))
        unmerge(model)


def test_one_adapter_may_be_trained_on_top_of_another() -> None:
    model = network()
    for name in "ab":
        attach(model, "lora", LoraConfig(rank=2, targets=("0",)), name)
    activate(model, ["a", "b"], trained=["b"])
    assert {id(p) for p in model.parameters() if p.requires_grad} == {
        id(p) for p in trained_parameters(model, "b").values()
    }


def test_each_adapter_has_biases_of_its_own(small_model: Models) -> None:
    model = small_model()
    start = model(IDS)
    for seed, name in enumerate("ab"):
        attach(model, "lora", BIASED, name)
        randomise(model, name, seed)
    by_name = {}
    for name in "ab":
        activate(model, [name])
        by_name[name] = model(IDS)
    assert not torch.equal(by_name["a"], by_name["b"])
    before = snapshot(model)
    with pytest.raises(AdapterError, match="'a' and 'b' both have their own"):
        activate(model, ["a", "b"])
    assert_same(before, snapshot(model))
    detach(model, "b")
    assert torch.equal(model(IDS), start)  # b was the one that acted
    activate(model, ["a"])
    assert torch.equal(model(IDS), by_name["a"])
    detach(model, "a")
    assert torch.equal(model(IDS), start)


def test_biases_kept_aside_follow_the_model_to_another_format(small_model: Models) -> None:
    model = attach(small_model(), "lora", BIASED, "a")
    randomise(model, "a")
    model.double()  # the base's biases are not part of it now
    activate(model, [])
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    torch.testing.assert_close(model(IDS), small_model().double()(IDS))
    activate(model, ["a"])
    assert model(IDS).dtype == torch.float64


@pytest.mark.parametrize(
    ("method", "settings", "name", "error", "message"),
    [
        ("lora", LoraConfig(targets=("nowhere",)), "b", AdapterError, "'nowhere' matches no"),
        ("lora", LoraConfig(rank=13), "b", AdapterError, "set a rank of 1 to 12"),
        ("lora", LORA, "a", AdapterError, "an adapter 'a' is attached already"),
        ("lora", BottleneckConfig(), "b", AdapterError, "takes a LoraConfig, not a Bottleneck"),
        ("lora", LORA, "b.c", AdapterError, "name 'b.c' cannot be used"),
        ("lora", LORA, "", AdapterError, "name '' cannot be used"),
        ("lora", LORA, "keys", AdapterError, "name 'keys' cannot be used"),
        ("lorra", LORA, "b", ConfigError, "did you mean lora"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_what_cannot_be_attached_changes_nothing(
    small_model: Models,
    method: str,
    settings: Any,
    name: str,
    error: type[Exception],
    message: str,
    earlier: bool,
) -> None:
    model = small_model()
    if earlier or name == "a":
        attach(model, "lora", BIASED, "a")
        randomise(model, "a")
    before = snapshot(model)
    with pytest.raises(error, match=message) as raised:
        attach(model, method, settings, name)
    assert "\n" not in str(raised.value)
    assert_same(before, snapshot(model))


def test_what_is_not_there_is_refused(small_model: Models) -> None:
    model = small_model()
    activate(model, [])
    for operation in (merge, unmerge, fold, lambda m: detach(m, "a"), lambda m: activate(m, ["a"])):
        with pytest.raises(AdapterError, match="the model has no adapter"):
            operation(model)
    attach(model, "lora", LORA, "french")
    for operation in (lambda m: detach(m, "frensh"), lambda m: trained_parameters(m, "frensh")):
        with pytest.raises(AdapterError, match="did you mean french"):
            operation(model)


def test_a_merged_model_refuses_what_would_break_it(small_model: Models) -> None:
    model = attach(small_model(dropout=0.0).double(), "lora", LORA, "a")
    randomise(model, "a")
    wanted = model(IDS)
    merge(model)
    merge(model)
    once = model(IDS)
    torch.testing.assert_close(once, wanted)
    for operation in (
        lambda: attach(model, "lora", LORA, "b"),
        lambda: activate(model, []),
        lambda: detach(model, "a"),
    ):
        with pytest.raises(AdapterError, match="unmerge before"):
            operation()
    model.train()
    with torch.no_grad():
        assert torch.equal(model(IDS), once)
    with pytest.raises(AdapterError, match="a merged adapter cannot be trained"):
        model(IDS)
    unmerge(model)
    unmerge(model)
    assert torch.equal(model(IDS), wanted)


def test_merging_leaves_the_tensors_of_the_base_alone(small_model: Models) -> None:
    """A tied weight would move in two places if it were written to."""
    model = attach(
        small_model(tie_embeddings=True).double(), "lora", LoraConfig(targets=("unembedding",)), "a"
    )
    randomise(model, "a")
    wanted, kept = model(IDS), model.embedding.weight.clone()
    merge(model)
    assert torch.equal(model.embedding.weight, kept)
    torch.testing.assert_close(model(IDS), wanted)
    before = snapshot(model)
    with pytest.raises(AdapterError, match=r"embedding.weight and unembedding.weight are one"):
        fold(model)
    assert_same(before, snapshot(model))


def test_folding_gives_the_plain_model_back(small_model: Models) -> None:
    plain = small_model().double()
    model = attach(small_model().double(), "lora", LoraConfig(rank=2, bias="adapted"), "a")
    randomise(model, "a")
    attach(model, "lora", BIASED, "unused")
    activate(model, ["a"])
    wanted = model(IDS)
    folded = fold(model)
    assert folded is model
    assert [(n, type(m)) for n, m in folded.named_modules()] == [
        (n, type(m)) for n, m in plain.named_modules()
    ]
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert all(parameter.requires_grad for parameter in folded.parameters())
    torch.testing.assert_close(folded(IDS), wanted)
    assert adapters(folded) == []
    loaded = small_model().double()
    loaded.load_state_dict(folded.state_dict())
    assert torch.equal(loaded(IDS), folded(IDS))


def test_a_model_copied_with_its_adapters_is_independent(small_model: Models) -> None:
    model = attach(small_model(), "lora", BIASED, "a")
    randomise(model, "a")
    wanted = model(IDS)
    other = copy.deepcopy(model)
    activate(model, [])
    detach(model, "a")
    assert torch.equal(other(IDS), wanted)
    activate(other, [])
    assert torch.equal(other(IDS), model(IDS))


@pytest.mark.parametrize("merged", [False, True])
def test_a_packed_copy_has_the_same_outputs(small_model: Models, merged: bool) -> None:
    model = attach(small_model(), "lora", LoraConfig(rank=3, bias="all", targets=("*",)), "a")
    randomise(model, "a")
    if merged:
        merge(model)
    wanted = model(IDS)
    with torch.inference_mode():
        torch.testing.assert_close(for_decoding(model)(IDS), wanted)
    assert torch.equal(model(IDS), wanted)


def test_the_weight_of_an_adapted_map_does_what_the_map_does(small_model: Models) -> None:
    """The training step multiplies by ``unembedding.weight`` itself."""
    model = small_model(dropout=0.0).double().train()
    attach(model, "lora", LoraConfig(rank=4, targets=("unembedding",), bias="all"), "a")
    randomise(model, "a")
    labels = IDS[:, 1:].clone()
    labels[0, :3] = IGNORED
    logits = model(IDS[:, :-1])
    wanted = nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    trained = trained_parameters(model, "a")
    gradients = torch.autograd.grad(wanted, list(trained.values()))
    step = TrainingStep(model, next_token_loss, TrainingConfig(device="cpu", precision="fp32"))
    loss = step.loss(Batch(IDS[:, :-1], labels, None))[0]
    torch.testing.assert_close(loss, wanted)
    again = torch.autograd.grad(loss, list(trained.values()))
    for name, gradient, other in zip(trained, gradients, again, strict=True):
        assert gradient.any(), name
        torch.testing.assert_close(gradient, other)
    merge(model)
    with pytest.raises(AdapterError, match="a merged adapter cannot be trained"):
        model.unembedding.weight  # noqa: B018


def test_dropout_cannot_act_through_a_weight(small_model: Models) -> None:
    settings = LoraConfig(rank=4, targets=("unembedding",), dropout=0.5)
    model = attach(small_model(), "lora", settings, "a")
    assert model.unembedding.weight.shape == (23, 12)
    model.train()
    with pytest.raises(AdapterError, match="set dropout=0"):
        model.unembedding.weight  # noqa: B018


def test_a_map_that_torch_uses_through_its_weight_can_be_adapted() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    attach(attention, "lora", LoraConfig(rank=2, targets=("out_proj",)), "a")
    randomise(attention, "a")
    output, _ = attention(x, x, x)
    fold(attention)
    torch.testing.assert_close(attention(x, x, x)[0], output)


class Doubled(LinearLike):
    """A stand-in for a linear map, its weight computed when asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = None
        self.matrix = nn.Parameter(torch.randn(4, 6, dtype=torch.float64))

    @property
    def weight(self) -> Tensor:
        return 2 * self.matrix

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def test_a_stand_in_for_a_linear_map_is_adapted_and_folds_to_a_plain_one() -> None:
    model = nn.Sequential(Doubled()).eval()
    x = torch.randn(5, 6, dtype=torch.float64)
    start = model(x)
    attach(model, "lora", LoraConfig(rank=2, targets=("0",)), "a")
    assert torch.equal(model(x), start)
    randomise(model, "a")
    wanted = model(x)
    unmerged = snapshot(model)
    merge(model)
    torch.testing.assert_close(model(x), wanted)
    unmerge(model)
    assert_same(unmerged, snapshot(model))
    fold(model)
    assert type(model[0]) is nn.Linear
    torch.testing.assert_close(model(x), wanted)


def test_a_short_format_is_rounded_once() -> None:
    linear = nn.Linear(64, 48).bfloat16()
    adapted = AdaptedLinear(linear)
    parts = [LowRank(linear, 8, 0.7) for _ in range(3)]
    for seed, part in enumerate(parts):
        nn.init.normal_(part.lora_B, generator=torch.Generator().manual_seed(seed))
        adapted.parts.add(str(seed), part.float())
    adapted.merge()
    assert adapted.merged is not None
    exact = linear.weight.double() + sum(part.weight_update().double() for part in parts)
    assert torch.equal(adapted.merged.weight, exact.float().bfloat16())


def test_fingerprints_tell_bases_apart(small_model: Models) -> None:
    model = small_model()
    start = fingerprint(model)
    assert start == fingerprint(small_model())
    attach(model, "lora", BIASED, "a")
    randomise(model, "a")
    assert fingerprint(model) == start
    detach(model, "a")
    assert fingerprint(model) == start
    with torch.no_grad():
        model.layers[1].attention.output.bias[3] += 1e-6
    assert fingerprint(model) != start
    assert fingerprint(model.double()) != fingerprint(small_model())
    assert fingerprint(small_model(seed=1)) != start
    renamed = nn.Sequential(nn.Identity(), nn.Linear(2, 2))
    other = nn.Sequential(renamed[1])
    assert fingerprint(renamed) != fingerprint(other)
    assert fingerprint(nn.Linear(4, 4).bfloat16())


def test_a_wrapper_alone_changes_nothing(small_model: Models) -> None:
    model = small_model()
    start = model(IDS)
    adapted = wrap_linear(model, "layers.0.attention.output", AdaptedLinear)
    assert (adapted.in_features, adapted.out_features) == (12, 12)
    assert adapted.weight is adapted.base.weight
    assert adapted.bias is adapted.base.bias
    assert torch.equal(model(IDS), start)
