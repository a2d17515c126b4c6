import pytest
import torch
from torch import Tensor

from tests.model.helpers import (
    ENCODINGS,
    NORM_PLACEMENTS,
    build_random,
    largest_difference,
    random_ids,
)
from tinylm.errors import ConfigError
from tinylm.model.cache import KVCache
from tinylm.model.decoder import record
from tinylm.model.hooks import NO_HOOKS, Hooks

# Reading


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_every_activation_has_the_stated_name_and_shape(
    positions: str, norm_placement: str, tie_embeddings: bool
) -> None:
    model = build_random(
        positions=positions, norm_placement=norm_placement, tie_embeddings=tie_embeddings
    )
    _, kept = record(model, ["*"], random_ids(model, 2, 5))
    shapes = {name: tuple(activation.shape) for name, activation in kept.items()}
    assert shapes == model.activation_shapes(2, 5)
    assert len(shapes) == 3 + 2 * 12


def test_each_activation_passes_once() -> None:
    model = build_random()
    names: list[str] = []
    model(random_ids(model, 2, 5), hooks=model.hooks({"*": lambda name, _: names.append(name)}))
    assert sorted(names) == sorted(model.activation_shapes(2, 5))


def test_with_a_cache_queries_are_new_and_scores_reach_all_keys() -> None:
    model = build_random()
    cache = KVCache(model.config, 2, dtype=torch.float64)
    ids = random_ids(model, 2, 7)
    shapes: dict[str, tuple[int, ...]] = {}
    with torch.no_grad():
        model(ids[:, :4], cache=cache)
        hooks = model.hooks({"*": lambda name, x: shapes.__setitem__(name, tuple(x.shape))})
        model(ids[:, 4:], cache=cache, hooks=hooks)
    assert shapes == model.activation_shapes(2, 3, keys=7)
    assert shapes["layers.1.attention.scores"] == (2, 3, 3, 7)


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_reading_changes_nothing(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    ids = random_ids(model, 2, 5)
    plain = model(ids)
    recorded, _ = record(model, ["*"], ids, gradients=True)
    returned = model(ids, hooks=model.hooks({"*": lambda _, x: x}))
    assert torch.equal(recorded, plain)
    assert torch.equal(returned, plain)
    plain.sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    recorded.sum().backward()
    again = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(gradients, again, strict=True))


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_activations_fit_together(positions: str, norm_placement: str) -> None:
    model = build_random(positions=positions, norm_placement=norm_placement)
    ids = random_ids(model, 2, 5)
    real = torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        logits, kept = record(model, ["*"], ids, real)
        assert torch.equal(kept["logits"], logits)
        assert torch.equal(kept["final"], model.residual(ids))
        assert torch.equal(kept["layers.0.residual"], kept["layers.1.input"])
        for i, layer in enumerate(model.layers):
            at = {
                name.removeprefix(f"layers.{i}."): activation
                for name, activation in kept.items()
                if name.startswith(f"layers.{i}.")
            }
            query, key = at["attention.query"], at["attention.key"]
            scores = torch.einsum("bhqd,bhkd->bhqk", query, key) / 4**0.5
            places = torch.arange(5)[None]
            bias = model.positions.bias(places, places)
            scores = scores if bias is None else scores + bias
            assert largest_difference(at["attention.scores"], scores) < 1e-12
            future = torch.ones(5, 5, dtype=torch.bool).triu(1)
            pattern = scores.masked_fill(future, float("-inf")).softmax(-1)
            assert largest_difference(at["attention.pattern"], pattern) < 1e-12
            mixed = torch.einsum("bhqk,bhkd->bhqd", pattern, at["attention.value"])
            assert largest_difference(at["attention.mixed"], mixed) < 1e-12
            output = layer.attention.output(mixed.permute(0, 2, 1, 3).flatten(2))
            assert largest_difference(at["attention.output"], output) < 1e-12
            contracted = layer.feed_forward.contract(at["feed_forward.inner"])
            assert largest_difference(at["feed_forward.output"], contracted) < 1e-12
            middle = at["input"] + at["attention.output"]
            if norm_placement == "post":
                middle = layer.attention_norm(middle)
            assert largest_difference(at["middle"], middle) < 1e-12
            end = at["middle"] + at["feed_forward.output"]
            if norm_placement == "post":
                end = layer.feed_forward_norm(end)
            assert largest_difference(at["residual"], end) < 1e-12


def test_what_is_recorded_is_detached_unless_gradients_are_wanted() -> None:
    model = build_random()
    logits, kept = record(model, ["*"], random_ids(model, 1, 4))
    assert kept
    for tensor in (logits, *kept.values()):
        assert not tensor.requires_grad
        tensor.numpy()


def test_gradients_reach_recorded_activations() -> None:
    model = build_random()
    ids = random_ids(model, 1, 4)
    logits, kept = record(model, ["layers.0.attention.pattern"], ids, gradients=True)
    (gradient,) = torch.autograd.grad(logits[0, -1, 0], kept["layers.0.attention.pattern"])
    assert float(gradient.abs().sum()) > 0


# Replacing


