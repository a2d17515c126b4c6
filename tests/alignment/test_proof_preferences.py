"""Preference losses on a space that can be listed: where each ends, as its theory says.

Responses are drawn by the start, and which of two is better by Bradley-Terry from given rewards.
All pairs and both ways round are weighed by their probabilities, so that the minimum of the mean
loss is known without any sampling: a table of 85 log-probabilities is moved there, and compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.alignment.spaces import PROMPT, VOCAB_SIZE, TableReward, moved, space_model
from tests.training.tiny import tiny_tokenizer
from tinylm.alignment.enumeration import (
    Space,
    best_policy,
    every_response,
    kl_divergence,
    log_probabilities,
)
from tinylm.alignment.log_probabilities import token_log_probabilities
from tinylm.alignment.preference_losses import dpo_loss, ipo_loss, kto_loss, simpo_loss
from tinylm.data.preferences import Preferences, Ranking
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ALIGNMENTS
from tinylm.tasks.alignment import kto
from tinylm.tasks.alignment.base import Aim

BETA, LONGEST = 0.5, 3


@cache
def listed() -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of all responses under the start, rewards, and lengths, (responses,)."""
    every = Space(space_model(sharpness=2), [PROMPT], LONGEST, TableReward(), BETA)
    lengths = torch.tensor([len(sample.response) for sample in every.samples[0]])
    return every.start[0], every.rewards[0], lengths


def wins(rewards: Tensor) -> Tensor:
    """Probability that the first response of a pair is called better, (responses, responses)."""
    return (rewards[:, None] - rewards).sigmoid()


def pair_weights(start: Tensor) -> Tensor:
    """Probability that the two responses of a pair are drawn, (responses, responses)."""
    weights = start.exp()[:, None] * start.exp()
    return weights - weights.diag().diag()  # a response is not compared with itself


def over_pairs(
    loss: Callable[[Tensor, Tensor], Tensor], better: Tensor, win: Tensor, weights: Tensor
) -> Tensor:
    """Return the mean loss over pairs and both ways round, a scalar.

    Args:
        loss: of the better and the worse one.
        better: what the loss is made of, (responses,).
        win: probability that the first is called better, (responses, responses).
        weights: of pairs, (responses, responses).
    """
    first, second = torch.broadcast_tensors(better[:, None], better)
    return (weights * (win * loss(first, second) + (1 - win) * loss(second, first))).sum()


