"""A story that stays short, and ends."""

from __future__ import annotations

from tinylm.alignment.rules.texts import long_enough, words
from tinylm.config.rules import ShortConfig


class Short:
    """Stays short."""

    Settings = ShortConfig
    label = "short"
    noun = "stories that stay short"
    explanation = (
        "A story *stays short* if it is ended within a number of words; a longer one earns that "
        "number over its own, and one that was cut off nothing."
    )

    def __init__(self, settings: ShortConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return what the number of words earns; see ``Rule.score``."""
        count = len(words(response))
        if not finished or not count:
            return 0.0
        most = self.settings.most_words
        return min(1.0, most / count) * long_enough(count, min(self.settings.least_words, most))
