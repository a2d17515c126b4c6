"""The decoder drawn from its configuration: every box that is computed, with its real sizes.

The drawing reads from the bottom up, as the diagrams of Vaswani et al. 2017 do: on the left the
whole model with one layer opened, on the right the inside of its attention. Where the norms stand,
which positions act where, and whether the output is tied, follow the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from tinylm.config import ModelConfig
from tinylm.model.outline import Difference
from tinylm.registry import ACTIVATIONS, MODELS, POSITIONS
from tinylm.report.drawing import (
    CM,
    COLOURS,
    INK,
    MUTED,
    RULE,
    TEXT_WIDTH_CM,
    new_figure,
    style,
)

_WIDTH = TEXT_WIDTH_CM
_STEM = 4.6  # where the residual stream rises, in centimetres from the left
_POSITIONS = 7.2  # middle of the box of the positions, left of the panel
_HALF = 2.1  # half the width of a box on the stem
_DETAIL = 12.4  # middle of the panel of the attention
_DETAIL_HALF = 3.35

_FILL = {
    "embedding": "#e8f0f7",
    "attention": "#fdeee2",
    "feed": "#e4f3ee",
    "norm": "#f6edf3",
    "plain": "#f6f8fa",
}


class Drawing:
    """Boxes and arrows in centimetres, stacked upwards."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes

    def box(self, x: float, y: float, half: float, height: float, text: str, fill: str, bold: bool = False) -> None:  # fmt: skip  # noqa: E501
        """Draw a box whose lower edge is at ``y``."""
        self.axes.add_patch(
            FancyBboxPatch(
                (x - half, y), 2 * half, height, boxstyle="round,pad=0,rounding_size=0.09",
                facecolor=_FILL[fill], edgecolor=MUTED, linewidth=0.7, zorder=2,
            )
        )  # fmt: skip
        lines = text.split("\n")
        for i, line in enumerate(lines):
            offset = (len(lines) - 1) / 2 - i
            self.axes.text(
                x, y + height / 2 + 0.33 * offset, line, ha="center", va="center", zorder=3,
                fontsize=7.5 if i == 0 else 6.8, color=INK if i == 0 else MUTED,
                fontweight="bold" if bold and i == 0 else "normal",
            )  # fmt: skip

    def note(self, x: float, y: float, text: str, side: str = "right", size: float = 6.8) -> None:
        """Write beside a box."""
        self.axes.text(x, y, text, ha=side, va="center", fontsize=size, color=MUTED, zorder=3)

    def arrow(self, points: list[tuple[float, float]], head: bool = True, colour: str = INK) -> None:  # fmt: skip  # noqa: E501
        """Draw a line through the points that ends in an arrow."""
        self.axes.plot(
            [x for x, _ in points], [y for _, y in points], color=colour, linewidth=0.9,
            solid_joinstyle="round", zorder=1,
        )  # fmt: skip
        if head:
            self.axes.annotate(
                "", points[-1], points[-2],
                arrowprops={
                    "arrowstyle": "-|>", "color": colour, "linewidth": 0.9, "mutation_scale": 7,
                    "shrinkA": 0, "shrinkB": 0,
                },
                zorder=1,
            )  # fmt: skip

    def plus(self, x: float, y: float, sign: str = "+") -> None:
        """Draw a circled sum."""
        self.axes.add_patch(
            Circle((x, y), 0.19, facecolor="white", edgecolor=INK, linewidth=0.8, zorder=3)
        )
        self.axes.text(x, y - 0.012, sign, ha="center", va="center", fontsize=8, zorder=4)


