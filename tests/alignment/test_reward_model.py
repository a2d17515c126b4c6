"""A scalar head: read at the right-most real token, whatever stands beside it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.training.tiny import tiny_model
from tinylm.alignment.learned_reward import LearnedReward
from tinylm.alignment.reward_model import RewardModel, rewards_of
from tinylm.alignment.samples import Sample
from tinylm.data.windows import pad_rows
from tinylm.errors import AlignmentError
from tinylm.model.decoder import DecoderLM
from tinylm.model.last_token import last_real
from tinylm.model.weights import model_weights
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID

TEXTS = [[SOS_ID, 5, 6, 7, EOS_ID], [SOS_ID, 8, EOS_ID], [SOS_ID, 9, 4, 6]]
Models = Callable[..., DecoderLM]


@pytest.fixture
def model(small_model: Models) -> RewardModel:
    torch.manual_seed(1)
    model = RewardModel(small_model()).double().eval()
    model.offset += 0.25
    return model


@torch.no_grad()
def alone(model: RewardModel) -> Tensor:
    """The reward of each text without padding, from the body's parts."""
    ends = torch.cat([model.body.residual(torch.tensor([text]))[:, -1] for text in TEXTS])
    return ends @ model.head.weight[0] - 0.25


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("pad", [PAD_ID, EOS_ID])
@torch.no_grad()
def test_the_last_real_token_is_read(model: RewardModel, left: bool, pad: int) -> None:
    ids, real = pad_rows(TEXTS, left=left, width=7)
    padded = ids.masked_fill(~real, pad)
    torch.testing.assert_close(model(padded, real), alone(model), rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_without_padding_the_last_token_is_read(model: RewardModel) -> None:
    for text, wanted in zip(TEXTS, alone(model), strict=True):
        torch.testing.assert_close(model(torch.tensor([text]))[0], wanted, rtol=1e-12, atol=1e-12)


def first_pad_less_one(ids: Tensor, real: Tensor, pad: int) -> Tensor:
    padded = ids == pad
    return torch.where(padded.any(1), padded.int().argmax(1) - 1, ids.shape[1] - 1)


def number_less_one(ids: Tensor, real: Tensor, pad: int) -> Tensor:
    return real.sum(1) - 1


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        (first_pad_less_one, [(False, EOS_ID)]),
        (number_less_one, [(True, PAD_ID), (True, EOS_ID)]),
        (lambda ids, real, pad: last_real(ids, real), []),
    ],
)
@torch.no_grad()
def test_what_tells_the_end_in_another_way_is_caught(
    model: RewardModel, place: Callable[..., Tensor], wrong: list[tuple[bool, int]]
) -> None:
    misread = []
    for left, pad in itertools.product((False, True), (PAD_ID, EOS_ID)):
        ids, real = pad_rows(TEXTS, left=left, width=7)
        padded = ids.masked_fill(~real, pad)
        x = model.body.residual(padded, real=real)
        read = x[torch.arange(len(x)), place(padded, real, pad)] @ model.head.weight[0] - 0.25
        if not torch.allclose(read, alone(model)):
            misread.append((left, pad))
    # Padding on the left is told right by luck where the first one counts: 0 - 1 is the last place.
    assert misread == wrong


def test_every_token_before_the_last_counts_and_none_after(model: RewardModel) -> None:
    ids, real = pad_rows(TEXTS, width=7)
    before = model(ids, real)
    for place in range(4):
        changed = ids.clone()
        changed[0, place] = 11
        assert model(changed, real)[0] != before[0]
    changed = ids.clone()
    changed[0, 5:] = 11
    assert torch.equal(model(changed, real), before)


def test_the_head_is_linear_and_starts_small() -> None:
    hidden = 16
    heads = [RewardModel(tiny_model(seed, hidden_size=hidden)).head for seed in range(40)]
    weights = torch.cat([head.weight.detach().flatten() for head in heads])
    assert weights.std().item() == pytest.approx((hidden + 1) ** -0.5, rel=0.1)
    assert all(head.bias is None for head in heads)


def test_the_last_map_of_the_body_is_not_trained(small_model: Models) -> None:
    model = RewardModel(small_model().requires_grad_())
    assert not model.body.unembedding.weight.requires_grad
    tied = RewardModel(small_model(tie_embeddings=True).requires_grad_())
    assert tied.body.embedding.weight.requires_grad
    ids, real = pad_rows(TEXTS)
    model(ids, real).sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_offset_is_kept(model: RewardModel) -> None:
    assert model_weights(model)["offset"].item() == 0.25
    before = rewards_of(model, TEXTS)
    model.offset += 1
    assert rewards_of(model, TEXTS) == pytest.approx([reward - 1 for reward in before])


def test_samples_are_rewarded_as_their_texts(model: RewardModel) -> None:
    samples = [
        Sample((SOS_ID, 5), (6, 7), True),
        Sample((SOS_ID,), (8,), True),
        Sample((SOS_ID, 9), (4, 6), False),
    ]
    reward = LearnedReward(model, "here")
    assert reward(samples) == pytest.approx(alone(model).tolist(), abs=1e-12)
    assert reward(samples[::-1])[::-1] == pytest.approx(reward(samples), abs=1e-12)
    assert reward([]) == []
    assert reward.longest == model.config.context_length


def test_what_is_no_number_is_refused(model: RewardModel) -> None:
    sample = Sample((SOS_ID, 5), (6,), True)
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            model.head.weight[0, 0] = value
        with pytest.raises(AlignmentError, match=r"the reward model here gives (nan|-?inf) to a"):
            LearnedReward(model, "here")([sample])


def test_what_it_cannot_read_to_its_end_is_refused(model: RewardModel) -> None:
    longest = model.config.context_length
    reward = LearnedReward(model, "here")
    reward([Sample((SOS_ID,), (5,) * (longest - 2), True)])
    with pytest.raises(AlignmentError, match=f"here reads {longest} tokens, and a response with"):
        reward([Sample((SOS_ID,), (5,) * (longest - 1), True)])
