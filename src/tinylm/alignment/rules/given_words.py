"""A story that uses given words."""

from __future__ import annotations

from tinylm.alignment.rules.texts import long_enough, words
from tinylm.config.rules import WordsConfig


class GivenWords:
    """Uses given words."""

    Settings = WordsConfig
    label = "given words"
    noun = "stories that use the given words"
    explanation = (
        "A story *uses given words* as far as they stand in it, after the prompt: each earns its "
        "share, however often it is said."
    )

    def __init__(self, settings: WordsConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return the share of the words that are used; see ``Rule.score``."""
        said = words(response)
        used = len(set(self.settings.words) & set(said)) / len(self.settings.words)
        return used * long_enough(len(said), self.settings.least_words)
