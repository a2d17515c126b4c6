"""Figures of the report: one look, one way to write them, the same bytes every time.

A figure is drawn at the size at which it is printed (16 cm is the text width of an A4 page), so a
font size in points here is the size on paper. Colours are those of Okabe and Ito 2008 ("Color
Universal Design"), which stay apart under the common colour deficiencies; shades of weight run
from light to dark, so that they survive a grey printer. Text in an SVG is stored as outlines: a
figure looks the same whether or not the reader's machine has the font.

    with style():
        figure = new_figure(height_cm=6)
        axes = figure.subplots()
        ...
    save_figure(figure, folder, "loss")

Words of a corpus are drawn with ``parse_math=False``: a "$" in them is itself, not a formula.
Nothing here touches ``pyplot`` or its global list of open figures.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import ScaledTranslation

from tinylm.atomic import write_bytes

TEXT_WIDTH_CM = 16.0
"""Width of the text on the report's A4 page."""
TEXT_HEIGHT_CM = 24.0
"""Height that a figure with its caption can fill on that page."""
SMALLEST_LETTERS = 6.0
"""Points that the letters of a printed figure are high at least."""
_LETTERS = re.compile(r"letters of (\d+\.?\d*) points")
Drawn = Iterator[tuple[str, Figure]]
"""Names of files, without their form, and what they show."""
CM = 1 / 2.54
"""Inches in a centimetre."""
_UNDER_THE_AXIS = 31
"""Points from an axis to what stands under its marks and its label."""
PNG_DPI = 200
"""Resolution of PNG files and of images inside SVG files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours of lines and bars, in order of use (Okabe and Ito 2008, yellow left out: too pale)."""
INK = "#1f2328"
"""Text."""
MUTED = "#59636e"
"""Axes, ticks and secondary text."""
RULE = "#d0d7de"
"""Grid lines and frames."""
WEIGHTS = LinearSegmentedColormap.from_list(
    "tinylm-weights", ["#f3f5f8", "#c6dbef", "#6baed6", "#2171b5", "#08306b"]
)
"""Shades of a weight between 0 and 1, light to dark."""

_COORDINATES = re.compile(rb"([ML]) (-?\d+\.\d+) (-?\d+\.\d+)")
"""A point of a path in an SVG; outlines of letters are whole numbers and never match."""
_IDS = re.compile(rb"(?<=[#\"])[a-z][0-9a-f]{10}(?=[\")])")
"""An id of a clip path, marker or image in an SVG, where it is given and where it is used."""

_STYLE: Any = {  # matplotlib types its keys one by one: a plain dict is none of them
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelsize": 8,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLOURS),
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 2.8,  # of broken lines one sees that they are
    # The label of an axis keeps clear of the panel beside it.
    "figure.constrained_layout.wspace": 0.05,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    # matplotlib draws the ids in an SVG at random unless they are salted with a fixed word.
    "svg.hashsalt": "tinylm",
}


@contextmanager
def style() -> Iterator[None]:
    """Draw with the report's look until the block ends; matplotlib's settings are then restored."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change the report
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(
    width_cm: float = TEXT_WIDTH_CM,
    height_cm: float = 7.0,
    layout: Literal["constrained", "tight", "none"] = "constrained",
) -> Figure:
    """Return an empty figure on an Agg canvas; draw into it inside ``style()``.

    Args:
        width_cm: width on paper, in centimetres.
        height_cm: height on paper, in centimetres.
        layout: how matplotlib places the axes; ``none`` leaves it to the caller.
    """
    with style():
        engine = None if layout == "none" else layout
        figure = Figure(figsize=(width_cm * CM, height_cm * CM), layout=engine)
    FigureCanvasAgg(figure)
    return figure


def legend_below(axes: Axes, columns: int = 1) -> None:
    """Put a panel's legend under its horizontal axis, where no curve can run through it.

    Args:
        axes: the panel, whose axis has marks and a label.
        columns: how many entries stand beside each other.
    """
    figure = axes.figure
    shift = ScaledTranslation(0, -_UNDER_THE_AXIS / 72, figure.dpi_scale_trans)
    axes.legend(
        loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=axes.transAxes + shift,
        ncols=columns, borderaxespad=0, borderpad=0,
    )  # fmt: skip


def shared_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """Put one legend for all panels under them; what has the same name in several stands once.

    Args:
        figure: with a constrained layout, which makes the room.
        panels: where the names come from, in order.
        columns: how many entries stand beside each other.
    """
    named: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(named.values(), named.keys(), loc="outside lower left", ncols=columns)


def save_figure(figure: Figure, folder: str | Path, name: str) -> list[Path]:
    """Write ``folder/name.svg`` and ``folder/name.png``, each whole or not at all.

    The same figure gives the same bytes at every writing: ids are salted, dates left out.

    Returns:
        The two paths, SVG first.

    Raises:
        OSError: if a file cannot be written.
    """
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": None, "Description": _letters(figure)},
        "png": {"Software": None},
    }
    paths = []
    for form, entries in metadata.items():
        buffer = BytesIO()
        with style(), warnings.catch_warnings():
            # A letter that the font lacks, such as an emoji, is drawn as a box.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            figure.savefig(buffer, format=form, dpi=PNG_DPI, metadata=entries)
        content = buffer.getvalue()
        if form == "svg":
            content = _numbered(_COORDINATES.sub(_rounded, content))
        path = Path(folder) / f"{name}.{form}"
        write_bytes(path, content)
        paths.append(path)
    return paths


def _letters(figure: Figure) -> str:
    with style():
        figure.draw_without_rendering()  # marks of axes get their numbers
    texts = (text for text in figure.findobj(Text) if text.get_visible() and text.get_text())
    smallest = min((text.get_fontsize() for text in texts), default=_STYLE["font.size"])
    return f"Its smallest letters are letters of {smallest:.3g} points."


def smallest_letters(path: str | Path) -> float:
    """Return the size in points of the smallest letters of a figure at its own width.

    In an SVG, where letters are outlines, ``save_figure`` says it; for others it is that of ticks.
    """
    said = _LETTERS.search(Path(path).read_text("utf-8", errors="replace")[:4_000])
    return float(said[1]) if said else float(_STYLE["xtick.labelsize"])


def _numbered(content: bytes) -> bytes:
    """Number an SVG file's ids in their order.

    Matplotlib makes them from places that the layout finds, whose last bits differ from one
    drawing to the next.
    """
    names: dict[bytes, bytes] = {}

    def name(match: re.Match[bytes]) -> bytes:
        return names.setdefault(match[0], b"%b%d" % (match[0][:1], len(names)))

    return _IDS.sub(name, content)


def _rounded(point: re.Match[bytes]) -> bytes:
    """Round to 0.01 points, 3.5 micrometres: matplotlib's six decimals make half of a file."""
    command, x, y = point.groups()
    return b"%b %.2f %.2f" % (command, float(x), float(y))
