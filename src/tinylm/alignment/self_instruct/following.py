"""Whether a model follows instructions: the share of those held out whose demands are met.

Only what a rule can measure is asked for (``demands``). Where an instruction demands several things
it is followed if all are met. Two models answer the same instructions, and the difference of their
shares is that of pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tinylm.alignment.self_instruct import prompts
from tinylm.alignment.self_instruct.model_writer import ModelWriter
from tinylm.alignment.self_instruct.story_tasks import StoryTask
from tinylm.alignment.self_instruct.writer import Request
from tinylm.measurement import Difference, mean_replicates, paired

ALL = "all"
"""Name of the row of all instructions."""


@dataclass(frozen=True)
class Answered:
    """Responses of a model to instructions, and whether each was followed."""

    responses: Sequence[str]
    finished: Sequence[bool]
    followed: Sequence[bool]


def answer(
    writer: ModelWriter,
    tasks: Sequence[StoryTask],
    temperature: float,
    seed: int,
    progress: Callable[[float], None] = lambda share: None,
) -> Answered:
    """Let a model follow instructions.

    Args:
        writer: the model.
        tasks: instructions, and what they demand.
        temperature: of its responses.
        seed: of its responses.
        progress: takes the share that is done.
    """
    asked = [prompts.asked(task.instance.instruction, task.instance.input) for task in tasks]
    written = writer.write(asked, Request(None, temperature, 1.0, seed), progress)
    return Answered(
        [each.text.strip() for each in written],
        [each.finished for each in written],
        [
            all(demand.met(each.text.strip(), each.finished) for demand in task.demands)
            for each, task in zip(written, tasks, strict=True)
        ],
    )


@dataclass(frozen=True)
class Row:
    """Shares of the instructions of one kind that were followed."""

    kind: str
    count: int
    before: float
    after: float
    difference: Difference
    """Of the shares, after less before, in pairs."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": self.kind,
            "count": self.count,
            "before": self.before,
            "after": self.after,
            "difference": self.difference.as_result(),
            "verdict": self.difference.word,
        }


def compared(tasks: Sequence[StoryTask], before: Answered, after: Answered) -> list[Row]:
    """Return the shares of two models, of each kind of instruction and of all, all of them last."""
    kinds = list(dict.fromkeys(task.kind for task in tasks))
    rows = []
    for kind in (*kinds, ALL):
        places = [i for i, task in enumerate(tasks) if task.kind == kind or kind is ALL]
        shares = [
            mean_replicates([float(each.followed[i]) for i in places]) for each in (before, after)
        ]
        difference = paired(shares[1], shares[0])
        rows.append(Row(kind, len(places), shares[0].value, shares[1].value, difference))
    return rows
