"""Attention on screen: one self-contained interactive page.

The page holds its data as JSON, its style and its few hundred lines of plain JavaScript, and
loads nothing: it opens from a disk or a mail, years later. One chooses a sentence and a head from
the grid of thumbnails, sees it as heatmap or as lines between words (Vig 2019), reads where each
word looks, and compares all heads in a sortable table. What a head does and is worth is that of the
result, measured on many stories, whichever sentence is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.pages import assembled
from tinylm.interpretability.places import PLACES, label

_DIGITS = 4
"""Decimals of shares in the page: the half of a hundredth of a percent."""


def attention_html(result: Mapping[str, Any], title: str = "Where each head looks") -> str:
    """Return the page for the attention of one model.

    Only the weights that a query can see are stored; three sentences of 14 words under 3 layers of
    8 heads make a page of about 100 KB.

    Args:
        result: what the attention experiment left.
        title: heading of the page.

    Raises:
        ValueError: if there is no sentence.
    """
    if not result["sentences"]:
        raise ValueError("there is no sentence to show")
    data = {
        "sentences": [_sentence(sentence) for sentence in result["sentences"]],
        "heads": [_head(head) for head in result["heads"]],
        "places": [place.label for place in PLACES],
        "stories": result["stories"],
    }
    return assembled("tinylm.experiments.attention", title, data)


def _sentence(sentence: Mapping[str, Any]) -> dict[str, Any]:
    weights = [
        [[row[: i + 1] for i, row in enumerate(head)] for head in layer]
        for layer in sentence["patterns"]
    ]
    return {"words": sentence["words"], "weights": weights}  # [layer][head][query][key <= query]


def _head(head: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("layer", "head", "interpretation", "worth_told")
    shares = {
        label(name): [round(share["share"], _DIGITS), round(share["expected"], _DIGITS)]
        for name, share in head["shares"].items()
    }
    return {
        **{key: head[key] for key in kept},
        "role": label(head["role"]),
        "second": head["second"] and label(head["second"]),
        "shares": shares,
        "distance": round(head["distance"], 2),
        "entropy": round(head["entropy"], _DIGITS),
        "worth": head["worth"][0],
    }
