"""What a model is taught so that it follows instructions, and can write new ones.

Every example is a prompt and a response, in the words of ``prompts``: an instruction is followed;
after a few instructions another is written; it is said which are classification; of an instruction
an instance is made up. A model that has learned all four can write what Self-Instruct asks for,
with nothing worked out before its eyes, which a context of a few hundred tokens has no room for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tinylm.alignment.self_instruct import prompts
from tinylm.alignment.self_instruct.prompts import Exchange
from tinylm.alignment.self_instruct.records import Instance

MOST_SHOWN = 8
"""Instructions before the one that is written."""
_WRITING, _JUDGING, _WORKING_OUT = 2, 8, 4
"""Of so many tasks one is used so as well."""


def following(tasks: Sequence[Instance]) -> list[Exchange]:
    """Return instructions and their outputs."""
    return [prompts.followed(each) for each in tasks]


def writing(
    tasks: Sequence[Instance], seed: int, fits: Callable[[Exchange], bool]
) -> Iterator[Exchange]:
    """Yield what teaches to write instructions, and instances of them.

    Args:
        tasks: in any order; shares of them are used for each.
        seed: of what is shown.
        fits: whether an example can be used, by its length.
    """
    draw = np.random.default_rng(seed)
    instructions = list(dict.fromkeys(each.instruction for each in tasks))
    for task in tasks[::_WRITING]:
        most = MOST_SHOWN if draw.random() < 0.7 else int(draw.integers(1, MOST_SHOWN))
        chosen = draw.choice(len(instructions), min(most, len(instructions)), replace=False)
        shown = [instructions[i] for i in chosen if instructions[i] != task.instruction]
        while shown:
            exchange = Exchange(prompts.more_tasks(shown), f" {task.instruction}")
            if fits(exchange):
                yield exchange
                break
            shown = shown[1:]
    # The kinds of tasks come in turn, so a step that shares no divisor with their number.
    for task in tasks[1 :: _JUDGING + 1]:
        yield prompts.judged(task)
    for task in tasks[2::_WORKING_OUT]:
        if fits(prompts.worked_out(task)):
            yield prompts.worked_out(task)
