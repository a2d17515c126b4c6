"""A story in which somebody speaks: words between quotation marks."""

from __future__ import annotations

import re

from tinylm.alignment.rules.texts import long_enough, words
from tinylm.config.rules import DialogueConfig

_MARK = re.compile('["“”]')


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
        quoted = _MARK.split(response)[1:-1:2]  # what follows a mark without a second is none
        speeches = sum(bool(words(each)) for each in quoted)
        share = min(1.0, speeches / self.settings.speeches)
        return share * long_enough(len(words(response)), self.settings.least_words)
