"""A model drawn from its own outline: boxes from the tokens up, its layers in a frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from tinylm.config import ModelConfig
from tinylm.experiments.training.architecture_figure import Drawing
from tinylm.model.outline import Box, Outline
from tinylm.report.drawing import CM, COLOURS, new_figure, style

_WIDTH, _STEM, _HALF = 9.0, 4.8, 2.1  # centimetres
_GAP, _TALL, _LOW = 0.45, 0.85, 0.5


def outlined_figure(
    outline: Outline, config: ModelConfig, vocab_size: int, parameters: Mapping[str, int]
) -> Figure:
    """Draw the model.

    Args:
        outline: what it says of itself.
        config: the model's configuration.
        vocab_size: number of token types.
        parameters: counts by part, written beside the boxes.
    """
    layers = config.num_layers
    inside = {box.part for box in outline.layer}
    with style():
        figure = new_figure(layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        drawing = Drawing(axes)

        def stack(y: float, boxes: Sequence[Box]) -> float:
            """Draw boxes upwards, an arrow into each; return the upper edge of the last."""
            for box in boxes:
                tall = _TALL if "\n" in box.text else _LOW
                drawing.arrow([(_STEM, y), (_STEM, y + _GAP)])
                y += _GAP
                drawing.box(_STEM, y, _HALF, tall, box.text, _fill(box), bool(box.part))
                if count := parameters.get(box.part):
                    each = count // layers if box.part in inside else count
                    where = "in each layer" if box.part in inside else "parameters"
                    drawing.note(_STEM - _HALF - 0.5, y + tall / 2, f"{each:,}\n{where}")
                y += tall
                if box.loop:
                    right = _STEM + _HALF + 0.5
                    drawing.arrow(
                        [
                            *((_STEM, y + _GAP / 2), (right, y + _GAP / 2)),
                            *((right, y - tall / 2), (_STEM + _HALF, y - tall / 2)),
                        ]
                    )
                    drawing.note(right + 0.12, y - tall / 2, "state,\nnext step", "left")
            return y

        y = 0.3
        axes.text(_STEM, y, "token ids", ha="center", va="center", fontsize=7.5)
        y = stack(y + 0.2, outline.before)
        bottom = y + 0.2
        y = stack(y + 0.2, outline.layer)
        top = y + _GAP
        axes.add_patch(
            FancyBboxPatch(
                (_STEM - _HALF - 0.3, bottom), 2 * _HALF + 2.3, top - bottom,
                boxstyle="round,pad=0,rounding_size=0.15", facecolor="none",
                edgecolor=COLOURS[0], linewidth=1.1, zorder=0,
            )
        )  # fmt: skip
        axes.text(
            _STEM - _HALF - 0.5, top - 0.25, f"{layers} ×", fontsize=12, fontweight="bold",
            color=COLOURS[0], va="center", ha="right",
        )  # fmt: skip
        y = stack(y + _GAP, (*outline.after, Box("Softmax")))
        drawing.arrow([(_STEM, y), (_STEM, y + 0.35)])
        axes.text(
            _STEM, y + 0.55, f"probability of each of {vocab_size:,} next tokens", ha="center",
            va="center", fontsize=7.5,
        )  # fmt: skip
        height = y + 0.85
        figure.set_size_inches(_WIDTH * CM, height * CM)
        axes.set_xlim(0, _WIDTH)
        axes.set_ylim(0, height)
    return figure


def _fill(box: Box) -> str:
    if not box.part:
        return "plain"
    return "attention" if box.loop else "embedding"
