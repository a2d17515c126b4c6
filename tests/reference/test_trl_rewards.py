"""The loss of reward models, and its gradient, beside TRL's trainer on the same weights."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer

from tests.reference.test_trl_preferences import OneProcess
from tests.tasks.test_reward import reward_model, task
from tinylm.alignment.reward_model import RewardModel
from tinylm.data.preferences import Ranking
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID

PAIRS = (
    Ranking((SOS_ID, 4), ((5, EOS_ID), (6, 7, 8, EOS_ID)), (1, 0)),
    Ranking((SOS_ID, 5, 6), ((7, EOS_ID), (8, 9)), (0, 1)),
    Ranking((SOS_ID,), ((9, 9, 9, 9, EOS_ID), (10, EOS_ID)), (0, 1)),
)


class AsTransformers(nn.Module):
    """A reward model of ours, called and answering as TRL expects it."""

    def __init__(self, model: RewardModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.model(input_ids, attention_mask.bool())[:, None])


@pytest.mark.parametrize("margin", [0.0, 0.7])
@pytest.mark.parametrize("centre", [0.0, 0.3])
@pytest.mark.parametrize("pad", [PAD_ID, EOS_ID])
def test_loss_and_gradients_are_trls(margin: float, centre: float, pad: int) -> None:
    model = reward_model(3)
    rewarding = task(PAIRS, margin=margin, centre=centre)
    loss, count = rewarding.loss(model, rewarding.batch(np.arange(len(PAIRS))))
    own = torch.autograd.grad(loss / count, list(trained(model)))
    rows = [
        {
            f"{side}_ids": [*pair.prompt, *pair.responses[pair.ranks.index(rank)]]
            for side, rank in (("chosen", 0), ("rejected", 1))
        }
        | ({"margin": margin} if margin else {})
        for pair in PAIRS
    ]
    made: Any = object.__new__(RewardTrainer)
    vars(made).update(
        model=AsTransformers(model),
        accelerator=OneProcess(),
        args=SimpleNamespace(center_rewards_coefficient=centre or None),
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    inputs = DataCollatorForPreference(pad_token_id=pad)(rows)
    theirs = made.compute_loss(made.model, inputs)
    gradients = torch.autograd.grad(theirs, list(trained(model)))
    torch.testing.assert_close(loss / count, theirs, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(own, gradients, rtol=1e-6, atol=1e-9)
    accuracy = made._metrics["train"]["accuracy"][0]
    assert rewarding.measures()["accuracy"] == pytest.approx(accuracy)


def trained(model: RewardModel) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
