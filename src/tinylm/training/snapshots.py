"""Snapshots: the weights of a run at some of its steps, to look back on how it learned.

They stand beside the checkpoints, in ``RUN/snapshots/step-N``, and are checkpoints without a state
of training: ``LanguageModel.load`` takes one, its files have checksums, and no pruning of
checkpoints touches them. Weights are kept as they are, so that a measure of a snapshot is one of
the model itself. A step's snapshot is written before its checkpoint: whatever checkpoint training
goes on from, all snapshots up to it are there, and those after it are taken again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinylm.checkpoint import TrainingState, by_step, clear_unfinished, step_of
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.errors import CheckpointError
from tinylm.folders import remove
from tinylm.model.base import Model
from tinylm.model.weights import model_weights
from tinylm.planning.limits import shown_bytes
from tinylm.tokenizers.base import Tokenizer

_MOST_SHOWN = 12
"""Steps that are named one by one."""


def snapshot_steps(count: int, total_steps: int) -> list[int]:
    """Return the steps after which snapshots are taken, ascending.

    The first is 0, the untrained model, and the last is that of the run; between them the ratio of
    a step to the one before is constant, to rounding, since most changes early.

    Args:
        count: how many; a run of fewer steps than that has one after each of them.
        total_steps: of the run, at least 1.
    """
    if count < 2:
        return [total_steps] * count
    parts = min(count, total_steps + 1) - 2  # between step 1 and the last
    steps = [0]
    for i in range(parts + 1):
        wanted = total_steps ** (i / parts) if parts else total_steps
        steps.append(max(steps[-1] + 1, round(wanted)))
    return steps


def snapshots_of(run: Path) -> list[Path]:
    """Return the folders of a run's snapshots, by their steps."""
    return list(by_step(run / "snapshots"))


@dataclass(frozen=True)
class Snapshots:
    """Takes the snapshots of one training."""

    folder: Path
    steps: Sequence[int]
    model: Model
    tokenizer: Tokenizer
    go_on: str
    """The command that goes on with the run, for an error's message."""

    def told(self) -> str:
        """Return a line that says how many there will be, of what size, and after which steps."""
        size = sum(weight.nbytes for weight in model_weights(self.model).values())
        named = [f"{step:,}" for step in self.steps]
        if len(named) > _MOST_SHOWN:
            named[_MOST_SHOWN - 2 : -1] = ["…"]
        return (
            f"snapshots: {len(self.steps)} of {shown_bytes(size)} each, "
            f"{shown_bytes(len(self.steps) * size)} in all, after steps {', '.join(named)}, "
            f"in {self.folder}"
        )

    def go_back(self, step: int) -> None:
        """Delete those later than a step that training goes on from, and what was unfinished."""
        clear_unfinished(self.folder)
        for path in by_step(self.folder):
            if step_of(path) > step:
                remove(path)

    def take(self, step: int) -> None:
        """Keep the weights if they are wanted after this step and not there yet.

        Raises:
            CheckpointError: if they cannot be written.
        """
        if step not in self.steps or (self.folder / f"step-{step}").exists():
            return
        state = TrainingState(step)
        try:
            save_checkpoint(self.folder, self.model, self.tokenizer, state, last=False)
        except CheckpointError as error:
            raise CheckpointError(f"{error}; then go on: {self.go_on}") from error
