"""What is said of all subsets of heads."""

from __future__ import annotations

from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]


def values(**by_head: list[float]) -> Any:
    """Give heads, as ``h0``, these values by pair; all others have none that can be told."""

    def change(result: Result) -> None:
        for i, head in enumerate(result["heads"]):
            points = by_head.get(f"h{i}", [0.1, -0.1] * 4)
            head["by_pair"], head["value"] = points, sum(points) / len(points)

    return change


def right(*by_pair: float) -> Any:
    def change(result: Result) -> None:
        result["right_by_pair"] = list(by_pair)

    return change


def reached(*best: float) -> Any:
    def change(result: Result) -> None:
        result["subsets"]["best"] = list(best)
        result["none"], result["whole"] = best[0], best[-1]

    return change


def greedy(*less: float) -> Any:
    """Let a greedy search reach so much less than the best subset of 1, 2, … heads."""

    def change(result: Result) -> None:
        best = list(result["subsets"]["best"])
        result["subsets"]["greedy"] = list(best)
        for size, amount in enumerate(less, 1):
            result["subsets"]["greedy"][size] -= amount

    return change


def correlations(**by_method: float | None) -> Any:
    def change(result: Result) -> None:
        for name, method in result["methods"].items():
            method["rank_correlation"] = by_method.get(name.replace(" ", "_"))

    return change


def interaction(*by_pair: float) -> Any:
    """Let the interaction of the first and the last head be this on pairs of prompts."""

    def change(result: Result) -> None:
        value = sum(by_pair) / max(1, len(by_pair))
        greatest = {"heads": [0, 11], "value": value, "by_pair": list(by_pair)}
        result["interactions"] = [greatest] if by_pair else []

    return change


ABOVE, BELOW = [1.0, 1.1, 0.9, 1.0] * 2, [-1.0, -1.1, -0.9, -1.0] * 2
CASES = [
    *table_of(
        "head-subsets",
        (None, "every one of the 4,096 subsets of its 12 heads, on 8 pairs"),
        (None, "All heads together change the logit difference by 4.75, from −2.86 to 1.89."),
        (values(h11=ABOVE), "The value of one head alone is measurably above 0: head 3.4, 1.00.",
         "Below 0"),
        (values(h11=ABOVE, h0=[2.0, 2.1] * 4), "The values of 2 heads are measurably above 0; the "
         "greatest is that of head 1.1, 2.05."),
        (values(h4=BELOW), "No head's value is measurably above 0. Below 0, against the right "
         "answer, head 2.1."),
        (values(h4=BELOW, h5=BELOW), "Below 0, against the right answer, heads 2.1 and 2.2."),
        (None, "The model answers 94 % of the prompts right. Of all subsets", "does not see"),
        (right(*[0.5] * 7, 1.0), "The model answers only 56 % of the prompts right (95 % interval: "
         "41 % to 71 %), not measurably different from the 50 % of a model that does not see the "
         "exchanged words: what is found moves its answers, but explains little of a right one."),
        (None, "Of all subsets the smallest that reaches nine tenths of that has 3.4."),
        (reached(*[0.0] * 12, 1.0), "No fewer than all heads reach nine tenths of that."),
        (reached(*[1.0] * 12, -0.5), "from 1.00 to −0.500.", "nine tenths"),
        (interaction(0.5, 0.6), "The greatest interaction, 0.550 (95 % interval: −0.0853 to "
         "1.19), is that of heads 1.1 and 3.4, and not measurably different from 0."),
        (interaction(0.5, 0.5), "interval: 0.500 to 0.500), is that of heads 1.1 and 3.4, which "
         "reach more together than apart."),
        (interaction(-0.5, -0.5), "is that of heads 1.1 and 3.4, which can stand in for each "),
        (interaction(), "The order of the heads", "interaction"),
        (correlations(ablation=0.9, Taylor=-0.2), "The order of the heads by ablation of each head "
         "is nearest to the exact (rank correlation 0.90), that by Taylor importance the farthest "
         "from it (−0.20)."),
        (correlations(alone=0.5), "by each head alone is nearest to the exact (rank correlation "
         "0.50).", "farthest"),
        (correlations(), "All heads together", "nearest to the exact"),
        (greedy(), "Leaving out one head after another finds the best subset of every size."),
        (greedy(0.5), "misses the best subset at 1 size of 13, by no more than 0.500."),
        (greedy(0.5, 0.25), "misses the best subset at 2 sizes of 13, by no more than 0.500."),
        (None, "fig:head-subsets shows the values, tab:head-subsets how well"),
    ),
    Case("head-subsets", "tab:head-subsets gives how well", unsaid="fig:", drawn=False),
]  # fmt: skip
