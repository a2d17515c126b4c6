"""The section on fine-tuning: every number is that of the results, every sentence follows them."""

from __future__ import annotations

import copy
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from tests.report import fixtures
from tests.report.finetuning_fixtures import PROJECTIONS, finetuning
from tinylm.registry import METHODS
from tinylm.report.blocks import Table
from tinylm.report.build import assemble
from tinylm.report.figures.finetuning import finetuning_figure, ranks_figure
from tinylm.report.html import page
from tinylm.report.inputs import ReportInputs
from tinylm.report.sections.finetuning import blocks, forgetting_comment, quality_comment
from tinylm.report.sections.finetuning_costs import cost_comment, quantization_comment
from tinylm.report.sections.finetuning_rows import NAMES
from tinylm.report.sections.finetuning_scaling import (
    context_comment,
    dimension_comment,
    rank_comment,
)


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
    found = finetuning()
    assert [cells[0] for cells in table(found, "tab:ft-quality").rows] == [
        "the base",
        *(NAMES[one["name"]] for one in found["methods"]),
    ]
    assert len(table(found, "tab:ft-costs").rows) == len(found["methods"])


def test_the_tables_show_what_was_measured() -> None:
    found = finetuning()
    quality = {cells[0]: cells for cells in table(found, "tab:ft-quality").rows}
    # exp(2.90) = 18.17, exp(2.40) = 11.02; LoRA exp(2.62) = 13.74 and exp(2.46) = 11.70
    assert quality["the base"] == ("the base", "–", "–", "–", "18.2", "–", "11.0", "–")
    gain = f"{100 * (2.90 - 2.62) / (2.90 - 2.60):.0f}\u202f%"
    change = f"+{100 * (math.exp(0.06) - 1):.1f}\u202f%"
    assert quality["LoRA"] == (
        "LoRA", "0.002", "110,000", "1.83\u202f%", "13.7", gain, "11.7", change
    )  # fmt: skip
    assert quality["prompt"][-1] == "0\u202f%"
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


def test_what_is_learned_is_told_as_it_went() -> None:
    found = finetuning()
    text = quality_comment(found)
    assert "from 18.2 to 13.5" in text
    assert "LoRA+ does best, 13.3" in text
    assert "nine tenths of the gain are reached by LoRA, LoRA+, QLoRA and LongLoRA" in text
    assert "The least is gained by prompt, 37\u202f%" in text
    row(found, "prompt")["target_loss"] = 2.95
    assert "prompt gained nothing" in quality_comment(found)
    row(found, "lora+")["target_loss"] = 2.50
    assert "better than that" in quality_comment(found)
    for one in found["methods"]:
        one["target_loss"] = 2.6 if one["name"] == "full" else 2.7
    text = quality_comment(found)
    assert "10.5\u202f% above that" in text
    assert "None reaches nine tenths of the gain in 300 steps" in text
    row(found, "full")["target_loss"] = 2.0
    assert "2.01× as much" in quality_comment(found)
    row(found, "full")["target_loss"] = 3.0
    assert "gained *nothing*" in quality_comment(found)
    assert "–" in table(found, "tab:ft-quality").rows[2]


def test_kin_of_lora_are_compared_with_it() -> None:
    found = finetuning()
    text = quality_comment(found)
    assert "a higher rate for $B$ (LoRA+) lowers it by 3.0\u202f%" in text
    assert "serving every rank (DyLoRA) raises it by 4.1\u202f%" in text
    row(found, "qlora")["target_loss"] = row(found, "lora")["target_loss"]
    assert "4 bits (QLoRA) changes perplexity by less than 1\u202f%" in quality_comment(found)


def test_what_is_forgotten_is_told_as_it_went() -> None:
    found = finetuning()
    text = forgetting_comment(found)
    assert "after every way but prompt and SAID" not in text  # SAID: 1.005 %
    assert "after every way but prompt; most after everything, by 12.7\u202f%" in text
    for one in found["methods"]:
        one["base_loss"] = 2.40
    assert "after none of them" in forgetting_comment(found)
    for one in found["methods"]:
        one["base_loss"] = 2.30
    assert "It *falls* after every way" in forgetting_comment(found)
    row(found, "lora")["base_loss"] = 2.50
    text = forgetting_comment(found)
    assert "after LoRA alone, by 10.5\u202f%" in text
    assert "falls* after every way but LoRA" in text


