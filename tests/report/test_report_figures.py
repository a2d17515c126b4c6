from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from tests.report import fixtures
from tinylm.config import ModelConfig
from tinylm.experiments.data.figures import data_figure, zipf_exponent
from tinylm.experiments.training.architecture_figure import architecture_figure
from tinylm.experiments.training.figures import (
    loss_figure,
    perplexity_figure,
    schedule_figure,
    smooth,
)
from tinylm.report.drawing import new_figure, save_figure


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_architecture_shows_the_real_sizes() -> None:
    counts = {"embedding": 1_443_600, "attention": 3 * 366_012, "feed-forward": 3 * 721_500,
              "unembedding": 1_448_412}  # fmt: skip
    shown = words(architecture_figure(ModelConfig(), 4_812, counts))
    for size in ("4,812 × 300", "8 heads × 38", "300 → 1,200 → 300", "3 ×", "304 → 300", "√38",
                 "64 × 300", "Sinusoidal", "ReLU", "Dropout 0.1", "not tied", "1,443,600",
                 "366,012", "721,500", "1,448,412", "× √300"):  # fmt: skip
        assert size in shown, size


def test_architecture_follows_the_configuration() -> None:
    config = ModelConfig(num_layers=7, norm_placement="pre", positions="rotary",
                         tie_embeddings=True, num_heads=4, hidden_size=64)  # fmt: skip
    shown = words(architecture_figure(config, 100))
    for part in ("7 ×", "Rotate by position", "rotary positions", "64 → 100, tied", "4 heads × 16"):
        assert part in shown
    # One norm before each part and one at the end; post-norm has no final one.
    assert shown.count("LayerNorm") == 3
    assert words(architecture_figure(ModelConfig(), 100)).count("LayerNorm") == 2


def test_architecture_shows_a_bias_of_the_scores() -> None:
    shown = words(architecture_figure(ModelConfig(positions="alibi"), 100))
    assert "Bias by position" in shown
    assert "linear biases act" in shown
    assert "Bias by position" not in words(architecture_figure(ModelConfig(), 100))


@pytest.mark.parametrize("placement", ["post", "pre"])
def test_norms_stand_where_they_act(placement: str) -> None:
    config = ModelConfig(norm_placement=placement)  # type: ignore[arg-type]
    texts = architecture_figure(config, 100).axes[0].texts
    heights = {name: [t.get_position()[1] for t in texts if t.get_text().startswith(name)]
               for name in ("LayerNorm", "Masked self-attention", "Feed-forward", "+")}  # fmt: skip
    attention, feed = min(heights["Masked self-attention"]), heights["Feed-forward"][0]
    first, second, *final = sorted(heights["LayerNorm"])
    if placement == "pre":
        assert first < attention < second < feed < final[0]
    else:
        assert attention < first < feed < second and not final


def curves(axes: Axes) -> dict[str, Line2D]:
    """The curves of a panel by name, without the level lines of the baselines."""
    named = {str(line.get_label()): line for line in axes.lines}
    return {name: line for name, line in named.items() if name[0] != "_" and "(" not in name}


def test_perplexity_is_drawn_from_the_untrained_model_on_and_then_the_end_alone() -> None:
    training = fixtures.example("training")
    whole, end = perplexity_figure(training).axes
    for axes, first in ((whole, 0), (end, 1_215)):
        lines = curves(axes)
        assert set(lines) == {"training", "validation"}
        for name, key in (("training", "training_perplexity"), ("validation", "perplexity")):
            expected = [(v["step"], v[key]) for v in training["validations"] if v["step"] >= first]
            assert lines[name].get_xydata().tolist() == [list(pair) for pair in expected]  # type: ignore[union-attr]
    assert whole.get_yscale() == "log"
    low, high = whole.get_ylim()
    assert low < min(v["training_perplexity"] for v in training["validations"])
    assert high > training["validations"][0]["perplexity"]


def test_a_run_of_an_older_version_has_the_validation_curve_alone() -> None:
    training = fixtures.example("training")
    for record in training["validations"]:
        del record["training_loss"], record["training_perplexity"]
    whole, end = perplexity_figure(training).axes
    for axes in (whole, end):
        assert set(curves(axes)) == {"validation"}


def test_no_point_of_the_loss_leaves_the_frame() -> None:
    training = fixtures.example("training")
    axes = loss_figure(training).axes[0]
    low, high = axes.get_ylim()
    losses = [point["loss"] for key in ("curve", "validations") for point in training[key]]
    assert low < min(losses) and max(losses) < high


def test_smoothing_keeps_a_line_and_the_mean_of_noise() -> None:
    line = [3.0 - 0.1 * i for i in range(40)]
    assert np.allclose(smooth(line, 9), line)
    noise = np.random.default_rng(0).normal(size=2_000)
    assert smooth(list(noise), 101)[100:-100].std() < 0.15


def test_zipf_exponent_is_found_from_thinned_ranks() -> None:
    for ranks in (range(1, 3_000), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000]):
        assert zipf_exponent([[r, 1e6 * r**-1.3] for r in ranks]) == pytest.approx(1.3)
    assert zipf_exponent([[1, 5], [2, 3]]) is None


def test_curves_hold_the_measured_points() -> None:
    training = fixtures.example("training")
    lines = loss_figure(training).axes[0].lines
    measured = [point["loss"] for point in training["curve"]]
    assert list(lines[0].get_ydata()) == measured  # type: ignore[arg-type]
    shown = words(perplexity_figure(training))
    assert "unigram model (215)" in shown and "4,812" in shown
    assert len(schedule_figure(training).axes) == 2


def test_figures_of_a_very_short_run_can_be_drawn() -> None:
    training = fixtures.example("training")
    training["steps"], training["curve"] = 20, training["curve"][:2]
    training["validations"] = [{"step": 20, "epoch": 1.0, "loss": 3.0, "perplexity": 20.1}]
    training["best"] = training["validations"][0]
    for figure in (loss_figure(training), perplexity_figure(training), schedule_figure(training)):
        figure.canvas.draw()
    data = fixtures.example("data")
    data["rank_frequency"] = [[1, 5], [2, 1]]
    data["length_histogram"] = {"edges": [0, 10], "counts": [3]}
    data_figure(data).canvas.draw()


def test_what_the_layout_finds_anew_leaves_no_trace_in_an_svg(tmp_path: Path) -> None:
    """Its places differ in their last bits, from which matplotlib makes ids."""
    for name, corner in (("a", 0.1), ("b", 0.1 + 1e-12)):
        figure = new_figure(layout="none")
        axes = figure.add_axes((corner, 0.1, 0.8, 0.8))
        axes.plot([0, 1], [0, 1], "o")
        save_figure(figure, tmp_path, name)
    first, second = ((tmp_path / f"{name}.svg").read_text() for name in "ab")
    assert first == second
    used, given = (re.findall(mark, first) for mark in (r"url\(#(\w+)\)", r'id="(\w+)"'))
    assert used and set(used) <= set(given)
