"""What a listed space says exactly, and that responses are drawn as they are scored."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.alignment.spaces import MOST, PROMPT, VOCAB_SIZE, TableReward, moved, space, space_model
from tinylm.alignment.enumeration import (
    Space,
    best_policy,
    every_response,
    kl_divergence,
    log_probabilities,
    objective,
)
from tinylm.alignment.frontier import frontier
from tinylm.alignment.log_probabilities import (
    response_rows,
    sample_responses,
    token_log_probabilities,
)
from tinylm.errors import AlignmentError
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID


def test_all_responses_are_listed_once() -> None:
    samples = every_response(VOCAB_SIZE, PROMPT, MOST)
    assert len(samples) == len(set(samples)) == 1 + 4 + 16 + 64 + 256
    assert all(1 <= len(s.response) <= MOST for s in samples)
    assert {token for s in samples for token in s.ids} == {1, 4, 5, 6}
    assert sum(s.finished for s in samples) == 85
    with pytest.raises(AlignmentError, match="100 tokens and responses of 9 make"):
        every_response(100, PROMPT, 9)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_the_probabilities_of_all_responses_sum_to_one(temperature: float) -> None:
    model = space_model(sharpness=3)
    samples = every_response(VOCAB_SIZE, PROMPT, MOST)
    logs = log_probabilities(model, samples, temperature).detach()
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-12)


def test_what_is_never_drawn_has_no_probability() -> None:
    """With <pad> and <sos> in the softmax the responses would share less than 1."""
    model = space_model()
    rows = response_rows(every_response(VOCAB_SIZE, PROMPT, MOST))
    assert float(token_log_probabilities(model, rows, never=()).sum(1).detach().exp().sum()) < 0.9
    logits = model(rows.ids, real=rows.real)
    kept = [i for i in range(VOCAB_SIZE) if i not in (PAD_ID, SOS_ID)]
    own = logits[..., kept].log_softmax(-1)
    place = {token: i for i, token in enumerate(kept)}
    got = token_log_probabilities(model, rows)
    for row, labels in enumerate(rows.labels.tolist()):
        for column, label in enumerate(labels):
            wanted = float(own[row, column, place[label]]) if label in place else 0.0
            assert float(got[row, column]) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_responses_are_drawn_as_often_as_they_are_likely(temperature: float) -> None:
    model = space_model(sharpness=2)
    samples = every_response(VOCAB_SIZE, PROMPT, 2)
    expected = log_probabilities(model, samples, temperature).detach().exp()
    draws = 4000
    drawn = Counter(sample_responses(model, [PROMPT] * draws, 2, 3, temperature))
    assert set(drawn) <= set(samples)
    counts = torch.tensor([float(drawn[sample]) for sample in samples], dtype=torch.float64)
    chi_squared = float(((counts - draws * expected) ** 2 / (draws * expected)).sum())
    assert chi_squared < 45.3  # of 20 degrees of freedom one in a thousand lies above
    # and the measure tells the distribution of another temperature from it
    other = log_probabilities(model, samples, 2 * temperature).detach().exp()
    assert float(((counts - draws * other) ** 2 / (draws * other)).sum()) > 100


def test_no_policy_is_better_than_the_best() -> None:
    start = space_model()
    listed = space(start, beta=0.3)
    best, rewards = listed.best[0], listed.rewards[0]
    assert float(best.exp().sum()) == pytest.approx(1, abs=1e-12)
    largest = float(objective(best, listed.start[0], rewards, 0.3))
    assert largest == pytest.approx(listed.largest(), abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.1, 1.0):
        noise = torch.randn(best.shape, generator=generator, dtype=best.dtype)
        other = (best + scale * noise).log_softmax(0)
        value = float(objective(other, listed.start[0], rewards, 0.3))
        # what it lacks is beta KL(other || best), an identity that no other policy can meet
        lacks = 0.3 * float(kl_divergence(other, best))
        assert lacks > 0
        assert largest - value == pytest.approx(lacks, abs=1e-12)


def test_the_gradient_vanishes_at_the_best_policy_and_is_that_of_differences() -> None:
    start = space_model()
    listed = space(start)
    model = moved(start)
    gradient = listed.gradient(model)
    parameter = model.unembedding.weight
    place = [name for name, _ in model.named_parameters()].index("unembedding.weight")
    for index in ((3, 0), (4, 5), (6, 2)):
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[index] += step
                ends.append(float(listed.objective(model)))
                parameter[index] -= step
        slope = (ends[0] - ends[1]) / 2e-5
        assert float(gradient[place][index]) == pytest.approx(slope, rel=1e-5, abs=1e-9)
    free = listed.best[0].clone().requires_grad_()
    value = objective(free.log_softmax(0), listed.start[0], listed.rewards[0], 0.5)
    (at_best,) = torch.autograd.grad(value, free)
    torch.testing.assert_close(at_best, torch.zeros_like(at_best), rtol=0, atol=1e-12)


def test_divergences_of_a_space_are_told_apart() -> None:
    start = space_model()
    listed = space(start)
    model = moved(start)
    policy = listed.log_probabilities(model)[0].detach()
    assert listed.kl_from_start(model) == float(kl_divergence(policy, listed.start[0]))
    assert listed.kl_to_start(model) == float(kl_divergence(listed.start[0], policy))
    assert abs(listed.kl_from_start(model) - listed.kl_to_start(model)) > 1e-3
    assert listed.kl_from_start(start) == 0
    lacks = listed.largest() - float(listed.objective(model))
    assert listed.beta * listed.kl_from_best(model) == pytest.approx(lacks, abs=1e-12)
    assert listed.kl_to_best(model) > 0


def test_worked_answers_of_beta() -> None:
    start = log_probabilities(space_model(), every_response(VOCAB_SIZE, PROMPT, MOST)).detach()
    rewards = torch.tensor(TableReward()(every_response(VOCAB_SIZE, PROMPT, MOST))).double()
    torch.testing.assert_close(best_policy(start, rewards, 1e9), start)
    assert float(best_policy(start, rewards, 1e-4)[rewards.argmax()].exp()) > 0.999
    betas = [10, 1, 0.1, 0.01]
    points = frontier(rewards.numpy(), betas, start.exp().numpy())
    for beta, point in zip(betas, points, strict=True):
        best = best_policy(start, rewards, beta)
        assert point.kl == pytest.approx(float(kl_divergence(best, start)), abs=1e-9)
        assert point.reward == pytest.approx(float((best.exp() * rewards).sum()), abs=1e-9)
    assert [p.kl for p in points] == sorted(p.kl for p in points)
    assert [p.reward for p in points] == sorted(p.reward for p in points)
    # along the frontier a nat more of divergence earns beta (its slope)
    near = frontier(rewards.numpy(), [0.5001, 0.4999], start.exp().numpy())
    slope = (near[1].reward - near[0].reward) / (near[1].kl - near[0].kl)
    assert slope == pytest.approx(0.5, rel=1e-3)


def test_several_prompts_are_equally_likely() -> None:
    start, prompts = space_model(), [PROMPT, (SOS_ID, 6)]
    both = Space(start, prompts, 2, TableReward(), 0.5)
    model = moved(start)
    each = [Space(start, [prompt], 2, TableReward(), 0.5) for prompt in prompts]
    assert float(both.objective(model)) == pytest.approx(
        sum(float(one.objective(model)) for one in each) / 2, abs=1e-12
    )
    assert both.reward(model) == pytest.approx(
        sum(one.reward(model) for one in each) / 2, abs=1e-12
    )


def test_an_end_is_a_token_like_any_other() -> None:
    ended, cut = every_response(VOCAB_SIZE, PROMPT, 1)[0], every_response(VOCAB_SIZE, PROMPT, 1)[1]
    assert (ended.response, ended.finished) == ((EOS_ID,), True)
    assert (cut.response, cut.finished) == ((1,), False)
