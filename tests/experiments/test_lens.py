"""The experiment on lenses: its numbers by hand, and its figures of large models."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.report import fixtures
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.lens import measure
from tinylm.experiments.lens.figures import (
    parts_figure,
    sentence_figure,
    shown_parts,
    shown_places,
)
from tinylm.experiments.lens.settings import LensExperiment
from tinylm.experiments.lens.tuning import spread_stories, tune
from tinylm.experiments.preparation import encoded_split
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import record


@pytest.fixture
def context(tiny_context: Context) -> Context:
    lens = LensExperiment(stories=7, tuned_stories=20, steps=5)
    config = tiny_context.config
    return replace(
        tiny_context,
        config=replace(config, experiments=replace(config.experiments, lens=lens)),
        console=SilentConsole(),
    )


def test_its_numbers_are_means_over_all_positions(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Story by story, from activations and softmax alone; few at a time and padded there."""
    monkeypatch.setattr(measure, "_TOKENS", 60)
    result = json.loads(json.dumps(measure.run(context)))
    lm = LanguageModel.load(context.folder)
    split = encoded_split(context.config.data, lm.tokenizer, "validation", SilentConsole())
    texts = spread_stories(split, 7, 24)
    tuned = tune(lm, context.config, SilentConsole())
    names = ["layers.0.input", "layers.0.middle", "layers.0.residual"]
    sums = np.zeros((2, 2, 3))
    above, positions, followed = 0.0, 0, 0
    for text in texts:
        ids = torch.tensor([text])
        logits, kept = record(lm.model, names, ids)
        end = logits[0].double().softmax(-1)
        for place, name in enumerate(names):
            for which, x in enumerate((kept[name], tuned(name, kept[name]))):
                here = (x @ lm.model.unembedding.weight.T + lm.model.unembedding.bias)[0].detach()
                here = here.double().softmax(-1)
                sums[which, 0, place] += float((end * (end / here).log()).sum())
                sums[which, 1, place] += int((end.argmax(-1) == here.argmax(-1)).sum())
        own = logits[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        above += float((own - logits[0, :-1].mean(-1)).sum())
        positions += len(text)
        followed += len(text) - 1
    assert (result["stories"], result["positions"], result["followed"]) == (7, positions, followed)
    assert [place["place"] for place in result["places"]] == [
        "embedding", "1 attention", "1 feed-forward"
    ]  # fmt: skip
    for place, row in enumerate(result["places"]):
        for number, key in enumerate(("divergence", "agreement")):
            logit, with_maps = sums[:, number, place] / positions
            assert abs(row[key]["logit"][0] - logit) < 1e-5
            assert abs(row[key]["tuned"][0] - with_maps) < 1e-5
            assert abs(row[key]["tuned_less_logit"][0] - (with_maps - logit)) < 1e-5
            if place:
                step = (sums[0, number, place] - sums[0, number, place - 1]) / positions
                assert abs(row[key]["less_before"][0] - step) < 1e-5
    assert result["places"][0]["divergence"]["less_before"] is None
    assert abs(sum(part["adds"][0] for part in result["parts"]) - above / followed) < 1e-4
    assert result["example"]["logit"]["words"][0] == "<sos>"


def test_fewer_stories_than_asked_for_are_told(context: Context) -> None:
    many = replace(context.config.experiments.lens, stories=999)
    config = replace(context.config, experiments=replace(context.config.experiments, lens=many))
    console = SilentConsole()
    result = measure.run(replace(context, config=config, console=console))
    assert result["stories"] == 20
    assert console.notes == [
        "experiments.lens.stories = 999: there are 20 that fit, all of them are taken"
    ]


def test_figures_of_many_layers_fit_a_page() -> None:
    example = fixtures.example("lens")
    reading = example["example"]["logit"]
    reading["places"] = [f"{i // 2 + 1} attention" for i in range(33)]
    reading["cells"] = [reading["cells"][0] for _ in range(33)]
    shown = shown_places(reading)
    assert (shown[0], shown[-1], len(shown)) == (0, 32, 9)
    figure = sentence_figure(reading)
    assert len(figure.axes[0].get_xticklabels()) == 9
    parts = [{"part": f"layers.{i}.head.0", "adds": [i, i - 1, i + 1]} for i in range(99)]
    assert [part["part"] for part in shown_parts(parts)] == [
        f"layers.{i}.head.0" for i in range(59, 99)
    ]
    assert parts_figure(parts).get_size_inches()[1] * 2.54 < 24
