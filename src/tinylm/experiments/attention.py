"""The attention experiment: every head on a few sentences, measured, drawn and interpreted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinylm.atomic import write_text
from tinylm.checkpoint import load_checkpoint
from tinylm.experiments.context import Console, Context, threads
from tinylm.interpretability.attention_maps import (
    SentenceAttention,
    aggregate,
    analyse,
    interpret,
    role,
)
from tinylm.language_model import LanguageModel
from tinylm.report.attention_html import attention_html
from tinylm.report.figures import save_figure
from tinylm.report.figures.attention import heatmap_grid, line_figure
from tinylm.tokenizers.base import SOS, SOS_ID


def run(context: Context) -> dict[str, Any]:
    """Draw and measure the attention of the run's best checkpoint.

    Raises:
        CheckpointError: if there is none.
    """
    checkpoint = load_checkpoint(context.folder)
    lm = LanguageModel(checkpoint.build_model(), checkpoint.tokenizer, checkpoint.path)
    with threads(context.config.training.threads):
        return draw_attention(
            lm, context.config.report.attention_sentences, context.figures, context.console
        )


def draw_attention(
    lm: LanguageModel, texts: Sequence[str], folder: Path, console: Console
) -> dict[str, Any]:
    """Measure every head on each text and write the figures and the interactive page.

    Args:
        lm: the model.
        texts: sentences, each at least one word long and within the context.
        folder: where ``attention-*.svg``, ``.png`` and ``attention.html`` go.
        console: is shown the progress.

    Returns:
        What is measured, by sentence and over all of them, and the files written.

    Raises:
        GenerationError: if a sentence is empty or longer than the context.
    """
    analysed = [_analyse(lm, text) for text in texts]
    files: list[str] = []
    sentences = []
    layers = lm.model.config.num_layers
    with console.task("Drawing attention", len(texts) * (layers + 1)) as done:
        for i, (text, one) in enumerate(zip(texts, analysed, strict=True), 1):
            grid = heatmap_grid(one.patterns, one.words, text)
            heatmaps = save_figure(grid, folder, f"attention-{i}-heatmaps")
            files += map(str, heatmaps)
            done(len(files) / 2)
            lines = []
            for layer in range(layers):
                figure = line_figure(one.patterns[layer], one.words, f"Layer {layer + 1}: {text}")
                paths = save_figure(figure, folder, f"attention-{i}-lines-layer-{layer + 1}")
                files += map(str, paths)
                lines.append(f"figures/{paths[0].name}")
                done(len(files) / 2)
            sentences.append(
                {
                    "text": text,
                    "words": list(one.words),
                    "descriptors": [[asdict(d) for d in layer] for layer in one.descriptors],
                    "roles": [list(layer) for layer in one.roles],
                    "interpretations": [list(layer) for layer in one.interpretations],
                    "figures": {"heatmaps": f"figures/{heatmaps[0].name}", "lines": lines},
                }
            )
    page = folder / "attention.html"
    write_text(page, attention_html(analysed))
    files.append(str(page))
    return {
        "sentences": sentences,
        "heads": _heads(analysed),
        "html": "figures/attention.html",
        "files": files,
    }


def _analyse(lm: LanguageModel, text: str) -> SentenceAttention:
    ids = [SOS_ID, *lm.tokenizer.encode(text)]
    words = [SOS, *(lm.tokenizer.token(i) for i in ids[1:])]
    return analyse(lm.model, ids, words)


def _heads(analysed: Sequence[SentenceAttention]) -> list[dict[str, Any]]:
    """Return every head over all sentences together."""
    baseline = aggregate([one.baseline for one in analysed])
    heads = []
    for layer, row in enumerate(analysed[0].descriptors):
        for head in range(len(row)):
            descriptors = aggregate([one.descriptors[layer][head] for one in analysed])
            heads.append(
                {
                    "layer": layer,
                    "head": head,
                    "role": role(descriptors, baseline),
                    "interpretation": interpret(descriptors, baseline, SOS),
                    "descriptors": asdict(descriptors),
                }
            )
    return heads
