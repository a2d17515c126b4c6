"""Where adapters act: patterns, plain paths through wrappers, every use of a module replaced."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tinylm.errors import AdapterError
from tinylm.finetuning.linear import AdaptedLinear, find_linears, wrap_linear
from tinylm.finetuning.lora import LowRank
from tinylm.finetuning.sites import (
    Parts,
    Wrapper,
    find_modules,
    module_at,
    plain_modules,
    plain_parameters,
    replace_module,
    unwrapped,
    wrappers,
)
from tinylm.model.attention import Attention
from tinylm.model.decoder import DecoderLM
from tinylm.model.paths import matches

Models = Callable[..., DecoderLM]


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 4), nn.ReLU()))


@pytest.mark.parametrize(
    ("path", "pattern", "meant"),
    [
        ("layers.0.attention.output", "attention.output", True),
        ("layers.0.attention.output", "layers.0.attention.output", True),
        ("layers.0.attention.output", "layers.*.output", True),
        ("layers.0.attention.output", "*", True),
        ("layers.10.attention.output", "0.attention.output", False),
        ("layers.0.attention.output", "put", False),
        ("layers.0.attention.output", "attention", False),
        ("2.0", "0", True),
        ("2.0", ".0", False),
        ("0", ".0", True),
        ("2.0", ".*.0", True),
        ("layers.0.Output", "output", False),
    ],
)
def test_a_pattern_is_a_path_or_its_end(path: str, pattern: str, meant: bool) -> None:
    assert matches(path, pattern) is meant


def test_modules_are_found_in_the_order_of_the_model(small_model: Models) -> None:
    modules = find_linears(small_model(), ("feed_forward.expand", "attention.output"))
    assert list(modules) == [
        "layers.0.attention.output",
        "layers.0.feed_forward.expand",
        "layers.1.attention.output",
        "layers.1.feed_forward.expand",
    ]


def test_a_pattern_without_a_match_names_what_there_is(small_model: Models) -> None:
    with pytest.raises(AdapterError) as raised:
        find_linears(small_model(), ("attention.output", "q_proj"))
    assert str(raised.value) == (
        "target 'q_proj' matches no linear map of the model; there are: "
        "layers.*.attention.query_key_value, layers.*.attention.output, "
        "layers.*.feed_forward.expand, layers.*.feed_forward.contract, unembedding"
    )


def test_kinds_are_told_apart(small_model: Models) -> None:
    assert list(find_modules(small_model(), ("*",), (Attention,), "attention")) == [
        "layers.0.attention",
        "layers.1.attention",
    ]
    with pytest.raises(AdapterError, match="no convolution of the model; there are: none"):
        find_modules(small_model(), ("*",), (nn.Conv1d,), "convolution")


def test_paths_do_not_show_wrappers_nor_what_adapters_added(small_model: Models) -> None:
    plain, model = small_model(), small_model()
    replace_module(model, "layers.0.attention", Wrapper(model.layers[0].attention))
    inner = wrap_linear(model, "layers.0.attention.output", AdaptedLinear)
    inner.parts.add("a", LowRank(inner.base, 2, 1.0))
    inner.merge()
    assert [path for path, _ in plain_modules(model)] == [path for path, _ in plain_modules(plain)]
    assert [type(m) for _, m in plain_modules(model)] == [type(m) for _, m in plain_modules(plain)]
    assert list(plain_parameters(model)) == [name for name, _ in plain.named_parameters()]
    assert [path for path, _ in wrappers(model)] == [
        "layers.0.attention",
        "layers.0.attention.output",
    ]
    assert module_at(model, "layers.0.attention.output") is inner
    modules = find_linears(model, ("*",))
    assert list(modules) == list(find_linears(plain, ("*",)))
    assert modules["layers.0.attention.output"] is inner.base


def test_a_tied_parameter_has_one_name(small_model: Models) -> None:
    tied = small_model(tie_embeddings=True)
    assert list(plain_parameters(tied)) == [name for name, _ in tied.named_parameters()]


def test_a_module_used_twice_is_replaced_in_both_places() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    adapted = wrap_linear(model, "0", AdaptedLinear)
    assert model[0] is adapted
    assert model[2] is adapted
    assert adapted.base is shared


def test_a_map_is_wrapped_once(small_model: Models) -> None:
    model = small_model()
    first = wrap_linear(model, "unembedding", AdaptedLinear)
    assert wrap_linear(model, "unembedding", AdaptedLinear) is first
    outer = Wrapper(first)
    replace_module(model, "unembedding", outer)
    assert wrap_linear(model, "unembedding", AdaptedLinear) is first
    assert unwrapped(outer) is first.base


def test_a_wrapper_has_what_its_base_has_and_its_mode() -> None:
    model = network().eval()
    wrapper = Wrapper(model)
    assert not wrapper.training
    assert not wrapper.parts.training
    attention = Wrapper(nn.MultiheadAttention(4, 2))
    assert attention.num_heads == 2
    with pytest.raises(AttributeError, match="num_legs"):
        attention.num_legs  # noqa: B018
    assert copy.deepcopy(attention).num_heads == 2


def test_parts_act_in_the_order_of_the_active_names() -> None:
    parts = Parts().eval()
    first, second = nn.Identity(), nn.Identity()
    parts.add("a", first)
    parts.add("b", second)
    assert not first.training
    assert list(parts.acting()) == [first, second]
    parts.active = ["b", "elsewhere", "a"]
    assert list(parts.acting()) == [second, first]
    parts.active = []
    assert not list(parts.acting())


def test_what_cannot_be_merged_says_so() -> None:
    wrapper = Wrapper(nn.Linear(2, 2))
    wrapper.merge()  # nothing acts
    wrapper.parts.add("a", nn.Identity())
    wrapper.parts.active.append("elsewhere")
    with pytest.raises(AdapterError, match="'a' is no update of the weights and cannot be"):
        wrapper.merge()
    adapted = AdaptedLinear(nn.Linear(2, 2))
    adapted.parts.add("a", nn.Identity())
    with pytest.raises(AdapterError, match="Identity is no update of a weight"):
        adapted.merge()
    torch.testing.assert_close(adapted(torch.ones(2)), adapted.base(torch.ones(2)) + 1)
