"""How a writer is asked, and what it means when it answers.

Plain words, without special tokens: a prompt is text that any tokenizer reads and `tinylm generate`
takes, and an endpoint is asked the same. Answers of a model are not to be relied on: whatever
cannot be read gives nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinylm.alignment.self_instruct.records import Instance, clean

MOST_INSTANCES = 8
"""Of one answer that are looked at."""


@dataclass(frozen=True)
class Exchange:
    """A prompt, and what should be written after it."""

    prompt: str
    response: str
    """Begins with a space, which separates it from the prompt."""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def asked(instruction: str, input: str = "") -> str:
    """Return the prompt for what an instruction wants."""
    given = f"Input: {input.strip()}\n" if input.strip() else ""
    return f"Task: {_one_line(instruction)}\n{given}Output:"


def followed(instance: Instance) -> Exchange:
    """Return an instruction and its output as they are trained on."""
    return Exchange(asked(instance.instruction, instance.input), f" {instance.output.strip()}")


def more_tasks(instructions: Sequence[str]) -> str:
    """Return the prompt for another instruction, after some that are shown."""
    shown = [f"Task {i}: {_one_line(each)}\n" for i, each in enumerate(instructions, 1)]
    return f"Write more tasks like these.\n{''.join(shown)}Task {len(shown) + 1}:"


MORE_TASKS_STOP = ("Task 20:",)
_NEXT_TASK = re.compile(r"^\s*Task\s*\d+\s*:", re.MULTILINE | re.IGNORECASE)


def new_instructions(answer: str) -> list[str]:
    """Return the instructions that an answer to ``more_tasks`` holds, one or more."""
    parts = _NEXT_TASK.split(clean(answer))
    lines = [_one_line(part.strip().partition("\n")[0]) for part in parts]
    return lines[:1] + [each for each in lines[1:] if each]


def is_classification(instruction: str, shown: Sequence[Instance] = ()) -> str:
    """Return the prompt that asks whether an instruction has a fixed set of answers."""
    blocks = [
        _classification_block(each.instruction) + (" Yes" if each.is_classification else " No")
        for each in shown
    ]
    return "\n\n".join([*blocks, _classification_block(instruction)])


def _classification_block(instruction: str) -> str:
    return (
        "Does this task have a small fixed set of answers?\n"
        f"Task: {_one_line(instruction)}\nFixed set:"
    )


def judged(instance: Instance) -> Exchange:
    """Return the question of ``is_classification`` and its answer, as they are trained on."""
    answer = " Yes" if instance.is_classification else " No"
    return Exchange(is_classification(instance.instruction), answer)


def yes_or_no(answer: str) -> bool | None:
    """Return what an answer to ``is_classification`` says, or None: neither."""
    first = re.match(r"\W*(yes|no)\b", answer.strip(), re.IGNORECASE)
    return None if first is None else first[1].lower() == "yes"


def an_example(instruction: str, output_first: bool, shown: Sequence[Instance] = ()) -> str:
    """Return the prompt for an instance of an instruction.

    Args:
        instruction: a task.
        output_first: whether the answer is written before the input, which is done for
            classification: else a writer favours inputs of one answer.
        shown: tasks of the same kind, worked out.
    """
    blocks = [
        _example_block(each.instruction, output_first) + _worked_out(each, output_first)
        for each in shown
    ]
    return "\n\n".join([*blocks, _example_block(instruction, output_first)])


def _example_block(instruction: str, output_first: bool) -> str:
    heading = (
        "an answer to this task, and an input for it" if output_first else "an example of this task"
    )
    return f"Give {heading}.\nTask: {_one_line(instruction)}\nExample:"


def _worked_out(instance: Instance, output_first: bool) -> str:
    if output_first:
        return f" Answer: {instance.output.strip()}\nInput: {instance.input.strip()}"
    given = f" Input: {instance.input.strip()}\n" if instance.input.strip() else " "
    return f"{given}Output: {instance.output.strip()}"


def worked_out(instance: Instance) -> Exchange:
    """Return an instance as it is trained on: after its instruction alone."""
    first = instance.is_classification
    prompt = an_example(instance.instruction, first)
    return Exchange(prompt, _worked_out(instance, first))


EXAMPLE_STOP = ("\nTask:", "\nGive an")
_FIELD = re.compile(
    r"(?:^|\n|(?<=\s))(?:(Input|Output|Answer|Task)\s*\d*:|(Example)\s*\d*:?(?=\s*\n))",
    re.IGNORECASE,
)
_NOTHING = re.compile(r"\W*(none|n/a|no ?input|nothing)?\W*", re.IGNORECASE)


def instances_of(answer: str, output_first: bool) -> list[tuple[str, str]]:
    """Return ``(input, output)`` of each instance that an answer to ``an_example`` holds.

    The output of an answer without any field is the answer itself, if the output does not come
    first: some writers leave the name of the field out.
    """
    text = clean(answer).strip()
    fields = list(_fields(text))
    if not fields and text and not output_first:
        return [("", text)]
    pairs: list[tuple[str, str]] = []
    last, opens = ("answer", "input") if output_first else ("input", "output")
    kept = ""
    for name, value in fields:
        name = "answer" if output_first and name == "output" else name
        if name == "task":
            break
        if name == last:
            kept = value
        elif name == opens:
            pair = (value, kept) if output_first else (kept, value)
            pairs.append(("" if _NOTHING.fullmatch(pair[0]) else pair[0], pair[1]))
            kept = ""
    return pairs[:MOST_INSTANCES]


def _fields(text: str) -> Iterator[tuple[str, str]]:
    matches = list(_FIELD.finditer(text))
    ends = [match.start() for match in matches[1:]] + [len(text)]
    for match, end in zip(matches, ends, strict=False):
        yield (match[1] or match[2]).lower(), text[match.end() : end].strip()
