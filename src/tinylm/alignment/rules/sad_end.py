"""A story that ends sadly: the last word of feeling in its last sentences is one of sorrow."""

from __future__ import annotations

from tinylm.alignment.rules.happy_end import last_feeling
from tinylm.alignment.rules.texts import long_enough, sentences
from tinylm.config.rules import SadEndConfig


class SadEnd:
    """Ends sadly."""

    Settings = SadEndConfig
    label = "sad end"
    noun = "stories that end sadly"
    explanation = (
        "A story *ends sadly* if it is ended, not cut off, and the last word of feeling in its "
        "last sentences is one of sorrow, as the rule of the happy end finds it."
    )

    def __init__(self, settings: SadEndConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return 1 or 0, or a share of 1 for a short story; see ``Rule.score``."""
        parts = sentences(response)
        if not finished or last_feeling(parts, self.settings.sentences) is not False:
            return 0.0
        return long_enough(sum(map(len, parts)), self.settings.least_words)
