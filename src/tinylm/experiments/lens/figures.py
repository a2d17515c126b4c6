"""Figures of the lenses: measures by place, a sentence read, and what the parts add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from tinylm.config import RunConfig
from tinylm.experiments.lens.parts import label
from tinylm.experiments.lens.reading import Reading, share
from tinylm.measurement import Difference
from tinylm.report.axes import DASHES
from tinylm.report.drawing import COLOURS, WEIGHTS, Drawn, new_figure, shared_legend, style

PLACES, SENTENCE, PARTS = "lens", "lens-sentence", "lens-parts"
_LENSES = (("logit", "logit lens", "o"), ("tuned", "tuned lens", "s"))
_MOST_PARTS = 40
"""Bars that a page holds."""
_MOST_PLACES = 9
"""Columns of a sentence that keep words legible."""
_LONGEST = 10
"""Characters of a word."""


def draw(result: Mapping[str, Any], _: RunConfig) -> Drawn:
    """Yield the figures."""
    yield PLACES, places_figure(result["places"])
    yield SENTENCE, sentence_figure(result["example"]["logit"])
    yield PARTS, parts_figure(result["parts"])


def places_figure(places: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw divergence and agreement by place, with intervals, a line a lens."""
    with style():
        figure = new_figure(height_cm=7.2)
        axes = figure.subplots(1, 2)
        _lines(axes[0], places, "divergence")
        axes[0].set_title("Divergence from the end")
        axes[0].set_ylabel("KL(end || place), nats")
        _lines(axes[1], places, "agreement")
        axes[1].set_title("Likeliest word that of the end")
        axes[1].set_ylabel("positions")
        axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        shared_legend(figure, axes, 2)
    return figure


def _lines(axes: Axes, places: Sequence[Mapping[str, Any]], measure: str) -> None:
    across = range(len(places))
    for i, (key, name, marker) in enumerate(_LENSES):
        values = [Difference.from_result(place[measure][key]) for place in places]
        axes.plot(
            across, [value.value for value in values], color=COLOURS[i], linestyle=DASHES[i],
            marker=marker, label=name,
        )  # fmt: skip
        axes.vlines(
            across, [value.low for value in values], [value.high for value in values],
            color=COLOURS[i], linewidth=1,
        )  # fmt: skip
    axes.set_xticks(across, [place["place"] for place in places], rotation=45, ha="right")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")


def shown_places(reading: Reading) -> list[int]:
    """Return the places of a reading that are drawn: evenly spread where there are many."""
    count = len(reading["places"])
    wanted = min(count, _MOST_PLACES)
    return [round(i * (count - 1) / max(1, wanted - 1)) for i in range(wanted)]


def sentence_figure(reading: Reading) -> Figure:
    """Draw a text as a table: the likeliest word at each place, darker where it is likelier."""
    shown = shown_places(reading)
    words = reading["words"]
    values = [
        [reading["cells"][place][position]["top"][0][1] for place in shown]
        for position in range(len(words))
    ]
    with style():
        figure = new_figure(height_cm=2 + 0.55 * len(words))
        axes = figure.subplots()
        axes.imshow(values, cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto")
        for position in range(len(words)):
            for column, place in enumerate(shown):
                word, probability = reading["cells"][place][position]["top"][0]
                axes.text(
                    column, position, f"{_clipped(word)} {share(probability)}",
                    ha="center", va="center", fontsize=6.5, parse_math=False,
                    color="white" if probability > 0.6 else "black",
                )  # fmt: skip
        axes.set_xticks(range(len(shown)), [reading["places"][i].replace(" ", "\n") for i in shown])
        axes.xaxis.tick_top()
        axes.set_yticks(range(len(words)), [_clipped(word) for word in words])
        for name in axes.get_yticklabels():
            name.set_parse_math(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def shown_parts(parts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the parts that add most, either way, in the order of the model."""
    largest = sorted(parts, key=lambda part: -abs(part["adds"][0]))[:_MOST_PARTS]
    return [part for part in parts if part in largest]


def parts_figure(parts: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw what the parts add as bars with intervals."""
    shown = shown_parts(parts)
    adds = [Difference.from_result(part["adds"]) for part in shown]
    down = range(len(shown))
    with style():
        figure = new_figure(height_cm=1.6 + 0.38 * len(shown))
        axes = figure.subplots()
        axes.barh(down, [part.value for part in adds], color=COLOURS[0], height=0.7)
        axes.hlines(
            down, [part.low for part in adds], [part.high for part in adds],
            color=COLOURS[1], linewidth=1.2,
        )  # fmt: skip
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yticks(down, [label(str(part["part"])) for part in shown])
        axes.invert_yaxis()
        axes.set_xlabel("added to the logit of the word that follows, above the mean logit")
        axes.grid(axis="x")
    return figure


def _clipped(word: str) -> str:
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"
