"""The section on fine-tuning: every number is that of the results, every sentence follows them."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from tests.report import fixtures
from tinylm.experiments.document.build import assemble
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.finetuning.figures import finetuning_figure, ranks_figure
from tinylm.experiments.finetuning.rows import NAMES
from tinylm.experiments.finetuning.section import blocks
from tinylm.registry import METHODS
from tinylm.report.blocks import Table
from tinylm.report.html import page


def inputs(result: dict[str, Any]) -> ReportInputs:
    return ReportInputs(fixtures.config(), {"finetuning": result}, Path("none"))


def table(result: dict[str, Any], key: str) -> Table:
    (chosen,) = [b for b in blocks(inputs(result)) if isinstance(b, Table) and b.key == key]
    return chosen


def row(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in result["methods"] if row["name"] == name)


def test_without_the_experiment_there_is_no_section() -> None:
    assert blocks(ReportInputs(fixtures.config(), {}, Path("none"))) == []


def test_every_method_has_a_name_and_a_row() -> None:
    assert set(NAMES) >= {"full", "lora+", *METHODS}
    result = fixtures.example("finetuning")
    assert [cells[0] for cells in table(result, "tab:ft-quality").rows] == [
        "base model",
        *(NAMES[row["name"]] for row in result["methods"]),
    ]
    assert len(table(result, "tab:ft-costs").rows) == len(result["methods"])


def test_the_tables_show_what_was_measured() -> None:
    result = fixtures.example("finetuning")
    quality = {cells[0]: cells for cells in table(result, "tab:ft-quality").rows}
    # exp(2.90) = 18.17, exp(2.40) = 11.02; LoRA exp(2.62) = 13.74 and exp(2.46) = 11.70
    assert quality["base model"] == ("base model", "–", "–", "–", "18.2", "–", "11.0", "–")
    gain = f"{100 * (2.90 - 2.62) / (2.90 - 2.60):.0f}\u202f%"
    assert quality["LoRA"] == (
        "LoRA", "0.002", "110,000", "1.83\u202f%", "13.7", gain, "11.7", f"{math.exp(0.06):.2f}×"
    )  # fmt: skip
    assert quality["prompt"][-1] == "1.00×"
    costs = {cells[0]: cells for cells in table(result, "tab:ft-costs").rows}
    disk = (4 * 110_000 + 2_000) / 1024
    assert costs["LoRA"] == (
        "LoRA", f"{disk:.0f}", "96.0", "170\u00a0ms", f"{812 / 0.17:,.0f}", "3,900", "4,990"
    )  # fmt: skip
    assert costs["bottleneck"][-1] == "–"
    assert table(result, "tab:ft-quality").emphasised == (3,)  # LoRA+: the base is row 0
    ranks = table(result, "tab:ft-ranks")
    assert "largest rank of 8" in ranks.caption
    assert [cells[0] for cells in ranks.rows] == ["1", "2", "3", "4", "5", "6", "7", "8", "16"]
    assert ranks.rows[2][1:4] == ("–", "–", "–")
    assert ranks.rows[-1][4:] == ("–", "–")


def test_parts_that_were_not_measured_are_left_out() -> None:
    result = fixtures.example("finetuning")
    result.update(ranks=[], dylora=[])
    result["dimensions"] = {"rows": [], "d90": None}
    result.update(long=None, samples=[])
    keys = {block.key for block in blocks(inputs(result)) if isinstance(block, Table)}
    assert keys == {"tab:ft-quality", "tab:ft-costs"}
    (alone,) = ranks_figure(result).axes
    assert [line.get_label() for line in alone.lines] == ["base model", "full fine-tuning"]
    finetuning_figure(result).canvas.draw()
    document = assemble(inputs(result))
    assert "nan" not in re.sub("<[^>]*>", "", page(document, Path("none")))


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("steps", 345, "345 steps"),
        ("own_texts", 7_654, "7,654"),
        ("target.validation_texts", 456, "456 validation texts"),
        ("target.unknown_rate", 0.0987, "9.9\u202f%"),
        ("methods.1.trained", 123_456, "123,456"),
        ("methods.4.settings.block_size", 32, "one scale per block of 32 weights"),
        ("methods.2.settings.learning_rate_ratio", 8.0, "here 8 times"),
        ("long.windows", 77, "77 windows"),
    ],
)
def test_a_changed_number_changes_the_text(path: str, value: float, shown: str) -> None:
    def text(result: dict[str, Any]) -> str:
        html = page(assemble(inputs(result)), Path("none"))
        return re.sub(r"[ \n]+", " ", re.sub("<[^>]*>", "", html.partition("<body>")[2]))

    result = fixtures.example("finetuning")
    assert shown not in text(result)
    *parents, last = path.split(".")
    place: Any = result
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    assert last in place
    place[last] = value
    assert shown in text(result)


# --- figures ---


def test_labels_of_the_figure_cover_nothing() -> None:
    for nudge in (0.0, 0.3):  # the second time points of LoRA and its variants coincide
        result = fixtures.example("finetuning")
        for row in result["methods"]:
            row["target_loss"] += nudge * (2.62 - row["target_loss"])
        figure = finetuning_figure(result)
        figure.canvas.draw()
        (axes,) = figure.axes
        # An annotation's own box holds its leader too.
        boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
        assert set(boxes) == {NAMES[row["name"]] for row in result["methods"]}
        for (row, box), (other, second) in itertools.combinations(boxes.items(), 2):
            assert not box.padded(-1).overlaps(second.padded(-1)), (row, other)
        for box in boxes.values():
            assert axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)


def test_the_figures_hold_the_measured_points() -> None:
    result = fixtures.example("finetuning")
    left, right = ranks_figure(result).axes
    lora, dylora, *levels = left.lines
    assert [line.get_label() for line in levels] == ["base model", "full fine-tuning"]
    assert list(lora.get_xdata()) == [1, 2, 4, 8, 16]  # type: ignore[arg-type]
    assert len(dylora.get_xdata()) == 8  # type: ignore[arg-type]
    expected = [math.exp(row["target_loss"]) for row in result["dimensions"]["rows"]]
    assert list(right.lines[0].get_ydata()) == pytest.approx(expected)
    enough = next(line for line in right.lines if "tenths" in str(line.get_label()))
    assert enough.get_ydata()[0] == pytest.approx(math.exp(2.9 - 0.9 * 0.3))  # type: ignore[index]
    points = [
        line for line in finetuning_figure(result).axes[0].lines if len(line.get_xdata()) == 1
    ]  # type: ignore[arg-type]
    assert [line.get_xdata()[0] for line in points] == [  # type: ignore[index]
        row["trained"] for row in result["methods"]
    ]
