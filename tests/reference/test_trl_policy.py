"""Losses of policy gradients, and their gradients, beside TRL's trainers on the same numbers.

GRPO's loss is a method of TRL's trainer, which is called on an instance that has what it reads.
PPO's stands in the middle of a training loop: the lines of that loop are run as they are written
there, on numbers of ours.
"""

from __future__ import annotations

import inspect
import textwrap
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.experimental.ppo import PPOTrainer, ppo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer

from tinylm.alignment.advantages import generalised_advantages, on_last, whitened
from tinylm.alignment.kl import ESTIMATORS
from tinylm.alignment.policy_losses import (
    NORMALISATIONS,
    clipped_loss,
    clipped_value_loss,
    group_deviation,
    group_mean,
)
from tinylm.alignment.rollouts import Rollouts
from tinylm.config.policy_alignment import GRPOConfig
from tinylm.data.windows import IGNORED
from tinylm.tasks.alignment.clipped import surrogate

ROWS, SEQ, GROUP = 8, 7, 4
BETA = 0.3


def _numbers() -> dict[str, Tensor]:
    """Log-probabilities of three policies, advantages, values, and responses of several lengths."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    new = -draw(ROWS, SEQ).abs()
    lengths = torch.tensor([7, 3, 1, 5, 7, 2, 6, 4])
    return {
        "new": new,
        "old": new + 0.3 * draw(ROWS, SEQ),
        "start": new + 0.5 * draw(ROWS, SEQ),
        "rewards": draw(ROWS),
        "values": draw(ROWS, SEQ),
        "predicted": draw(ROWS, SEQ),
        "mask": torch.arange(SEQ) < lengths[:, None],
    }


class OneProcess:
    num_processes = 1

    def gather(self, value: Tensor) -> Tensor:
        return value

    def reduce(self, value: Tensor, reduction: str) -> Tensor:
        return value


def _of_trl(new: Tensor, old: Tensor | None, numbers: dict[str, Tensor], **settings: Any) -> Tensor:
    made = object.__new__(GRPOTrainer)
    chosen: dict[str, Any] = {
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": BETA,
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "use_vllm": False,
        "max_completion_length": 9,
        "current_gradient_accumulation_steps": 1,
        "accelerator": OneProcess(),
        "_entropy_bonus_enabled": False,
        "model": SimpleNamespace(training=True),
        "_metrics": {"train": defaultdict(list)},
        "_get_per_token_logps_and_entropies": lambda *_, **__: (new, torch.zeros_like(new), None),
    }
    vars(made).update(chosen | settings)
    vars(made)["args"] = SimpleNamespace(
        delta=None,
        use_bias_correction_kl=settings.get("correct", False),
        steps_per_generation=1,
    )
    mask = numbers["mask"].long()
    ids = torch.zeros_like(mask)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": mask[:, :1],
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": numbers["advantages"],
        "old_per_token_logps": old,
        "ref_per_token_logps": numbers["start"],
        "num_items_in_batch": mask.sum(),
    }
    loss: Tensor = made._compute_loss(None, inputs)
    return loss


def _of_ours(new: Tensor, old: Tensor, numbers: dict[str, Tensor], config: GRPOConfig) -> Tensor:
    mask = numbers["mask"]
    normalisation = NORMALISATIONS[config.normalise]
    nothing = torch.zeros_like(new).detach()
    batch = Rollouts(
        ids=torch.zeros(ROWS, SEQ, dtype=torch.int64),
        labels=torch.where(mask, 5, IGNORED),
        real=mask,
        weights=normalisation.weights(mask, GROUP, 9),
        old=old,
        start=numbers["start"],
        advantages=torch.where(mask, numbers["advantages"][:, None], 0.0),
        values=nothing,
        returns=nothing,
        by_tokens=normalisation.by_tokens,
    )
    losses, _ = surrogate(new, old, batch, config, BETA, config.ratio)
    return (losses * batch.weights).sum() / batch.num_targets


def _compare(ours: Tensor, new: Tensor, theirs: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    (left,) = torch.autograd.grad(ours, new)
    (right,) = torch.autograd.grad(theirs, other)
    assert right.abs().max() > 0
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    ("settings", "of_trl"),
    [
        ({}, {"loss_type": "grpo"}),
        ({"normalise": "tokens"}, {"loss_type": "dapo"}),
        ({"normalise": "tokens"}, {"loss_type": "bnpo"}),
        ({"normalise": "constant"}, {"loss_type": "dr_grpo"}),
        ({"kl_estimator": "weighted-k3"}, {"loss_type": "grpo", "correct": True}),
        ({"kl_in": "reward", "kl_estimator": "k1"}, {"loss_type": "grpo", "beta": 0.0}),
        (
            {"ratio": "sequence-mean", "kl_in": "reward", "kl_estimator": "k1"},
            {"loss_type": "grpo", "beta": 0.0, "importance_sampling_level": "sequence"},
        ),
        (
            {"ratio": "sequence-mean", "normalise": "constant"},
            {"loss_type": "dr_grpo", "importance_sampling_level": "sequence"},
        ),
    ],
)
def test_grpo(settings: dict[str, Any], of_trl: dict[str, Any], fresh: bool) -> None:
    numbers = _numbers()
    numbers["advantages"] = numbers["rewards"] - group_mean(numbers["rewards"], GROUP)
    new, other = (numbers["new"].clone().requires_grad_() for _ in range(2))
    ours = _of_ours(
        new,
        new.detach() if fresh else numbers["old"],
        numbers,
        GRPOConfig(clip_high=0.28, **settings),
    )
    theirs = _of_trl(other, None if fresh else numbers["old"], numbers, **of_trl)
    _compare(ours, new, theirs, other)


def test_advantages_of_grpo() -> None:
    """As TRL's lines say: less the group's mean, over its deviation (Bessel's) and 1e-4."""
    source = inspect.getsource(GRPOTrainer)
    assert "advantages = advantages / (std_rewards + 1e-4)" in source
    rewards = _numbers()["rewards"]
    namespace: dict[str, Any] = {"rewards": rewards, "num_generations": GROUP, "torch": torch}
    namespace["nanstd"] = inspect.getmodule(GRPOTrainer).nanstd  # type: ignore[union-attr]
    first = source.index("            mean_grouped_rewards = torch.nanmean(")
    lines = source[first : source.index("if self.scale_rewards in", first)]
    exec(textwrap.dedent(lines), namespace)
    spread = namespace["nanstd"](rewards.view(-1, GROUP), dim=1).repeat_interleave(GROUP)
    wanted = (rewards - namespace["mean_grouped_rewards"]) / (spread + 1e-4)
    deviation = group_deviation(rewards, GROUP, bessel=True)
    ours = (rewards - group_mean(rewards, GROUP)) / (deviation + 1e-4)
    torch.testing.assert_close(ours, wanted)
    assert not torch.allclose(deviation, group_deviation(rewards, GROUP, bessel=False))


def _lines(first: str, last: str) -> str:
    """Lines of TRL's training loop, from one to another, that one left out."""
    source = inspect.getsource(PPOTrainer.train)
    start = source.rindex("\n", 0, source.index(first)) + 1
    return textwrap.dedent(source[start : source.index(last, start)].rpartition("\n")[0])


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize("whole", [True, False])
def test_ppo(estimator: str, whole: bool) -> None:
    """TRL puts the score one place behind ``<eos>`` where there is one: a place more is real."""
    numbers = _numbers()
    mask = torch.ones(ROWS, SEQ, dtype=torch.bool) if whole else numbers["mask"]
    length = mask.sum(1)
    places = torch.arange(SEQ)
    longer = places < (length + 1)[:, None]  # and the place behind
    args = SimpleNamespace(
        kl_estimator=estimator,
        kl_coef=BETA,
        whiten_rewards=False,
        gamma=0.97,
        lam=0.9,
        cliprange=0.2,
        cliprange_value=0.2,
        vf_coef=0.1,
    )
    invalid = ppo_trainer.INVALID_LOGPROB
    old, start = (numbers[name].masked_fill(~mask, invalid) for name in ("old", "start"))
    values = numbers["values"].masked_fill(~longer, 0)
    namespace: dict[str, Any] = vars(ppo_trainer) | {
        "args": args,
        "logprobs": old,
        "ref_logprobs": start,
        "scores": numbers["rewards"],
        "sequence_lengths": length - 1,
        "sequence_lengths_p1": length,
        "responses": old,
        "padding_mask": ~mask,
        "padding_mask_p1": ~longer,
        "values": values,
    }
    exec(
        _lines("logr = ref_logprobs - logprobs", "empty_cache()\n\n            # Do multiple"),
        namespace,
    )
    ratio = torch.where(mask, numbers["old"] - numbers["start"], 0.0)
    rewards = on_last(numbers["rewards"], longer) - BETA * ESTIMATORS[estimator].value(ratio)
    advantages = generalised_advantages(rewards, values, longer, 0.97, 0.9)
    returns = torch.where(longer, advantages + values, 0.0)
    torch.testing.assert_close(returns, torch.where(longer, namespace["returns"], 0.0))
    advantages = whitened(torch.where(mask, advantages, 0.0), mask)
    torch.testing.assert_close(advantages, namespace["advantages"])

    new, other = (numbers["new"].clone().requires_grad_() for _ in range(2))
    predicted, other_values = (numbers["predicted"].clone().requires_grad_() for _ in range(2))
    namespace |= {
        "new_logprobs": other.masked_fill(~mask, invalid),
        "vpred": other_values.masked_fill(~longer, 0),
        "mb_values": values,
        "mb_return": namespace["returns"],
        "mb_logprobs": old,
        "mb_advantage": namespace["advantages"],
        "micro_batch_inds": slice(None),
    }
    exec(_lines("vpredclipped = torch.clamp(", "accelerator.backward(loss)"), namespace)
    losses = clipped_loss((new - numbers["old"]).exp(), advantages, 0.2, 0.2)
    of_values = clipped_value_loss(predicted, values, returns, 0.2)
    ours = losses[mask].mean() + 0.1 * of_values[longer].mean()
    theirs = namespace["loss"]
    torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-8)
    made = torch.autograd.grad(ours, [new, predicted])
    wanted = torch.autograd.grad(theirs, [other, other_values])
    for left, right in zip(made, wanted, strict=True):
        assert right.abs().max() > 0
        torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-8)
