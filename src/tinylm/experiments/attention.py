"""The attention experiment: every head on a few sentences, measured and interpreted.

The result holds the attention weights themselves, so that figures are drawn from it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tinylm.experiments.context import Context, threads
from tinylm.interpretability.attention_maps import (
    SentenceAttention,
    analyse,
    interpret,
    role,
    strongest_link_of_all,
)
from tinylm.interpretability.head_descriptors import aggregate
from tinylm.language_model import LanguageModel
from tinylm.tokenizers.base import SOS, SOS_ID

_DECIMALS = 4  # of a weight in the result: what a figure can show, a fifth of the bytes


def run(context: Context) -> dict[str, Any]:
    """Measure the attention of the run's best checkpoint on the report's sentences.

    Raises:
        CheckpointError: if there is none.
    """
    lm = LanguageModel.load(context.folder)
    with threads(context.config.training.threads):
        return measure_attention(lm, context.config.report.attention_sentences)


def measure_attention(lm: LanguageModel, texts: Sequence[str]) -> dict[str, Any]:
    """Measure every head on each text.

    Args:
        lm: the model.
        texts: sentences, each at least one word long and within the context.

    Returns:
        By sentence and over all of them: weights, descriptors, roles, interpretations, and the
        names of the figures that ``tinylm.report`` draws from them.

    Raises:
        GenerationError: if a sentence is empty or longer than the context.
    """
    return as_result(texts, [_analyse(lm, text) for text in texts])


def as_result(texts: Sequence[str], analysed: Sequence[SentenceAttention]) -> dict[str, Any]:
    """Return measured sentences as what is kept of them; see ``measure_attention``."""
    return {
        "sentences": [
            {
                "text": text,
                "words": list(one.words),
                "ids": list(one.ids),
                "patterns": [
                    [[[round(w, _DECIMALS) for w in row] for row in head] for head in layer]
                    for layer in one.patterns.tolist()
                ],
                "baseline": asdict(one.baseline),
                "descriptors": [[asdict(d) for d in layer] for layer in one.descriptors],
                "roles": [list(layer) for layer in one.roles],
                "interpretations": [list(layer) for layer in one.interpretations],
                "figures": {
                    "heatmaps": f"figures/attention-{i}-heatmaps.svg",
                    "lines": [
                        f"figures/attention-{i}-lines-layer-{layer + 1}.svg"
                        for layer in range(len(one.patterns))
                    ],
                },
            }
            for i, (text, one) in enumerate(zip(texts, analysed, strict=True), 1)
        ],
        "heads": _heads(analysed),
        "html": "figures/attention.html",
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
                    "interpretation": interpret(
                        descriptors, baseline, SOS, strongest_link_of_all(analysed, layer, head)
                    ),
                    "descriptors": asdict(descriptors),
                }
            )
    return heads
