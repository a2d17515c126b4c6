"""LongLoRA: attention in groups beside a float64 loop, and a longer context."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.model.helpers import ENCODINGS, build_random, random_ids
from tinylm.config.finetuning import LongLoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import activate, attach, fold, trained_parameters
from tinylm.finetuning.longlora import GroupedAttention, extended, groups
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.model.attention import Attention
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.registry import POSITIONS

Models = Callable[..., DecoderLM]


def brute_force(attention: Attention, x: Tensor, encoding: Positions, size: int) -> Tensor:
    """Attend with every pair's visibility decided one by one, as the paper's figure 2 draws it."""
    seq = x.shape[1]
    places = torch.arange(seq)[None]
    query, key, value = attention.project(x, Reading(encoding, places))
    scores = query @ key.mT / math.sqrt(attention.head_dim)
    bias = encoding.bias(places, places)
    if bias is not None:
        scores = scores + bias
    for head in range(attention.num_heads):
        shifted = head >= -(-attention.num_heads // 2)
        for q in range(seq):
            for k in range(seq):
                offset = size - size // 2 if shifted else 0
                together = (q + offset) // size == (k + offset) // size
                if k > q or not together:
                    scores[:, head, q, k] = -math.inf
    mixed = scores.softmax(-1) @ value
    return attention.output(mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize(("size", "num_heads"), [(4, 2), (3, 3), (2, 4), (5, 1)])
def test_attention_in_groups_is_the_brute_force(positions: str, size: int, num_heads: int) -> None:
    base = build_random(positions=positions, num_heads=num_heads, dropout=0.0, context_length=16)
    settings = LongLoraConfig(rank=2, group_size=size)
    model = attach(base, "longlora", settings).train()
    grouped = model.layers[0].attention
    assert isinstance(grouped, GroupedAttention)
    x = torch.randn(2, 11, base.config.hidden_size, dtype=torch.float64, requires_grad=True)
    blocked = torch.ones(11, 11, dtype=torch.bool).triu(1)[None, None]
    output = grouped(x, Reading(model.positions, torch.arange(11)[None], blocked))
    wanted = brute_force(grouped.base, x, model.positions, size)
    torch.testing.assert_close(output, wanted)
    toward = torch.randn_like(output)
    (ours,) = torch.autograd.grad(output, x, toward, retain_graph=True)
    (theirs,) = torch.autograd.grad(wanted, x, toward)
    torch.testing.assert_close(ours, theirs)


@given(st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_groups_cover_the_text_once(length: int, size: int, shifted: bool) -> None:
    shift = size // 2 if shifted else 0
    covered = list(groups(length, size, shift))
    assert [place for group in covered for place in range(length)[group]] == list(range(length))
    assert all(0 < group.stop - group.start <= size for group in covered)


def test_in_training_a_token_sees_no_further_than_its_group_and_in_evaluation_everything(
    small_model: Models,
) -> None:
    base = small_model(num_layers=1, num_heads=2, context_length=16, dropout=0.0).double()
    model = attach(base, "longlora", LongLoraConfig(rank=2, group_size=4))
    ids = random_ids(model, 1, 12)
    other = ids.clone()
    other[0, 0] = (ids[0, 0] + 1) % 23
    changed = (model.train()(ids) != model(other)).any(-1)[0]
    assert changed.tolist() == [True] * 4 + [False] * 8
    other = ids.clone()
    other[0, 2] = (ids[0, 2] + 1) % 23
    changed = (model(ids) != model(other)).any(-1)[0]  # through the shifted heads up to 5
    assert changed.tolist() == [False] * 2 + [True] * 4 + [False] * 6
    assert (model.eval()(ids) != model(other)).any(-1)[0].tolist() == [False] * 2 + [True] * 10


def test_texts_no_longer_than_a_group_are_attended_whole(small_model: Models) -> None:
    base = small_model(dropout=0.0, context_length=16).double()
    model = attach(base, "longlora", LongLoraConfig(rank=2, group_size=8))
    ids = random_ids(model, 2, 8)
    assert torch.equal(model.train()(ids), model.eval()(ids))
    longer = random_ids(model, 2, 9)
    assert not torch.allclose(model.train()(longer), model.eval()(longer))


def test_embeddings_and_norms_are_trained_as_asked(small_model: Models) -> None:
    def trained(**settings: bool) -> set[str]:
        model = attach(small_model(), "longlora", LongLoraConfig(rank=2, **settings))
        return {name for name in trained_parameters(model, "default") if "lora" not in name}

    norms = trained(train_embeddings=False)
    assert norms
    assert all("norm" in name for name in norms)
    assert trained() == norms | {"embedding.weight"}
    assert trained(train_norms=False) == {"embedding.weight"}
    assert trained(train_embeddings=False, train_norms=False) == set()


def test_folded_it_is_a_plain_model_with_its_own_embeddings(small_model: Models) -> None:
    base = small_model(context_length=16).double()
    model = attach(base, "longlora", LongLoraConfig(rank=2, group_size=4))
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    ids = random_ids(model, 2, 9)
    wanted = model.eval()(ids)
    folded = fold(model)
    assert not any(isinstance(module, GroupedAttention) for module in folded.modules())
    torch.testing.assert_close(folded(ids), wanted)
    torch.testing.assert_close(folded.train().eval()(ids), wanted)


@pytest.mark.parametrize("positions", [name for name in POSITIONS if name != "learned"])
def test_an_extended_model_is_the_same_where_there_was_context_and_reads_on(positions: str) -> None:
    base = build_random(positions=positions, context_length=8)
    longer = extended(base, 32)
    ids = random_ids(base, 2, 30)
    output = longer(ids)
    assert output.shape == (2, 30, 23)
    torch.testing.assert_close(output[:, :8], base(ids[:, :8]), rtol=1e-4, atol=1e-5)
    assert base.config.context_length == 8
    direct = DecoderLM(longer.config).double().eval()
    direct.load_state_dict(base.state_dict())
    torch.testing.assert_close(output, direct(ids), rtol=1e-4, atol=1e-5)


def test_a_network_without_attention_is_refused() -> None:
    network = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(AdapterError, match="longlora needs a model with attention"):
        attach(network, "longlora", LongLoraConfig(rank=2, targets=("0",)))
    assert type(network[0]) is nn.Linear


def test_what_cannot_be_extended_is_refused() -> None:
    with pytest.raises(AdapterError, match="there are none beyond the context"):
        extended(build_random(positions="learned"), 64)
    with pytest.raises(AdapterError, match="is shorter than the model's"):
        extended(build_random(context_length=8), 4)
    with pytest.raises(AdapterError, match="is more than any memory holds"):
        extended(build_random(), 10**30)


def test_switched_off_attention_is_whole_in_training_too(small_model: Models) -> None:
    model = attach(
        small_model(context_length=16, dropout=0.0),
        "longlora",
        LongLoraConfig(group_size=4, rank=2),
    )
    ids = random_ids(model, 1, 12)
    activate(model, [])
    assert torch.equal(model.train()(ids), model.eval()(ids))


def test_an_adapter_for_a_longer_context_is_loaded_on_a_model_that_reads_it(
    small_model: Models, tmp_path: Path
) -> None:
    settings = LongLoraConfig(group_size=4, rank=2)
    model = attach(extended(small_model(context_length=8), 16), "longlora", settings).eval()
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.add_(torch.randn(parameter.shape))
    save_adapter(model, "default", tmp_path)
    base = small_model(context_length=8)
    loaded = load_adapter(base, tmp_path).eval()
    assert (base.config.context_length, loaded.config.context_length) == (8, 16)
    ids = random_ids(model, 2, 16)
    assert torch.equal(loaded(ids), model(ids))
