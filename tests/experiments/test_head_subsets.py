"""The experiment on all subsets of heads, on a small run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.experiments.test_efficiency import tiny_run, with_settings
from tinylm.errors import ConfigError
from tinylm.experiments.context import Context
from tinylm.experiments.head_subsets import measure
from tinylm.experiments.head_subsets.figures import head_subsets_figure
from tinylm.experiments.head_subsets.settings import HeadSubsetsExperiment
from tinylm.experiments.training.measure import run as train
from tinylm.language_model import LanguageModel

SETTINGS = HeadSubsetsExperiment(behaviour="reason", pairs=2)


def trained(folder: Path, *settings: str) -> Context:
    context = tiny_run(
        folder / "run",
        folder / "cache",
        *("data.train_stories=600", "model.context_length=40", "vectors.source=none"),
        *("training.max_steps=2", *settings),
    )
    train(context)
    return with_settings(context, head_subsets=SETTINGS)


def test_heads_are_valued_and_methods_graded(tmp_path: Path) -> None:
    context = trained(tmp_path, "model.num_layers=2", "model.num_heads=2")
    result = measure.run(context)
    values = [head["value"] for head in result["heads"]]
    assert len(values) == 4
    assert sum(values) == pytest.approx(result["whole"] - result["none"])
    for name, reached in result["subsets"].items():
        if name == "members":
            assert [len(heads) for heads in reached] == [0, 1, 2, 3, 4]
            continue
        assert reached[0] == result["none"]
        assert reached[-1] == result["whole"]
        best = zip(reached, result["subsets"]["best"], strict=True)
        assert all(value <= most for value, most in best)
    assert all(-1 <= method["rank_correlation"] <= 1 for method in result["methods"].values())
    lm = LanguageModel.load(context.folder)
    for (_, pair), right in zip(
        measure.readable_pairs("reason", SETTINGS.seed, 2, lm.tokenizer, 40),
        result["right_by_pair"],
        strict=True,
    ):
        clean, corrupted = (
            lm.model(torch.tensor([ids]))[0, -1] for ids in (pair.clean, pair.corrupted)
        )
        leads = [
            clean[pair.answer] > clean[pair.wrong],
            corrupted[pair.answer] < corrupted[pair.wrong],
        ]
        assert right == sum(map(bool, leads)) / 2
    assert [len(each["by_pair"]) for each in result["interactions"]] == [2] * 5
    for each in result["interactions"]:
        assert each["value"] == pytest.approx(sum(each["by_pair"]) / 2)
    figure = head_subsets_figure(result)
    assert [len(axes.lines) for axes in figure.axes] == [5, 5]
    assert measure.run(context) == result


def test_what_cannot_be_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = trained(tmp_path, "model.num_layers=1", "model.num_heads=17", "model.head_dim=1")
    with pytest.raises(ConfigError, match="the model has 17 heads, and all subsets are run of 16"):
        measure.run(context)
    monkeypatch.setattr(measure, "refuse_many_heads", lambda model: None)
    monkeypatch.setattr(measure, "readable_pairs", lambda *_: [])
    with pytest.raises(ConfigError, match="2 are needed and 0 can be read"):
        measure.run(context)
