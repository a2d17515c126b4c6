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
        (None, "The 24 heads have 10 roles: mixed (15), own position (1), previous token (1), "
         "second previous token (1), tokens 3 to 8 back (1)", "next-to-last"),
        (heads(role="mixed"), "All 24 heads have one role: mixed."),
        (one_head(0.3, 0.2, 0.4), "The only head has the role own position."),
        (one_head(0.3, 0.2, 0.4), "Removing the only head raises the loss."),
        (one_head(0.0, -0.1, 0.1), "Removing the only head does not measurably raise the loss."),
        # How far back the layers look.
        (distances(4.0), "lies 4.0 tokens back on average (uniform attention: 16.0)."),
        (distances(4.0, 4.6, 5.3), "each layer attends further back than the one below"),
        (distances(5.3, 4.6, 4.0), "each layer attends less far back than the one below"),
        (distances(4.0, 4.5), "the layers differ little in this", "than the one below"),
        (distances(4.5, 4.0), "the layers differ little in this", "than the one below"),
        (distances(4.0, 8.0, 4.1), "layer 2 attends furthest back, and the distances do not"),
        (distances(4.0, 4.1, 8.0), "layer 3 attends furthest back, and the distances do not"),
        (distances(8.0, 4.1, 4.0), "layer 1 attends furthest back, and the distances do not"),
        # What heads are worth.
        (
            worth(NEEDED),
            "The most important head is 1.1 (own position): without it the loss is higher by 0.3000"
            " nats (0.2000 to 0.4000). Removing any one of the 24 heads raises the loss.",
            "what such a head does",
        ),
        (
            worth(IDLE),
            "Of the 24 heads 23 raise the loss measurably when they are removed one at a time. "
            "Without head 1.1 the loss is not measurably different",
            "any one of",
        ),
        (worth(IDLE, IDLE), "Without any one of 1.1 and 1.2 the loss is not measurably different"),
        (worth(HARMFUL), "Without head 1.1 the loss is lower."),
        (worth(HARMFUL, HARMFUL), "Without any one of 1.1 and 1.2 the loss is lower."),
        (worth(*[IDLE] * 24), "one of the 24 heads does not measurably raise", "most important"),
        (worth(NEEDED, *[IDLE] * 23), "Of the 24 heads 1 raises the loss measurably when"),
        (worth((0.1, None, None)), "Of the 24 heads 23 raise the loss"),
        (together(0.02, 0.01, 0.03), "at once the loss is higher by 0.0200 nats (0.0100 to 0.0300)"
                                     ", so they can replace"),
        (together(-0.02, -0.03, -0.01), "at once the loss is lower by 0.0200 nats (0.0100 to 0.03"),
        (together(0.02, -0.01, 0.03), "at once it is not measurably different either"),
        # Words of a few heads: that of least entropy of every role, and the most important ones.
        (heads(favourites=[["because", 3.34], ["there", 1.8]]), "Head 2.1 attends to because 3.3 "
         "times and to there 1.8 times as much.", "Head 3.7"),
        (heads(role="mixed", favourites=[["a", 2.0]]), "Head 1.2 attends to a", "Head 3.7 attends"),
        (heads(favourites=[]), "Sentence by sentence", "times as much"),
        (heads(second="punctuation"), "punctuation\n3.0"),
        (heads(role="punctuation", shares={}), "punctuation\n–\n–"),
        # Sentences.
        (None, "They were chosen by a rule: of the sentences of 8 to 16 tokens"),
        (named, "3 sentences, named by the reader, with the attention of every head:", "by a rule"),
        (returning(0.21), "From the second lily head"),
        (returning(0.2), "From the second lily to the first no head gives more than 20\u202f%"),
        (None, "The largest weight between tokens that are not adjacent is"),
        (no_links, "Sentence by sentence", "not adjacent"),
        (None, "which has the largest of these weights, as lines."),
        (None, "figures/attention.html in the run's folder"),
    ),
    Case("attention", "lists the heads", unsaid="shows all shares", drawn=False),
    Case("attention", "lists the heads", unsaid="Sentence by sentence", drawn=False),
]  # fmt: skip
