"""Rollouts, their phases and their losses: what any policy gradient has, and each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.alignment.policies import task_of
from tests.alignment.spaces import CountReward, moved, space_model
from tests.contracts.test_alignments import trainer
from tinylm.alignment.log_probabilities import token_log_probabilities
from tinylm.alignment.policy_losses import adapted_beta, effective_sample_size
from tinylm.alignment.samples import Sample
from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.config import TrainingConfig
from tinylm.errors import AlignmentError, ConfigError
from tinylm.model.weights import load_weights
from tinylm.tasks.alignment import base
from tinylm.tasks.alignment.grpo import GRPO
from tinylm.tasks.alignment.policy import PolicyAlignment
from tinylm.tasks.alignment.ppo import PPO
from tinylm.tasks.alignment.reinforce import Reinforce
from tinylm.training.step import TrainingStep

EVERY: list[tuple[type[PolicyAlignment], dict[str, Any]]] = [
    (Reinforce, {}),
    (Reinforce, {"baseline": "value"}),
    (PPO, {}),
    (GRPO, {}),
    (GRPO, {"normalise": "group"}),
    (GRPO, {"normalise": "constant"}),
    (GRPO, {"normalise": "tokens"}),
]


def _gradient(
    method: type[PolicyAlignment], settings: dict[str, Any], parts: Sequence[int]
) -> tuple[float, list[torch.Tensor]]:
    """Loss and gradient of a phase of 8 responses in several batches, one step later."""
    start = space_model()
    task = task_of(method, start, prompts=2, samples=4, passes=2, **settings)
    policy = moved(start)
    task.prepare(policy, task.batch(np.arange(8)))
    task.taken, task.updated = 0, True  # as in a second pass
    drawn, task._draw = task.phase, lambda *_: drawn  # type: ignore[method-assign]
    config = TrainingConfig(device="cpu", speed="plain", precision="fp32", gradient_clip=0.0)
    later = moved(policy, 0.05, seed=9)
    step = TrainingStep(later, task.loss, config, None, task.beside)
    batches = []
    for places in np.array_split(np.arange(8), np.cumsum(parts)[:-1]):
        batches.append(replace(task.prepare(policy, task.batch(places)), fresh=False))
    result = step.backward(batches)
    return result.loss / result.num_targets, [
        p.grad for p in step.trained.parameters() if p.grad is not None
    ]


@pytest.mark.parametrize(("method", "settings"), EVERY)
def test_one_batch_of_eight_is_two_of_four_and_eight_of_one(
    method: type[PolicyAlignment], settings: dict[str, Any]
) -> None:
    loss, whole = _gradient(method, settings, [8])
    assert max(float(g.abs().max()) for g in whole) > 1e-4
    for parts in ([4, 4], [1] * 8, [3, 5]):
        other, gradients = _gradient(method, settings, parts)
        assert other == pytest.approx(loss, rel=1e-10, abs=1e-12)
        for left, right in zip(gradients, whole, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", [PPO, GRPO, Reinforce])
def test_the_ratio_of_the_first_pass_is_one_exactly(
    method: type[PolicyAlignment], dtype: torch.dtype
) -> None:
    start = space_model().to(dtype)
    task = task_of(method, start, prompts=2, samples=4)
    seen = []
    own = task.token_losses

    def spy(new: Any, old: Any, batch: Any) -> Any:
        seen.append((new - old).exp())
        return own(new, old, batch)

    task.token_losses = spy  # type: ignore[method-assign]
    policy = moved(start)
    for _ in range(2):  # in batches of other sizes than it was drawn in
        task.loss(policy, task.prepare(policy, task.batch(np.arange(3))))
        task.loss(policy, task.prepare(policy, task.batch(np.arange(3, 8))))
        task.taken, task.updated = 0, False
    assert all(bool((ratio == 1).all()) for ratio in seen)


def test_the_loss_of_grpo_is_zero_in_the_first_pass_and_its_gradient_is_not() -> None:
    start = space_model()
    own = {"kl_in": "reward", "kl_estimator": "k1", "beta": 0.0, "samples": 4, "prompts": 4}
    task = task_of(GRPO, start, **own)
    policy = moved(start)
    loss, _ = task.loss(policy, task.prepare(policy, task.batch(np.arange(16))))
    assert abs(float(loss.detach())) < 1e-12
    loss.backward()
    assert any(float(p.grad.abs().max()) > 1e-3 for p in policy.parameters() if p.grad is not None)
    # a mean over all tokens weighs long responses more: it is no 0
    other = task_of(GRPO, start, normalise="tokens", **own)
    loss, _ = other.loss(policy, other.prepare(policy, other.batch(np.arange(16))))
    assert abs(float(loss.detach())) > 1e-3


def test_a_phase_of_one_step_is_read_once() -> None:
    start = space_model()
    policy = moved(start)
    made = {}
    for passes in (1, 2):
        task = task_of(GRPO, start, prompts=2, samples=4, passes=passes)
        read, own = [], task._read

        def counting(*given: Any, own: Any = own, read: Any = read) -> Any:
            read.append(given)
            return own(*given)

        task._read = counting  # type: ignore[method-assign]
        batch = task.prepare(policy, task.batch(np.arange(8)))
        loss, _ = task.loss(policy, batch)
        made[passes] = (len(read), float(loss.detach()), task.measures()["KL"])
        if passes == 1:
            with pytest.raises(AlignmentError, match="cut into several"):
                task.loss(policy, replace(batch, fresh=False))
    assert made[1][0] == 2
    assert made[2][0] == 3
    assert made[1][1:] == pytest.approx(made[2][1:])


def test_prompts_and_responses_of_a_phase_follow_from_seed_and_number() -> None:
    start = space_model()
    first, second, other = (
        task_of(Reinforce, start, seed=seed, prompts=4, samples=2) for seed in (0, 0, 1)
    )
    policy = moved(start)
    drawn = [task._draw(policy, 3).ids for task in (first, second, other)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], first._draw(policy, 4).ids)


@pytest.mark.usefixtures("keep_threads")
def test_a_training_goes_on_from_every_step_of_a_phase(tmp_path: Any) -> None:
    """A phase of three batches, gone through twice, is six steps; the seventh draws anew."""
    torch.set_num_threads(1)
    own = {"prompts": 3, "samples": 4, "passes": 2, "minibatches": 3}
    given = {"max_steps": 7}
    whole = trainer("ppo", tmp_path / "whole", own, **given)
    whole.run()
    end = tmp_path / "whole/checkpoints/step-7"
    kept = []
    for step in range(1, 7):
        resumed = trainer("ppo", tmp_path / f"from-{step}", own, **given)
        path = tmp_path / f"whole/checkpoints/step-{step}"
        state = load_training_state(path)
        kept.append("task/ids" in state.tensors)
        load_weights(resumed.model, load_checkpoint(path).weights, path)
        resumed.restore(state)
        resumed.run()
        for file in ("model.safetensors", "training.safetensors"):
            again = resumed.checkpoints / "step-7" / file
            assert (end / file).read_bytes() == again.read_bytes(), (step, file)
    assert kept == [True] * 5 + [False]  # nothing is kept of a phase that is over


class Broken:
    label = "broken"

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [float("nan") if i == 1 else 0.5 for i in range(len(samples))]


def test_a_reward_that_is_no_number_is_refused_in_a_line() -> None:
    task = task_of(Reinforce, space_model(), Broken(), prompts=2, samples=2)
    with pytest.raises(
        AlignmentError, match="the reward broken gives nan to the response"
    ) as error:
        task.prepare(space_model(), task.batch(np.arange(4)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [PPO, GRPO])
def test_estimates_that_would_do_nothing_are_refused(method: type[PolicyAlignment]) -> None:
    with pytest.raises(ConfigError, match="kl_estimator=k1 has no gradient in the loss"):
        task_of(method, space_model(), kl_in="loss", kl_estimator="k1")
    with pytest.raises(ConfigError, match="kl_estimator=weighted-k3 has no effect in the reward"):
        task_of(method, space_model(), kl_in="reward", kl_estimator="weighted-k3")
    with pytest.raises(ConfigError, match="compares the responses of a phase"):
        task_of(Reinforce, space_model(), prompts=1, samples=1)


def test_the_temperature_is_that_of_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    start = space_model(sharpness=3)
    task = task_of(PPO, start, prompts=4, samples=4, temperature=0.5)
    policy = moved(start)
    batch = task.prepare(policy, task.batch(np.arange(16)))
    for made, model in ((batch.old, policy), (batch.start, start)):
        wanted = token_log_probabilities(model, batch.rows, 0.5).detach()
        torch.testing.assert_close(made, wanted)
        other = token_log_probabilities(model, batch.rows).detach()
        assert not torch.allclose(made, other)
    new, _ = task._read(policy, batch.rows, True)
    torch.testing.assert_close(new.detach(), batch.old)
    seen = []
    monkeypatch.setattr(base, "measure_policy", lambda *given, **_: seen.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        task.validate(policy)
    assert seen[0][6] == 0.5


def test_a_state_without_its_responses_is_refused() -> None:
    start = space_model()
    task = task_of(PPO, start, prompts=2, samples=2)
    task.prepare(start, task.batch(np.arange(2)))
    state, tensors = task.state(), dict(task.tensors())
    again = task_of(PPO, start, prompts=2, samples=2)
    again.restore(state, tensors)
    assert again.phase is not None
    assert torch.equal(again.phase.old, tensors["old"])
    del tensors["old"]
    with pytest.raises(AlignmentError, match="are not all in the state of training"):
        again.restore(state, tensors)


def test_a_response_that_was_cut_off_pays_for_it() -> None:
    start = space_model()
    drawn = []
    for penalty in (0.0, 3.0):
        task = task_of(
            Reinforce, start, CountReward(), prompts=8, samples=2, no_end_penalty=penalty, beta=0.0
        )
        task.settings = replace(task.settings, baseline="none")
        task.prepare(start, task.batch(np.arange(16)))
        assert task.phase is not None
        drawn.append(task.phase)
    last = (drawn[0].labels == 3).any(1)  # an <eos>
    assert last.any()
    assert not last.all()
    difference = (drawn[0].advantages - drawn[1].advantages).amax(1)
    torch.testing.assert_close(difference, 3.0 * (~last).double())


def test_older_responses_tell_less() -> None:
    start = space_model()
    task = task_of(Reinforce, start, prompts=8, samples=8, passes=2)
    policy = moved(start)
    everything = np.arange(64)
    task.loss(policy, task.prepare(policy, task.batch(everything)))
    assert task.measures()["effective sample size"] == pytest.approx(1)
    task.after_step(policy, 1)
    later = moved(policy, 0.2)
    task.loss(later, task.prepare(later, task.batch(everything)))
    share = task.measures()["effective sample size"]
    assert 0 < share < 0.9
    assert effective_sample_size(torch.tensor([2000.0, 0, 0, 0])) == 0.25
    weights = torch.tensor([1.0, 2.0, 3.0])
    assert effective_sample_size(weights.log()) == pytest.approx(36 / (3 * 14))


def test_a_weight_that_is_cut_off_is_none_beyond_it() -> None:
    """The gradient of a step later is that of weights that were clamped."""
    losses = []
    start = space_model()
    policy = moved(start)
    later = moved(policy, 0.2)
    for most in (None, 1e-9):
        task = task_of(Reinforce, start, prompts=4, samples=4, passes=2, largest_weight=most)
        task.prepare(policy, task.batch(np.arange(16)))
        task.after_step(policy, 1)
        losses.append(task.loss(later, task.prepare(later, task.batch(np.arange(16))))[0])
    assert abs(float(losses[0].detach())) > 1e-3
    assert abs(float(losses[1].detach())) < 1e-6


def test_the_predictions_of_ppo_move_no_policy_and_learn_what_is_earned() -> None:
    start = space_model(hidden_size=16)
    task = task_of(PPO, start, CountReward(), prompts=32, samples=8, value_clip=None, passes=400)
    policy = deepcopy(start)
    assert task.beside is not None
    optimizer = torch.optim.Adam(task.beside.parameters(), lr=0.1)
    errors = []
    for _ in range(60):
        batch = task.prepare(policy, task.batch(np.arange(256)))
        _, values = task._read(policy, batch.rows, True)
        error = (values - batch.returns)[batch.mask].square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert all(p.grad is None for p in policy.parameters())
    assert task.phase is not None
    spread = float(task.phase.returns[task.phase.mask].var())
    assert errors[-1] < 0.6 * spread


def test_beta_comes_near_its_target() -> None:
    assert adapted_beta(1.0, kl=20.0, target=5.0, gain=0.1) == pytest.approx(1.02)
    assert adapted_beta(1.0, kl=0.0, target=5.0, gain=0.1) == pytest.approx(0.98)
    assert adapted_beta(1.0, kl=5.5, target=5.0, gain=0.1) == pytest.approx(1.01)
    start = space_model()
    task = task_of(PPO, start, prompts=4, target_kl=1e-6)
    policy = moved(start, 0.5)
    before = task.beta
    batch = task.prepare(policy, task.batch(np.arange(8)))
    assert task.beta == pytest.approx(before * 1.02)
    task.loss(policy, batch)
    assert task.measures()["beta"] == task.beta
    assert task.state()["beta"] == task.beta


@pytest.mark.parametrize(
    ("batch", "minibatches", "wanted"), [(4, 1, (4, 3)), (64, 1, (12, 1)), (4, 2, (4, 2))]
)
def test_a_pass_is_as_many_steps_as_is_said(
    batch: int, minibatches: int, wanted: tuple[int, int]
) -> None:
    settings = GRPO.Settings(prompts=3, samples=4, minibatches=minibatches)
    made = GRPO.suited(TrainingConfig(batch_size=batch), settings)
    assert (made.batch_size, made.accumulation_steps) == wanted


def test_adam_is_as_ppo_needs_it() -> None:
    assert PPO.suited(TrainingConfig(), PPO.Settings()).eps == 1e-5
