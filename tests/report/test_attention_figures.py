import html
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from tests.report import fixtures
from tinylm.experiments.attention.figures import heatmap_grid, line_figure
from tinylm.experiments.attention.heads_figure import heads_figure
from tinylm.experiments.attention.page import attention_html
from tinylm.interpretability.places import PLACES, label
from tinylm.measurement import Difference
from tinylm.report.drawing import TEXT_HEIGHT_CM, new_figure, save_figure, style

WORDS = [
    "<sos>",
    "the",
    "little",
    "dog",
    "&",
    "the",
    "cat",
    "saw",
    "$",
    "a",
    "--",
    "dog",
    "_",
    "</script>",
]


def patterns(layers: int, heads: int, seq: int) -> Tensor:
    generator = torch.Generator().manual_seed(layers + heads)
    scores = 2 * torch.randn(layers, heads, seq, seq, generator=generator)
    return scores.masked_fill(torch.ones(seq, seq).triu(1).bool(), -1e9).softmax(-1)


@pytest.fixture
def result() -> dict[str, Any]:
    """Attention of words that are markup elsewhere, by heads of every role."""
    result = fixtures.example("attention")
    first = result["sentences"][0]
    weights = patterns(3, 8, len(WORDS))
    rounded = [
        [[[round(w, 4) for w in row] for row in head] for head in layer]
        for layer in weights.tolist()
    ]
    first.update(words=WORDS, patterns=rounded)
    return result


def test_figures_are_written_alike_each_time(tmp_path: Path) -> None:
    weights = patterns(2, 4, len(WORDS))

    def written(folder: Path) -> dict[str, bytes]:
        figures = {
            "grid": heatmap_grid(weights, WORDS, "Every head"),
            "lines": line_figure(weights[0], WORDS, "Layer 1"),
        }
        paths = [path for name in figures for path in save_figure(figures[name], folder, name)]
        return {path.name: path.read_bytes() for path in paths}

    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    assert set(first) == {f"{n}.{s}" for n in ("grid", "lines") for s in ("svg", "png")}
    assert first == second
    for name, content in first.items():
        if not name.endswith("svg"):
            assert content.startswith(b"\x89PNG")
            continue
        text = content.decode()
        assert len(content) < 200_000
        assert "<dc:date>" not in text
        ElementTree.fromstring(text)  # well formed, whatever the words
        for word in ("&lt;sos&gt;", "&amp;", "$", "&lt;/script&gt;", "little"):
            assert f"<!-- {word} -->" in text
        assert "<sos>" not in text and "</script>" not in text


def test_one_figure_can_be_written_twice(tmp_path: Path) -> None:
    with style():
        figure = new_figure(height_cm=4)
        figure.subplots().plot([0, 1], [1, 3], label="loss")
    first = [path.read_bytes() for path in save_figure(figure, tmp_path, "loss")]
    assert [path.read_bytes() for path in save_figure(figure, tmp_path, "loss")] == first


def test_style_leaves_settings_as_they_were() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    with style():
        assert matplotlib.rcParams["svg.hashsalt"] == "tinylm"
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("layers", "heads", "seq"), [(3, 8, 14), (6, 12, 14), (1, 1, 2), (2, 5, 40)]
)
def test_grids_fit_a_page(layers: int, heads: int, seq: int) -> None:
    words = [f"word{i}" for i in range(seq)]
    figure = heatmap_grid(patterns(layers, heads, seq), words, "A long title " * 12)
    assert figure.get_figheight() * 2.54 <= TEXT_HEIGHT_CM + 0.01
    panels = figure.axes[:-1]  # the last is the colour bar
    assert len(panels) == layers * heads
    boxes = [panel.get_position() for panel in panels]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= 1 and box.y0 >= 0 and box.y1 <= 1
        for other in boxes[i + 1 :]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0
            assert apart or box.y1 <= other.y0 or other.y1 <= box.y0
    shown = {text.get_text() for panel in panels for text in panel.get_yticklabels()}
    listed = " ".join(text.get_text() for text in figure.texts)
    assert all(word in shown or word in listed for word in words)


