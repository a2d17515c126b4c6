"""What is wrong with a drawn figure: text over text or lines, or off the canvas; boxes that cross.

Measured when the figure is drawn, from matplotlib's own extents.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from tinylm.report.drawing import SMALLEST_LETTERS

Texts = list[tuple[Text, list[Bbox]]]
"""Texts and the boxes of what they print, in pixels."""

_RESOLUTION = 288.0
"""Pixels an inch at which is measured: at few, letters are widened to whole pixels."""
_TOUCH = 0.6
"""Points by which two boxes may reach into each other: the box of a text is larger than its ink."""

_LONG = 1.1
"""How long the label of a vertical axis may be, of the axis."""
_APART = 2.0
"""Points that what belongs to two panels stands apart at least."""


def faults(figure: Figure) -> list[str]:
    """Return what is wrong with a figure, one line each; empty if nothing is."""
    canvas, resolution = FigureCanvasAgg(figure), figure.dpi
    figure.set_dpi(_RESOLUTION)
    figure.draw_without_rendering()
    point = _RESOLUTION / 72
    texts = [(text, _ink(text, canvas, point)) for text in _texts(figure)]
    result = [
        *_off_the_canvas(figure, texts),
        *_too_small(texts),
        *_longer_than_their_axis(figure, texts),
        *_over_each_other(texts, point),
        *_over_panels(figure, texts, point),
        *_over_lines(figure, canvas, texts),
        *_crossing_boxes(figure, canvas),
    ]
    figure.set_dpi(resolution)
    return result


def _texts(figure: Figure) -> Iterator[Text]:
    """Yield what is written and drawn: of marks only those that lie on their axis."""
    written = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    children = [child for axes in figure.axes for child in axes.child_axes]
    for axes in [*figure.axes, *children]:
        if not axes.get_visible():
            continue
        written += [*axes.texts, axes.title, axes._left_title, axes._right_title]
        legend = axes.get_legend()
        written += legend.get_texts() if legend else []
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            if axis.get_visible():
                written += [axis.label, axis.offsetText]
                written += [t for tick in axis._update_ticks() for t in (tick.label1, tick.label2)]
    return (text for text in written if text.get_visible() and text.get_text().strip())


def _ink(text: Text, canvas: FigureCanvasAgg, point: float) -> list[Bbox]:
    """Return where a text prints: its box holds room for letters it may not have.

    Of a slanted text, which fills its box only along the diagonal, it is a row of small boxes.
    """
    renderer = canvas.get_renderer()
    box = Text.get_window_extent(text, renderer)  # that of an annotation adds its arrow
    slant = text.get_rotation()
    if slant % 90:
        text.set_rotation(0)
        level = Text.get_window_extent(text, renderer)
        text.set_rotation(slant)
        count = max(1, round(level.width / level.height))
        along = np.array([np.cos(np.radians(slant)), np.sin(np.radians(slant))])
        middle = np.array([(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2])
        steps = (np.arange(count) - (count - 1) / 2) * level.width / count
        half = level.height * 0.35
        return [Bbox([spot - half, spot + half]) for spot in middle + steps[:, None] * along]
    spare = min(_TOUCH * point, box.width / 4, box.height / 4)
    return [Bbox.from_extents(box.x0 + spare, box.y0 + spare, box.x1 - spare, box.y1 - spare)]


def _off_the_canvas(figure: Figure, texts: Texts) -> Iterator[str]:
    for text, boxes in texts:
        if not all(_holds(figure.bbox, box) for box in boxes):
            yield f"{text.get_text()!r} leaves the canvas"


def _too_small(texts: Texts) -> Iterator[str]:
    for text, _ in texts:
        if text.get_fontsize() < SMALLEST_LETTERS:
            yield f"{text.get_text()!r} is {text.get_fontsize():.1f} points high"


def _longer_than_their_axis(figure: Figure, texts: Texts) -> Iterator[str]:
    """Labels of vertical axes that only luck keeps on the canvas: that of a higher panel is cut."""
    for axes in figure.axes:
        for text, boxes in texts:
            if text is axes.yaxis.label and boxes[0].height > _LONG * axes.bbox.height:
                yield f"{text.get_text()!r} is longer than its axis"


def _over_each_other(texts: Texts, point: float) -> Iterator[str]:
    """Texts that cover each other, and those of two panels that nearly touch."""
    owners = np.array([i for i, (_, boxes) in enumerate(texts) for _ in boxes], dtype=int)
    if not len(owners):
        return
    panels = np.array([id(text.axes) if text.axes else 0 for text, _ in texts])[owners]
    beside = (panels[:, None] != panels) & (panels[:, None] != 0) & (panels != 0)
    apart = _APART * point * beside
    corners = np.array([box.extents for _, boxes in texts for box in boxes])
    low, high = corners[:, :2], corners[:, 2:]
    shared = np.ones(apart.shape, dtype=bool)
    for k in range(2):
        end = np.minimum(high[:, None, k] + apart, high[:, k])
        shared &= end > np.maximum(low[:, None, k] - apart, low[:, k])
    pairs = {(owners[i], owners[j]) for i, j in np.argwhere(shared) if owners[i] < owners[j]}
    for i, j in sorted(pairs):
        yield f"{texts[i][0].get_text()!r} over {texts[j][0].get_text()!r}"


def _over_panels(figure: Figure, texts: Texts, point: float) -> Iterator[str]:
    """Text of one panel that reaches into another or nearly touches it."""
    for axes in figure.axes:
        if not axes.axison:
            continue
        panel = axes.get_window_extent().padded(_APART * point)
        for text, boxes in texts:
            own = text.axes in (None, axes) or text.axes in axes.child_axes
            if not own and any(_overlap(box, panel) for box in boxes):
                yield f"{text.get_text()!r} over the panel beside it"


def _over_lines(figure: Figure, canvas: FigureCanvasAgg, texts: Texts) -> Iterator[str]:
    """Curves and points that run through a text or a legend of their panel."""
    for axes in figure.axes:
        legend = axes.get_legend()
        named = [("the legend", legend.get_window_extent(canvas.get_renderer()))] if legend else []
        inside = legend.findobj(Text) if legend else []
        named += [(repr(text.get_text()), box) for text, boxes in texts for box in boxes
                  if text in axes.texts and text not in inside]  # fmt: skip
        for line in axes.lines:
            if not line.get_visible():
                continue
            places = _places(line, axes)
            for name, box in named:
                hit = ((places > (box.x0, box.y0)) & (places < (box.x1, box.y1))).all(axis=1)
                if hit.any():
                    yield f"a line ({line.get_label()}) runs through {name}"
        for bar in axes.patches if legend else ():
            if _overlap(bar.get_window_extent(), named[0][1]):
                yield "a bar reaches into the legend"


def _places(line: Line2D, axes: Axes) -> np.ndarray:
    """Return places along a line, two pixels apart, that lie in the panel."""
    path = line.get_transform().transform(line.get_path().vertices)
    path = path[np.isfinite(path).all(axis=1)]
    if line.get_linestyle() not in ("None", "none", "", " ") and len(path) > 1:
        lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
        along = np.linspace(0, lengths[-1], int(min(lengths[-1] / 2, 20_000)) + 2)
        path = np.column_stack([np.interp(along, lengths, path[:, k]) for k in (0, 1)])
    box = axes.get_window_extent()
    inside = ((path >= (box.x0 - 1, box.y0 - 1)) & (path <= (box.x1 + 1, box.y1 + 1))).all(axis=1)
    return path[inside] if line.get_clip_on() else path


def _crossing_boxes(figure: Figure, canvas: FigureCanvasAgg) -> Iterator[str]:
    """Boxes of which neither holds the other but that share room."""
    boxes = [patch.get_window_extent(canvas.get_renderer())
             for axes in figure.axes for patch in axes.patches
             if isinstance(patch, FancyBboxPatch) and patch.get_visible()]  # fmt: skip
    for i, box in enumerate(boxes):
        for other in boxes[i + 1 :]:
            if _overlap(box, other) and not (_holds(box, other) or _holds(other, box)):
                yield f"a box at {box.bounds} crosses one at {other.bounds}"


def _overlap(first: Bbox, second: Bbox) -> bool:
    return bool(
        min(first.x1, second.x1) > max(first.x0, second.x0)
        and min(first.y1, second.y1) > max(first.y0, second.y0)
    )


def _holds(outer: Bbox, inner: Bbox) -> bool:
    return bool(
        outer.x0 <= inner.x0 and outer.y0 <= inner.y0 and outer.x1 >= inner.x1
        and outer.y1 >= inner.y1
    )  # fmt: skip
