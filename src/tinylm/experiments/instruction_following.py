"""How well instructions are followed by two runs: measured on the same held-out instructions."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinylm.alignment.self_instruct import prompts
from tinylm.alignment.self_instruct.following import ALL, Answered, Row, answer, compared
from tinylm.alignment.self_instruct.model_writer import ModelWriter
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.story_tasks import StoryTask, story_tasks
from tinylm.atomic import write_text
from tinylm.experiments.context import Console
from tinylm.language_model import LanguageModel
from tinylm.tasks.responses import row_of

_SHOWN = 3
"""Responses of every kind that are kept with the shares."""


def held_out_tasks(
    models: Sequence[LanguageModel], number: int, seed: int, but: Sequence[Instance] = ()
) -> list[StoryTask]:
    """Return instructions that no model was tuned on, which fit in the context of all models.

    The stories are those of the validation split; an instruction that is among others is left out.

    Args:
        models: that will follow them.
        number: how many; the kinds come in turn.
        seed: of the instructions.
        but: tasks that were learned.

    Raises:
        ConfigError: if no story fits in a context.
    """
    learned = {(each.instruction, each.input) for each in but}
    longest = min(each.model.config.context_length for each in models)

    def fits(task: Instance) -> bool:
        exchange = prompts.followed(task)
        lengths = [
            len(row_of(each.tokenizer, exchange.prompt, exchange.response).ids) for each in models
        ]
        return max(lengths) <= longest and (task.instruction, task.input) not in learned

    return list(story_tasks(seed, "validation", number, fits))


def measure_following(
    path: Path,
    before: LanguageModel,
    after: LanguageModel,
    tasks: Sequence[StoryTask],
    temperature: float,
    seed: int,
    console: Console,
) -> list[Row]:
    """Let two models follow instructions, and write down and return the shares that they follow.

    Args:
        path: of the JSON file.
        before: the first model.
        after: the second one.
        tasks: what they are asked.
        temperature: of the responses.
        seed: of the responses.
        console: who watches.
    """
    answers: list[Answered] = []
    for name, lm in (("before", before), ("after", after)):
        with console.task(f"Following instructions, {name}", 1.0) as done:
            answers.append(_answers(lm, tasks, temperature, seed, done))
    rows = compared(tasks, *answers)
    examples = [
        {
            "kind": task.kind,
            "instruction": task.instance.instruction,
            "input": task.instance.input,
            "demands": [demand.as_dict() for demand in task.demands],
            **{
                name: {"response": each.responses[i], "followed": each.followed[i]}
                for name, each in zip(("before", "after"), answers, strict=True)
            },
        }
        for kind in dict.fromkeys(task.kind for task in tasks)
        for i, task in [(i, task) for i, task in enumerate(tasks) if task.kind == kind][:_SHOWN]
    ]
    written: dict[str, Any] = {
        "instructions": len(tasks),
        "temperature": temperature,
        "seed": seed,
        "shares": [row.as_dict() for row in rows],
        "examples": examples,
    }
    write_text(path, json.dumps(written, indent=1, ensure_ascii=False))
    return rows


def _answers(
    lm: LanguageModel,
    tasks: Sequence[StoryTask],
    temperature: float,
    seed: int,
    done: Callable[[float], None],
) -> Answered:
    return answer(ModelWriter(lm.model, lm.tokenizer, ""), tasks, temperature, seed, done)


def lines_of(rows: Sequence[Row]) -> list[str]:
    """Return the shares as lines of a table."""
    lines = [f"{'instructions':<16}{'':>6}{'before':>9}{'after':>9}  difference (95 % interval)"]
    for row in rows:
        change = row.difference
        value, low, high = (f"{100 * part:+.1f}" for part in (change.value, *change.ends))
        interval = "" if math.isnan(change.low) else f" ({low} to {high})"
        name = "all" if row.kind is ALL else row.kind
        lines.append(
            f"{name:<16}{row.count:>6}{100 * row.before:>7.1f} %{100 * row.after:>7.1f} %  "
            f"{value}{interval}: {change.word}"
        )
    return lines