@pytest.mark.parametrize("head", [0, 1, 2])
def test_a_head_mixed_to_zero_equals_its_columns_of_the_output_at_zero(head: int) -> None:
    model = build_random()
    ids = random_ids(model, 2, 5)

    def silence(_: str, mixed: Tensor) -> Tensor:
        mixed = mixed.clone()
        mixed[:, head] = 0
        return mixed

    with torch.no_grad():
        whole = model(ids)
        silenced = model(ids, hooks=model.hooks({"layers.1.attention.mixed": silence}))
        model.layers[1].attention.output.weight[:, 4 * head : 4 * (head + 1)] = 0
        without_columns = model(ids)
    assert largest_difference(silenced, without_columns) < 1e-13
    assert largest_difference(silenced, whole) > 1e-3


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_every_activation_can_be_replaced_with_effect(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    ids = random_ids(model, 1, 5)
    torch.manual_seed(0)
    with torch.no_grad():
        plain = model(ids)
        for name in model.activation_shapes(1, 5):
            hooks = model.hooks({name: lambda _, x: x + torch.randn_like(x)})
            assert largest_difference(model(ids, hooks=hooks), plain) > 1e-6, name


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize(
    "name", ["embedding", "layers.0.input", "layers.0.middle", "layers.1.residual", "final"]
)
def test_the_residual_of_another_text_brings_its_logits(norm_placement: str, name: str) -> None:
    model = build_random(norm_placement=norm_placement)
    ids, other = random_ids(model, 2, 1, 5)
    with torch.no_grad():
        expected, kept = record(model, [name], other)
        patched = model(ids, hooks=model.hooks({name: lambda name, _: kept[name]}))
        assert torch.equal(patched, expected)
        assert not torch.equal(model(ids), expected)


def test_a_replaced_pattern_is_what_mixes_the_values() -> None:
    model = build_random(num_layers=1)
    to_first = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    to_first[..., 0] = 1
    kept: dict[str, Tensor] = {}
    hooks = model.hooks(
        {
            "*.pattern": lambda _, x: to_first,
            "*.value": lambda _, x: kept.setdefault("value", x),
            "*.mixed": lambda _, x: kept.setdefault("mixed", x),
        }
    )
    with torch.no_grad():
        model(random_ids(model, 1, 5), hooks=hooks)
    assert torch.equal(kept["mixed"], kept["value"][:, :, :1].expand(1, 3, 5, 4))


@pytest.mark.parametrize("score", [1e6, -1e6])
def test_replaced_scores_stay_masked(score: float) -> None:
    model = build_random(num_layers=1)
    kept: dict[str, Tensor] = {}
    hooks = model.hooks(
        {
            "*.scores": lambda _, x: torch.full_like(x, score),
            "*.pattern": lambda _, x: kept.setdefault("pattern", x),
        }
    )
    with torch.no_grad():
        model(random_ids(model, 1, 3), hooks=hooks)
    expected = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]]).double()
    assert largest_difference(kept["pattern"][0, 0], expected) < 1e-7


def test_replaced_keys_and_values_go_into_the_cache() -> None:
    model = build_random(num_layers=1)
    ids = random_ids(model, 1, 4)
    double = {"*.key": lambda _, x: 2 * x, "*.value": lambda _, x: 3 * x}
    cache = KVCache(model.config, 1, dtype=torch.float64)
    with torch.no_grad():
        whole = model(ids, hooks=model.hooks(double))
        model(ids[:, :3], cache=cache, hooks=model.hooks(double))
        last = model(ids[:, 3:], cache=cache, hooks=model.hooks(double))
    assert largest_difference(last[:, -1], whole[:, -1]) < 1e-12


def test_hooks_of_one_activation_run_in_order() -> None:
    hooks = Hooks({"a.*": lambda _, x: x + 1, "a.b": lambda _, x: x * 10}, ["a.b", "c"])
    assert float(hooks("a.b", torch.tensor(2.0))) == 30
    assert float(hooks("c", torch.tensor(2.0))) == 2


def test_gradients_flow_through_replacements() -> None:
    model = build_random()
    leaf = torch.zeros(1, 4, 10, dtype=torch.float64, requires_grad=True)
    hooks = model.hooks({"layers.0.residual": lambda _, x: x + leaf})
    model(random_ids(model, 1, 4), hooks=hooks).square().sum().backward()
    assert leaf.grad is not None
    assert float(leaf.grad.abs().min(-1).values.sum()) > 0


# Refusing


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("layers.0.attention.patern", "layers.0.attention.pattern"),
        ("embeding", "embedding"),
        ("layers.1.feed_forward.iner", "layers.1.feed_forward.inner"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    model = build_random()
    with pytest.raises(
        ConfigError, match=f"no activation is named '{wrong}'; did you mean.*{right}"
    ):
        model.hooks({wrong: lambda _, x: x})


@pytest.mark.parametrize("pattern", ["layers.2.*", "*.weights", "layers.?.nothing"])
def test_a_pattern_that_matches_nothing_is_refused(pattern: str) -> None:
    model = build_random()
    with pytest.raises(ConfigError, match="no activation is named"):
        record(model, [pattern], random_ids(model, 1, 2))


@pytest.mark.parametrize("wrong", [(1, 3, 4), (2, 3, 5, 4), (1, 1, 1, 1)])
def test_a_replacement_of_another_shape_is_refused(wrong: tuple[int, ...]) -> None:
    model = build_random()
    hooks = model.hooks({"layers.0.attention.query": lambda _, x: torch.zeros(wrong).double()})
    with pytest.raises(ConfigError) as caught:
        model(random_ids(model, 1, 5), hooks=hooks)
    for part in ("hook on layers.0.attention.query", str(wrong), "(1, 3, 5, 4)"):
        assert part in str(caught.value)


# Costing nothing


def test_without_hooks_activations_pass_untouched() -> None:
    x = torch.ones(3)
    assert NO_HOOKS("anything", x) is x
    assert not NO_HOOKS.active
    assert build_random().hooks({}).active
