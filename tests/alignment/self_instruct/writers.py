"""A writer for tests: what it answers follows from the prompt and the seed, and is as mixed as a
model's."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tinylm.alignment.self_instruct.writer import Request, Written

VERBS = ["Tell", "Write", "Describe", "Find", "Count", "Name", "Sing", "Draw", "Say", "Give"]
THINGS = ["two dogs", "a red kite", "the old sea", "cold rain", "my mother", "a tiny cake"]
HOW = ["in one line", "for a child", "without any words of fear", "as a poem", "before it is dark"]


class Scripted:
    """Answers by the kind of prompt; now and then with something that a filter refuses."""

    needs_examples = True
    repeatable = True

    def __init__(self, most_prompts: int | None = None) -> None:
        self.prompts: list[str] = []
        self.requests: list[Request] = []
        self.left = most_prompts
        """After so many answers it is gone, as an endpoint may be."""

    def describe(self) -> dict[str, Any]:
        return {"model": "scripted"}

    def fits(self, prompt: str, most: int | None) -> bool:
        return len(prompt.splitlines()) < 9

    def write(
        self,
        prompts: Sequence[str],
        request: Request,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[Written]:
        self.prompts += prompts
        self.requests.append(request)
        written = []
        for i, prompt in enumerate(prompts):
            if self.left is not None:
                if not self.left:
                    raise KeyboardInterrupt
                self.left -= 1
            # Equal prompts of one call get different answers, as those of a model do.
            written.append(self._answer(prompt, random.Random(f"{request.seed} {prompt} {i}")))
            progress((i + 1) / len(prompts))
        return written

    def _answer(self, prompt: str, rng: random.Random) -> Written:
        ended = rng.random() < 0.9
        if prompt.startswith("Write more"):
            lines = [
                rng.choice([
                    f"{rng.choice(VERBS)} {rng.choice(THINGS)} {rng.choice(HOW)}.",
                    "Too short.",
                    "Show me a file of the graph.",
                    "",
                ])
                for _ in range(rng.randint(1, 2))
            ]  # fmt: skip
            return Written(" " + "\nTask 99: ".join(lines), ended)
        if prompt.startswith("Does"):
            return Written(rng.choice([" Yes", " No", " No", "?"]), True)
        if prompt.startswith("Give an answer"):
            labels = rng.sample(["yes", "no"], 2)
            return Written(
                "\n".join(f"Answer: {each}\nInput: a {rng.randint(0, 3)}" for each in labels), ended
            )
        given = rng.choice(["", "Input: a thing\n"])
        return Written(f"{given}Output: {rng.choice(['Here it is.', 'a thing', ''])}", ended)
