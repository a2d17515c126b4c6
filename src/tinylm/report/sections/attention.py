"""What the attention heads look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import Block, Bullets, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import listed, percent, plural
from tinylm.report.inputs import ReportInputs

_COLUMNS = (
    ("previous", "Previous"),
    ("first", "First"),
    ("self_share", "Itself"),
    ("same_word", "Same word"),
    ("punctuation", "Punct."),
)
_SHOWN = 8


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``attention``."""
    found = results.results.get("attention")
    if found is None or not found["sentences"]:
        return []
    made: list[Block] = [
        Heading(1, "What the attention looks at", "sec:attention"),
        Paragraph(
            "An attention weight says how much of another token's value a head takes in. For "
            f"{plural(len(found['sentences']), 'sentence')} every weight of every head was "
            "recorded. For each head the share of weight is measured that falls on the previous "
            "token, on the first one, on the token itself, on earlier occurrences of the same "
            "word and on punctuation, besides the mean distance looked back and the entropy of "
            "the weights [[clark2019]]. A head is named after the share that stands out most "
            "against a head that spreads its weight evenly."
        ),
    ]
    made += _figures(results, found["sentences"])
    heads = found.get("heads") or []
    if heads:
        made += _heads(heads)
    made.append(
        Paragraph(
            "These are descriptions of where heads read, on a few sentences. That a head looks at "
            "a word does not prove that the prediction depends on it [[jain2019]]; that would "
            "take an intervention, such as switching the head off."
        )
    )
    if found.get("html") and results.has_figure(found["html"]):
        made.append(
            Paragraph(
                f"The weights can be explored one by one in `{literal(found['html'])}` in the "
                "run's folder."
            )
        )
    return made


def _figures(results: ReportInputs, sentences: Sequence[Mapping[str, Any]]) -> list[Block]:
    made: list[Block] = []
    # One sentence on paper; the figures of the others are in the folder.
    sentence = sentences[0]
    figures = sentence.get("figures") or {}
    path = figures.get("heatmaps")
    if not path or not results.has_figure(path):
        return []
    made.append(
        Figure(
            "fig:attention-1",
            path,
            f"Attention in every head for “{literal(sentence['text'])}” A row is the token "
            "that looks, a column the token looked at; darker is more weight. The upper "
            "right is empty because no token sees those after it.",
            f"Heatmaps of the attention of every head for: {sentence['text']}",
        )
    )
    lines = [one for one in figures.get("lines") or [] if results.has_figure(one)]
    if lines:
        made.append(
            Figure(
                "fig:attention-lines",
                lines[0],
                "The first layer's heads on the same sentence, drawn as lines from the token "
                "that looks (left) to those looked at (right), as strong as the weight.",
                f"Lines of attention of the first layer for: {sentence['text']}",
            )
        )
    if len(lines) > 1:
        made.append(
            Figure(
                "fig:attention-lines-last",
                lines[-1],
                "The last layer's heads on the same sentence.",
                f"Lines of attention of the last layer for: {sentence['text']}",
            )
        )
    if made:
        text = "[[fig:attention-1]] shows all heads for one sentence"
        if any(isinstance(block, Figure) and block.key == "fig:attention-lines" for block in made):
            text += "; [[fig:attention-lines]] draws those of the first layer as lines"
        if len(lines) > 1:
            text += ", [[fig:attention-lines-last]] those of the last"
        others = listed([f"“{literal(sentence['text'])}”" for sentence in sentences[1:]])
        if others:
            text += f". The figures for {others} are in the run's folder `figures`"
        made.insert(0, Paragraph(f"{text}."))
    return made


def _heads(heads: Sequence[Mapping[str, Any]]) -> list[Block]:
    base = min(head["layer"] for head in heads), min(head["head"] for head in heads)

    def name(head: Mapping[str, Any]) -> str:
        # People count from 1, whatever the file does.
        layer, number = (head["layer"] + (base[0] == 0), head["head"] + (base[1] == 0))
        return f"{layer}.{number}"

    columns = [
        (key, title)
        for key, title in _COLUMNS
        if any(head["descriptors"].get(key) is not None for head in heads)
    ]
    rows = tuple(
        (
            name(head),
            literal(head["role"]),
            *(_share(head["descriptors"].get(key)) for key, _ in columns),
            _number(head["descriptors"].get("mean_distance"), 1),
            _number(head["descriptors"].get("entropy"), 2),
        )
        for head in heads
    )
    roles = Counter(head["role"] for head in heads).most_common()
    counted = listed(
        [f"{literal(role)} ({number})" for role, number in roles]
    )  # fmt: skip
    chosen = _chosen(heads)
    return [
        Heading(2, "The heads", "sec:heads"),
        Paragraph(
            f"Averaged over the sentences, the {plural(len(heads), 'head')} fall into these "
            f"kinds: {counted}. {_layers(heads)} [[tab:heads]] lists them all; some in words:"
        ),
        Bullets(
            tuple(f"*Head {name(head)}.* {literal(head['interpretation'])}" for head in chosen)
        ),
        Table(
            "tab:heads",
            "Every head, named *layer.head*, and where its weight goes.",
            ("Head", "Role", *(title for _, title in columns), "Distance", "Entropy"),
            rows,
            "ll" + "r" * (len(columns) + 2),
            "Shares are means over the tokens that look; a token can count in several columns. "
            "Distance in tokens back. Entropy is 1 for an even spread, 0 for one token only; a "
            "dash where a sentence offers nothing to measure.",
        ),
    ]


def _chosen(heads: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the sharpest head of each role, then the sharpest of all, up to ``_SHOWN``."""

    def entropy(head: Mapping[str, Any]) -> float:
        value = head["descriptors"].get("entropy")
        return 1.0 if value is None else float(value)

    best: dict[str, Mapping[str, Any]] = {}
    ordered = sorted(heads, key=entropy)
    for head in ordered:
        best.setdefault(head["role"], head)
    chosen = list(best.values())
    chosen += [head for head in ordered if head not in chosen]
    return sorted(chosen[:_SHOWN], key=lambda head: (head["layer"], head["head"]))


def _layers(heads: Sequence[Mapping[str, Any]]) -> str:
    """Return how far back the first and the last layer look."""
    layers = sorted({head["layer"] for head in heads})
    means = []
    for layer in (layers[0], layers[-1]):
        values = [
            head["descriptors"]["mean_distance"]
            for head in heads
            if head["layer"] == layer and head["descriptors"].get("mean_distance") is not None
        ]
        if not values:
            return ""
        means.append(sum(values) / len(values))
    if len(layers) < 2:
        return f"On average they look {means[0]:.1f} tokens back."
    first, last = means
    text = f"The first layer looks {first:.1f} tokens back on average, the last {last:.1f}"
    if last > 1.15 * first:
        return f"{text}: lower layers read the neighbourhood, higher ones gather from afar."
    if last < 0.87 * first:
        return f"{text}: here it is the lower layers that gather from afar."
    return f"{text}: the layers differ little in reach."


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value, 0)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
