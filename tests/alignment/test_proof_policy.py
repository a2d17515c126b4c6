"""Policy gradients against the exact gradient and the best policy of a space that can be listed.

With five tokens and responses of four at most, 341 responses have exact probabilities, and the
objective E_policy[reward] - beta KL(policy || start) an exact gradient: the mean of many estimates
must lie within three standard errors of it, along the gradient itself and along five others.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.alignment.policies import deviations, estimates, flat, task_of, train
from tests.alignment.spaces import MOST, PROMPT, CountReward, moved, space, space_model
from tinylm.alignment.enumeration import Space
from tinylm.alignment.rollouts import Rollouts
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.grpo import GRPO
from tinylm.tasks.alignment.policy import Drawn, PolicyAlignment, Signal
from tinylm.tasks.alignment.ppo import PPO
from tinylm.tasks.alignment.reinforce import Reinforce

BETA = 0.5
PLAIN = {"samples": 8, "beta": BETA, "prompts": 16}
PHASES = 40
UNBIASED = {"scale": "none", "normalise": "constant", "kl_in": "reward", "kl_estimator": "k1"}
FIRST = {"gae_lambda": 1.0, "whiten": False}
"""Of PPO: advantages that do not trust predictions."""


@cache
def _space() -> tuple[GenerativeModel, GenerativeModel, GenerativeModel, Space]:
    """A start, a policy some way from it, one a step further, and all responses."""
    start = space_model(sharpness=2)
    policy = moved(start, 0.15)
    return start, policy, moved(policy, 0.02, seed=2), space(start, BETA)


@cache
def _exact(further: bool) -> Tensor:
    _, policy, later, listed = _space()
    return flat(listed.gradient(later if further else policy))  # type: ignore[arg-type]


CASES: list[tuple[str, Any, dict[str, Any], bool, float]] = [
    ("no baseline", Reinforce, {"baseline": "none"}, False, 1),
    # its own response is part of the mean: the gradient is 7/8 as long
    ("mean", Reinforce, {"baseline": "mean"}, False, 7 / 8),
    ("leave-one-out", Reinforce, {"baseline": "leave-one-out"}, False, 1),
    ("value", Reinforce, {"baseline": "value"}, False, 1),
    ("weighted", Reinforce, {"baseline": "leave-one-out", "importance": "sequence"}, True, 1),
    ("weighted value", Reinforce, {"baseline": "value", "importance": "sequence"}, True, 1),
    ("PPO's first step", PPO, FIRST, False, 1),
    ("unbiased GRPO", GRPO, UNBIASED, False, 7 / 8 / MOST),
]


@pytest.mark.parametrize(
    ("method", "settings", "further", "share"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_the_mean_of_estimates_is_the_exact_gradient(
    method: type[PolicyAlignment], settings: dict[str, Any], further: bool, share: float
) -> None:
    start, policy, later, _ = _space()
    task = task_of(method, start, seed=1, **(PLAIN | settings))
    if task.beside is not None:  # whatever is predicted: only the variance depends on it
        torch.nn.init.normal_(task.beside.weight, std=0.1, generator=_seeded())
    made = estimates(task, policy, later if further else policy, PHASES) / share
    off = deviations(made, _exact(further))
    assert float(off.abs().max()) < 3, off
    # and they are precise enough to tell something: the gradient is far from 0
    along = made @ _exact(further)
    assert float(along.mean() / (along.std() / len(along) ** 0.5)) > 6


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(5)


class WrongSign(Reinforce):
    def signal(self, drawn: Drawn) -> Signal:
        right = super().signal(drawn)
        return replace(right, advantages=-right.advantages)


class UnderTheStart(Reinforce):
    """The responses are the start's."""

    def prepare(self, model: GenerativeModel, batch: Rollouts) -> Rollouts:
        return super().prepare(self.start, batch)


class Swapped(Reinforce):
    """KL(start || policy) in the place of KL(policy || start)."""

    def signal(self, drawn: Drawn) -> Signal:
        return super().signal(replace(drawn, old=drawn.start, start=drawn.old))


