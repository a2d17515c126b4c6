"""The leaderboard, made small: every kind and tokenizer at one budget, on the same bytes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.test_tokenizers import context_of
from tinylm.errors import DataError
from tinylm.evaluation.text_bits import after_first_sentence
from tinylm.experiments import equal_budget
from tinylm.experiments.context import Context
from tinylm.experiments.leaderboard import measure
from tinylm.experiments.leaderboard.settings import LeaderboardExperiment
from tinylm.model.recurrent.lm import GRULM
from tinylm.planning.flops import flops_per_token
from tinylm.registry import MODELS, TOKENIZERS

SETTINGS = LeaderboardExperiment(
    vocab_size=400, flops=3e7, num_layers=1, num_heads=2, hidden_size=8, context_length=32,
    batch_size=2, held_out=3, fitted=20, seeds=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return context_of(tmp_path_factory.mktemp("leaderboard"), leaderboard=SETTINGS)


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(measure.run(context), allow_nan=False))
    return made


def test_every_kind_meets_every_tokenizer(result: dict[str, Any], context: Context) -> None:
    pairs = {(row["model"], row["tokenizer"]) for row in result["rows"]}
    assert pairs == {(kind, cut) for kind in measure.kinds() for cut in TOKENIZERS}
    assert len(result["rows"]) == len(pairs)
    for row in result["rows"]:
        assert len(row["bits_per_byte"]) == len(row["tokens_per_second"]) == 1
        assert 0 < row["bits_per_byte"][0] < 50
    assert not (context.folder / "leaderboard").exists()


def test_all_have_the_same_budget_and_a_token_costs_as_much(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        step = row["flops"] / row["steps"]
        assert abs(row["flops"] - SETTINGS.flops) <= step / 2
        decoder = equal_budget.shape("decoder", SETTINGS, row["vocab_size"], SETTINGS.hidden_size)
        own = equal_budget.shape(row["model"], SETTINGS, row["vocab_size"], row["hidden_size"])
        assert flops_per_token(own) == pytest.approx(flops_per_token(decoder), rel=0.35)
        if row["model"] == "decoder":
            assert row["hidden_size"] == SETTINGS.hidden_size


def test_the_same_bytes_are_scored(result: dict[str, Any], context: Context) -> None:
    from tinylm.data.corpora import open_corpus

    texts = list(open_corpus(context.config.data).validation())[: SETTINGS.held_out]
    rests = [parts.rest for text in texts if (parts := after_first_sentence(text))]
    assert result["texts"] == len(rests) == 3
    assert result["bytes"] == sum(len(rest.encode()) for rest in rests)


def test_a_kind_that_scores_no_texts_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "gru" in measure.kinds()
    monkeypatch.setattr(GRULM, "scores_texts", False)
    assert measure.kinds() == [kind for kind in MODELS if kind != "gru"]


def test_texts_without_a_rest_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    texts = "".join(f"One sentence alone {number}\n<|endoftext|>\n" for number in range(60))
    (tmp_path / "text/a.txt").write_text(texts)
    context = context_of(tmp_path, leaderboard=SETTINGS)
    data = replace(
        context.config.data, corpus="files", path=str(tmp_path / "text"), train_stories=None
    )
    with pytest.raises(DataError, match="no validation text has two sentences"):
        measure.run(replace(context, config=replace(context.config, data=data)))
