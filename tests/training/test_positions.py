"""A training goes on in the order of windows that it began in, or is refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.tiny import tiny_trainer, tiny_windows
from tinylm.checkpoint import TrainingState
from tinylm.errors import DataError
from tinylm.training.loop import Trainer


def stopped(folder: Path, **order: Any) -> tuple[Trainer, TrainingState, list[list[int]]]:
    """A trainer on 9 windows after 3 steps of 2, and the windows that the next steps take."""
    windows = tiny_windows(folder)
    trainer = tiny_trainer(folder, windows=windows, batch_size=2, max_steps=9)
    trainer.order.restore(trainer.order.state() | order)
    for _ in range(3):
        trainer.order.next()
    state = replace(trainer.state(), step=3)
    state.numbers["seconds"] = 1.0
    return trainer, state, [trainer.order.next().tolist() for _ in range(6)]


def test_a_position_is_kept_as_two_numbers_and_a_name(tmp_path: Path) -> None:
    trainer, state, expected = stopped(tmp_path)
    assert state.numbers["order"] == {"epoch": 0, "next_window": 6, "permutation": "feistel-24"}
    trainer.restore(state)
    assert [trainer.order.next().tolist() for _ in range(6)] == expected


def test_a_checkpoint_from_before_computed_orders_goes_on_in_its_own(tmp_path: Path) -> None:
    trainer, state, _ = stopped(tmp_path)
    del state.numbers["order"]["permutation"]
    trainer.restore(state)
    taken = [trainer.order.next().tolist() for _ in range(5)]
    lists = [np.random.default_rng((trainer.config.seed, e)).permutation(9) for e in range(2)]
    assert taken[:2] == [lists[0][6:8].tolist(), lists[0][8:].tolist()]
    assert taken[2:] == [lists[1][first : first + 2].tolist() for first in (0, 2, 4)]
    assert trainer.state().numbers["order"] == {"epoch": 1, "next_window": 6}


def test_a_position_of_a_later_version_is_refused(tmp_path: Path) -> None:
    trainer, state, _ = stopped(tmp_path)
    state.numbers["order"]["permutation"] = "later"
    with pytest.raises(DataError, match=r"^the order of windows was drawn by permutations 'later'"):
        trainer.restore(state)
