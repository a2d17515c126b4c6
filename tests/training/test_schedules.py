"""Learning rates by hand: warm-up, and the shape of each schedule after it."""

import math

import pytest
import torch

from tinylm.config import TrainingConfig
from tinylm.training.schedules import learning_rate_factor


def factors(total: int, schedule: str, warmup: int = 0, minimum: float = 0.0) -> list[float]:
    config = TrainingConfig(schedule=schedule, warmup_steps=warmup, min_learning_rate_ratio=minimum)
    return [learning_rate_factor(config, step, total) for step in range(total)]


def test_constant_after_a_linear_warm_up() -> None:
    assert factors(6, "constant", warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert factors(3, "constant") == [1.0, 1.0, 1.0]


def test_linear_by_hand() -> None:
    assert factors(7, "linear", warmup=2) == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25, 0])
    assert factors(5, "linear", minimum=0.2) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])


def test_cosine_by_hand() -> None:
    half_root = math.sqrt(0.5)
    expected = [0.5, 1, 1, (1 + half_root) / 2, 0.5, (1 - half_root) / 2, 0]
    assert factors(7, "cosine", warmup=2) == pytest.approx(expected)
    assert factors(3, "cosine", minimum=0.1) == pytest.approx([1, 0.55, 0.1])


def test_cosine_is_the_one_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=49, eta_min=0.1)
    expected = []
    for _ in range(50):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert factors(50, "cosine", minimum=0.1) == pytest.approx(expected, rel=1e-9)


def test_inverse_square_root_by_hand() -> None:
    # Vaswani et al. 2017, 5.3: min(step^-0.5, step * warmup^-1.5), as a share of its peak.
    expected = [min(step**-0.5, step * 4**-1.5) * 2 for step in range(1, 17)]
    assert factors(16, "inverse-sqrt", warmup=4) == pytest.approx(expected)
    assert factors(16, "inverse-sqrt", warmup=4)[15] == pytest.approx(0.5)
