"""The section on beam search: what it says follows from the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.report import method_fixtures
from tests.report.test_build import text_of
from tinylm.report.sections.beam_judgement import agreement, cost, judgement, likelihood, variety
from tinylm.report.sections.beam_search import shared_start


def ladder() -> list[dict[str, Any]]:
    rows = method_fixtures.beam_search()["comparisons"][1]["rows"]
    return [row for row in rows if row["name"] != "sampling"]


def true_texts() -> dict[str, Any]:
    true: dict[str, Any] = method_fixtures.beam_search()["comparisons"][1]["true"]
    return true


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((-1.3, -1.2, -1.1), "every widening finds likelier text"),
        ((-1.1, -1.2, -1.3), "every widening finds *less* likely text"),
        ((-1.3, -1.1, -1.2), "but the likeliest is that of *beam 5*"),
        ((-1.3, -1.4, -1.2), "though not every widening helps"),
        ((-1.3, -1.2, -1.4), "the widest beam finds *less* likely text than *greedy*"),
        ((-1.3, -1.2, -1.3), "exactly as likely"),
    ],
)
def test_likelihood_is_told_as_it_is(values: tuple[float, ...], said: str) -> None:
    rows = ladder()
    for row, value in zip(rows, values, strict=True):
        row["log_probability_per_token"] = value
    assert said in likelihood(rows, true_texts(), 50).partition("Per token")[2]


def test_the_true_text_is_placed_by_its_likelihood() -> None:
    true = true_texts()
    assert "1.0 nats a token less likely than" in likelihood(ladder(), true, 50)
    true["log_probability_per_token"] = -0.57
    assert "0.50 nats a token likelier than" in likelihood(ladder(), true, 50)


def test_likeliest_is_called_not_most_human_only_if_the_numbers_show_it() -> None:
    rows = method_fixtures.beam_search()["comparisons"][1]["rows"]
    true = true_texts()
    said = variety(rows, ladder(), true)
    assert "[[holtzman2020]]" in said and "more than the true ones" in said and "52\u202f%" in said
    assert "in distinct-2 and repetition together is *sampling*" in said
    varied = ladder()
    varied[-1].update(distinct={"1": 0.2, "2": 0.56, "3": 0.8}, repetition=0.018)
    said = variety(rows, varied, true)
    assert "[[holtzman2020]]" not in said and "as much as the true ones" in said
    assert "less than those of *greedy*" in said
    true["log_probability_per_token"] = -0.5
    assert "[[holtzman2020]]" not in variety(rows, ladder(), true)


def test_cost_is_set_against_the_number_of_beams() -> None:
    rows = ladder()
    assert "less than the number of beams" in cost(rows)
    rows[1]["seconds"], rows[2]["seconds"] = (method_fixtures.timing(s) for s in (9.0, 20.0))
    assert "at least the number of beams" in cost(rows)
    rows[1]["seconds"] = rows[0]["seconds"]
    assert "the time of *beam 5* is not measurably different" in cost(rows)


def test_bleu_is_compared_with_likelihood_and_called_noisy_for_few() -> None:
    comparisons = method_fixtures.beam_search()["comparisons"]
    said = agreement(comparisons)
    assert "do not agree" in said and "first as well" in said
    assert "With 5 prompts BLEU is very noisy" in said
    comparisons[1]["rows"][3]["bleu_corpus"] = 12.0
    said = agreement(comparisons)
    assert "agree on the best" in said and "*beam 5* is first instead" in said
    assert "noisy" not in agreement(comparisons[1:])
    for row in comparisons[1]["rows"]:
        row["bleu_corpus"] = 7.0
    assert "tells them not apart" in agreement(comparisons)


def test_a_comparison_without_beams_or_true_texts_can_be_told() -> None:
    found = method_fixtures.beam_search()
    for one in found["comparisons"]:
        one["rows"] = one["rows"][:2]
        del one["true"]
    assert len(judgement(found["comparisons"])) == 1
    assert text_of({"beam-search": {**found, "examples": [], "n_best": None}})


def test_hypotheses_are_called_alike_if_they_begin_alike() -> None:
    assert "first 3 words in common" in shared_start([["a", "b", "c", "d"], ["a", "b", "c"]])
    assert "variants of one text" in shared_start([["a", "b", "c", "d"], ["a", "b", "c", "e"]])
    assert "variants" not in shared_start([["a", "b", "c", "d"], ["a", "x", "y", "z"]])
    assert "differ from the first word" in shared_start([["a"], ["b"]])
    assert "same words" in shared_start([["a", "b"], ["a", "b"]])


def test_texts_are_shown_without_markup_and_prompts_once() -> None:
    found = method_fixtures.beam_search()
    example = found["examples"][3]
    example["outputs"]["greedy"] = f"{example['prompt']} *and* [[fig:x]] ran."
    shown = text_of({"beam-search": found})
    assert f"{example['prompt']} *and* [[fig:x]] ran." in shown
    assert "set aside" in shown and "no better than the worst of them" in shown
    found["early_stopping"] = "full"
    assert "no better than the worst of them" not in text_of({"beam-search": found})
