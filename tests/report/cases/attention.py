"""What is said of attention heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import Case, table_of

Result = dict[str, Any]
Change = Callable[[Result], object]


def heads(**values: Any) -> Change:
    """Give every head these values."""
    return lambda result: [head.update(values) for head in result["heads"]]


def distances(*layers: float) -> Change:
    """Let the heads of each layer look so far back; there are no other layers."""

    def change(result: Result) -> None:
        result["heads"] = [head for head in result["heads"] if head["layer"] < len(layers)]
        for head in result["heads"]:
            head["distance"] = layers[head["layer"]]

    return change


def worth(*values: tuple[float | None, ...]) -> Change:
    """Let the first heads be worth this, all others 0.01; whoever shows nothing is idle."""

    def change(result: Result) -> None:
        result["idle"] = []
        for i, head in enumerate(result["heads"]):
            head["worth"] = list(values[i]) if i < len(values) else [0.01, 0.005, 0.015]
            _, low, high = head["worth"]
            if low is not None and high is not None and low <= 0 <= high:
                result["idle"].append(f"{head['layer'] + 1}.{head['head'] + 1}")
        result["without_idle"] = None

    return change


def together(*worth: float) -> Change:
    return lambda result: result.update(without_idle=list(worth))


def returning(weight: float) -> Change:
    return lambda result: result["sentences"][2]["returning"].update(weight=weight, even=0.1)


def no_links(result: Result) -> None:
    for sentence in result["sentences"]:
        sentence["link"] = None


def named(result: Result) -> None:
    for sentence in result["sentences"]:
        sentence["reason"] = "named by the reader"


def one_head(*worth: float) -> Change:
    def change(result: Result) -> None:
        del result["heads"][1:]
        result["heads"][0]["worth"] = list(worth)
        result.update(idle=[], without_idle=None)

    return change


IDLE, NEEDED, HARMFUL = (0.0, -0.001, 0.001), (0.3, 0.2, 0.4), (-0.02, -0.03, -0.01)

CASES = [
    *table_of(
        "attention",
        (None, "fall into 10 roles: mixed (15), own position (1)"),
        (heads(role="mixed"), "All 24 heads have one role: mixed."),
        (one_head(0.3, 0.2, 0.4), "The one head has the role: own position."),
        (one_head(0.3, 0.2, 0.4), "Removing the only head raises the loss."),
        (one_head(0.0, -0.1, 0.1), "Removing the only head does not measurably raise the loss."),
        # How far back the layers look.
        (distances(4.0), "lies 4.0 tokens back on average; an even spread would look 16.0 back"),
        (distances(4.0, 4.6, 5.3), "the higher a layer, the further back it looks"),
        (distances(5.3, 4.6, 4.0), "the higher a layer, the nearer it looks", "further back it"),
        (distances(4.0, 4.5), "the layers differ little in reach", "the higher a layer"),
        (distances(4.5, 4.0), "the layers differ little in reach", "the higher a layer"),
        (distances(4.0, 8.0, 4.1), "layer 2 looks furthest back, and reach does not follow"),
        (distances(4.0, 4.1, 8.0), "layer 3 looks furthest back, and reach does not follow"),
        (distances(8.0, 4.1, 4.0), "layer 1 looks furthest back, and reach does not follow"),
        # What heads are worth.
        (
            worth(NEEDED),
            "depends most on head 1.1 (own position): without it the loss is 0.3000 nats (0.2000 "
            "to 0.4000) higher. Removing any one of the 24 heads raises the loss.",
            "what such a head does",
        ),
        (
            worth(IDLE),
            "Of the 24 heads 23 raise the loss measurably when they are removed one at a time. "
            "Without head 1.1 the loss is not measurably different",
            "any one of",
        ),
        (worth(IDLE, IDLE), "Without any one of 1.1 and 1.2 the loss is not measurably different"),
        (worth(HARMFUL), "Without head 1.1 the loss is even lower."),
        (worth(HARMFUL, HARMFUL), "Without any one of 1.1 and 1.2 the loss is even lower."),
        (worth(*[IDLE] * 24), "one of the 24 heads does not measurably raise", "depends most on"),
        (worth(NEEDED, *[IDLE] * 23), "Of the 24 heads 1 raises the loss measurably when"),
        (worth((0.1, None, None)), "Of the 24 heads 23 raise the loss"),
        (together(0.02, 0.01, 0.03), "at once the loss is 0.0200 nats (0.0100 to 0.0300) higher, "
                                     "so that they stand in"),
        (together(-0.02, -0.03, -0.01), "at once the loss is 0.0200 nats (0.0100 to 0.0300) lower"),
        (together(0.02, -0.01, 0.03), "at once it is not measurably different either"),
        # Words of a few heads: the sharpest of every role, and those of most worth.
        (
            None,
            "Head 2.1. Gives 62\u202f% of its weight to earlier words that are not among the most "
            "frequent (8\u202f% by its distances alone); looks 7.0 tokens back on average. Without "
            "it the validation loss is higher, by 0.0111 nats (0.0091 to 0.0131).",
            "Head 3.7.",
        ),
        (heads(role="mixed", second=None), "Head 1.2.", "Head 3.7."),
        (heads(second="punctuation"), "punctuation\n3.0"),
        (heads(role="punctuation", shares={}), "punctuation\n–\n–"),
        # Sentences.
        (None, "They were chosen by a rule: of the sentences of 8 to 16 tokens"),
        (named, "3 sentences, named by the reader, drawn in every head:", "by a rule"),
        (returning(0.21), "From the second lily head"),
        (returning(0.2), "No head looks much from the second lily to the first: the most is "
                         "20\u202f%"),
        (None, "The strongest link of words that are no neighbours leads"),
        (no_links, "Sentence by sentence", "strongest link"),
        (None, "draws the layer of the strongest link of all, layer"),
        (None, "figures/attention.html in the run's folder"),
    ),
    Case("attention", "lists them", unsaid="shows every share", drawn=False),
    Case("attention", "lists them", unsaid="Sentence by sentence", drawn=False),
]  # fmt: skip
