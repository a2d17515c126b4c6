"""A story that does not say the same again."""

from __future__ import annotations

from tinylm.alignment.rules.texts import long_enough, words
from tinylm.config.rules import NoRepetitionConfig


class NoRepetition:
    """Does not repeat itself."""

    Settings = NoRepetitionConfig
    label = "no repetition"
    noun = "stories that do not repeat themselves"
    explanation = (
        "A story *repeats itself* where neighbouring words stand in it again in the same order. "
        "What counts is the share of all such runs of words that are different, as in distinct-n "
        "[[li2016]]."
    )

    def __init__(self, settings: NoRepetitionConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return the share of runs of words that are different; see ``Rule.score``."""
        said = words(response)
        length = self.settings.length
        runs = [tuple(said[i : i + length]) for i in range(len(said) - length + 1)]
        if not runs:
            return 0.0
        return len(set(runs)) / len(runs) * long_enough(len(said), self.settings.least_words)
