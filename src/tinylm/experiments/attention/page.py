"""Attention on screen: one self-contained interactive page.

The page holds its data as JSON, its style and its few hundred lines of plain JavaScript, and
loads nothing: it opens from a disk or a mail, years later. One chooses a sentence and a head from
the grid of thumbnails, sees it as heatmap or as lines between words (Vig 2019), reads where each
word looks, and compares all heads in a sortable table. What a head does and is worth is that of the
result, measured on many stories, whichever sentence is shown.

Words come from a corpus and are data: they reach the page through JSON whose ``<``, ``>`` and
``&`` are escaped, and the page writes them with ``textContent`` only, so none can close the script
or become markup.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from tinylm.interpretability.places import PLACES, label
from tinylm.printable import in_line, printable

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
    parts = {"TITLE": html.escape(printable(title)), "DATA": _script_json(_shown(data))}
    # One pass, so that a title or word that looks like a placeholder is left alone.
    page = resources.files("tinylm.experiments.attention").joinpath("page.html").read_text("utf-8")
    return re.sub("@@(TITLE|DATA)@@", lambda match: parts[match[1]], page)


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


def _shown(value: object) -> object:
    """Return values as they were, but every text in them without control characters."""
    if isinstance(value, str):
        return in_line(value)
    if isinstance(value, Mapping):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _script_json(data: object) -> str:
    """Return JSON that means the same inside <script>, whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
