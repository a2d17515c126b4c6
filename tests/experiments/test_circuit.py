"""The circuit experiment on the tiny run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.experiments.test_efficiency import tiny_run, with_settings
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.circuit import measure
from tinylm.experiments.circuit.figures import circuit_figure
from tinylm.experiments.circuit.settings import CircuitExperiment
from tinylm.experiments.context import Context
from tinylm.experiments.training.measure import run as train
from tinylm.language_model import LanguageModel

SETTINGS = CircuitExperiment(behaviours=("reason",), pairs=2, steps=1, random=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("circuit")
    context = tiny_run(
        folder / "run",
        folder / "cache",
        *("data.train_stories=600", "model.context_length=40", "model.num_layers=1"),
        *("model.num_heads=2", "training.max_steps=2", "vectors.source=none"),
    )
    train(context)
    return context


def test_a_circuit_is_found_and_judged_on_other_pairs(trained: Context) -> None:
    result = measure.run(with_settings(trained, circuit=SETTINGS))
    (row,) = result["behaviours"]
    assert row["asks"] == "why somebody is sad"
    assert row["num_edges"] == 1 * 6 + 3 + 4
    assert 0 < len(row["edges"]) <= row["num_edges"]
    assert row["found_on"]["faithfulness"] >= 0.9
    assert len(row["random"]) == 2
    assert len(row["right_by_pair"]) == 4
    assert circuit_figure(result).axes[0].get_title("left") == "why somebody is sad"
    assert measure.run(with_settings(trained, circuit=SETTINGS)) == result


def test_pairs_of_all_lengths_count_once(trained: Context) -> None:
    lm = LanguageModel.load(trained.folder)
    pairs = measure.readable_pairs("reason", 0, 8, lm.tokenizer, 40)
    groups, right = measure.groups_of(lm.model, pairs)
    lengths = {len(pair.clean) for _, pair in pairs}
    assert len(groups) == len(lengths)
    by_length = sorted(pairs, key=lambda pair: len(pair[1].clean))  # stable, as the groups are
    clean, corrupted = (
        [
            float(logits[pair.answer] - logits[pair.wrong])
            for text, pair in by_length
            for logits in [lm.trace(getattr(text, prompt)).logits[0, -1]]
        ]
        for prompt in ("clean", "corrupted")
    )
    scale = measure.Scale(groups)
    assert scale.clean == pytest.approx(sum(clean) / 8, abs=1e-4)
    expected = [((a > 0) + (b < 0)) / 2 for a, b in zip(clean, corrupted, strict=True)]
    assert right == expected


def test_what_cannot_be_asked_is_left_out_or_refused(
    trained: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = measure.readable_pairs

    def few(name: str, seed: int, count: int, *rest: Any) -> Any:
        return every(name, seed, count if name == "reason" else 1, *rest)

    monkeypatch.setattr(measure, "readable_pairs", few)
    both = replace(SETTINGS, behaviours=("holder", "reason"))
    result = measure.run(with_settings(trained, circuit=both))
    assert [row["name"] for row in result["behaviours"]] == ["reason"]
    (left_out,) = result["left_out"]
    assert left_out["name"] == "holder"
    assert "4 are needed and 1 can be read" in left_out["reason"]
    none = replace(SETTINGS, behaviours=("holder",))
    with pytest.raises(ConfigError, match="can be asked for none of them; holder: of the pairs"):
        measure.run(with_settings(trained, circuit=none))
    other = CircuitExperiment(behaviours=("weather",))
    with pytest.raises(DataError, match="unknown behaviour 'weather'"):
        measure.run(with_settings(trained, circuit=other))
