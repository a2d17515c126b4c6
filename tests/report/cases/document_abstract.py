"""What the abstract says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import Case, table_of

Results = dict[str, dict[str, Any]]


def without(*names: str) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        for name in names:
            del results[name]

    return change


def cache(cached: float, uncached: float, spread: float = 0.02) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        for name, seconds in (("cached", cached), ("uncached", uncached)):
            results["kv-cache"]["samples"][name].update(timing(seconds, spread, 5))

    return change


def tokens(number: float) -> Callable[[Results], None]:
    return lambda results: results["data"]["splits"]["train"].update(tokens=number)


def disturbed(results: Results) -> None:
    """The speed of the training varied by more than a tenth."""
    for i, point in enumerate(results["training"]["curve"]):
        point["tokens_per_second"] = 20_000 + 10_000 * (i % 2)


def repetition(*difference: float | None) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        results["evaluation"]["differences"]["repetition"] = list(difference)

    return change


def checks(number: int, failed: int = 0) -> Callable[[Results], None]:
    def change(results: Results) -> None:
        result = results["verification"]
        result["rows"] = result["rows"][:number]
        for row in result["rows"][:failed]:
            row["passed"] = False

    return change


CASES = table_of(
    "abstract",
    (None, "A decoder-only Transformer of 6.16 million parameters (3 layers, 8 heads"),
    (without("training"), "A decoder-only Transformer (3 layers", "steps"),
    (without("data"), "A decoder-only Transformer of 6.16 million", "The corpus"),
    (tokens(999_999), "999,999 tokens"),
    (tokens(1_000_000), "1.00 million tokens"),
    (tokens(1e9 - 1e6), "999 million tokens"),
    (tokens(1e9), "1.00 billion tokens"),
    (None, "In 4,860 steps and 7\u00a0min 54\u00a0s on 9.95 million tokens, the model reached"),
    (disturbed, "In 4,860 steps on 9.95 million tokens, the model reached", "min 54"),
    # The perplexity of the whole split, where it was measured.
    (None, "the model reached a validation perplexity of 8.10; a unigram model has 215."),
    (without("evaluation"), "a validation perplexity of 7.85", "Continuations"),
    (
        lambda r: r["training"].update(unigram_perplexity=None),
        "perplexity of 8.10. Cont",
        "unigram",
    ),
    (None, "Continuations of 50 unseen stories reach a corpus BLEU of 6.4"),
    (
        repetition(1, 0.5, 2),
        "% of their 4-grams are repeats, more than the ",
    ),
    (repetition(-1, -2, -0.5), "are repeats, fewer than the"),
    (repetition(1, -0.5, 2), "are repeats, not measurably different from the"),
    (repetition(1, None, None), "are repeats, which could not be compared with the"),
    (None, "The 24 attention heads were measured one by one; they have 10 roles."),
    (without("attention"), "checks of the program", "attention heads"),
    (lambda r: r["attention"].update(heads=[]), "checks of the program", "attention heads"),
    (
        lambda r: r["attention"].update(heads=r["attention"]["heads"][:1]),
        "The role of the single attention head was measured.",
    ),
    # The cache.
    (
        cache(1.0, 3.0),
        "A key-value cache makes generation of 20 texts as one batch faster, by a factor of 3.0",
    ),
    (cache(3.0, 1.0), "as one batch slower, by a factor of 3.00 (95\u202f% interval: 2."),
    (cache(1.0, 1.01), "times of the generation of 20 texts as one batch are not measurably dif"),
    (
        cache(1.0, 1.01, 0.9),
        "Whether a key-value cache makes generation of 20 texts as one batch fa",
    ),
    (without("kv-cache"), "LoRA", "key-value cache"),
    # LoRA+ stands behind LoRA in the results and has the same method.
    (
        None,
        "On texts of another kind the model has a perplexity of 18.2; LoRA, which trains "
        "1.8\u202f% as many parameters as the model has, reaches 13.7, full fine-tuning 13.5.",
    ),
    (without("finetuning"), "checks of the program", "LoRA"),
    (lambda r: r["finetuning"]["methods"][1].update(target_loss=2.5), "reaches 12.2, full"),
    (lambda r: r["finetuning"]["methods"][2].update(target_loss=2.5), "reaches 13.7, full"),
    # The checks.
    (checks(12), "All 12 checks of the program against plain calculations passed."),
    (checks(1), "The check of the program against a plain calculation passed."),
    (checks(1, 1), "The check of the program against a plain calculation FAILED."),
    (checks(12, 2), "2 of 12 checks of the program against plain calculations FAILED."),
    (checks(0), "A decoder-only", "of the program"),
    (without("verification"), "A decoder-only", "of the program"),
)
CASES += [
    Case("abstract", "Of 300 unseen pairs, 25.0\u202f% of the targets are written exactly by gr",
         lambda r: r["evaluation"].update(targets={
             "pairs": 300, "exact_match": 0.25, "bleu": {"corpus": 61.5}}),
         about="*", unsaid="Continuations of"),
    Case("abstract", "From basic tensor operations a language model of 3 GRU layers of 6.16",
         about="*", unsaid="A decoder-only", settings={"model": {"kind": "gru"}}),
]  # fmt: skip
