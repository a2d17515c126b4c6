"""What is said of circuits."""

from __future__ import annotations

from typing import Any

from tests.report.telling import Case, all_of, table_of

Result = dict[str, Any]


def not_reached(result: Result) -> None:
    result["behaviours"][0]["reached"] = False


def elsewhere(share: float) -> Any:
    """Give the first circuit this faithfulness on the pairs that it was not found on."""

    def change(result: Result) -> None:
        result["behaviours"][0]["judged_on"]["faithfulness"] = share

    return change


def by_chance(result: Result) -> None:
    for judgement in result["behaviours"][0]["random"]:
        judgement["faithfulness"] = 0.96


def right(*by_pair: float) -> Any:
    """Let so much of each pair of the first question be answered right."""

    def change(result: Result) -> None:
        result["behaviours"][0]["right_by_pair"] = list(by_pair)

    return change


def left_out(result: Result) -> None:
    result["left_out"] = [{"name": "sad", "reason": "2 pairs can be read"}]


def pre_norm(result: Result) -> None:
    result["norm_placement"] = "pre"


CASES = [
    *table_of(
        "circuit",
        (None, "on 16 pairs; it is then judged on as many other pairs"),
        (None, "the mean at 5 points between the corrupted and the clean run"),
        (None, "a message acts through all norms above it", "are sums of what was sent"),
        (pre_norm, "The streams that the parts read are sums of what was sent", "all norms"),
        (None, "For the question who has the thing 9 connections of 262 reach 100 % of the "
               "difference, and 95 % on pairs that they were not found on; none of 4 random "
               "subgraphs of as many reaches as much (mean 0 %).", "was left out"),
        (elsewhere(0.3), "but on pairs that they were not found on only 30 %; none of 4 random "
         "subgraphs"),
        (by_chance, "; random subgraphs of as many reach 96 % in the mean.", "none of 4 random "
         "subgraphs of as many reaches as much (mean 96 %)"),
        (not_reached, "For the question who has the thing no part of the 262 connections is "
         "enough."),
        (None, "(mean 0 %). The model answers 89 % of the prompts right. For", "does not see"),
        (right(0.5, 0.5, 1.0, 0.5), "The model answers only 62 % of the prompts right (95 % "
         "interval: 23 % to 100 %), not measurably different from the 50 % of a model that does "
         "not see the exchanged words: what is found moves its answers, but explains little of a "
         "right one."),
        (all_of(not_reached, right(0.5, 0.5)), "connections is enough. The model answers only "
         "50 % of the prompts right, not measurably different from the 50 % of a model"),
        (left_out, "The question sad was left out: 2 pairs can be read."),
        (None, "tab:circuit and fig:circuit give the circuits."),
        (None, "for random subgraphs the mean of 4 subgraphs"),
    ),
    Case("circuit", "tab:circuit gives the circuits.", unsaid="fig:", drawn=False),
]  # fmt: skip