def architecture_figure(
    config: ModelConfig, vocab_size: int, parameters: Mapping[str, int] | None = None
) -> Figure:
    """Draw the model.

    Args:
        config: the model's configuration.
        vocab_size: number of token types.
        parameters: counts by part as ``DecoderLM.parameter_counts`` gives them, written beside the
            boxes; empty: left out.
    """
    counts = dict(parameters or {})
    with style():
        figure = new_figure(layout="none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        drawing = Drawing(axes)
        height, attention = _draw_model(drawing, config, vocab_size, counts)
        _draw_attention(drawing, config, attention)
        # One unit is one centimetre, however high the drawing has become.
        figure.set_size_inches(_WIDTH * CM, height * CM)
        axes.set_xlim(0, _WIDTH)
        axes.set_ylim(0, height)
    return figure


def _draw_model(
    drawing: Drawing, config: ModelConfig, vocab_size: int, counts: Mapping[str, int]
) -> tuple[float, tuple[float, float]]:
    """Draw the whole model; return the drawing's height and the attention's two edges."""
    hidden, layers, x = config.hidden_size, config.num_layers, _STEM
    left = x - _HALF - 0.4

    def parameters(y: float, key: str, per_layer: bool = False) -> None:
        if counts.get(key):
            value = counts[key] // layers if per_layer else counts[key]
            each = "in each layer" if per_layer else "parameters"
            drawing.note(left - 0.1, y, f"{value:,}\n{each}")

    y = 0.25
    drawing.axes.text(
        x, y + 0.1, f"token ids, up to {config.context_length:,} at once", ha="center",
        va="center", fontsize=7.5, color=INK,
    )  # fmt: skip
    drawing.arrow([(x, y + 0.3), (x, y + 0.75)])
    y += 0.75
    drawing.box(x, y, _HALF, 0.85, f"Token embedding\n{vocab_size:,} × {hidden}", "embedding", True)
    parameters(y + 0.42, "embedding")
    y += 0.85
    scale = f"× √{hidden}" if config.scale_embeddings else ""
    y = _draw_positions(drawing, config, y, scale)
    if counts.get("positions"):
        drawing.note(_POSITIONS + 0.5, y - 1.3, f"{counts['positions']:,}\nparameters", "center")
    if config.dropout:
        drawing.box(x, y, _HALF, 0.5, f"Dropout {config.dropout:g}", "plain")
        y += 0.5

    bottom = y + 0.32
    drawing.arrow([(x, y), (x, bottom + 0.62)])
    top, attention = _draw_layer(drawing, config, bottom + 0.62, parameters)
    drawing.axes.add_patch(
        FancyBboxPatch(
            (x - _HALF - 0.3, bottom), 2 * _HALF + 1.0, top - bottom,
            boxstyle="round,pad=0,rounding_size=0.15", facecolor="none", edgecolor=COLOURS[0],
            linewidth=1.1, zorder=0,
        )
    )  # fmt: skip
    drawing.axes.text(
        left - 0.1, top - 0.3, f"{layers} ×", fontsize=12, fontweight="bold", color=COLOURS[0],
        va="center", ha="right",
    )  # fmt: skip
    y = top
    if config.norm_placement == "pre":
        drawing.arrow([(x, y), (x, y + 0.4)])
        y += 0.4
        drawing.box(x, y, _HALF, 0.5, f"LayerNorm  {hidden}", "norm")
        y += 0.5
    drawing.arrow([(x, y), (x, y + 0.4)])
    y += 0.4
    tied = "tied" if config.tie_embeddings else "not tied"
    drawing.box(x, y, _HALF, 0.85, f"Linear (unembedding)\n{hidden} → {vocab_size:,}, {tied}", "embedding", True)  # fmt: skip  # noqa: E501
    parameters(y + 0.42, "unembedding")
    y += 0.85
    drawing.arrow([(x, y), (x, y + 0.35)])
    y += 0.35
    drawing.box(x, y, _HALF, 0.5, "Softmax", "plain")
    y += 0.5
    drawing.arrow([(x, y), (x, y + 0.35)])
    drawing.axes.text(
        x, y + 0.55, f"probability of each of {vocab_size:,} next tokens", ha="center",
        va="center", fontsize=7.5,
    )  # fmt: skip
    return y + 0.85, attention


def _draw_positions(drawing: Drawing, config: ModelConfig, y: float, scale: str) -> float:
    """Draw what comes between embedding and dropout; return where the dropout begins."""
    x = _STEM
    if scale:
        drawing.note(x - 0.15, y + 0.28, scale, "right", 7.5)
    encoding = POSITIONS.load(config.positions)
    if encoding.adds():
        drawing.arrow([(x, y), (x, y + 0.56)])
        drawing.plus(x, y + 0.75)
        sizes = f"{config.context_length} × {config.hidden_size}"
        label = f"{encoding.label.capitalize()}\n{sizes}"
        drawing.box(_POSITIONS, y + 0.36, 1.55, 0.78, label, "plain")
        drawing.arrow([(_POSITIONS - 1.55, y + 0.75), (x + 0.19, y + 0.75)])
        drawing.arrow([(x, y + 0.94), (x, y + 1.3)])
        return y + 1.3
    drawing.arrow([(x, y), (x, y + 0.6)])
    inside = f"{encoding.label} act\ninside the attention"
    drawing.note(x + _HALF + 0.3, y - 0.42, inside, "left")
    return y + 0.6


def _draw_layer(
    drawing: Drawing,
    config: ModelConfig,
    y: float,
    parameters: Callable[[float, str, bool], None],
) -> tuple[float, tuple[float, float]]:
    """Draw a layer from ``y`` upwards; return its upper edge and the attention's two edges."""
    hidden, ffn, x = config.hidden_size, config.resolved_ffn_size, _STEM
    width = config.num_heads * config.resolved_head_dim
    activation = ACTIVATIONS.load(config.activation).label
    parts = (
        ("attention", 1.15, "Masked self-attention\n"
         f"{config.num_heads} heads × {config.resolved_head_dim}\n{hidden} → 3·{width},  {width} → {hidden}"),  # noqa: E501
        ("feed", 1.15, f"Feed-forward\n{hidden} → {ffn:,} → {hidden}\n{activation}"),
    )  # fmt: skip
    keys = {"attention": "attention", "feed": "feed-forward"}
    pre = config.norm_placement == "pre"
    attention = (y, y)
    for kind, height, text in parts:
        begin = y - 0.25
        if pre:
            drawing.box(x, y, _HALF, 0.45, f"LayerNorm  {hidden}", "norm")
            y += 0.45
            drawing.arrow([(x, y), (x, y + 0.3)])
            y += 0.3
        drawing.box(x, y, _HALF, height, text, kind, True)
        parameters(y + height / 2, keys[kind], True)
        if kind == "attention":
            attention = (y, y + height)
        y += height
        drawing.arrow([(x, y), (x, y + 0.62)])
        if config.dropout:
            drawing.note(x + 0.15, y + 0.2, f"dropout {config.dropout:g}", "left", 6.2)
        y += 0.8
        drawing.plus(x, y)
        # The residual stream goes round the part and is added to what it gave.
        right = x + _HALF + 0.4
        drawing.arrow([(x, begin), (right, begin), (right, y), (x + 0.19, y)])
        y += 0.19
        if not pre:
            drawing.arrow([(x, y), (x, y + 0.28)])
            y += 0.28
            drawing.box(x, y, _HALF, 0.45, f"LayerNorm  {hidden}", "norm")
            y += 0.45
        drawing.arrow([(x, y), (x, y + 0.62)], head=kind == "attention")
        y += 0.62
    return y - 0.3, attention


def _draw_attention(drawing: Drawing, config: ModelConfig, opened: tuple[float, float]) -> None:
    """Draw the inside of the attention in a panel that opens from the edges ``opened``."""
    hidden, heads, dim = config.hidden_size, config.num_heads, config.resolved_head_dim
    differs: Difference | None = MODELS.load(config.kind).differs
    width, x, half = heads * dim, _DETAIL, _DETAIL_HALF
    bottom, gap = opened[0] - 1.1, 0.4
    third = half * 2 / 3
    y = bottom + 0.35
    drawing.axes.text(x, y, f"x   seq × {hidden}", ha="center", va="center", fontsize=7.2)
    y += 0.2
    columns = [x - third, x, x + third]
    for name, column in zip(("Q", "K", "V"), columns, strict=True):
        drawing.arrow([(x, y), (x, y + 0.2), (column, y + 0.2), (column, y + 0.55)])
        drawing.box(
            column, y + 0.55, 0.9, 0.78, f"Linear {name}\n{hidden} → {heads}·{dim}", "attention"
        )
    y += 0.55 + 0.78
    split = y
    encoding = POSITIONS.load(config.positions)
    if encoding.turns():
        drawing.box((columns[0] + columns[1]) / 2, y + gap, 1.9, 0.5, "Rotate by position", "plain")
        for column in columns[:2]:
            drawing.arrow([(column, split), (column, y + gap)])
            drawing.arrow([(column, y + gap + 0.5), (column, y + 2 * gap + 0.5)])
        y += 2 * gap + 0.5
    else:
        for column in columns[:2]:
            drawing.arrow([(column, split), (column, y + gap)])
        y += gap
    middle = (columns[0] + columns[1]) / 2
    for text, fill in (
        (f"Q Kᵀ / √{dim}\nseq × seq, for each head", "attention"),
        *([("Bias by position", "plain")] if encoding.biases() else []),
        (differs.mask if differs else "Mask future tokens", "plain"),
        ("Softmax", "plain"),
        *([(f"Dropout {config.dropout:g}", "plain")] if config.dropout else []),
    ):
        tall = 0.78 if "\n" in text else 0.5
        drawing.box(middle, y, 1.9, tall, text, fill)
        y += tall
        drawing.arrow([(middle, y), (middle, y + gap)])
        y += gap
    drawing.arrow([(columns[2], split), (columns[2], y + 0.25), (middle + 1.9, y + 0.25)])
    drawing.box(middle, y, 1.9, 0.5, f"× V   seq × {dim}", "attention")
    y += 0.5
    drawing.arrow([(middle, y), (middle, y + 0.2), (x, y + 0.2), (x, y + 0.5)])
    y += 0.5
    drawing.box(x, y, 2.4, 0.5, f"Join {heads} heads   seq × {width}", "plain")
    y += 0.5
    drawing.arrow([(x, y), (x, y + 0.35)])
    y += 0.35
    drawing.box(x, y, 2.4, 0.55, f"Linear  {width} → {hidden}", "attention")
    y += 0.55
    drawing.arrow([(x, y), (x, y + 0.4)])
    top = y + 1.0
    drawing.axes.add_patch(
        FancyBboxPatch(
            (x - half, bottom), 2 * half, top - bottom,
            boxstyle="round,pad=0,rounding_size=0.15", facecolor="#fffaf5", edgecolor=RULE,
            linewidth=0.9, zorder=0,
        )
    )  # fmt: skip
    drawing.axes.text(
        x, top - 0.28, "Masked self-attention in detail", fontsize=7.5, fontweight="bold",
        va="center", ha="center", color=INK,
    )  # fmt: skip
    for inner, outer in zip(opened, (bottom + 0.1, top - 0.1), strict=True):
        drawing.axes.plot(
            [_STEM + _HALF, x - half], [inner, outer], color=MUTED, alpha=0.6, linewidth=0.7,
            linestyle=(0, (3, 2)), zorder=0,
        )  # fmt: skip
