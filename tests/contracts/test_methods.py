"""What every fine-tuning method of the registry must hold."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tinylm.config import TrainingConfig
from tinylm.config import finetuning as settings
from tinylm.data.windows import Batch
from tinylm.errors import AdapterError
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
    merge,
    trained_parameters,
    unmerge,
)
from tinylm.finetuning.sites import plain_parameters
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.generation.stepper import Stepper
from tinylm.model.decoder import DecoderLM
from tinylm.registry import METHODS
from tinylm.report.references import REFERENCES
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

Models = Callable[..., DecoderLM]
SETTINGS: dict[str, Any] = {
    "lora": settings.LoraConfig(rank=3, bias="adapted"),
    "dylora": settings.DyLoraConfig(rank=4),
    "qlora": settings.QLoraConfig(rank=3),
    "longlora": settings.LongLoraConfig(rank=3, group_size=4),
    "bottleneck": settings.BottleneckConfig(size=5),
    "prefix": settings.PrefixConfig(length=3, inner_size=7),
    "prompt": settings.PromptConfig(length=3),
    "intrinsic": settings.IntrinsicConfig(dimension=40),
    "ia3": METHODS.load("ia3").Settings(),
}
# How the first outputs differ from the base's: by the size given, or freely (None).
START: dict[str, float | None] = {"bottleneck": 0.1, "prefix": None, "prompt": None}
NOT_MERGED = {"bottleneck", "prefix", "prompt"}
# What adapts linear maps and nothing else, and so any network: how one of three maps is.
ON_LINEARS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dylora": {},
    "qlora": {},
    "intrinsic": {},
    "ia3": {"feed_forward": (".4",)},
}
# Stored with numbers that are fixed, as peft has them: the ones of the queries of two layers.
FIXED = {"ia3": 2 * 12}
# The base itself is stored in another way while the adapter is there.
REPLACES_BASE = {"qlora"}

IDS = torch.randint(4, 23, (3, 8), generator=torch.Generator().manual_seed(3))
LABELS = torch.randint(4, 23, (3, 8), generator=torch.Generator().manual_seed(4))
EVERY = pytest.mark.parametrize("name", METHODS)


@pytest.fixture
def base(small_model: Models) -> DecoderLM:
    return small_model(context_length=16, dropout=0.0).double()


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 5)]
        return nn.Sequential(*layers).double().eval()


def adapted(model: nn.Module, name: str, adapter: str = "mine", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return attach(model, name, SETTINGS[name], adapter).eval()


def loss_of(model: nn.Module, labels: Tensor = LABELS) -> Tensor:
    return nn.functional.cross_entropy(model(IDS).mT, labels)


def train(model: nn.Module, steps: int = 3, labels: Tensor = LABELS) -> Any:
    """Train what requires a gradient for some steps; return the model in eval mode."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model, labels).backward()
        optimizer.step()
    return model.eval()


def snapshot(model: nn.Module) -> Iterator[Any]:
    """Yield what must be as before when an operation is refused."""
    yield [(name, type(module)) for name, module in model.named_modules()]
    yield [(name, id(p), p.requires_grad) for name, p in model.named_parameters()]
    yield [(name, value.tolist()) for name, value in model.state_dict().items()]
    yield adapters(model), active_adapters(model)


def test_every_method_is_tested() -> None:
    assert SETTINGS.keys() == METHODS.keys()


@EVERY
def test_settings_and_method_belong_together(name: str) -> None:
    method = METHODS.load(name)
    assert method.Settings is type(SETTINGS[name])
    assert 0 < method.learning_rate < 1
    assert method.__doc__


@EVERY
def test_it_says_what_the_report_tells_of_it(name: str) -> None:
    method = METHODS.load(name)
    assert method.label
    assert method.noun
    values = {
        key: 1 for key, value in vars(SETTINGS[name]).items() if isinstance(value, int | float)
    }
    explanation = method.explanation.format(**values)
    assert explanation.endswith(".")
    sources = set(re.findall(r"\[\[(\w+)\]\]", explanation))
    assert sources
    assert sources <= REFERENCES.keys()
    assert not method.slow_because or method.slow_because.endswith(".")
    assert not method.changes_of_lora.endswith(".")


@EVERY
def test_it_starts_at_the_base_or_as_near_as_it_says(base: DecoderLM, name: str) -> None:
    start = base(IDS)
    model = adapted(base, name)
    logits = model(IDS)
    assert logits.shape == start.shape
    assert torch.isfinite(logits).all()
    activate(model, [])
    without = model(IDS)
    if name not in REPLACES_BASE:
        assert torch.equal(without, start)
    largest = START.get(name, 0.0)
    if largest == 0.0:
        assert torch.equal(logits, without)
    elif largest is not None:
        torch.testing.assert_close(logits, without, rtol=0, atol=largest)
        assert not torch.equal(logits, without)
    else:
        assert not torch.allclose(logits, without)


