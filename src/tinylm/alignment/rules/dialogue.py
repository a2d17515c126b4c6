"""A story in which somebody speaks: words between quotation marks."""

from __future__ import annotations

import re

from tinylm.alignment.rules.texts import long_enough, words
from tinylm.config.rules import DialogueConfig

_QUOTED = re.compile('["“”][^"“”]*[^\\W\\d_][^"“”]*["“”]')


class Dialogue:
    """Has dialogue."""

    Settings = DialogueConfig
    label = "dialogue"
    noun = "stories in which somebody speaks"
    explanation = (
        "A story has *dialogue* if there are words between quotation marks, as often as is asked "
        "for; fewer earn their share."
    )

    def __init__(self, settings: DialogueConfig) -> None:
        self.settings = settings

    def score(self, prompt: str, response: str, finished: bool) -> float:
        """Return the share of the speeches that are there; see ``Rule.score``."""
        share = min(1.0, len(_QUOTED.findall(response)) / self.settings.speeches)
        return share * long_enough(len(words(response)), self.settings.least_words)
