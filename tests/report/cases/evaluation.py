"""What is said of the model on stories that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def differs(measure: str, sign: int, **settings: float) -> Callable[[Result], None]:
    """The generated texts lie above the true ones, below, or not measurably (0)."""

    def change(result: Result) -> None:
        result["differences"][measure] = [sign, sign - 0.5, sign + 0.5]
        result.update(settings)

    return change


def unknown(measure: str) -> Callable[[Result], None]:
    return lambda result: result["differences"].update({measure: [0.1, None, None]})


def bleu(score: float, interval: list[float | None] | None = None) -> Callable[[Result], None]:
    return lambda result: result["bleu"].update(corpus=score, interval=interval or [score] * 3)


def varied(sign: int, likelihood: int) -> Callable[[Result], None]:
    def change(result: Result) -> None:
        differs("distinct_3", sign)(result)
        differs("log_probability_per_token", likelihood)(result)

    return change


def trained(**values: Any) -> Callable[[dict[str, Result]], None]:
    """Training validated like this, and its best perplexity is not that of the whole split."""

    def change(results: dict[str, Result]) -> None:
        results["training"].update(values)
        results["training"]["best"]["perplexity"] = 8.25

    return change


def texts(number: int) -> Callable[[Result], None]:
    return lambda result: result.update(texts=result["texts"][:number])


def targets(
    equal: bool, interval: list[float | None] | None = None, **values: Any
) -> Callable[[Result], None]:
    """A run on pairs: what was written after their sources."""

    def change(result: Result) -> None:
        ends = interval or [0.5, 0.425, 0.575]
        text = {"source": "A dog .", "true": "talo .", "generated": "tala .", "equal": equal}
        result["unit"] = "pair"
        result["targets"] = {
            "pairs": 300,
            "exact_match": 0.5,
            "interval": ends,
            "bleu": {**result["bleu"], "corpus": 61.5, "sentence_mean": 58.25, "interval": ends},
            "max_new_tokens": 9,
            "texts": [text] * 50,
            **values,
        }

    return change


LIKELY = "log_probability_per_token"
CASES = [
    *table_of(
        "evaluation",
        (None, "split (all but the first) the loss", "Targets"),
        (targets(True), "(those of the targets and their ends, each given its source) the loss"),
        (targets(True), "All 50 targets that were written are the true ones.", "tab:misses"),
        (targets(True), "50.0\u202f%\n42.5\u202f% to 57.5\u202f%\n300 pairs"),
        (targets(True), "61.5\n0.4 to 0.6\n50 pairs"),
        (targets(True, [0.5, None, None]), "50.0\u202f%\n\n300 pairs"),
        (targets(False), "A dog .\ntalo .\ntala .", "are the true ones"),
        (targets(True), "The sources of 50 validation pairs were read, and targets written after"),
        (targets(True), "These texts are drawn; sec:targets is about the likeliest ones."),
        (targets(True), "the true targets", "true stories"),
        (None, "the true stories", "true targets"),
        (differs(LIKELY, 1), "its own text is more predictable than the true one (perplexity 8.31 "
         "against 8.12); under a well-calibrated model both would be equally predictable."),
        (differs(LIKELY, 1, top_p=0.9), "leaving out unlikely tokens makes text more predictable"),
        (differs(LIKELY, 1, temperature=0.7), "sampled with temperature 0.7 and top-p 1"),
        (differs(LIKELY, -1), "is less predictable than the true one (perplexity 8.31 against 8.1"),
        (differs(LIKELY, 0), "of its own text is not measurably different from that of the true o"),
        (unknown(LIKELY), "own text is more predictable than the true one could not be measured"),
        (differs("repetition", 1), "repeats itself more than the true stories (2.1"),
        (differs("repetition", -1), "repeats itself less than the true stories (2.1"),
        (differs("repetition", 0), "The repetition of the generated text is not measurabl"),
        (unknown("repetition"), "The repetition of the generated text could not be compared"),
        (differs("distinct_3", -1), "phrases are less varied than those of the true stories (dist"),
        (varied(1, -1), "true stories (distinct-3 0.762 against 0.781); with the higher perplexit"),
        (varied(1, 1), "stories (distinct-3 0.762 against 0.781).", "with the higher"),
        (differs("distinct_3", 0), "The variety of its phrases is not measurably different from t"),
        (unknown("distinct_3"), "The variety of its phrases could not be compared with that of th"),
        # BLEU.
        (bleu(9.9), "A corpus BLEU of 9.9 (95\u202f% interval over the texts: 9.9 to 9.9) is lo"),
        (bleu(9.9), "This is expected: BLEU was designed for translation"),
        (bleu(10.0), "is moderate. This is expected"),
        (bleu(29.9), "is moderate."),
        (bleu(30.0), "is high. Such a score is unusual for open-ended text", "is expected"),
        (bleu(0.4, [0.4, -0.3, 1.1]), "(95\u202f% interval over the texts: 0.0 to 1.1) is low"),
        (bleu(5.0, [5.0, None, None]), "A corpus BLEU of 5.0 is low."),
        # The texts.
        (None, "The first 5 of the 50 continuations follow with the true ones"),
        (None, "if their tokenizers keep the whole text; that of this run does not."),
        (texts(5), "All 5 continuations follow with the true ones"),
        (texts(1), "The continuation follows with the true ones"),
        (None, "tokens sampled from the model's distribution (seed 0)"),
    ),
    *table_of(
        "evaluation",
        (None, "of other vocabularies whose tokenizers keep the whole text.", "of this run does"),
        settings={"tokenizer": {"kind": "bytes"}},
    ),
    *table_of(
        "evaluation",
        (trained(validation_windows=64), "The 8.250 of sec:training differs because it was "
         "measured on 64 of the 2,595 windows of the split only and with matrix products in bfloa"),
        (trained(precision="fp32", validation_windows=64), "2,595 windows of the split only. A pe"),
        (trained(validation_windows=2_595), "because it was measured with matrix products in bflo"),
        (trained(precision="fp32", validation_windows=2_595), "The 8.250 of sec:training is that "),
        (lambda r: r["training"]["best"].update(perplexity=8.102), "8.102. A perplex", "differs"),
        (lambda r: r.pop("training"), "8.102. A perplexity", "differs because"),
        about="*",
    ),
]  # fmt: skip