@EVERY
def test_only_its_parameters_are_trained_and_all_of_them_are(base: DecoderLM, name: str) -> None:
    model = adapted(base, name)
    trained = trained_parameters(model, "mine")
    assert trained
    assert len({id(p) for p in trained.values()}) == len(trained)  # a shared one counts once
    assert {id(p) for p in model.parameters() if p.requires_grad} == {
        id(p) for p in trained.values()
    }
    train(model, 2)  # where a factor starts at zero, the other one has no gradient at first
    before = {key: parameter.detach().clone() for key, parameter in trained.items()}
    model.train().zero_grad()
    loss_of(model).backward()
    for key, parameter in trained.items():
        assert parameter.grad is not None, key
        assert parameter.grad.any(), key
    train(model, 4)
    for key, parameter in trained.items():
        assert not torch.equal(parameter, before[key]), key


@EVERY
def test_it_says_how_many_numbers_it_trains(base: DecoderLM, name: str) -> None:
    method = METHODS.load(name)
    for chosen in (SETTINGS[name], method.Settings()):
        before = list(snapshot(base))
        planned = method.num_trained(base, chosen)
        assert list(snapshot(base)) == before
        model = attach(copy.deepcopy(base), name, chosen)
        assert planned == sum(p.numel() for p in trained_parameters(model, "default").values())


@EVERY
def test_a_type_of_peft_is_read_as_one_method(name: str) -> None:
    kind = METHODS.load(name).peft_type
    if kind:
        assert [other for other in METHODS if METHODS.load(other).peft_type == kind] == [name]
        for function in ("to_peft", "from_peft", "settings_from_peft"):
            assert callable(getattr(METHODS.load(name), function))


@EVERY
def test_it_learns(base: DecoderLM, name: str) -> None:
    model = adapted(base, name)
    before = loss_of(model).item()
    assert loss_of(train(model, 30)).item() < 0.99 * before


@EVERY
def test_training_leaves_the_base_as_it_was(base: DecoderLM, name: str) -> None:
    start = {key: value.clone() for key, value in base.state_dict().items()}
    modules = [(key, type(module)) for key, module in base.named_modules()]
    kept = fingerprint(base)
    model = adapted(base, name)
    activate(model, [])
    without = model(IDS)
    values = {key: value.clone() for key, value in plain_parameters(model).items()}
    activate(model, ["mine"])
    train(model)
    changed = model(IDS)
    assert not torch.equal(changed, without)
    activate(model, [])
    assert torch.equal(model(IDS), without)
    assert all(torch.equal(p, values[key]) for key, p in plain_parameters(model).items())
    activate(model, ["mine"])
    assert torch.equal(model(IDS), changed)
    assert fingerprint(model) == kept
    left = detach(model, "mine")
    assert torch.equal(left(IDS), without)
    assert adapters(left) == []
    if name not in REPLACES_BASE:
        assert left is base
        assert [(key, type(module)) for key, module in left.named_modules()] == modules
        assert left.state_dict().keys() == start.keys()
        assert all(torch.equal(value, start[key]) for key, value in left.state_dict().items())
        assert all(parameter.requires_grad for parameter in left.parameters())


@EVERY
def test_saved_and_loaded_onto_a_fresh_base_it_gives_the_same_bits(
    base: DecoderLM, name: str, tmp_path: Path
) -> None:
    fresh = copy.deepcopy(base)
    model = train(adapted(base, name))
    wanted = model(IDS)
    size = save_adapter(model, "mine", tmp_path)
    trained = trained_parameters(model, "mine")
    stored = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    assert size == (tmp_path / "adapter_model.safetensors").stat().st_size
    count = sum(parameter.numel() for parameter in trained.values())
    assert sum(tensor.numel() for tensor in stored.values()) <= count + FIXED.get(name, 0)
    loaded = load_adapter(fresh, tmp_path).eval()
    assert torch.equal(loaded(IDS), wanted)
    assert adapter_of(loaded, "mine").settings == SETTINGS[name]
    shapes = {key: p.shape for key, p in trained_parameters(loaded, "mine").items()}
    assert shapes == {key: p.shape for key, p in trained.items()}