class Unmasked(Reinforce):
    """The prompt counts as if it had been drawn."""

    def prepare(self, model: GenerativeModel, batch: Rollouts) -> Rollouts:
        made = super().prepare(model, batch)
        given = slice(0, len(PROMPT) - 1)
        labels, weights, advantages = (
            each.clone() for each in (made.labels, made.weights, made.advantages)
        )
        labels[:, given] = made.ids[:, 1 : len(PROMPT)]
        weights[:, given] = 1
        advantages[:, given] = made.advantages[:, [len(PROMPT) - 1]]
        return replace(made, labels=labels, weights=weights, advantages=advantages)


class Unweighted(Reinforce):
    """Older responses count as if they were new."""


WRONG: list[tuple[Any, dict[str, Any], bool]] = [
    (WrongSign, {}, False),
    (UnderTheStart, {}, False),
    (Swapped, {}, False),
    (Unmasked, {"baseline": "none"}, False),
    (Unweighted, {"importance": "none"}, True),
]


@pytest.mark.parametrize(("method", "settings", "further"), WRONG)
def test_a_mistake_is_caught(
    method: type[PolicyAlignment], settings: dict[str, Any], further: bool
) -> None:
    start, policy, later, _ = _space()
    if further:
        later = moved(policy, 0.15, seed=2)
    task = task_of(method, start, **(PLAIN | settings))
    made = estimates(task, policy, later if further else policy, PHASES)
    listed = _space()[3]
    exact = flat(listed.gradient(later)) if further else _exact(further)
    assert float(deviations(made, exact).abs().max()) > 6


def test_a_divergence_of_tokens_in_the_loss_is_not_quite_the_gradient() -> None:
    """GRPO's k3 has the gradient of the other divergence, and holds the texts so far fixed."""
    start, policy, _, _ = _space()
    own = {"scale": "none", "normalise": "constant", "kl_in": "loss"}
    off = {}
    for name in ("k3", "weighted-k3"):
        task = task_of(
            GRPO, start, **(PLAIN | own | {"kl_estimator": name, "samples": 64, "prompts": 2})
        )
        made = estimates(task, policy, policy, 16) * MOST
        off[name] = float((made.mean(0) - _exact(False)).norm() / _exact(False).norm())
    assert off["k3"] > 0.2
    assert off["weighted-k3"] < off["k3"]


TRAINED: list[tuple[str, Any, dict[str, Any]]] = [
    ("REINFORCE", Reinforce, {}),
    ("PPO", PPO, {}),
    ("GRPO", GRPO, UNBIASED),
]


@pytest.mark.parametrize(
    ("method", "settings"), [case[1:] for case in TRAINED], ids=[case[0] for case in TRAINED]
)
def test_training_ends_near_the_best_policy(
    method: type[PolicyAlignment], settings: dict[str, Any]
) -> None:
    start = space_model(hidden_size=16)
    listed = Space(start, [PROMPT], MOST, CountReward(), 0.1)
    policy = deepcopy(start).requires_grad_()
    far = listed.kl_from_best(policy)
    own = {"samples": 16, "prompts": 8, "beta": 0.1} | settings
    train(task_of(method, start, CountReward(), **own), policy, 100, 0.03)
    assert far > 3.6
    assert listed.kl_from_best(policy) < 0.1  # nats: 3 % of the way are left


@pytest.mark.parametrize(
    ("method", "settings"),
    # whitened advantages are as large where nothing is to be earned, and move the policy at random
    [(Reinforce, {}), (PPO, {"whiten": False, "value_clip": None}), (GRPO, {})],
)
def test_worked_answers_of_beta(method: type[PolicyAlignment], settings: dict[str, Any]) -> None:
    start = space_model(hidden_size=16)
    ends = {}
    for beta in (100.0, 0.001):
        listed = Space(start, [PROMPT], MOST, CountReward(), beta)
        policy = deepcopy(start).requires_grad_()
        own = {"samples": 8, "prompts": 4, "beta": beta} | settings
        train(task_of(method, start, CountReward(), **own), policy, 50, 0.03)
        ends[beta] = (listed.kl_from_start(policy), listed.reward(policy))
    assert ends[100.0][0] < 0.1  # it stays where it was
    assert ends[0.001][1] > 0.9  # and finds the best response, which earns 1
