"""A story that ends happily: words of joy in its last sentence, and none of sorrow."""

from __future__ import annotations

import re

from tinylm.config.alignment import HappyEndConfig

_WORD = re.compile(r"[a-z]+")
HAPPY = frozenset(
    _WORD.findall(
        "happy happily glad joy joyful smile smiled smiling laugh laughed laughing hug hugged love "
        "loved fun proud cheered friends best"
    )
)
SAD = frozenset(_WORD.findall("sad cry cried crying angry hurt lost scared afraid lonely sorry"))


class HappyEnd:
    """Ends happily."""

    Settings = HappyEndConfig
    label = "happy end"
    noun = "stories that end happily"
    explanation = (
        "A story *ends happily* if it is ended, its last sentence has a word of joy and none of "
        "sorrow; half of that is earned by a story that has the word and is cut off."
    )

    def __init__(self, settings: HappyEndConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return 1, 0.5 or 0; see ``Rule.score``."""
        sentences = [part for part in re.split(r"[.!?]+", response.lower()) if part.strip()]
        words = set(_WORD.findall(sentences[-1])) if sentences else set()
        good = bool(words & HAPPY) and not words & SAD
        return (1.0 if finished else 0.5) * good