@EVERY
def test_merged_is_unmerged_to_rounding_or_refused(base: DecoderLM, name: str) -> None:
    model = train(adapted(base, name))
    wanted = model(IDS)
    before = list(snapshot(model))
    if name in NOT_MERGED:
        for operation in (merge, fold):
            with pytest.raises(AdapterError, match="cannot be merged") as raised:
                operation(model)
            assert "\n" not in str(raised.value)
            assert list(snapshot(model)) == before
            assert torch.equal(model(IDS), wanted)
        return
    for _ in range(2):
        merge(model)
        merge(model)
        torch.testing.assert_close(model(IDS), wanted, rtol=1e-6, atol=1e-6)
        unmerge(model)
        unmerge(model)
        assert torch.equal(model(IDS), wanted)
        assert list(snapshot(model)) == before


@EVERY
def test_folded_it_is_a_plain_model(base: DecoderLM, name: str) -> None:
    if name in NOT_MERGED:
        pytest.skip("refused, as the test above shows")
    plain = copy.deepcopy(base)
    model = train(adapted(base, name))
    wanted = model(IDS)
    folded = fold(model)
    assert folded is base
    assert [type(m) for m in folded.modules()] == [type(m) for m in plain.modules()]
    assert list(folded.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(folded(IDS), wanted, rtol=1e-6, atol=1e-6)
    plain.load_state_dict(folded.state_dict())
    assert torch.equal(plain(IDS), folded(IDS))


@EVERY
@pytest.mark.parametrize("quick", [False, True])
def test_generation_with_and_without_the_cache_is_the_same(
    base: DecoderLM, name: str, quick: bool
) -> None:
    model = train(adapted(base, name))
    if quick:
        model = for_decoding(model.float(), "float32")
    prompts = [IDS[0, :6].tolist(), IDS[1, :2].tolist(), IDS[2, :4].tolist()]
    cached, plain = (Stepper(model, prompts, pad=0, use_cache=use) for use in (True, False))
    for _ in range(5):
        logits, wanted = cached.logits(), plain.logits()
        torch.testing.assert_close(logits, wanted)
        for stepper in (cached, plain):
            stepper.append(wanted.argmax(-1))
    assert cached.rows == plain.rows
    for prompt, text in zip(prompts, plain.rows, strict=True):
        whole = model(torch.tensor([text[:-1]]))[0, len(prompt) - 1 :].argmax(-1)
        assert whole.tolist() == text[len(prompt) :]


@EVERY
@pytest.mark.parametrize("training", [False, True])
def test_later_tokens_do_not_change_earlier_logits(
    base: DecoderLM, name: str, training: bool
) -> None:
    model = train(adapted(base, name, seed=2)).train(training)
    torch.manual_seed(0)
    wanted = model(IDS)
    for place in range(1, IDS.shape[1]):
        other = IDS.clone()
        other[:, place] = (IDS[:, place] + 1) % 23
        torch.manual_seed(0)
        logits = model(other)
        torch.testing.assert_close(logits[:, :place], wanted[:, :place])
        assert not torch.allclose(logits[:, place], wanted[:, place])


@EVERY
def test_padding_on_the_left_changes_nothing(base: DecoderLM, name: str) -> None:
    model = train(adapted(base, name))
    padded = torch.cat([torch.zeros(3, 3, dtype=torch.long), IDS], 1)
    real = torch.arange(padded.shape[1]).expand(3, -1) >= 3
    torch.testing.assert_close(model(padded, real=real)[:, 3:], model(IDS))
    row = model(IDS[1:2, 2:])
    mixed = torch.cat([IDS[:1], torch.cat([torch.zeros(1, 2).long(), IDS[1:2, 2:]], 1)])
    mask = torch.ones_like(mixed, dtype=torch.bool)
    mask[1, :2] = False
    torch.testing.assert_close(model(mixed, real=mask)[1:, 2:], row)


@EVERY
def test_the_training_step_has_its_gradients(base: DecoderLM, name: str) -> None:
    """The step leaves out the output projection and may compute layers twice."""
    model = train(adapted(base, name))
    trained = trained_parameters(model, "mine")
    model.train()
    torch.manual_seed(0)
    loss = loss_of(model)
    wanted = torch.autograd.grad(loss, list(trained.values()))
    for segment in (0, 1):
        config = TrainingConfig(
            device="cpu", precision="fp32", gradient_clip=0.0, gradient_checkpointing=segment
        )
        torch.manual_seed(0)
        gradients = TrainingStep(model, next_token_loss, config).backward([Batch(IDS, LABELS)])
        assert gradients.loss / gradients.num_targets == pytest.approx(loss.item())
        for (key, parameter), gradient in zip(trained.items(), wanted, strict=True):
            assert parameter.grad is not None, key
            torch.testing.assert_close(parameter.grad, gradient, msg=lambda m, k=key: f"{k}: {m}")


@EVERY
@pytest.mark.parametrize("merged", [False, True])
def test_packed_for_decoding_it_gives_the_same_outputs(
    small_model: Models, name: str, merged: bool
) -> None:
    if merged and name in NOT_MERGED:
        pytest.skip("cannot be merged")
    model = train(adapted(small_model(context_length=16, dropout=0.0), name))
    if merged:
        merge(model)
    with torch.inference_mode():
        wanted = model(IDS)
        torch.testing.assert_close(for_decoding(model)(IDS), wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(model(IDS), wanted)


@EVERY
def test_a_copy_is_independent(base: DecoderLM, name: str) -> None:
    model = train(adapted(base, name))
    wanted = model(IDS)
    other = copy.deepcopy(model)
    train(model)
    assert not torch.equal(model(IDS), wanted)
    assert torch.equal(other(IDS), wanted)
    activate(other, [])
    activate(model, [])
    assert torch.equal(other(IDS), model(IDS))


@EVERY
def test_several_are_switched_and_stacked_or_refused(base: DecoderLM, name: str) -> None:
    logits = {}
    model = train(adapted(base, name, "a", 0))
    logits["a"] = model(IDS)
    model = train(adapted(model, name, "b", 1), labels=LABELS.flip(0))
    logits["b"] = model(IDS)
    assert not torch.equal(logits["a"], logits["b"])
    for active in ("a", "b", "a"):
        activate(model, [active])
        assert torch.equal(model(IDS), logits[active])
    activate(model, [])
    without_any = model(IDS)
    assert not torch.equal(without_any, logits["a"])
    before = list(snapshot(model))
    try:
        activate(model, ["a", "b"])
    except AdapterError as error:
        assert "\n" not in str(error)
        assert list(snapshot(model)) == before
    else:
        both = model(IDS)
        assert not torch.equal(both, logits["a"])
        assert not torch.equal(both, logits["b"])
    model = detach(model, "a")
    activate(model, ["b"])
    assert torch.equal(model(IDS), logits["b"])
    model = detach(model, "b")
    assert torch.equal(model(IDS), without_any)


@EVERY
def test_targets_that_match_nothing_change_nothing(base: DecoderLM, name: str) -> None:
    if not hasattr(SETTINGS[name], "targets"):
        pytest.skip("it has no targets")
    wrong = dataclasses.replace(SETTINGS[name], targets=(*SETTINGS[name].targets, "nowhere"))
    before = list(snapshot(base))
    with pytest.raises(AdapterError, match="target 'nowhere' matches no ") as raised:
        attach(base, name, wrong)
    assert "\n" not in str(raised.value)
    assert list(snapshot(base)) == before


@EVERY
def test_ranks_above_those_of_a_matrix_change_nothing(base: DecoderLM, name: str) -> None:
    if not hasattr(SETTINGS[name], "rank"):
        pytest.skip("it has no rank")
    before = list(snapshot(base))
    with pytest.raises(AdapterError, match="set a rank of 1 to 12"):
        attach(base, name, dataclasses.replace(SETTINGS[name], rank=13))
    assert list(snapshot(base)) == before


@EVERY
def test_the_start_follows_from_the_seed(base: DecoderLM, name: str) -> None:
    models = [adapted(copy.deepcopy(base), name, seed=seed) for seed in (0, 0)]
    first, again = (trained_parameters(model, "mine") for model in models)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", ON_LINEARS)
def test_a_plain_network_is_adapted_in_the_same_way(name: str, tmp_path: Path) -> None:
    x, y = torch.randn(7, 6, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    chosen = dataclasses.replace(SETTINGS[name], targets=(".0", ".4"), **ON_LINEARS[name])
    model = attach(network(), name, chosen)
    start = model(x)
    activate(model, [])
    assert torch.equal(model(x), start)
    activate(model, ["default"])
    trained = trained_parameters(model, "default")
    optimizer = torch.optim.SGD(list(trained.values()), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()
    assert all(parameter.grad is not None for parameter in trained.values())
    wanted = model(x)
    assert not torch.equal(wanted, start)
    save_adapter(model, "default", tmp_path)
    assert torch.equal(load_adapter(network(), tmp_path)(x), wanted)
    merge(model)
    torch.testing.assert_close(model(x), wanted, rtol=1e-6, atol=1e-6)
    unmerge(model)
    assert torch.equal(model(x), wanted)
    folded = fold(model)
    assert [type(m) for m in folded.modules()] == [type(m) for m in network().modules()]
    torch.testing.assert_close(folded(x), wanted, rtol=1e-6, atol=1e-6)