@pytest.mark.parametrize(("heads", "seq"), [(8, 14), (12, 30), (1, 60), (5, 3)])
def test_line_figures_fit_a_page(heads: int, seq: int) -> None:
    words = [f"word{i}" for i in range(seq)]
    figure = line_figure(patterns(1, heads, seq)[0], words, "Layer 1")
    assert figure.get_figheight() * 2.54 <= TEXT_HEIGHT_CM + 0.01
    assert len(figure.axes) == heads
    for panel in figure.axes:
        assert [text.get_text() for text in panel.texts[::2]] == words


def test_the_future_stays_blank() -> None:
    figure = heatmap_grid(patterns(1, 1, 4), ["a", "b", "c", "d"], "One")
    mask = figure.axes[0].images[0].get_array().mask
    assert (torch.tensor(mask) == torch.ones(4, 4).triu(1).bool()).all()


def test_wrong_shapes_are_refused() -> None:
    weights = patterns(2, 3, 5)
    for draw, wrong in ((heatmap_grid, weights[0]), (line_figure, weights)):
        with pytest.raises(ValueError, match="do not fit"):
            draw(wrong, ["a"] * 5, "")
    with pytest.raises(ValueError, match="do not fit"):
        heatmap_grid(weights, ["a"] * 4, "")


def page_data(page: str) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    data: dict[str, Any] = json.loads(match[1])
    return data


def test_page_holds_the_numbers(result: dict[str, Any]) -> None:
    data = page_data(attention_html(result))
    assert data["stories"] == 100
    first, *others = data["sentences"]
    assert len(others) == 2
    assert first["words"] == WORDS
    for layer in range(3):
        for head in range(8):
            given = result["sentences"][0]["patterns"][layer][head]
            assert first["weights"][layer][head] == [row[: i + 1] for i, row in enumerate(given)]
    for shown, head in zip(data["heads"], result["heads"], strict=True):
        for key in ("layer", "head", "interpretation", "worth_told"):
            assert shown[key] == head[key]
        assert shown["role"] == label(head["role"])
        assert shown["second"] == (head["second"] and label(head["second"]))
        assert {*shown["shares"]} == {label(name) for name in head["shares"]} <= {*data["places"]}
        for name, kept in head["shares"].items():
            share, expected = shown["shares"][label(name)]
            assert share == pytest.approx(kept["share"], abs=5.1e-5)
            assert expected == pytest.approx(kept["expected"], abs=5.1e-5)
        assert shown["worth"] == head["worth"][0]


def test_page_is_closed_and_escaped(result: dict[str, Any]) -> None:
    title = 'A <b>"title"</b> & @@DATA@@'
    page = attention_html(result, title)
    assert page.count("</script>") == 2  # the data's and the program's own
    assert page.count(html.escape(title)) == 2
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r"\b(src|href)=", page) and "@import" not in page
    assert "innerHTML" not in page
    assert attention_html(result, title) == page


def test_page_refuses_nothing(result: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no sentence"):
        attention_html({**result, "sentences": []})


def test_every_head_has_its_row_of_shares_and_its_worth() -> None:
    heads = fixtures.example("attention")["heads"]
    heads[0]["worth"] = [None, None, None]
    shares, worth = heads_figure(heads).axes
    assert [tick.get_text() for tick in shares.get_yticklabels()] == [
        f"{layer}.{head}" for layer in (1, 2, 3) for head in range(1, 9)
    ]
    columns = [tick.get_text() for tick in shares.get_xticklabels()]
    cells = {(round(t.get_position()[0]), round(t.get_position()[1])): t for t in shares.texts}
    assert columns == [place.label for place in PLACES]
    assert {"second previous token", "tokens 3 to 8 back"} < {*columns}
    assert len(cells) == len(columns) * len(heads)
    for (column, row), text in cells.items():
        share = heads[row]["shares"][PLACES[column].name]["share"]
        assert text.get_text() == f"{100 * share:.0f}"
        bold = heads[row]["role"] == PLACES[column].name
        assert text.get_fontweight() == ("bold" if bold else "normal")
    points = {container.lines[0].get_xydata()[0][1]: container for container in worth.containers}
    assert sorted(points) == list(range(1, 24))  # the first could not be measured
    for row, container in points.items():
        expected = Difference.from_result(heads[int(row)]["worth"])
        assert container.lines[0].get_xydata()[0][0] == expected.value
        (interval,) = container.lines[2]
        assert interval.get_segments()[0][:, 0].tolist() == pytest.approx(
            [expected.low, expected.high]
        )
