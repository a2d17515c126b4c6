"""What every schedule of the registry must hold."""

import math

import pytest

from tinylm.config import TrainingConfig
from tinylm.registry import SCHEDULES
from tinylm.training.schedules import learning_rate_factor


def factors(name: str, total: int, warmup: int, minimum: float) -> list[float]:
    config = TrainingConfig(schedule=name, warmup_steps=warmup, min_learning_rate_ratio=minimum)
    return [learning_rate_factor(config, step, total) for step in range(total)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("minimum", [0.0, 0.1, 1.0])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (2, 1), (100, 0), (100, 10), (5, 5), (5, 9)])
def test_factors(name: str, total: int, warmup: int, minimum: float) -> None:
    values = factors(name, total, warmup, minimum)
    assert all(math.isfinite(value) and 0 <= value <= 1 for value in values)
    rising, falling = values[:warmup], values[warmup:]
    assert rising == pytest.approx([(step + 1) / warmup for step in range(len(rising))])
    assert falling == sorted(falling, reverse=True)
    if total >= warmup:
        assert max(values) == 1.0
    if name in ("linear", "cosine") and len(falling) > 1:
        assert falling[-1] == pytest.approx(minimum)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_step_is_lost_to_a_rate_of_zero_at_the_start(name: str) -> None:
    for warmup in (0, 1, 7):
        assert factors(name, 20, warmup, 0.0)[0] > 0


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_beyond_the_last_step_is_still_usable(name: str) -> None:
    """A run may be gone on with after fewer steps were planned."""
    config = TrainingConfig(schedule=name, warmup_steps=2)
    for step in (10, 11, 1000):
        assert 0 <= learning_rate_factor(config, step, 10) <= 1
