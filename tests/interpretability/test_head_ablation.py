"""A head replaced by its mean, beside a model whose weights were changed to say the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.interpretability.head_ablation import head_worth
from tinylm.measurement import Verdict, mean_replicates, paired
from tinylm.model.decoder import DecoderLM, record

HEADS, HEAD_DIM = 3, 5
TEXTS = [
    [2, *torch.randint(4, 20, (n,), generator=torch.Generator().manual_seed(n)).tolist()]
    for n in (5, 11, 7, 14, 9, 6, 12, 8, 10, 13, 15, 5, 9, 7, 11, 6, 14, 8)
]


def decoder() -> DecoderLM:
    torch.manual_seed(1)
    model = DecoderLM(
        ModelConfig(vocab_size=20, context_length=16, num_layers=2, num_heads=HEADS, hidden_size=12,
                    head_dim=HEAD_DIM, ffn_size=16, dropout=0.4)
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return model.eval()


def loss(model: DecoderLM, ids: list[int]) -> Tensor:
    """The summed loss of one text."""
    log_p = model(torch.tensor([ids[:-1]])).log_softmax(-1)
    return -log_p[0, torch.arange(len(ids) - 1), torch.tensor(ids[1:])].double().sum()


def mean_output(model: DecoderLM, layer: int, head: int) -> Tensor:
    """What a head puts out, over all tokens that are read to predict another."""
    name = f"layers.{layer}.attention.mixed"
    outputs = [record(model, [name], torch.tensor([ids]))[1][name][0, head] for ids in TEXTS]
    return torch.cat([rows[:-1] for rows in outputs]).mean(0)  # (head_dim,)


@torch.no_grad()
def without(model: DecoderLM, layer: int, head: int) -> DecoderLM:
    """A model in which the head's mean is a bias, and the head itself is cut off."""
    changed = copy.deepcopy(model)
    output = changed.layers[layer].attention.output
    columns = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    output.bias += output.weight[:, columns] @ mean_output(model, layer, head)
    output.weight[:, columns] = 0
    return changed


@torch.no_grad()
def test_worth_is_that_of_a_model_with_the_mean_built_in() -> None:
    model = decoder()
    result = head_worth(model, TEXTS)
    counts = [len(ids) - 1 for ids in TEXTS]
    whole = [float(loss(model, ids)) for ids in TEXTS]
    assert result.loss == pytest.approx(sum(whole) / sum(counts), rel=1e-6)
    assert set(result.heads) == {(i, j) for i in range(2) for j in range(HEADS)}
    for (layer, head), worth in result.heads.items():
        changed = without(model, layer, head)
        sums = [float(loss(changed, ids)) for ids in TEXTS]
        expected = paired(mean_replicates(sums, counts), mean_replicates(whole, counts))
        assert worth.value == pytest.approx(expected.value, abs=2e-5)
        assert worth.low == pytest.approx(expected.low, abs=1e-4)
        assert worth.high == pytest.approx(expected.high, abs=1e-4)
    assert max(abs(worth.value) for worth in result.heads.values()) > 0.01


@torch.no_grad()
def test_heads_that_are_cut_off_are_worth_nothing_alone_or_together() -> None:
    model = decoder()
    for head in (0, 2):
        columns = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
        model.layers[1].attention.output.weight[:, columns] = 0
    result = head_worth(model, TEXTS)
    for head in (0, 2):
        assert result.heads[1, head].value == pytest.approx(0, abs=1e-6)
    assert {(1, 0), (1, 2)} <= set(result.idle)
    assert all(result.heads[key].verdict is Verdict.ALIKE for key in result.idle)
    assert result.without_idle is not None


@torch.no_grad()
def test_two_heads_that_say_the_same_stand_in_for_one_another() -> None:
    """Each of two equal heads is half of what is said; together they are all of it."""
    model = decoder()
    attention = model.layers[0].attention
    for part in range(3):  # query, key, value
        rows = [slice(part * 15 + h * HEAD_DIM, part * 15 + (h + 1) * HEAD_DIM) for h in (0, 1)]
        for tensor in (attention.query_key_value.weight, attention.query_key_value.bias):
            tensor[rows[1]] = tensor[rows[0]]
    attention.output.weight[:, HEAD_DIM : 2 * HEAD_DIM] = attention.output.weight[:, :HEAD_DIM]
    result = head_worth(model, TEXTS)
    assert result.heads[0, 0].value == pytest.approx(result.heads[0, 1].value, abs=1e-6)


def test_the_model_is_left_as_it_was() -> None:
    model = decoder().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done: list[float] = []
    head_worth(model, TEXTS[:3], done.append)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert done == [1, 2, 3, 4, 5, 6]
