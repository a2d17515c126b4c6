"""Policy gradients where all can be listed: tasks, their gradients, short trainings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.alignment.spaces import MOST, PROMPT, TableReward
from tests.training.tiny import tiny_tokenizer
from tinylm.model.base import GenerativeModel
from tinylm.tasks.alignment.base import Aim
from tinylm.tasks.alignment.policy import PolicyAlignment


def task_of(
    method: type[PolicyAlignment],
    start: GenerativeModel,
    reward: Any = None,
    seed: int = 0,
    **settings: Any,
) -> PolicyAlignment:
    """A task whose only prompt is the one of the space."""
    aim = Aim(
        start=start,
        settings=method.Settings(**settings),
        tokenizer=tiny_tokenizer(),
        prompts=[list(PROMPT)],
        held_out=[list(PROMPT)],
        most=MOST,
        reward=TableReward() if reward is None else reward,
        preferences=None,
        source="space",
        seed=seed,
        batch_size=4096,
    )
    return method(aim)


def step_loss(task: PolicyAlignment, sampler: GenerativeModel, policy: GenerativeModel) -> Tensor:
    """The summed loss of a whole phase that one model drew, under another."""
    batch = task.prepare(sampler, task.batch(np.arange(len(task))))
    if policy is not sampler:  # steps lie between
        task.updated = True
        batch = task.phase.take(torch.arange(len(task)), fresh=False)  # type: ignore[union-attr]
    return task.loss(policy, batch)[0]


def flat(gradients: Any) -> Tensor:
    return torch.cat([each.flatten() for each in gradients])


def estimates(
    task: PolicyAlignment, sampler: GenerativeModel, policy: GenerativeModel, phases: int
) -> Tensor:
    """The gradient of the objective a response as each phase estimates it, (phases, weights)."""
    made = []
    for _ in range(phases):
        loss = step_loss(task, sampler, policy) / len(task)
        gradients = torch.autograd.grad(-loss, list(policy.parameters()), allow_unused=True)
        pairs = zip(policy.parameters(), gradients, strict=True)
        made.append(flat(torch.zeros_like(p) if g is None else g for p, g in pairs))
    return torch.stack(made)


def deviations(estimated: Tensor, exact: Tensor) -> Tensor:
    """Standard errors between mean and exact gradient, along it and five random directions."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(5, len(exact), generator=generator, dtype=exact.dtype)
    directions = torch.cat([exact[None], random])
    along = estimated @ directions.T  # (phases, directions)
    errors = along.std(0) / len(along) ** 0.5
    return (along.mean(0) - directions @ exact) / errors


def train(task: PolicyAlignment, policy: GenerativeModel, steps: int, rate: float) -> None:
    """Take steps of Adam, each of a phase, as often as the settings go through it."""
    parameters = list(policy.parameters())
    if task.beside is not None:
        parameters += list(task.beside.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.99))
    for step in range(steps):
        batch = task.prepare(policy, task.batch(np.arange(len(task))))
        optimizer.zero_grad()
        loss, count = task.loss(policy, batch)
        (loss / count).backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - (step + 1) / steps)
        task.after_step(policy, step + 1)
