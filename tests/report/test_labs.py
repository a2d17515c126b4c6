"""The labs in the report and standing alone: what the text says follows from the numbers."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import typst

from tests.report import fixtures
from tinylm.errors import DataError
from tinylm.experiments.document.alone import build_alone, document
from tinylm.experiments.document.inputs import ReportInputs, load_inputs
from tinylm.experiments.lab_mnist import section as mnist_section
from tinylm.experiments.lab_svd import section as svd_section
from tinylm.experiments.lab_svd.weights import kinds
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import Heading, number
from tinylm.report.html import page

LABS = ("lab-svd", "lab-mnist")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("labs")
    fixtures.write_run(run, {name: fixtures.example(name) for name in LABS})
    for name in LABS:
        build_alone(run, name, fixtures.config(), [f"tinylm {name.replace('-', ' ')} there"])
    return run


def text_of(name: str, results: dict[str, Any] | None = None) -> str:
    inputs = ReportInputs(fixtures.config(), {name: results or fixtures.example(name)},
                          Path("none"))  # fmt: skip
    html = page(document(inputs, name), inputs.folder)
    return re.sub(r"[ \n]+", " ", re.sub("<[^>]*>", "", html.partition("<body>")[2]))


@pytest.mark.parametrize("name", LABS)
def test_a_lab_is_a_few_pages_in_both_forms(folder: Path, name: str) -> None:
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    pages = typst.Compiler(input=folder / f"{name}.typ", root=folder).compile(format="png", ppi=5)
    assert isinstance(pages, list)
    assert 2 <= len(pages) <= 4
    html = (folder / f"{name}.html").read_text("utf-8")
    drawn = sorted((folder / "figures").glob(f"{name}-*.svg"))
    assert len(drawn) == html.count("data:image/svg") == 3
    assert f"tinylm {name.replace('-', ' ')} there" in html
    assert not (folder / "report.pdf").exists()


@pytest.mark.parametrize("name", LABS)
def test_building_again_gives_the_same_bytes(folder: Path, name: str) -> None:
    before = (folder / f"{name}.pdf").read_bytes()
    assert set(
        build_alone(folder, name, fixtures.config(), [f"tinylm {name.replace('-', ' ')} there"])
    ) == {*("pdf", "html", "typst")}
    assert (folder / f"{name}.pdf").read_bytes() == before


@pytest.mark.parametrize("name", LABS)
def test_its_heading_is_the_title_and_its_parts_are_the_sections(folder: Path, name: str) -> None:
    page = document(load_inputs(folder, commands=["x"], experiments=[name]), name)
    section = (svd_section if name == "lab-svd" else mnist_section).blocks(
        load_inputs(folder, experiments=[name])
    )
    first, *_ = section
    assert isinstance(first, Heading)
    assert (first.key, first.text) == (f"sec:{name}", page.title)
    headings = [block for block in page.blocks if isinstance(block, Heading)]
    assert {block.level for block in headings} == {1}
    number(page.blocks, [page.abstract])  # every reference leads somewhere
    assert text_of(name)  # also without figures


def test_what_is_missing_or_unusable_is_one_line(tmp_path: Path) -> None:
    fixtures.write_run(tmp_path, {"lab-svd": {"example": {}}})
    with pytest.raises(DataError, match="no result of lab-mnist: run that experiment first"):
        build_alone(tmp_path, "lab-mnist", fixtures.config(), [])
    with pytest.raises(DataError, match="run the experiments again") as error:
        build_alone(tmp_path, "lab-svd", fixtures.config(), [])
    assert "\n" not in str(error.value)


def test_figures_hold_the_numbers() -> None:
    result = fixtures.example("lab-svd")
    drawn = dict(EXPERIMENTS.load("lab-svd").draw(result, fixtures.config()))
    weights, update = drawn["lab-svd-spectra"].axes
    for axes, part in ((weights, "weight"), (update, "update")):
        assert len(axes.lines) == len(result["matrices"])
        values = result["matrices"][2][part]["values"]
        assert list(axes.lines[2].get_ydata()) == [value / values[0] for value in values]  # type: ignore[arg-type]
    error, loss = drawn["lab-svd-cut"].axes
    rows = result["cut"]["groups"]["attention"]["rows"]
    # The whole matrices are no cut.
    assert list(error.lines[0].get_ydata()) == [100 * row["relative_error"] for row in rows[:-1]]  # type: ignore[arg-type]
    assert list(loss.lines[0].get_ydata()) == [row["loss"] for row in rows[:-1]]  # type: ignore[arg-type]
    chosen, others = drawn["lab-svd-update"].axes
    for axes, kind in ((chosen, "chosen"), (others, "others")):
        losses = [row["losses"][kind] for row in result["update"]["ranks"]]
        assert list(axes.lines[0].get_ydata()) == losses  # type: ignore[arg-type]
    digits = fixtures.example("lab-mnist")
    drawn = dict(EXPERIMENTS.load("lab-mnist").draw(digits, fixtures.config()))
    before, after = drawn["lab-mnist-confusion"].axes
    assert [text.get_text() for text in before.texts][:2] == ["96", "4"]
    assert len(after.texts) == 20
    bars, _ = drawn["lab-mnist-methods"].axes
    heights = [bar.get_height() for bar in bars.patches]  # type: ignore[attr-defined]
    assert heights[5] == pytest.approx(69)
    assert heights[15] == pytest.approx(83)


def test_figures_of_little_can_be_drawn() -> None:
    result = fixtures.example("lab-svd")
    result["matrices"] = result["matrices"][:1]
    result["update"]["ranks"] = result["update"]["ranks"][:1]
    for group in result["cut"]["groups"].values():
        group["rows"] = group["rows"][-1:]
    digits = fixtures.example("lab-mnist")
    digits["methods"] = [row for row in digits["methods"] if row["name"] == "lora-4"]
    for row in (digits["methods"][0], digits["baseline"]):
        row["test"] = row["test"][:1]
    digits["examples"] = []
    drawings = [
        *EXPERIMENTS.load("lab-svd").draw(result, fixtures.config()),
        *EXPERIMENTS.load("lab-mnist").draw(digits, fixtures.config()),
    ]
    assert len(drawings) == 5
    for _, figure in drawings:
        figure.canvas.draw()


# --- the words ---


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("example.parameters", 23, "23 numbers in place of 30"),
        ("best.competitors", 77, "No random factorisation, 77 of each rank"),
        ("cut.groups.all.rows.2.loss", 2.777, "2.78 nats"),
        ("update.before.chosen", 2.2345, "2.2345"),
        ("update.ranks.3.stored", 123_456, "123,456"),
        ("matrices.1.relative_norm", 0.345, "34.5\u202f%"),
    ],
)
def test_a_changed_number_changes_the_text_of_svd(path: str, value: float, shown: str) -> None:
    assert shown not in text_of("lab-svd")
    assert shown in text_of("lab-svd", changed(fixtures.example("lab-svd"), path, value))


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("network.parameters", 12_345, "12,345"),
        ("methods.3.bytes", 54_321, "54,321"),
        ("methods.0.learning_rate", 0.07, "0.07"),
        ("check.merged", 0.26, "differ by at most 0.26"),
        ("baseline.confusions.0.share", 0.333, "33.3\u202f%"),
        ("data.images.test", 4_444, "4,444"),
    ],
)
def test_a_changed_number_changes_the_text_of_mnist(path: str, value: float, shown: str) -> None:
    assert shown not in text_of("lab-mnist")
    assert shown in text_of("lab-mnist", changed(fixtures.example("lab-mnist"), path, value))


def changed(result: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    copied = copy.deepcopy(result)
    *parents, last = path.split(".")
    place: Any = copied
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    assert last in place
    place[last] = value
    return copied


def test_matrices_of_the_same_place_are_one_row() -> None:
    matrices = fixtures.example("lab-svd")["matrices"]
    assert [len(same) for same in kinds(matrices).values()] == [1, 2, 1, 2, 1]