def lowest(mean_loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the policy whose mean loss is lowest, as log-probabilities, (responses,).

    By Newton's method, damped where a step would not go down.
    """
    table, damping = listed()[0].clone(), 1e-6

    def loss_of(values: Tensor) -> Tensor:
        return mean_loss(values.log_softmax(0))

    value = float(loss_of(table))
    for _ in range(80):
        gradient, hessian = torch.func.grad(loss_of)(table), torch.func.hessian(loss_of)(table)
        if float(gradient.abs().max()) < 1e-13:
            break
        while damping < 1e9:
            step = torch.linalg.solve(hessian + damping * torch.eye(len(table)), gradient)
            lower = float(loss_of(table - step))
            if lower <= value:
                table, value, damping = table - step, lower, damping / 10
                break
            damping *= 10
    return table.log_softmax(0)


def differences(values: Tensor) -> Tensor:
    return values[:, None] - values


def test_dpo_recovers_reward_differences_and_the_best_policy() -> None:
    start, rewards, _ = listed()
    win, weights = wins(rewards), pair_weights(start)

    def policy(**smoothing: Any) -> Tensor:
        def loss(w: Tensor, lo: Tensor) -> Tensor:
            return dpo_loss(w, lo, BETA, **smoothing)

        return lowest(lambda logs: over_pairs(loss, logs - start, win, weights))

    found = policy()
    implicit = BETA * (found - start)
    assert float((differences(implicit) - differences(rewards)).abs().max()) < 1e-3
    best = best_policy(start, rewards, BETA)
    assert float(kl_divergence(found, best)) < 1e-8
    assert float(kl_divergence(start, best)) > 0.5  # it had a way to go
    # A sign, a start in the place of the policy and another beta end elsewhere.
    for wrong in (
        lambda logs: over_pairs(lambda w, lo: dpo_loss(lo, w, BETA), logs - start, win, weights),
        lambda logs: over_pairs(lambda w, lo: dpo_loss(w, lo, BETA), start - logs, win, weights),
        lambda logs: over_pairs(
            lambda w, lo: dpo_loss(w, lo, 2 * BETA), logs - start, win, weights
        ),
    ):
        assert float(kl_divergence(lowest(wrong), best)) > 0.1


def test_wrong_labels_are_undone_by_the_robust_loss_alone() -> None:
    start, rewards, _ = listed()
    wrong, weights = 0.2, pair_weights(start)
    win = (1 - wrong) * wins(rewards) + wrong * (1 - wins(rewards))
    best = best_policy(start, rewards, BETA)
    ends = {}
    for name, smoothing in {
        "none": {},
        "conservative": {"wrong": wrong},
        "robust": {"wrong": wrong, "robust": True},
    }.items():

        def loss(w: Tensor, lo: Tensor, smoothing: dict[str, Any] = smoothing) -> Tensor:
            return dpo_loss(w, lo, BETA, **smoothing)

        ends[name] = lowest(lambda logs, loss=loss: over_pairs(loss, logs - start, win, weights))
    lacks = {name: float(kl_divergence(end, best)) for name, end in ends.items()}
    assert lacks["robust"] < 1e-6
    # Labels that are known to be wrong are learned less by the conservative loss, not corrected.
    assert lacks["conservative"] > lacks["none"] > 0.01


def test_ipo_ends_where_the_paper_says() -> None:
    # Azar et al. 2024, proposition 2 and theorem 2 with psi the identity: the share of the start's
    # responses that a response beats, in the place of the reward.
    start, rewards, _ = listed()
    win = wins(rewards)
    tau = 0.1
    preferred = win @ start.exp()  # (responses,)
    weights = start.exp()[:, None] * start.exp()
    found = lowest(
        lambda logs: over_pairs(lambda w, lo: ipo_loss(w, lo, tau), logs - start, win, weights)
    )
    best = best_policy(start, preferred, tau)
    assert float(kl_divergence(found, best)) < 1e-8
    implicit = tau * (found - start)
    assert float((differences(implicit) - differences(preferred)).abs().max()) < 1e-5
    assert float(kl_divergence(start, best)) > 0.3
    # Labels that are always right leave it there, where DPO's loss falls for ever.
    certain = (differences(rewards) > 0).double()
    found = lowest(
        lambda logs: over_pairs(lambda w, lo: ipo_loss(w, lo, tau), logs - start, certain, weights)
    )
    assert float((found - start).abs().max()) < 2 / tau


def test_simpo_ends_at_a_policy_without_a_start() -> None:
    # With gamma 0 beta times the mean log-probability is the reward and a constant, which is what
    # lets the probabilities sum to 1.
    _, rewards, lengths = listed()
    beta = 2.0
    low, high = -100.0, 100.0
    for _ in range(200):
        constant = (low + high) / 2
        total = float((lengths * (rewards / beta - constant)).exp().sum())
        low, high = (constant, high) if total > 1 else (low, constant)
    best = lengths * (rewards / beta - constant)
    assert float(best.exp().sum()) == pytest.approx(1)
    win = wins(rewards)
    weights = torch.full_like(win, 1 / len(rewards) ** 2).fill_diagonal_(0)

    def loss(w: Tensor, lo: Tensor) -> Tensor:
        return simpo_loss(w, lo, beta, 0.0)

    found = lowest(lambda logs: over_pairs(loss, logs / lengths, win, weights))
    assert float(kl_divergence(found, best)) < 1e-6
    # Sums in the place of means end elsewhere, whatever the start was.
    sums = lowest(lambda logs: over_pairs(loss, logs, win, weights))
    assert float(kl_divergence(sums, best)) > 0.1


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.5])
def test_simpo_asks_for_more_than_the_odds_by_its_margin(p: float, gamma: float) -> None:
    # Of one pair that is ranked so with probability p: e^x solves a quadratic equation.
    a = float(np.exp(gamma))
    u = (a * (2 * p - 1) + np.sqrt((a * (1 - 2 * p)) ** 2 + 4 * p * (1 - p))) / (2 * (1 - p))
    x = torch.tensor(float(np.log(u)), dtype=torch.float64, requires_grad=True)
    zero = torch.zeros((), dtype=torch.float64)
    loss = p * simpo_loss(x, zero, 1.0, gamma) + (1 - p) * simpo_loss(zero, x, 1.0, gamma)
    (slope,) = torch.autograd.grad(loss, x)
    assert float(slope) == pytest.approx(0, abs=1e-12)
    assert float(x.detach()) >= float(np.log(p / (1 - p))) - 1e-12


@pytest.mark.parametrize(("good", "bad"), [(1.0, 1.0), (3.0, 1.0), (1.0, 3.0)])
def test_kto_takes_the_side_of_the_majority(good: float, bad: float) -> None:
    # The loss of a response is linear in its value: whichever label weighs more wins all of it
    # (Ethayarajh et al. 2024, section 4.3), so that what is called good often enough shares all
    # probability in the end, and the odds, which DPO keeps, are lost.
    start, rewards, _ = listed()
    chance = rewards.sigmoid()  # that a response is called good
    wanted = good * chance > bad * (1 - chance)
    label = torch.tensor([True])
    table = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([table], lr=0.3)
    for _ in range(400):
        optimizer.zero_grad()
        logs = table.log_softmax(0)
        baseline = kl_divergence(logs, start)
        ratios = logs - start
        as_good = kto_loss(ratios, label, baseline, 1.0, good, bad)
        as_bad = kto_loss(ratios, ~label, baseline, 1.0, good, bad)
        (start.exp() * (chance * as_good + (1 - chance) * as_bad)).sum().backward()
        optimizer.step()
    found = table.detach().log_softmax(0).exp()
    before = float(start.exp()[wanted].sum())
    assert 0.05 < before < 0.95
    assert float(found[wanted].sum()) > 0.99


Method = tuple[str, dict[str, Any]]
METHODS: list[Method] = [
    ("dpo", {"beta": BETA}),
    ("dpo", {"beta": BETA, "label_smoothing": 0.1}),
    ("ipo", {"beta": 0.5, "over_tokens": "mean"}),
    ("ipo", {"beta": 0.5, "over_tokens": "sum"}),
    ("simpo", {"beta": 1.0, "gamma": 0.3}),
    ("kto", {"beta": BETA}),
]
DRAWS, BATCHES = 300, 16


@cache
def models() -> tuple[DecoderLM, DecoderLM]:
    """A start, and a policy some way from it."""
    start = space_model(sharpness=2)
    return start, moved(start, 0.15)


@cache
def drawn(method: str) -> tuple[Ranking, ...]:
    """Pairs drawn by a model and ranked by Bradley-Terry, by a fixed seed.

    KTO's baseline is an estimate of the policy's divergence from the start only for responses that
    the policy draws.
    """
    start, policy = models()
    samples = every_response(VOCAB_SIZE, PROMPT, LONGEST)
    rewards = listed()[1]
    model = policy if method == "kto" else start
    chances = log_probabilities(model, samples).detach().exp().numpy()
    generator = np.random.default_rng(3)
    made: list[Ranking] = []
    while len(made) < DRAWS * BATCHES:
        i, j = generator.choice(len(samples), 2, p=chances / chances.sum())
        if i == j:
            continue
        first = generator.random() < float(wins(rewards)[i, j])
        responses = (samples[i].response, samples[j].response)
        made.append(Ranking(PROMPT, responses, (0, 1) if first else (1, 0)))
    return tuple(made)


def estimates(method: str, settings: dict[str, Any]) -> Tensor:
    """The gradient of the mean loss by the task, from each batch of drawn pairs, (batches, -)."""
    start, policy = models()
    kind = ALIGNMENTS.load(method)
    rankings = drawn(method)
    task = kind(
        Aim(
            start=start,
            settings=kind.Settings(**settings),
            tokenizer=tiny_tokenizer(),
            prompts=[list(PROMPT)],
            held_out=[list(PROMPT)],
            most=LONGEST,
            reward=None,
            preferences=Preferences(rankings, rankings[:2], "drawn"),
            source="drawn",
            seed=0,
            batch_size=1024,
        )
    )
    weights = list(policy.parameters())
    made = []
    for indices in np.array_split(np.arange(len(task)), BATCHES):
        loss, count = task.loss(policy, task.batch(indices))
        gradients = torch.autograd.grad(loss / count, weights, allow_unused=True)
        made.append(flat(weights, gradients))
    return torch.stack(made)


def flat(weights: list[Any], gradients: Any) -> Tensor:
    parts = zip(weights, gradients, strict=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in parts])


def exact(method: str, settings: dict[str, Any]) -> Tensor:
    """The gradient of the mean loss over all pairs, each by its probability."""
    _, policy = models()
    start, rewards, lengths = listed()
    samples = every_response(VOCAB_SIZE, PROMPT, LONGEST)
    logs = log_probabilities(policy, samples)
    win = wins(rewards)
    beta = settings["beta"]
    if method == "kto":
        own = logs.detach()
        weights = pair_weights(own)
        weights = weights / weights.sum()
        chance_good = (weights * win).sum(1)  # that a response is drawn first, and wins
        chance_bad = (weights * (1 - win)).sum(1)
        each = torch.tensor([True])
        # Its baseline is what responses earn that are drawn as the others are.
        share = weights.sum(1)
        baseline = (share * (own - start)).sum().clamp(min=0)
        assert baseline > 0
        as_good = kto_loss(logs - start, each, baseline, beta)
        as_bad = kto_loss(logs - start, ~each, baseline, beta)
        loss = (chance_good * as_good + chance_bad * as_bad).sum()
    else:
        weights = pair_weights(start)
        values, of_pair = {
            "dpo": (
                logs - start,
                lambda w, lo: dpo_loss(w, lo, beta, settings.get("label_smoothing", 0.0)),
            ),
            "ipo": (
                (logs - start) / (lengths if settings.get("over_tokens") == "mean" else 1),
                lambda w, lo: ipo_loss(w, lo, beta),
            ),
            "simpo": (
                logs / lengths,
                lambda w, lo: simpo_loss(w, lo, beta, settings.get("gamma", 0.0)),
            ),
        }[method]
        loss = over_pairs(of_pair, values, win, weights / weights.sum())
    parameters = list(policy.parameters())
    return flat(parameters, torch.autograd.grad(loss, parameters, allow_unused=True))


def standard_errors(estimated: Tensor, expected: Tensor) -> Tensor:
    """Standard errors between a mean of estimates and a gradient, along it and along others."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(5, len(expected), generator=generator, dtype=expected.dtype)
    directions = torch.cat([expected[None], random])
    along = estimated @ directions.T
    return (along.mean(0) - directions @ expected) / (along.std(0) / len(along) ** 0.5)


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_the_gradient_of_drawn_pairs_is_the_exact_one(
    method: str, settings: dict[str, Any]
) -> None:
    made, expected = estimates(method, settings), exact(method, settings)
    off = standard_errors(made, expected)
    assert float(off.abs().max()) < 3, off
    # They are precise enough to tell something: the gradient is far from 0.
    along = made @ expected
    assert float(along.mean() / (along.std() / len(along) ** 0.5)) > 6


def _means(model: DecoderLM, rows: Any) -> Tensor:
    """Means over tokens in the place of sums, and the other way round."""
    of_tokens = token_log_probabilities(model, rows)
    return of_tokens / (rows.labels >= 0).sum(1, keepdim=True)


def _padding_counts(model: DecoderLM, rows: Any) -> Tensor:
    """What stands behind a response counts as its tokens do."""
    return token_log_probabilities(
        model, replace(rows, labels=rows.labels.where(rows.labels >= 0, 4))
    )


@pytest.mark.parametrize(("method", "settings"), [METHODS[0], *METHODS[2:]])
def test_mistakes_are_caught(
    method: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = exact(method, settings)
    module = "kto" if method == "kto" else "preference"
    used = f"tinylm.tasks.alignment.{module}.token_log_probabilities"
    for wrong in (_means, _padding_counts):
        with monkeypatch.context() as patched:
            patched.setattr(used, wrong)
            off = standard_errors(estimates(method, settings), expected)
            assert float(off.abs().max()) > 6, wrong.__name__
    if method != "simpo":  # it has no start
        with monkeypatch.context() as patched:
            exchanged = property(lambda self: self.start - self.sums)
            patched.setattr("tinylm.tasks.alignment.preference.Responses.ratios", exchanged)
            ratios = kto._ratios
            patched.setattr(kto, "_ratios", lambda *given: -ratios(*given))
            off = standard_errors(estimates(method, settings), expected)
            assert float(off.abs().max()) > 6, "policy and start are exchanged"
    turned = standard_errors(-estimates(method, settings), expected)
    assert float(turned.abs().max()) > 6, "the sign"
