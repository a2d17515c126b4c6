"""Attention on screen: one self-contained interactive page.

The page holds its data as JSON, its style and its few hundred lines of plain JavaScript, and
loads nothing: it opens from a disk or a mail, years later. One chooses a sentence and a head from
the grid of thumbnails, sees it as heatmap or as lines between words (Vig 2019), reads where each
word looks, and compares all heads in a sortable table.

Words come from a corpus and are data: they reach the page through JSON whose ``<``, ``>`` and
``&`` are escaped, and the page writes them with ``textContent`` only, so none can close the script
or become markup.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from tinylm.interpretability.attention_maps import (
    SentenceAttention,
    interpret,
    role,
    strongest_link_of_all,
)
from tinylm.interpretability.head_descriptors import HeadDescriptors, aggregate

_DIGITS = 4
"""Decimals of weights and descriptors in the page: the half of a hundredth of a percent."""


def attention_html(
    sentences: Sequence[SentenceAttention], title: str = "Where each head looks"
) -> str:
    """Return the page for one to a few sentences of one model.

    Weights are stored with four decimals, and only those that a query can see; three sentences of
    14 words under 3 layers of 8 heads make a page of about 100 KB.

    Args:
        sentences: from ``analyse``, all of the same model.
        title: heading of the page.

    Raises:
        ValueError: if there is no sentence, or they differ in layers or heads.
    """
    if not sentences:
        raise ValueError("there is no sentence to show")
    shapes = {tuple(sentence.patterns.shape[:2]) for sentence in sentences}
    if len(shapes) != 1:
        raise ValueError(f"the sentences are of different models: (layers, heads) {sorted(shapes)}")
    data = {"sentences": [_sentence(s) for s in sentences], "all": _together(sentences)}
    parts = {"TITLE": html.escape(title), "DATA": _script_json(data)}
    # One pass, so that a title or word that looks like a placeholder is left alone.
    page = resources.files("tinylm.report").joinpath("templates/attention.html").read_text("utf-8")
    return re.sub("@@(TITLE|DATA)@@", lambda match: parts[match[1]], page)


def _sentence(sentence: SentenceAttention) -> dict[str, Any]:
    weights = [
        [
            [[round(w, _DIGITS) for w in row[: i + 1]] for i, row in enumerate(head)]
            for head in layer
        ]
        for layer in sentence.patterns.tolist()
    ]
    return {
        "words": list(sentence.words),
        "weights": weights,  # [layer][head][query][key <= query]
        "baseline": _numbers(sentence.baseline),
        "descriptors": [[_numbers(d) for d in layer] for layer in sentence.descriptors],
        "roles": sentence.roles,
        "interpretations": sentence.interpretations,
    }


def _together(sentences: Sequence[SentenceAttention]) -> dict[str, Any]:
    """Return what the table shows for all sentences as one."""
    baseline = aggregate([s.baseline for s in sentences])
    layers, heads = sentences[0].patterns.shape[:2]
    joined = [
        [aggregate([s.descriptors[i][j] for s in sentences]) for j in range(heads)]
        for i in range(layers)
    ]
    firsts = {s.words[0] for s in sentences}
    first = firsts.pop() if len(firsts) == 1 else "the first word"
    return {
        "baseline": _numbers(baseline),
        "descriptors": [[_numbers(d) for d in layer] for layer in joined],
        "roles": [[role(d, baseline) for d in layer] for layer in joined],
        "interpretations": [
            [
                interpret(d, baseline, first, strongest_link_of_all(sentences, i, j))
                for j, d in enumerate(layer)
            ]
            for i, layer in enumerate(joined)
        ],
    }


def _numbers(descriptors: HeadDescriptors) -> dict[str, float | int | None]:
    values: dict[str, float | int | None] = dataclasses.asdict(descriptors)
    return {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in values.items()}


def _script_json(data: object) -> str:
    """Return JSON that means the same inside <script>, whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
