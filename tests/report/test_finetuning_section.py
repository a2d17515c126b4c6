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


def inputs(found: dict[str, Any]) -> ReportInputs:
    return ReportInputs(fixtures.config(), {"finetuning": found}, Path("none"))


def table(found: dict[str, Any], key: str) -> Table:
    (one,) = [b for b in blocks(inputs(found)) if isinstance(b, Table) and b.key == key]
    return one


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["methods"] if one["name"] == name)


def test_without_the_experiment_there_is_no_section() -> None:
    assert blocks(ReportInputs(fixtures.config(), {}, Path("none"))) == []


def test_every_method_has_a_name_and_a_row() -> None:
    assert set(NAMES) >= {"full", "lora+", *METHODS}
    found = fixtures.example("finetuning")
    assert [cells[0] for cells in table(found, "tab:ft-quality").rows] == [
        "the base",
        *(NAMES[one["name"]] for one in found["methods"]),
    ]
    assert len(table(found, "tab:ft-costs").rows) == len(found["methods"])


def test_the_tables_show_what_was_measured() -> None:
    found = fixtures.example("finetuning")
    quality = {cells[0]: cells for cells in table(found, "tab:ft-quality").rows}
    # exp(2.90) = 18.17, exp(2.40) = 11.02; LoRA exp(2.62) = 13.74 and exp(2.46) = 11.70
    assert quality["the base"] == ("the base", "–", "–", "–", "18.2", "–", "11.0", "–")
    gain = f"{100 * (2.90 - 2.62) / (2.90 - 2.60):.0f}\u202f%"
    assert quality["LoRA"] == (
        "LoRA", "0.002", "110,000", "1.83\u202f%", "13.7", gain, "11.7", f"{math.exp(0.06):.2f}×"
    )  # fmt: skip
    assert quality["prompt"][-1] == "1.00×"
    costs = {cells[0]: cells for cells in table(found, "tab:ft-costs").rows}
    disk = (4 * 110_000 + 2_000) / 1024
    assert costs["LoRA"] == (
        "LoRA", f"{disk:.0f}", "96.0", "170\u00a0ms", f"{812 / 0.17:,.0f}", "3,900", "4,990"
    )  # fmt: skip
    assert costs["bottleneck"][-1] == "–"
    assert table(found, "tab:ft-quality").emphasised == (3,)  # LoRA+: the base is row 0
    ranks = table(found, "tab:ft-ranks")
    assert "largest rank of 8" in ranks.caption
    assert [cells[0] for cells in ranks.rows] == ["1", "2", "3", "4", "5", "6", "7", "8", "16"]
    assert ranks.rows[2][1:4] == ("–", "–", "–")
    assert ranks.rows[-1][4:] == ("–", "–")


def test_parts_that_were_not_measured_are_left_out() -> None:
    found = fixtures.example("finetuning")
    found.update(ranks=[], dylora=[])
    found["dimensions"] = {"rows": [], "d90": None}
    found.update(long=None, samples=[])
    keys = {block.key for block in blocks(inputs(found)) if isinstance(block, Table)}
    assert keys == {"tab:ft-quality", "tab:ft-costs"}
    (alone,) = ranks_figure(found).axes
    assert [line.get_label() for line in alone.lines] == ["the base", "everything"]
    finetuning_figure(found).canvas.draw()
    document = assemble(inputs(found))
    assert "nan" not in re.sub("<[^>]*>", "", page(document, Path("none")))


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("steps", 345, "345 steps"),
        ("own_texts", 7_654, "7,654"),
        ("target.validation_texts", 456, "456 validation texts"),
        ("target.unknown_rate", 0.0987, "9.9\u202f%"),
        ("methods.1.trained", 123_456, "123,456"),
        ("methods.4.settings.block_size", 32, "one constant for 32 weights"),
        ("methods.2.settings.learning_rate_ratio", 8.0, "here 8 times"),
        ("long.windows", 77, "77 windows"),
    ],
)
def test_a_changed_number_changes_the_text(path: str, value: float, shown: str) -> None:
    def told(found: dict[str, Any]) -> str:
        html = page(assemble(inputs(found)), Path("none"))
        return re.sub(r"[ \n]+", " ", re.sub("<[^>]*>", "", html.partition("<body>")[2]))

    found = fixtures.example("finetuning")
    assert shown not in told(found)
    *parents, last = path.split(".")
    place: Any = found
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    assert last in place
    place[last] = value
    assert shown in told(found)


# --- figures ---


def test_labels_of_the_figure_cover_nothing() -> None:
    for nudge in (0.0, 0.3):  # the second time the points of LoRA's kin lie on top of each other
        found = fixtures.example("finetuning")
        for one in found["methods"]:
            one["target_loss"] += nudge * (2.62 - one["target_loss"])
        figure = finetuning_figure(found)
        figure.canvas.draw()
        (axes,) = figure.axes
        # An annotation's own box holds its leader too.
        boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}
        assert set(boxes) == {NAMES[one["name"]] for one in found["methods"]}
        for (one, box), (other, second) in itertools.combinations(boxes.items(), 2):
            assert not box.padded(-1).overlaps(second.padded(-1)), (one, other)
        for box in boxes.values():
            assert axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1)


def test_the_figures_hold_the_measured_points() -> None:
    found = fixtures.example("finetuning")
    left, right = ranks_figure(found).axes
    lora, dylora, *levels = left.lines
    assert [line.get_label() for line in levels] == ["the base", "everything"]
    assert list(lora.get_xdata()) == [1, 2, 4, 8, 16]  # type: ignore[arg-type]
    assert len(dylora.get_xdata()) == 8  # type: ignore[arg-type]
    expected = [math.exp(one["target_loss"]) for one in found["dimensions"]["rows"]]
    assert list(right.lines[0].get_ydata()) == pytest.approx(expected)
    enough = next(line for line in right.lines if "tenths" in str(line.get_label()))
    assert enough.get_ydata()[0] == pytest.approx(math.exp(2.9 - 0.9 * 0.3))  # type: ignore[index]
    points = [line for line in finetuning_figure(found).axes[0].lines if len(line.get_xdata()) == 1]  # type: ignore[arg-type]
    assert [line.get_xdata()[0] for line in points] == [  # type: ignore[index]
        one["trained"] for one in found["methods"]
    ]
