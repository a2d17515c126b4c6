"""A story that ends sadly: the last word of feeling in its last sentences is one of sorrow."""

from __future__ import annotations

from tinylm.alignment.rules.happy_end import end_score
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
        return end_score(response, finished, self.settings, joy=False)
