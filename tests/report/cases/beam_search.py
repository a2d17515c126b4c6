"""What is said of the texts of beam search, greedy decoding and sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.cases.beam_search_judgement import one_comparison
from tests.report.telling import table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def hypotheses(*texts: str) -> Change:
    def change(result: Result) -> None:
        rows = result["n_best"]["hypotheses"]
        result["n_best"]["hypotheses"] = [
            {**row, "text": text} for row, text in zip(rows, texts, strict=False)
        ]

    return change


def few(number: int) -> Change:
    def change(result: Result) -> None:
        for comparison in result["comparisons"]:
            comparison["texts"] = comparison["texts"][:number]

    return change


def shorten(result: Result) -> None:
    result["comparisons"][0]["texts"][2]["true"] = "A short one."


def joined(rest: str, apart: bool = False) -> Change:
    """A true text goes on after its prompt like this; ``apart``: and does not hold the prompt."""

    def change(result: Result) -> None:
        example = result["comparisons"][0]["texts"][2]
        example["prompt"], example["true"] = "A word", rest if apart else f"A word{rest}"

    return change


CASES = [
    *table_of(
        "beam-search",
        (one_comparison, "tab:beam-1 shows how likely"),
        (None, "tab:beam-1 and tab:beam-2 show how likely"),
        # The texts.
        (None, "The first 2 prompts are shown with the continuations by every strategy"),
        (None, "tab:beam-texts shows 3 more prompts."),
        (few(2), "The first 2 prompts are", "tab:beam-texts"),
        (few(1), "The first prompt is shown with the continuations"),
        (None, " …"),
        (shorten, "A short one.", "short one. …"),
        (joined(". He ran."), "word. He ran."),
        (joined(" and ran."), "word and ran."),
        (joined(". He ran.", apart=True), "word. He ran."),
        (hypotheses("a b c d e f", "a b c d e g"), "… d e g", "a b c d e g"),
        (hypotheses("a b c d e f", "a b c d e g"), "… replaces words shared with the first"),
        (hypotheses("a b c d", "a b x y"), "a b x y", "… replaces"),
        (hypotheses("a b c d"), "It is a single hypothesis."),
        (hypotheses("a b c d", "a b c d"), "All 2 consist of the same words."),
        (hypotheses("a b c d", "a b x y"),
         "share, on average, 50\u202f% of their words, in the same order, with the best."),
        # The setting.
        (lambda f: f.update(top_p=0.9), "the sampling temperature was 1 and top-p 0.9."),
        (None, "the sampling temperature was 1.", "and top-p"),
        (None, "scored at its present length, is no better than the worst"),
        (lambda f: f.update(early_stopping="full"), "as soon as k hypotheses are complete"),
        (lambda f: f.update(early_stopping="odd"), "by the rule odd"),
    ),
    *table_of("beam-search", (None, "Likelihood.", "fig:beam-search shows"), drawn=False),
    *table_of("beam-search", (None, "fig:beam-search shows likelihood, BLEU and variety.")),
]  # fmt: skip
