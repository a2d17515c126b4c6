"""The attention experiment's result as figures and as an interactive page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tinylm.atomic import write_text
from tinylm.printable import in_line
from tinylm.report.attention_html import attention_html
from tinylm.report.figures import save_figure
from tinylm.report.figures.attention import heatmap_grid, line_figure
from tinylm.report.figures.heads import heads_figure

HEADS = "attention-heads"
"""Name of the figure of all heads."""


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
    sentences = result["sentences"]
    total = 1 + sum(1 + len(sentence["figures"]["lines"]) for sentence in sentences)
    files = save_figure(heads_figure(result["heads"]), folder, HEADS)
    for sentence in sentences:
        patterns = torch.tensor(sentence["patterns"])  # (layers, heads, seq, seq)
        words, text = [in_line(word) for word in sentence["words"]], in_line(sentence["text"])
        names = sentence["figures"]
        files += save_figure(
            heatmap_grid(patterns, words, text), folder, Path(names["heatmaps"]).stem
        )
        for layer, name in enumerate(names["lines"]):
            figure = line_figure(patterns[layer], words, f"Layer {layer + 1}: {text}")
            files += save_figure(figure, folder, Path(name).stem)
            progress(len(files) / 2 / total)
    page = folder / Path(result["html"]).name
    write_text(page, attention_html(result))
    return [*files, page]
