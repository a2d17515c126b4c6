"""What is said of lenses and of direct logit attribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, Phrase, table_of
from tinylm.experiments.lens.parts import label

Result = dict[str, Any]
Change = Callable[[Result], object]

LOWER, HIGHER, ALIKE = [-0.5, -0.6, -0.4], [0.5, 0.4, 0.6], [0.01, -0.1, 0.12]
UNKNOWN = [0.5, None, None]


def divergences(key: str, *values: list[float | None]) -> Change:
    """Give the places after the first, or from the first on, these differences."""

    def change(result: Result) -> None:
        first = 1 if key == "less_before" else 0
        for place, value in zip(result["places"][first:-1], values, strict=True):
            place["divergence"][key] = value

    return change


def one_layer(result: Result) -> None:
    result["places"] = [*result["places"][:2], result["places"][-1]]


def parts(**adds: list[float]) -> Change:
    """Leave these parts alone."""
    return lambda result: result.update(
        parts=[{"part": name, "adds": value} for name, value in adds.items()]
    )


def many_parts(result: Result) -> None:
    result["parts"] = [{"part": f"layers.{i}.head.0", "adds": HIGHER} for i in range(43)]


CASES: list[Case] = [
    *table_of(
        "lens",
        (None, "In this post-norm model the stream is normalised after every part"),
        (None, "In this post-norm model what a part writes passes every norm after", "norm as it"),
        (lambda f: f.update(norm_placement="pre"), "through the final norm, computed anew there,"),
        (lambda f: f.update(norm_placement="pre"), "With the scale of the final norm as it was",
         "post-norm"),
        (None, "in 250 steps of 256 tokens on 200 stories of the train split."),
        (None, "is that of the end after the embedding at 6.9\u202f% of the posi"),
        (None, "and after the attention of layer 3 at 70.2\u202f% of the"),
        (None, "tab:lens and fig:lens show all places."),
        (None, "fig:lens-sentence shows a sentence place by place."),
        (None, "fig:lens-parts shows the parts."),
        # From place to place.
        (None, "place before, by the logit lens: lower at each of the 5 places."),
        (divergences("less_before", LOWER, HIGHER, LOWER, ALIKE, UNKNOWN),
         "lens: lower after the attention of layer 1 and the attention of layer 2; higher"),
        (divergences("less_before", LOWER, HIGHER, LOWER, ALIKE, UNKNOWN),
         "; not measurably different after the feed-forward of layer 2; could not be meas"),
        (one_layer, "place before, by the logit lens: lower after the attention of layer 1."),
        # The tuned lens.
        (None, "logit lens, before the end: lower at each of the 6 places. The diff"),
        (None, "largest after the attention of layer 1: −3.299 nats (95\u202f% interval"),
        (divergences("tuned_less_logit", *[ALIKE] * 5, HIGHER), "the end: not measur"),
        (divergences("tuned_less_logit", *[ALIKE] * 5, HIGHER),
         "; higher after the attention of layer 3. The difference is largest"),
        # Attribution.
        (None, "On average over 11,279 positions the logit of the word that follows is 18.0"),
        (None, "22 parts add to it measurably, the most: feed-forward 3 (7.16), feed"),
        (None, "3 parts take from it measurably, the most: feed-forward bias 3 (−0.09)."),
        (None, "the second head of the first layer.", "add least"),
        (many_parts, "The 3 parts that add least are left out."),
        (parts(embedding=HIGHER, positions=LOWER, norms=ALIKE),
         "is 0.01 above the mean logit of the vocabulary. 1 part adds to it measurably, the most:"),
        (parts(embedding=HIGHER, positions=LOWER, norms=ALIKE),
         "(0.50). 1 part takes from it measurably, the most: positions (−0.50)."),
        (parts(embedding=ALIKE), "No part adds to it measurably.", "takes from"),
        (parts(embedding=LOWER), "is 0.50 below the mean logit of the vocabulary. No part adds"),
    ),
    *table_of(
        "lens",
        (None, "All: tab:lens."),
        (None, "lower at each of the 6 places.", "fig:"),
        drawn=False,
    ),
    Case(
        "abstract",
        "By the logit lens the likeliest word before the last part of the model is that of the end "
        "at 70.2\u202f% of the positions.",
    ),
]  # fmt: skip

PHRASES = [
    Phrase("embedding", lambda: label("embedding")),
    Phrase("norm biases", lambda: label("norms")),
    Phrase("unembedding bias", lambda: label("unembedding.bias")),
    Phrase("head 3.2", lambda: label("layers.2.head.1")),
    Phrase("attention bias 1", lambda: label("layers.0.attention.bias")),
    Phrase("feed-forward bias 2", lambda: label("layers.1.feed_forward.bias")),
]
