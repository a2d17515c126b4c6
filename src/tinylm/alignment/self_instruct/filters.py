"""What is refused of what a writer made, and why (Wang et al. 2023, section 2.2 and appendix A).

An instruction is kept if it has more than 3 words and at most 150, names nothing that a language
model cannot read or make, begins as a sentence does, and is no near copy of one that is kept: its
ROUGE-L with each is at most 0.7. An instance is kept if it has an output, which was ended and is
not its input, and no other instance has the same input; where two have the same input and different
outputs, neither is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.alignment.self_instruct.records import Instance, normal
from tinylm.alignment.self_instruct.rouge import Known
from tinylm.config.self_instruct import FilterConfig

EMPTY = "empty"
SHORT = "too short"
LONG = "too long"
BEGINNING = "no sentence"
FORBIDDEN = "forbidden word"
COPY = "copy"
SIMILAR = "similar"
NO_OUTPUT = "no output"
UNFINISHED = "not ended"
ECHO = "output is the input"
REPEATED = "same input and output"
CONTRADICTED = "same input, other output"
OF_SEED = "copy of a seed"
INSTRUCTION_FILTERS = (EMPTY, SHORT, LONG, BEGINNING, FORBIDDEN, COPY, SIMILAR)
"""In the order in which they are asked; the first that refuses is counted."""
INSTANCE_FILTERS = (NO_OUTPUT, UNFINISHED, ECHO, OF_SEED, REPEATED, CONTRADICTED)
"""As ``INSTRUCTION_FILTERS``."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Refusal:
    """Why something was not kept."""

    filter: str
    """One of those above."""
    detail: str = ""
    """What it was like, or the word that is forbidden."""


class InstructionFilter:
    """Says of one instruction after the other whether it is kept, and remembers those that are."""

    def __init__(self, kept: Sequence[str], settings: FilterConfig) -> None:
        """Begin with those that are kept already: the seeds', and those made before."""
        self.settings = settings
        self._known = Known(kept)
        self._exact = {normal(each): each for each in kept}
        self._forbidden = {word.lower() for word in settings.forbidden_words}

    def refusal(self, instruction: str) -> Refusal | None:
        """Return why an instruction is not kept, or None: it is, and the next is compared with it.

        Args:
            instruction: one line.
        """
        refused = self._refusal(instruction)
        if refused is None:
            self._known.add(instruction)
            self._exact[normal(instruction)] = instruction
        return refused

    def _refusal(self, instruction: str) -> Refusal | None:
        if not instruction.strip():
            return Refusal(EMPTY)
        spelled = _WORD.findall(instruction)
        if len(spelled) < self.settings.least_words:
            return Refusal(SHORT, f"{len(spelled)} words")
        if len(spelled) > self.settings.most_words:
            return Refusal(LONG, f"{len(spelled)} words")
        if not instruction[0].isalpha() or "<unk>" in instruction:
            return Refusal(BEGINNING, instruction[:20])
        bad = [word for word in spelled if word.lower() in self._forbidden]
        if bad:
            return Refusal(FORBIDDEN, bad[0])
        copied = self._exact.get(normal(instruction))
        if copied is not None:
            return Refusal(COPY, copied)
        near = self._known.nearest(instruction, self.settings.most_similar)
        if near is not None:
            return Refusal(SIMILAR, f"{near[1]:.3f} to: {near[0]}")
        return None


def refuse_instances(
    instances: Sequence[Instance],
    finished: Sequence[bool],
    seeds: Sequence[Instance],
) -> list[Refusal | None]:
    """Return of each instance why it is not kept, or None: it is.

    Args:
        instances: all that were made, of every task.
        finished: of each, whether its writer ended it.
        seeds: that none may be a copy of.
    """
    known = {_whole(each) for each in seeds}
    verdicts: list[Refusal | None] = []
    seen: Counter[tuple[str, str, str]] = Counter()
    for each, ended in zip(instances, finished, strict=True):
        refused: Refusal | None = None
        if not re.search(r"\w", each.output) or each.output.rstrip().endswith(":"):
            refused = Refusal(NO_OUTPUT)
        elif not ended:
            refused = Refusal(UNFINISHED)
        elif normal(each.output) in (normal(each.input), normal(each.instruction)):
            refused = Refusal(ECHO)
        elif _whole(each) in known:
            refused = Refusal(OF_SEED)
        elif seen[_whole(each)]:
            refused = Refusal(REPEATED)
        else:
            seen[_whole(each)] += 1
        verdicts.append(refused)
    outputs: dict[tuple[str, str], set[str]] = {}
    for each, refused in zip(instances, verdicts, strict=True):
        if refused is None:
            outputs.setdefault(_asked(each), set()).add(normal(each.output))
    return [
        Refusal(CONTRADICTED) if refused is None and len(outputs[_asked(each)]) > 1 else refused
        for each, refused in zip(instances, verdicts, strict=True)
    ]


def _asked(instance: Instance) -> tuple[str, str]:
    return normal(instance.instruction), normal(instance.input)


def _whole(instance: Instance) -> tuple[str, str, str]:
    return (*_asked(instance), normal(instance.output))
