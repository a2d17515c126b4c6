import html
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.interpretability.attention_maps import SentenceAttention, analyse
from tinylm.model.decoder import DecoderLM
from tinylm.report.attention_html import attention_html
from tinylm.report.figures import TEXT_HEIGHT_CM, new_figure, save_figure, style
from tinylm.report.figures.attention import heatmap, heatmap_grid, line_figure

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


@pytest.fixture(scope="module")
def sentence() -> SentenceAttention:
    torch.manual_seed(0)
    model = DecoderLM(
        ModelConfig(vocab_size=20, context_length=16, num_layers=2, num_heads=4, hidden_size=20)
    )
    return analyse(model, list(range(2, 2 + len(WORDS))), WORDS)


def test_figures_are_written_alike_each_time(tmp_path: Path) -> None:
    weights = patterns(2, 4, len(WORDS))

    def written(folder: Path) -> dict[str, bytes]:
        figures = {
            "grid": heatmap_grid(weights, WORDS, "Every head"),
            "one": heatmap(weights[0, 0], WORDS, "Layer 1, head 1"),
            "lines": line_figure(weights[0], WORDS, "Layer 1"),
            "line": line_figure(weights[0], WORDS, "Layer 1, head 3", head=2),
        }
        paths = [path for name in figures for path in save_figure(figures[name], folder, name)]
        return {path.name: path.read_bytes() for path in paths}

    first, second = written(tmp_path / "a"), written(tmp_path / "b")
    assert set(first) == {
        f"{n}.{s}" for n in ("grid", "one", "lines", "line") for s in ("svg", "png")
    }
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
    for i, one in enumerate(boxes):
        assert one.x0 >= 0 and one.x1 <= 1 and one.y0 >= 0 and one.y1 <= 1
        for other in boxes[i + 1 :]:
            apart = one.x1 <= other.x0 or other.x1 <= one.x0
            assert apart or one.y1 <= other.y0 or other.y1 <= one.y0
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
    figure = heatmap(patterns(1, 1, 4)[0, 0], ["a", "b", "c", "d"], "One")
    mask = figure.axes[0].images[0].get_array().mask
    assert (torch.tensor(mask) == torch.ones(4, 4).triu(1).bool()).all()


def test_wrong_shapes_are_refused() -> None:
    weights = patterns(2, 3, 5)
    for draw, wrong in ((heatmap_grid, weights[0]), (heatmap, weights[0]), (line_figure, weights)):
        with pytest.raises(ValueError, match="do not fit"):
            draw(wrong, ["a"] * 5, "")
    with pytest.raises(ValueError, match="do not fit"):
        heatmap_grid(weights, ["a"] * 4, "")
    with pytest.raises(ValueError, match="no head 3"):
        line_figure(weights[0], ["a"] * 5, "", head=3)


def page_data(page: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    data: dict[str, object] = json.loads(found[1])
    return data


def test_page_holds_the_numbers(sentence: SentenceAttention) -> None:
    data = page_data(attention_html([sentence, sentence]))
    (first, second) = data["sentences"]
    assert first == second
    assert first["words"] == WORDS
    for layer in range(2):
        for head in range(4):
            for i, row in enumerate(first["weights"][layer][head]):
                expected = sentence.patterns[layer, head, i, : i + 1].tolist()
                assert row == pytest.approx(expected, abs=5.1e-5)
            numbers = first["descriptors"][layer][head]
            measured = sentence.descriptors[layer][head]
            assert numbers["previous"] == pytest.approx(measured.previous, abs=5.1e-5)
            assert data["all"]["descriptors"][layer][head]["queries"] == 2 * measured.queries
            assert data["all"]["roles"][layer][head] == sentence.roles[layer][head]
    assert first["interpretations"] == [list(row) for row in sentence.interpretations]


def test_page_is_closed_and_escaped(sentence: SentenceAttention) -> None:
    title = 'A <b>"title"</b> & @@DATA@@'
    page = attention_html([sentence], title)
    assert page.count("</script>") == 2  # the data's and the program's own
    assert page.count(html.escape(title)) == 2
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r"\b(src|href)=", page) and "@import" not in page
    assert "innerHTML" not in page
    assert attention_html([sentence], title) == page


def test_page_refuses_nothing_and_a_mixture(sentence: SentenceAttention) -> None:
    with pytest.raises(ValueError, match="no sentence"):
        attention_html([])
    torch.manual_seed(0)
    other = analyse(
        DecoderLM(ModelConfig(vocab_size=9, num_layers=1, num_heads=2, hidden_size=8)),
        [2, 3],
        ["<sos>", "a"],
    )
    with pytest.raises(ValueError, match="different models"):
        attention_html([sentence, other])