def test_costs_are_told_as_they_were() -> None:
    found = finetuning()
    text = cost_comment(found)
    assert "peaks at 148 MiB, one of prefix at 95.0, 36\u202f% less" in text
    assert "prefix 1.27× as fast" in text
    assert "Slower than training everything: SAID, up to 1.14× the time (SAID)" in text
    assert "SAID computes the whole update" in text
    assert "QLoRA computes" not in text  # it was no slower
    assert "most for SAID, 2.36×" in text
    assert "merged, none is measurably different from the plain model" in text
    row(found, "lora")["generation_merged"] = copy.deepcopy(row(found, "lora")["generation"])
    text = cost_comment(found)
    assert "faster for LoRA+" in text
    assert "measurably different from the plain model" not in text
    full = row(found, "full")
    for one in found["methods"]:
        one["step"] = full["step"]
        one["peak_bytes"] = full["peak_bytes"]
        if one["generation_merged"]:
            one["generation_merged"] = one["generation"]
    text = cost_comment(found)
    assert "none is measurably different from training everything" in text
    assert "None lowers the peak" in text
    assert "measurably faster in no case" in text
    for one in found["methods"]:
        one["generation_merged"] = None
    assert "No adapter here can be merged" in cost_comment(found)


def test_bytes_in_four_bits() -> None:
    found = finetuning()
    text = quantization_comment(found)
    assert f"{PROJECTIONS:,} weights" in text
    assert f"{PROJECTIONS // 2:,} bytes of codes, 0.500 a weight" in text
    assert "8/64 + 32/(64 · 256) = 0.127" in text
    assert "make the difference" not in text
    held = row(found, "qlora")["quantized"]
    held["constant_bytes"] *= 2
    assert "blocks that are not full" in quantization_comment(found)
    row(found, "qlora")["settings"]["double_quantization"] = False
    assert "32/64 = 0.500" in quantization_comment(found)
    row(found, "qlora")["quantized"] = None
    assert quantization_comment(found) == ""


def test_ranks_are_told_as_they_were() -> None:
    found = finetuning()
    text = rank_comment(found)
    assert "From rank 1 to 16, with 16 times the parameters, LoRA's perplexity falls by" in text
    assert "rank 8 is within 1\u202f% of the best" in text
    assert "largest rank of 8" in text
    assert "worse than a LoRA trained for that rank alone at ranks 1, 2, 4 and 8" in text
    for one in found["ranks"]:
        one["target_loss"] = 2.62
    for one in found["dylora"]:
        one["target_loss"] = 2.62 - 0.1 * (one["rank"] == 4)
    text = rank_comment(found)
    assert "changes by less than 1\u202f%" in text
    assert "better at rank 4 (by up to 9.5\u202f%)" in text
    assert "within 1\u202f% of it at ranks 1, 2 and 8" in text
    found["ranks"] = []
    assert "It is" not in rank_comment(found)


def test_the_intrinsic_dimension_is_told_or_not_found() -> None:
    found = finetuning()
    text = dimension_comment(found)
    assert "reached in 8,192 dimensions, 0.137\u202f%" in text
    assert "between 2,048 and 8,192" in text
    assert table(found, "tab:ft-dimension").emphasised == (3,)
    found["dimensions"]["d90"] = 32
    assert "at most 32" in dimension_comment(found)
    found["dimensions"]["d90"] = None
    text = dimension_comment(found)
    assert "the most is 93\u202f%, in 8,192 dimensions. So $d_90$ is above 8,192" in text
    row(found, "full")["target_loss"] = 3.0
    assert "there is no $d_90$" in dimension_comment(found)


def test_the_longer_context_is_told_as_it_was() -> None:
    long = finetuning()["long"]
    text = context_comment(long)
    assert "17.8 within its context and 49.9 beyond it, 2.80× as high" in text
    assert "LongLoRA is 17.3\u202f% lower, with 13.5 times the parameters" in text
    assert "takes 92\u202f% of the time" in text
    base, lora, grouped = long["rows"]
    base["beyond"] = base["within"]
    grouped.update(beyond=lora["beyond"], step=lora["step"])
    text = context_comment(long)
    assert "do not disturb it" in text
    assert "equal to 1\u202f%" in text
    assert "The times of their steps are not measurably different" in text
    base["beyond"] = base["within"] + math.log(1.05)
    assert "5.0\u202f% more: positions that it has not seen disturb it little" in context_comment(
        long
    )
    long["rows"] = [base]
    assert "brings" not in context_comment(long)


def test_parts_that_were_not_measured_are_left_out() -> None:
    found = finetuning()
    found.update(ranks=[], dylora=[])
    found["dimensions"] = {"rows": [], "d90": None}
    found["long"]["rows"] = [{"method": "none", "within": None, "beyond": None}]
    keys = {block.key for block in blocks(inputs(found)) if isinstance(block, Table)}
    assert keys == {"tab:ft-quality", "tab:ft-costs"}
    finetuning_figure(found).canvas.draw()
    document = assemble(inputs(found))
    assert "nan" not in re.sub("<[^>]*>", "", page(document, Path("none")))


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("base_steps", 1_234, "1,234 steps"),
        ("steps", 345, "345 steps"),
        ("train_stories", 7_654, "7,654"),
        ("shares.chosen", 0.0987, "9.9\u202f%"),
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

    found = finetuning()
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
        found = finetuning()
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
    found = finetuning()
    left, right = ranks_figure(found).axes
    lora, dylora = left.lines
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
