"""The figures of how training and generation are done."""

from __future__ import annotations

import pytest

from tests.report import fixtures
from tinylm.experiments.accumulation.figures import accumulation_figure
from tinylm.experiments.beam_search.figures import decoding_figure
from tinylm.experiments.efficiency.figures import cost_figure
from tinylm.experiments.gradient_checkpointing.figures import checkpointing_figure
from tinylm.experiments.kv_cache.figures import growth_figure


def test_figures_hold_the_measured_points() -> None:
    results = fixtures.results()
    growth = results["kv-cache"]["growth"]
    left, right = growth_figure(growth).axes
    assert list(left.lines[0].get_ydata()) == growth["cached"]["step_ms"]  # type: ignore[arg-type]
    assert "without; slope on the right 1.86" in [line.get_label() for line in right.lines]
    runs = results["accumulation"]["runs"]
    left, right = accumulation_figure(runs).axes
    assert len(left.lines) == len(right.lines) == 4
    checkpointing = results["gradient-checkpointing"]
    left, _ = checkpointing_figure(checkpointing["depth"], checkpointing["context"]).axes
    assert [line.get_label() for line in left.lines] == [
        "without",
        "segments of 1",
        "segments of 3",
    ]
    left, bleu, _ = decoding_figure(results["beam-search"]["comparisons"][1]).axes
    assert [line.get_label() for line in left.lines] == [
        *("greedy", "sampling", "beam 5", "beam 10"),
        "true texts",
    ]
    assert [bar.get_width() for bar in bleu.patches][:2] == [8.9, 6.1]  # type: ignore[attr-defined]


def test_planned_time_meets_the_measured_one_at_the_largest_size() -> None:
    series = fixtures.example("efficiency")["growth"]
    drawn = cost_figure(series)
    assert len(drawn.axes) == 8
    measured, planned = drawn.axes[0].lines
    assert list(measured.get_xdata()) == [8, 16, 32, 64]  # type: ignore[arg-type]
    times = [1000 * row["measured"]["step"] for row in series[0]["rows"]]
    assert list(measured.get_ydata()) == times  # type: ignore[arg-type]
    line = list(planned.get_ydata())  # type: ignore[arg-type]
    assert line[-1] == pytest.approx(times[-1])
    assert line[0] < times[0]


def test_figures_of_little_can_be_drawn() -> None:
    results = fixtures.results()
    runs = results["accumulation"]["runs"]
    for run in runs:
        run["curve"] = run["curve"][:1]
    runs[0]["curve"] = []
    comparison = results["beam-search"]["comparisons"][0]
    comparison.update(rows=comparison["rows"][:1], true=None)
    comparison["rows"][0].update(bleu_corpus=0.0, name="$x$")
    depth = results["gradient-checkpointing"]["depth"][:1]
    cost = results["efficiency"]["growth"][0]
    cost["rows"] = cost["rows"][:1]
    for figure in (
        accumulation_figure(runs),
        decoding_figure(comparison),
        checkpointing_figure(depth, []),
        cost_figure([cost]),
    ):
        figure.canvas.draw()
