"""A model drawn from its own outline: boxes from the tokens up, its layers in a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from tinylm.config import ModelConfig
from tinylm.experiments.training.architecture_figure import Drawing
from tinylm.model.outline import Box, Outline
from tinylm.report.drawing import CM, COLOURS, new_figure, style

_WIDTH, _STEM, _HALF = 9.0, 4.8, 2.1  # centimetres
_GAP, _TALL, _LOW = 0.45, 0.85, 0.5
_BESIDE = 8.2
"""From the middle of a stack to that of the stack that reads its output."""


def outlined_figure(
    outline: Outline, config: ModelConfig, vocab_size: int, parameters: Mapping[str, int]
) -> Figure:
    """Draw the model, with the stack of the source at the left if it has one.

    Args:
        outline: what it says of itself.
        config: the model's configuration.
        vocab_size: number of token types.
        parameters: counts by part, written beside the boxes.
    """
    beside = 0.0
    if outline.source is not None:  # an arrow that leads back makes the frame wider
        beside = _BESIDE + 0.5 * any(box.loop for box in outline.source.layer)
    stem = _STEM + beside
    with style():
        figure = new_figure(layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        drawing = _Stacks(axes, config.num_layers, parameters)
        y = drawing.stack(stem, outline.tokens, outline.before, outline.layer, outline.title)
        y = drawing.boxes(stem, y, (*outline.after, Box("Softmax")))
        drawing.arrow([(stem, y), (stem, y + 0.35)])
        axes.text(
            stem, y + 0.55, f"probability of each of {vocab_size:,} next tokens", ha="center",
            va="center", fontsize=7.5,
        )  # fmt: skip
        height, width = y + 0.85, _WIDTH
        if outline.source is not None:
            readers, drawing.readers = drawing.readers, []
            source = outline.source
            end = drawing.stack(_STEM, source.tokens, source.before, source.layer, source.title)
            end = drawing.boxes(_STEM, end, source.after)
            turn = (_STEM + stem) / 2 - 0.55
            for reader in readers:
                drawing.arrow(
                    [
                        *((_STEM, end), (_STEM, end + _GAP), (turn, end + _GAP), (turn, reader)),
                        (stem - _HALF, reader),
                    ],
                    colour=COLOURS[1],
                )
            height, width = max(height, end + 0.9), _WIDTH + beside
        figure.set_size_inches(width * CM, height * CM)
        axes.set_xlim(0, width)
        axes.set_ylim(0, height)
    return figure


class _Stacks(Drawing):
    """Stacks of boxes, with their numbers of parameters."""

    def __init__(self, axes: Axes, layers: int, parameters: Mapping[str, int]) -> None:
        super().__init__(axes)
        self.layers = layers
        self.parameters = parameters
        self.readers: list[float] = []
        """Heights of the boxes that read what another stack gives."""

    def boxes(self, x: float, y: float, boxes: Sequence[Box], layers: int = 1) -> float:
        """Draw boxes upwards, an arrow into each; return the upper edge of the last.

        Args:
            x: their middle.
            y: where the first arrow begins.
            boxes: from the bottom up.
            layers: that share the parameters of each; 1: none does.
        """
        where = "in each layer" if layers > 1 else "parameters"
        for box in boxes:
            tall = _TALL if "\n" in box.text else _LOW
            self.arrow([(x, y), (x, y + _GAP)])
            y += _GAP
            self.box(x, y, _HALF, tall, box.text, _fill(box), bool(box.part))
            if count := self.parameters.get(box.part):
                middle = y + tall / 2 + (0.4 if box.reads else 0)  # above the arrow
                self.note(x - _HALF - 0.5, middle, f"{count // layers:,}\n{where}")
            y += tall
            if box.reads:
                self.readers.append(y - tall / 2)
            if box.loop:
                right = x + _HALF + 0.5
                self.arrow(
                    [
                        *((x, y + _GAP / 2), (right, y + _GAP / 2)),
                        *((right, y - tall / 2), (x + _HALF, y - tall / 2)),
                    ]
                )
                self.note(right + 0.12, y - tall / 2, "state,\nnext step", "left")
        return y

    def stack(
        self, x: float, tokens: str, before: Sequence[Box], layer: Sequence[Box], title: str
    ) -> float:
        """Draw a stack from its tokens to its layers in their frame; return where it ends."""
        self.axes.text(x, 0.3, tokens, ha="center", va="center", fontsize=7.5)
        y = self.boxes(x, 0.5, before)
        bottom = y + 0.2
        y = self.boxes(x, bottom, layer, self.layers)
        top = y + _GAP
        right = 2 * _HALF + (2.3 if any(box.loop for box in layer) else 0.6)
        self.axes.add_patch(
            FancyBboxPatch(
                (x - _HALF - 0.3, bottom), right, top - bottom,
                boxstyle="round,pad=0,rounding_size=0.15", facecolor="none",
                edgecolor=COLOURS[0], linewidth=1.1, zorder=0,
            )
        )  # fmt: skip
        times = f"{title}\n{self.layers} ×" if title else f"{self.layers} ×"
        high, size = (top, 9.5) if title else (top - 0.25, 12)
        self.axes.text(
            x - _HALF - 0.5, high, times, fontsize=size, fontweight="bold", color=COLOURS[0],
            va="center", ha="right",
        )  # fmt: skip
        return top


def _fill(box: Box) -> str:
    if not box.part:
        return "plain"
    return "attention" if box.loop or box.reads else "embedding"
