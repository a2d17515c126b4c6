"""No figure's text covers anything, whatever it shows; and that what does is seen."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from tests.report import fixtures
from tests.report.figure_check import faults
from tinylm.config import ModelConfig
from tinylm.experiments.accumulation.figures import accumulation_figure
from tinylm.experiments.attention.figures import heatmap_grid, line_figure
from tinylm.experiments.beam_search.figures import decoding_figure
from tinylm.experiments.data.figures import data_figure
from tinylm.experiments.finetuning.figures import finetuning_figure, ranks_figure
from tinylm.experiments.training.architecture_figure import architecture_figure
from tinylm.experiments.training.figures import loss_figure, perplexity_figure, schedule_figure
from tinylm.experiments.training.outlined_figure import outlined_figure
from tinylm.registry import MODELS, POSITIONS
from tinylm.report.drawing import legend_below, new_figure, shared_legend, style


def _curve_through_the_legend(axes: Axes) -> None:
    axes.plot([0, 1], [0.5, 0.5], label="half way up")
    axes.legend(loc="center")


def _boxes_that_cross(axes: Axes) -> None:
    axes.add_patch(FancyBboxPatch((0.1, 0.1), 0.4, 0.4))
    axes.add_patch(FancyBboxPatch((0.4, 0.4), 0.4, 0.4))


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda axes: axes.text(0.5, 0.5, "left") and axes.text(0.5, 0.5, "right"), "over"),
        (lambda axes: axes.text(0.97, 0.5, "beyond the edge"), "leaves the canvas"),
        (lambda axes: axes.text(0.5, 0.5, "small", fontsize=5.9), "5.9 points high"),
        (lambda axes: axes.set_ylabel("a label of more words than this axis has room for, by far"),
         "longer than its axis"),
        (lambda axes: axes.plot([0, 1], [0, 1]) and axes.text(0.5, 0.5, "curve"), "runs through"),
        (lambda axes: axes.text(-0.5, 0.5, "next door"), "over the panel"),
        (lambda axes: axes.text(0.2, 0.2, "slanted words", rotation=45)
         and axes.text(0.25, 0.25, "level"), "over"),
        (_curve_through_the_legend, "runs through the legend"),
        (lambda axes: axes.bar([0.5], [1], label="bar") and axes.legend(loc="center"), "a bar"),
        (_boxes_that_cross, "crosses"),
    ],
)  # fmt: skip
def test_what_covers_something_is_seen(draw: Callable[[Axes], Any], said: str) -> None:
    with style():
        figure = new_figure(layout="none")
        axes = figure.subplots(1, 2)[1]
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        assert not faults(figure)
        draw(axes)
    assert any(said in fault for fault in faults(figure))


def test_legends_stand_clear_of_curves() -> None:
    with style():
        figure = new_figure()
        panels = figure.subplots(1, 2)
        for axes, name in zip(panels, ("left", "right"), strict=True):
            axes.plot([0, 1], [1, 1], label=name)
            axes.plot([0, 1], [0, 0], label="both")
            axes.set_xlabel("steps")
            legend_below(axes)
    assert not faults(figure)
    with style():
        shared_legend(figure, list(panels), 3)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["left", "both", "right"]


@pytest.mark.parametrize("positions", POSITIONS)
def test_architectures_are_drawn_clear(positions: str) -> None:
    choices = itertools.product(("pre", "post"), (0.0, 0.1), (True, False), (2, 64))
    for norm, dropout, scaled, heads in choices:
        config = ModelConfig(
            positions=positions, norm_placement=norm, dropout=dropout, num_heads=heads,
            scale_embeddings=scaled, hidden_size=heads * 64, num_layers=12,
        )  # type: ignore[arg-type]  # fmt: skip
        parts = ["embedding", "attention", "feed-forward", "unembedding"]
        parts += ["positions"] * (positions == "learned")
        figure = architecture_figure(config, 250_000, dict.fromkeys(parts, 123_456_789))
        assert not faults(figure), (norm, dropout, scaled, heads)


@pytest.mark.parametrize("kind", MODELS)
def test_models_that_describe_themselves_are_drawn_clear(kind: str) -> None:
    for dropout, layers, hidden in itertools.product((0.0, 0.1), (1, 12), (8, 4096)):
        config = ModelConfig(kind=kind, dropout=dropout, num_layers=layers, hidden_size=hidden)
        outline = MODELS.load(kind).outline(config, 250_000)
        if outline is None:  # drawn by ``architecture_figure``
            continue
        counts = dict.fromkeys(outline.sums, 123_456_789)
        figure = outlined_figure(outline, config, 250_000, counts)
        assert not faults(figure), (dropout, layers, hidden)
        shown = [text.get_text() for text in figure.axes[0].texts]
        assert any(text.split("\n")[-1] == f"{layers} ×" for text in shown)
        source = outline.source
        stacks = (outline.before, outline.layer, outline.after)
        stacks += (source.before, source.layer, source.after) if source else ()
        parts = [box.part for stack in stacks for box in stack if box.part]
        assert set(parts) <= set(outline.sums)
        assert len(set(parts)) == len(parts) >= 3  # no number stands for two boxes
        assert sum("123,456,789" in text for text in shown) + sum(
            f"{123_456_789 // layers:,}\nin each layer" == text for text in shown
        ) >= len(parts)


@pytest.mark.parametrize("end", [1.0, 3.5, 8.0])
def test_training_curves_are_drawn_clear(end: float) -> None:
    """Of a loss that falls, that levels out, and that rises again."""
    training = fixtures.example("training")
    for rows in (training["curve"], training["validations"]):
        for i, row in enumerate(rows):
            row["loss"] = 8 + (end - 8) * math.sin(math.pi * i / len(rows))
            if "perplexity" in row:
                row["perplexity"] = row["training_perplexity"] = math.exp(row["loss"])
    for figure in (loss_figure(training), perplexity_figure(training), schedule_figure(training)):
        assert not faults(figure)


@pytest.mark.parametrize("seed", range(4))
def test_fine_tuning_labels_are_drawn_clear(seed: int) -> None:
    chance = random.Random(seed)
    finetuning = fixtures.example("finetuning")
    for row in finetuning["methods"]:
        row["trained"] = int(10 ** chance.uniform(3, 7))
        row["target_loss"] = finetuning["before"]["target_loss"] - chance.uniform(0.05, 0.6)
    assert not faults(finetuning_figure(finetuning))


@pytest.mark.parametrize("kept", ["ranks", "dylora", "dimensions"])
def test_ranks_are_drawn_clear_without_some_of_them(kept: str) -> None:
    finetuning = fixtures.results()["finetuning"]
    for part in {"ranks", "dylora"} - {kept}:
        finetuning[part] = []
    if kept != "dimensions":
        finetuning["dimensions"]["rows"] = []
    assert not faults(ranks_figure(finetuning))


def test_other_curves_are_drawn_clear() -> None:
    results = fixtures.results()
    data = results["data"]
    for median, p95 in ((20, 30), (160, 390), (250, 260)):
        data["lengths"]["train"] |= {"median": median, "p95": p95}
        assert not faults(data_figure(data))
    runs = results["accumulation"]["runs"]
    many = [run | {"accumulation_steps": 2**i} for i, run in enumerate(runs + runs)]
    for shown in (runs[:1], runs, many):
        assert not faults(accumulation_figure(shown))
    for comparison in results["beam-search"]["comparisons"]:
        for row in comparison["rows"]:
            row["log_probability_per_token"] = -0.5
        assert not faults(decoding_figure(comparison))


@pytest.mark.parametrize("words", [3, 9, 24])
@pytest.mark.parametrize("heads", [1, 4, 12])
def test_attention_is_drawn_clear(heads: int, words: int) -> None:
    torch.manual_seed(0)
    for long in ("W", "extraordinarily", "<sos>"):
        shown = ["<sos>", *[long if i % 2 else "it" for i in range(words - 1)]]
        patterns = torch.rand(2, heads, words, words).tril()
        patterns /= patterns.sum(-1, keepdim=True)
        text = " ".join(shown)
        assert not faults(heatmap_grid(patterns, shown, text))
        assert not faults(line_figure(patterns[0], shown, f"Layer 1: {text}"))
