"""What is said of how often prompts are answered right."""

from __future__ import annotations

from tests.report.telling import Phrase
from tinylm.experiments.document.answered import right_comment, right_share

PHRASES = [
    Phrase("0.625", lambda: str(right_share([0.5, 1.0, 0.5, 0.5]))),
    Phrase(
        "The model answers 92\u202f% of the prompts right.",
        lambda: right_comment([1.0, 1.0, 1.0, 0.5, 1.0, 1.0]),
    ),
    Phrase(
        "The model answers only 54\u202f% of the prompts right (95\u202f% interval: 45\u202f% to "
        "63\u202f%), not measurably different from the 50\u202f% of a model that does not see the "
        "exchanged words: what is found moves its answers, but explains little of a right one.",
        lambda: right_comment([0.5] * 11 + [1.0]),
    ),
    Phrase(
        "The model answers only 0\u202f% of the prompts right, lower than the 50\u202f% of a model "
        "that does not see the exchanged words: what is found moves its answers, but explains "
        "little of a right one.",
        lambda: right_comment([0.0, 0.0]),
    ),
]
