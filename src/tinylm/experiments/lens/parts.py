"""How the parts of a model are called in the report, layers and heads counted from 1."""

from __future__ import annotations

_IN_LAYER = {
    "attention.bias": "attention bias",
    "feed_forward": "feed-forward",
    "feed_forward.bias": "feed-forward bias",
}


def label(part: str) -> str:
    """Return the name of a part of ``parts_of`` or of an attribution.

    ``layers.0.head.1`` is ``head 1.2``, ``layers.2.feed_forward`` is ``feed-forward 3``.
    """
    if not part.startswith("layers."):
        return {"norms": "norm biases", "unembedding.bias": "unembedding bias"}.get(part, part)
    _, layer, rest = part.split(".", 2)
    number = int(layer) + 1
    if rest.startswith("head."):
        return f"head {number}.{int(rest.removeprefix('head.')) + 1}"
    return f"{_IN_LAYER[rest]} {number}"
