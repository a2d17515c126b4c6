"""The experiment on induction heads: made small, and each of its parts by other means."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from tests.interpretability.planted import INDUCTION, PREVIOUS, planted_model, repeated_text
from tinylm.config import TrainingConfig
from tinylm.experiments.context import Context
from tinylm.experiments.induction import measure
from tinylm.experiments.induction.forming import form, losses_of, points, training_texts
from tinylm.experiments.induction.settings import InductionExperiment
from tinylm.interpretability.head_ablation import MeanAblation, head_worth
from tinylm.interpretability.head_scores import head_scores, repeated_tokens
from tinylm.language_model import LanguageModel

SETTINGS = InductionExperiment(
    types=24, context_length=16, hidden_size=16, num_heads=2, steps=6, batch_size=4, points=3,
    texts=4, stories=6, random_sets=3,
)  # fmt: skip


def with_settings(context: Context, settings: InductionExperiment) -> Context:
    experiments = replace(context.config.experiments, induction=settings)
    return replace(context, config=replace(context.config, experiments=experiments))


@pytest.fixture(scope="module")
def result(tiny_context: Context) -> dict[str, Any]:
    return measure.run(with_settings(tiny_context, SETTINGS))


def test_it_is_json_and_the_same_again(result: dict[str, Any], tiny_context: Context) -> None:
    json.dumps(result, allow_nan=False)
    again = measure.run(with_settings(tiny_context, SETTINGS))
    again["training"]["seconds"] = result["training"]["seconds"]
    assert again == result


def test_texts_repeat_themselves_after_tokens_that_differ_from_text_to_text() -> None:
    settings = InductionExperiment(batch_size=40)
    batch = training_texts(settings, torch.Generator().manual_seed(0))
    rows = torch.cat([batch.ids, batch.labels[:, -1:]], 1)
    assert torch.equal(batch.ids[:, 1:], batch.labels[:, :-1])
    periods = []
    for row in rows:
        tokens = row[1:]
        fits = [p for p in range(1, 25) if torch.equal(tokens[p:], tokens[:-p])]
        periods.append(min(fits))
    assert min(periods) >= 8
    assert len(set(periods)) > 8
    assert int(rows[:, 1:].min()) >= 4


@pytest.mark.parametrize(("steps", "count"), [(6, 3), (600, 40), (2, 40), (1, 2)])
def test_points_are_spread_from_the_start_to_the_end(steps: int, count: int) -> None:
    spread = points(steps, count)
    assert spread[0] == 0 and spread[-1] == steps
    assert len(spread) == min(count, steps + 1)
    gaps = {b - a for a, b in pairwise(spread)}
    assert max(gaps) - min(gaps) <= 1


def test_a_curve_has_what_the_scores_of_the_trained_model_are() -> None:
    formed = form(SETTINGS, TrainingConfig(device="cpu"))
    assert [row["step"] for row in formed.curve] == [0, 3, 6]
    scores = head_scores(formed.model, formed.repeated)
    last = formed.curve[-1]
    for name in ("prefix_matching", "previous_token"):
        assert torch.allclose(torch.tensor(last[name]).double(), getattr(scores, name), atol=6e-5)
    assert formed.curve[0]["second_half"] != last["second_half"]
    assert {part.training for part in formed.model.modules()} == {False}


def test_random_state_outside_is_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    form(replace(SETTINGS, steps=1, points=2), TrainingConfig(device="cpu"))
    assert torch.equal(torch.rand(2), expected)


def test_losses_are_those_of_the_halves_and_their_late_and_early_token() -> None:
    losses = torch.arange(16.0).view(2, 8).double()
    values = losses_of(losses)
    assert values["first_half"] == pytest.approx((1.5 + 9.5) / 2)
    assert values["second_half"] == pytest.approx((5.5 + 13.5) / 2)
    assert values["in_context"] == pytest.approx(6)  # token 8 less token 2


def test_the_planted_heads_are_worth_more_than_random_others() -> None:
    model, texts = planted_model(), [repeated_text(8, seed) for seed in range(4)]
    order = [INDUCTION, (0, 0), (0, 2), (1, 0), (1, 1), PREVIOUS]
    rows = measure.ablation_rows(
        MeanAblation(model, texts), order, lambda losses: losses[:, 8:],
        replace(SETTINGS, random_sets=99),
    )  # fmt: skip
    assert [row["heads"] for row in rows] == [[list(h) for h in order[:n]] for n in (1, 2, 3)]
    assert [len(row["random"]) for row in rows] == [5, 6, 1]  # all sets that there are
    for row in rows[:2]:
        for random in row["random"]:
            holds = list(PREVIOUS) in random["heads"]
            assert random["more"] > 3 if holds else abs(random["more"]) < 0.1
        assert row["more"][1] > 3


def test_one_head_is_worth_what_head_worth_says(tiny_lm: LanguageModel) -> None:
    texts = repeated_tokens(range(4, 40), 6, 5, 2).tolist()
    rows = measure.ablation_rows(
        MeanAblation(tiny_lm.model, texts), [(0, 1), (0, 0)], lambda losses: losses, SETTINGS
    )
    worth = head_worth(tiny_lm.model, texts)
    assert rows[0]["more"] == pytest.approx(worth.heads[0, 1].as_result(), abs=1e-6)
    [random] = rows[0]["random"]
    assert random["heads"] == [[0, 0]]
    assert random["more"] == pytest.approx(worth.heads[0, 0].value, abs=1e-6)


def test_the_run_s_heads_are_scored_and_switched_off(
    result: dict[str, Any], tiny_lm: LanguageModel
) -> None:
    own = result["run"]
    assert own["length"] == 11  # of a context of 24
    ids = repeated_tokens(range(4, tiny_lm.tokenizer.vocab_size), 11, 4, 2)
    scores = head_scores(tiny_lm.model, ids)
    assert [row["prefix_matching"] for row in own["heads"]] == pytest.approx(
        scores.prefix_matching.flatten().tolist(), abs=1e-9
    )
    assert len(own["ablation"]) == 1
    stories = own["stories"]
    assert stories["stories"] == 6
    assert 1 <= stories["early"] < stories["late"] < 24


def test_a_context_that_holds_no_repetition_has_no_scores(tiny_context: Context) -> None:
    lm = LanguageModel.load(tiny_context.folder)
    lm.model.config = replace(lm.model.config, context_length=4)
    assert measure._run_heads(lm, tiny_context.config, tiny_context.console, SETTINGS) is None


@pytest.mark.slow
def test_induction_heads_form() -> None:
    """On the settings of the preset quick, with fewer measurements."""
    formed = form(InductionExperiment(steps=400, points=3), TrainingConfig(device="cpu"))
    first, middle, last = formed.curve
    assert max(max(layer) for layer in first["prefix_matching"]) < 0.1
    assert max(last["prefix_matching"][1]) > 0.7
    assert max(last["previous_token"][0]) > 0.7
    assert last["second_half"] < 1 < 3.5 < middle["second_half"]
    assert last["first_half"] > 4  # that of random tokens, ln 64 = 4.16 at best
    pair = torch.tensor(last["key_composition"]).flatten()
    assert float(pair.max()) > 0.08
    head = int(torch.tensor(last["previous_token"][0]).argmax())
    assert int(pair.argmax()) // 4 == head  # it is that head which the others read
