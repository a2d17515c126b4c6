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


def repeated(*target_losses: float) -> Change:
    """Give LoRA these losses, a seed each."""

    def change(result: Result) -> None:
        losses(lora=target_losses[0])(result)
        result["repeats"]["target_loss"] = list(target_losses)

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
        (None, "13.8, at rank 16, higher than after full fine-tuning (13.5); that "
               "at rank 8 is not measurably different from it."),
        (ranks(r1=2.7, r8=2.65, r16=2.6),
         "falls by 9.5\u202f%. Its lowest is 13.5, at rank 16, not measurably different from that "
         "after full fine-tuning (13.5). "),
        (ranks(r1=2.7, r16=2.5), "12.2, at rank 16, lower than after full fine-tuning (13.5)."),
        (ranks(r1=2.7, r16=2.65), "14.2, at rank 16, higher than after full fine-tuning (13.5)."),
        (ranks(r1=2.62, r16=2.621), "LoRA's perplexity does not change measurably. Its lowest is "
                                    "13.7, at rank 1"),
        (ranks(r1=2.60, r16=2.70), "LoRA's perplexity rises by 10.5\u202f%. Its lowest is 13.5, at "
                                   "rank 1"),
        (ranks(r8=2.60), "DyLoRA was trained with a largest rank of 8", "From rank 8"),
        (all_of(ranks(r8=2.6), dylora()), "compares LoRA, trained once", "DyLoRA was trained with"),
        (all_of(ranks(), dylora()), "Costs.", "compares LoRA, trained once"),
        (all_of(ranks(), dylora(2.7, 2.6)), "From rank 1 to 2 its perplexity falls by",
         "Compared with LoRA of"),
        (all_of(ranks(r2=2.6), dylora(2.7)), "with a largest rank of 1.", "From rank 1 to 1"),
        (None, "Compared with LoRA of the same rank it is higher at ranks 1, 2, 4 and 8 (by up to"),
        (all_of(ranks(r1=2.6, r2=2.6), dylora(2.6, 2.5)),
         "it is lower at rank 2 (by up to 9.5\u202f%) and not measurably different at rank 1."),
        # At the rank of which LoRA was trained several times, their mean counts in both places.
        (all_of(ranks(r8=2.55), repeated(2.60, 2.62, 2.64), dylora(*[2.72] * 8)),
         "higher at rank 8 (by up to 10.5\u202f%)"),
        (all_of(repeated(2.60, 2.62, 2.64), losses(dylora=2.72)),
         "DyLoRA (serving every rank) is higher by 10.5\u202f%"),
        (None, "shows the perplexity by rank, and that of SAID by the dimension of its subspace"),
        (no_dimensions, "shows the perplexity by rank.", "and that of SAID by the dimension"),
        # The intrinsic dimension.
        (None, "reached in 8,192 dimensions, 0.137\u202f% as many as the model has parameters: "
               "d_90 is between 2,048 and 8,192"),
        (d90(32), "d_90 is at most 32"),
        (d90(None), "the most is 93\u202f%, in 8,192 dimensions. So d_90 is above 8,192"),
        (losses(full=3.0), "so that there is no d_90"),
        (no_dimensions, "A longer context", "Intrinsic dimension"),
        # A longer context.
        (None, "17.8 within its context and of 49.9 beyond it, higher by a factor of 2.80. LoRA"),
        (long((2.88, 2.88)), "not measurably different, although positions beyond the context did"),
        (long((2.88, 2.80)), "lower by 7.7\u202f%, although positions"),
        (one_window, "there are too few windows to compare", "Beyond the old context"),
        (None, "that of LongLoRA is lower, by 17.3\u202f%, with 13.5 times the parameters"),
        (long(grouped=3.0), "that of LongLoRA is higher, by 7.3\u202f%, with 13.5 times"),
        (long(grouped=2.93), "Beyond the old context the two are not measurably different"),
        (untrained, "beyond it, higher", "LoRA reaches 1"),
        (step(0.24), "A step of LongLoRA takes 92\u202f% of the time"),
        (step(0.30), "A step of LongLoRA takes 1.15 times as long as one of LoRA"),
        (step(0.26), "The times of their steps are not measurably different"),
        (step(0.26, 0.9), "Which of their steps is faster could not be measured"),
        (lambda result: result.update(long=None), "Costs.", "A longer context"),
        (lambda result: result["long"]["rows"][0].update(within=None), "Costs.",
         "A longer context"),
    ),
    Case("finetuning", "compares LoRA", unsaid="shows the perplexity by rank", drawn=False),
]  # fmt: skip
