"""The attention experiment's result as figures and as an interactive page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from tinylm.atomic import write_text
from tinylm.config import RunConfig
from tinylm.experiments.attention.figures import heatmap_grid, line_figure
from tinylm.experiments.attention.heads_figure import heads_figure
from tinylm.experiments.attention.page import attention_html
from tinylm.printable import in_line
from tinylm.report.drawing import Drawn, save_figure

HEADS = "attention-heads"
"""Name of the figure of all heads."""


def draw(result: Mapping[str, Any], _: RunConfig | None = None) -> Drawn:
    """Yield the figure of all heads, and those of each sentence that the result names."""
    yield HEADS, heads_figure(result["heads"])
    for sentence in result["sentences"]:
        patterns = torch.tensor(sentence["patterns"])  # (layers, heads, seq, seq)
        words, text = [in_line(word) for word in sentence["words"]], in_line(sentence["text"])
        names = sentence["figures"]
        yield Path(names["heatmaps"]).stem, heatmap_grid(patterns, words, text)
        for layer, name in enumerate(names["lines"]):
            figure = line_figure(patterns[layer], words, f"Layer {layer + 1}: {text}")
            yield Path(name).stem, figure


def pages(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the interactive page."""
    yield Path(result["html"]).name, attention_html(result)


def draw_attention(
    result: Mapping[str, Any],
    folder: Path,
    progress: Callable[[float], None] = lambda done: None,
) -> list[Path]:
    """Write every figure that the result names, as SVG and PNG, and the interactive page.

    Args:
        result: what the attention experiment left.
        folder: where the files go; of the names in the result only the last part counts.
        progress: called with the share that is done.

    Returns:
        The files, in the order they were written.
    """
    total = 1 + sum(1 + len(sentence["figures"]["lines"]) for sentence in result["sentences"])
    files: list[Path] = []
    for done, (name, figure) in enumerate(draw(result), 1):
        files += save_figure(figure, folder, name)
        progress(done / total)
    for name, text in pages(result):
        write_text(folder / name, text)
        files.append(folder / name)
    return files
