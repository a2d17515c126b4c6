"""What is said of ranks, of the intrinsic dimension and of a longer context."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.cases.finetuning import losses
from tests.report.made_up import places, timing
from tests.report.telling import Case, all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def ranks(**by_rank: float) -> Change:
    """Give LoRA these losses by rank, such as ``r1=2.7``; other ranks were not trained."""

    def change(result: Result) -> None:
        result["ranks"] = [
            {"rank": int(rank[1:]), "trained": 100 * int(rank[1:]), "target_loss": loss,
             "base_loss": 2.4}
            for rank, loss in by_rank.items()
        ]  # fmt: skip

    return change


def dylora(*target_losses: float) -> Change:
    def change(result: Result) -> None:
        result["dylora"] = [
            {"rank": rank, "target_loss": loss, "base_loss": 2.4}
            for rank, loss in enumerate(target_losses, 1)
        ]

    return change


def d90(dimension: int | None) -> Change:
    return lambda result: result["dimensions"].update(d90=dimension)


def no_dimensions(result: Result) -> None:
    result["dimensions"] = {"rows": [], "d90": None}


def long(base: tuple[float, float] = (2.88, 3.91), lora: float = 2.93, grouped: float = 2.74,
         spread: float = 0.02) -> Change:  # fmt: skip
    """Losses within and beyond the context: of the base, and beyond it of LoRA and LongLoRA."""

    def change(result: Result) -> None:
        rows = {row["method"]: row for row in result["long"]["rows"]}
        rows["none"].update(places(*base, spread=spread))
        rows["lora"].update(places(2.71, lora, spread=spread))
        rows["longlora"].update(places(2.66, grouped, spread=spread))

    return change


def one_window(result: Result) -> None:
    for row in result["long"]["rows"]:
        row["windows"] = {place: losses[:1] for place, losses in row["windows"].items()}


def step(seconds: float, spread: float = 0.02) -> Change:
    """Let a step of LongLoRA take so long; one of LoRA takes 0.26 s."""

    def change(result: Result) -> None:
        rows = {row["method"]: row for row in result["long"]["rows"]}
        rows["lora"]["step"] = timing(0.26, spread, 5)
        rows["longlora"]["step"] = timing(seconds, spread, 5)

    return change


def untrained(result: Result) -> None:
    del result["long"]["rows"][1:]


CASES = [
    *table_of(
        "finetuning",
        # Ranks.
        (None, "From rank 1 to 16, with 16 times the parameters, LoRA's perplexity falls by"),
        (None, "rank 8 is not measurably different from the best"),
        (ranks(r1=2.7, r8=2.65, r16=2.6), "falls by 9.5\u202f%; the best is rank 16."),
        (ranks(r1=2.62, r16=2.621), "LoRA's perplexity does not change measurably; rank 1"
         .replace("rank 1", "the best is rank 1.")),
        (ranks(r1=2.60, r16=2.70), "LoRA's perplexity rises by 10.5\u202f%; the best is rank 1."),
        (ranks(r8=2.60), "DyLoRA was trained with a largest rank of 8", "From rank 8"),
        (all_of(ranks(r8=2.6), dylora()), "sets LoRA, trained anew", "DyLoRA was trained with"),
        (all_of(ranks(), dylora()), "What it costs", "sets LoRA"),
        (all_of(ranks(), dylora(2.7, 2.6)), "From rank 1 to that its perplexity falls by", "It is"),
        (all_of(ranks(r2=2.6), dylora(2.7)), "with a largest rank of 1.", "From rank 1 to that"),
        (None, "worse than a LoRA trained for that rank alone at ranks 1, 2, 4 and 8 (by up to"),
        (all_of(ranks(r1=2.6, r2=2.6), dylora(2.6, 2.5)),
         "It is better at rank 2 (by up to 9.5\u202f%) and not measurably different from it at "
         "rank 1."),
        (None, "draws both, and SAID by the dimension of its subspace"),
        (no_dimensions, "draws both.", "and SAID by the dimension"),
        # The intrinsic dimension.
        (None, "reached in 8,192 dimensions, 0.137\u202f% of the model's parameters: d_90 is "
               "between 2,048 and 8,192"),
        (d90(32), "d_90 is at most 32"),
        (d90(None), "the most is 93\u202f%, in 8,192 dimensions. So d_90 is above 8,192"),
        (losses(full=3.0), "so that there is no d_90"),
        (no_dimensions, "A longer context", "Intrinsic dimension"),
        # A longer context.
        (None, "17.8 within its context and 49.9 beyond it, higher by a factor of 2.80: it has "
               "not learned"),
        (long((2.88, 2.88)), "not measurably different: positions that it has not seen do not"),
        (long((2.88, 2.80)), "lower by 7.7\u202f%: positions"),
        (one_window, "too few windows to compare", "Beyond the old context"),
        (None, "LongLoRA is lower, by 17.3\u202f%, with 13.5 times the parameters"),
        (long(grouped=3.0), "LongLoRA is higher, by 7.3\u202f%, with 13.5 times"),
        (long(grouped=2.93), "Beyond the old context the two are not measurably different"),
        (untrained, "beyond it, higher", "brings them"),
        (step(0.24), "A step of LongLoRA takes 92\u202f% of the time"),
        (step(0.30), "A step of LongLoRA takes 1.15 times as long"),
        (step(0.26), "The times of their steps are not measurably different"),
        (step(0.26, 0.9), "Which of their steps is quicker could not be measured"),
        (lambda result: result.update(long=None), "What it costs", "A longer context"),
        (lambda result: result["long"]["rows"][0].update(within=None), "What it costs",
         "A longer context"),
    ),
    Case("finetuning", "sets LoRA", unsaid="draws both", drawn=False),
]  # fmt: skip
