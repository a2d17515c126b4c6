"""Where each attention head attends, and how important it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.interpretability.head_roles import CLOSE, MIXED, STANDS_OUT
from tinylm.interpretability.places import label
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Paragraph, Table, code, literal
from tinylm.report.formatting import count, head_name, listed, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)
Head = Mapping[str, Any]

_HEADS = "figures/attention-heads.svg"
_SHOWN = 8
"""Heads whose words are listed, at most."""
_APART = 1.15
"""Ratio of two layers' mean distances from which one is said to attend further back. A word for a
size and no test: over the thousands of tokens that are read, a mean distance hardly scatters."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``attention``."""
    result = results.results.get("attention")
    if result is None:
        return []
    heads = result["heads"]
    return [
        Heading(1, "What the attention looks at", "sec:attention"),
        *TEXT.blocks(
            "method",
            stories=plural(result["stories"], "validation story", "validation stories"),
            stands_out=percent(STANDS_OUT, 0),
            close=percent(CLOSE, 0),
            mixed=MIXED,
        ),
        *_overview(results, result),
        Paragraph(importance_comment(result)),
        *_words(heads),
        *_sentences(results, result["sentences"]),
        *_page(results, result),
    ]


def _overview(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    heads = result["heads"]
    text = f"{roles_comment(heads)} {reach_comment(heads)} [[tab:heads]] lists the heads"
    blocks: list[Block] = []
    if results.has_figure(_HEADS):
        text += ", and [[fig:heads]] shows all shares"
        blocks.append(
            Figure(
                "fig:heads",
                _HEADS,
                TEXT.line("figure of the heads"),
                TEXT.line("figure of the heads, without seeing it"),
            )
        )
    return [Paragraph(f"{text}."), _table(heads), *blocks]


def _words(heads: Sequence[Head]) -> list[Block]:
    """Return the words to which the chosen heads attend beyond their positions, if to any."""
    items = [
        f"*Head {_name(head)}* attends "
        + listed(
            [f"to {code(str(word))} {factor:.1f} times" for word, factor in head["favourites"]]
        )
        + " as much."
        for head in _chosen(heads)
        if head["favourites"]
    ]
    return [*TEXT.blocks("words of heads"), Bullets(tuple(items))] if items else []


def roles_comment(heads: Sequence[Head]) -> str:
    """Return how many heads have each role."""
    roles = Counter(str(head["role"]) for head in heads).most_common()
    first = literal(label(roles[0][0]))
    if len(heads) == 1:
        return f"The only head has the role {first}."
    if len(roles) == 1:
        return f"All {plural(len(heads), 'head')} have one role: {first}."
    counted = listed([f"{literal(label(role))} ({number})" for role, number in roles])
    return f"The {plural(len(heads), 'head')} have {len(roles)} roles: {counted}."


def reach_comment(heads: Sequence[Head]) -> str:
    """Return how far back each layer attends, and whether that follows the order of the layers."""
    layers = sorted({head["layer"] for head in heads})
    means = [mean([float(h["distance"]) for h in heads if h["layer"] == n]) for n in layers]
    uniform = f"uniform attention: {heads[0]['even_distance']:.1f}"
    if len(means) == 1:
        return (
            f"The weight that is not on the first token lies {means[0]:.1f} tokens back on "
            f"average ({uniform})."
        )
    distances = listed([f"{distance:.1f}" for distance in means])
    text = (
        "The weight that is not on the first token lies, from the first layer to the last, "
        f"{distances} tokens back on average ({uniform}): "
    )
    steps = [later / earlier for earlier, later in pairwise(means)]
    if all(step >= _APART for step in steps):
        return text + "each layer attends further back than the one below."
    if all(step <= 1 / _APART for step in steps):
        return text + "each layer attends less far back than the one below."
    if max(means) / min(means) < _APART:
        return text + "the layers differ little in this."
    furthest = means.index(max(means)) + 1
    return text + (
        f"layer {furthest} attends furthest back, and the distances do not follow the order of the "
        "layers."
    )


def importance_comment(result: Mapping[str, Any]) -> str:
    """Return which heads are most important, and which show no effect."""
    heads = result["heads"]
    rises = {_name(head): Difference.from_result(head["worth"]) for head in heads}
    more = {name: rise for name, rise in rises.items() if rise.verdict is Verdict.MORE}
    less = [name for name, rise in rises.items() if rise.verdict is Verdict.LESS]
    text = (
        "*Importance of the heads.* The loss on these stories, each read from its beginning, is "
        f"{result['loss']:.4f} nats per token. "
    )
    if more:
        best = max(more, key=lambda name: more[name].value)
        role = next(head["role"] for head in heads if _name(head) == best)
        text += (
            f"The most important head is {best} ({literal(label(role))}): without it the loss is "
            f"higher by {_nats(more[best])}. "
        )
    if len(rises) == 1:
        text += (
            f"Removing the only head {'raises' if more else 'does not measurably raise'} the loss. "
        )
    elif len(more) == len(rises):
        text += f"Removing any one of the {len(rises)} heads raises the loss. "
    elif more:
        raises = "raises" if len(more) == 1 else "raise"
        text += (
            f"Of the {len(rises)} heads {count(len(more))} {raises} the loss measurably when they "
            "are removed one at a time. "
        )
    else:
        text += f"Removing one of the {len(rises)} heads does not measurably raise the loss. "
    if less:
        text += f"Without {_any_of(less)} the loss is lower. "
    idle = result["idle"]
    if idle:
        text += (
            f"Without {_any_of(idle)} the loss is not measurably different: these texts do not "
            "need what such a head does, or other heads do it as well. "
        )
    if result["without_idle"] is not None:
        together = Difference.from_result(result["without_idle"])
        if together.verdict is Verdict.MORE:
            text += (
                f"Without all of these at once the loss is higher by {_nats(together)}, so they "
                "can replace one another in part."
            )
        elif together.verdict is Verdict.LESS:
            text += f"Without all of these at once the loss is lower by {_nats(-together)}."
        else:
            text += "Without all of these at once it is not measurably different either."
    return text.strip()


def _any_of(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"head {names[0]}"
    return f"any one of {listed(list(names))}"


def _nats(worth: Difference) -> str:
    return f"{worth.value:.4f} nats ({worth.low:.4f} to {worth.high:.4f})"


def _table(heads: Sequence[Head]) -> Table:
    rows = []
    for head in heads:
        leading = head["shares"].get(head["role"])
        worth = Difference.from_result(head["worth"])
        rows.append(
            (
                _name(head),
                literal(label(str(head["role"]))),
                "–" if leading is None else percent(leading["share"], 0),
                "–" if leading is None else percent(leading["expected"], 0),
                literal(label(str(head["second"] or "–"))),
                f"{head['distance']:.1f}",
                f"{head['entropy']:.2f}",
                "–" if worth.verdict is Verdict.UNKNOWN else f"{worth.value:.4f}",
            )
        )
    return Table(
        "tab:heads",
        TEXT.line("table of the heads"),
        ("Head", "Role", "Share", "Expected", "Second", "Back", "Entropy", "Importance"),
        tuple(rows),
        "llrrlrrr",
        TEXT.line("table of the heads, note"),
    )


def _chosen(heads: Sequence[Head]) -> list[Head]:
    """Return the head of least entropy of each role, then the most important, ``_SHOWN`` in all."""
    best: dict[str, Head] = {}
    for head in sorted(heads, key=lambda head: float(head["entropy"])):
        best.setdefault(str(head["role"]), head)
    chosen = list(best.values())
    by_worth = sorted(heads, key=lambda head: -Difference.from_result(head["worth"]).value)
    chosen += [head for head in by_worth if head not in chosen]
    return sorted(chosen[:_SHOWN], key=lambda head: (head["layer"], head["head"]))


def _sentences(results: ReportInputs, sentences: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return every sentence with its heatmaps, and one layer of one of them as lines."""
    shown = [s for s in sentences if results.has_figure(s["figures"]["heatmaps"])]
    if not shown:
        return []
    keys = {id(sentence): f"fig:attention-{i}" for i, sentence in enumerate(shown, 1)}
    blocks: list[Block] = [
        Heading(2, "Sentence by sentence", "sec:attention-sentences"),
        *_choice(shown),
        Bullets(tuple(f"{_quoted(s)} ([[{keys[id(s)]}]]) {sentence_comment(s)}" for s in shown)),
    ]
    for sentence in shown:
        blocks.append(
            Figure(
                keys[id(sentence)],
                sentence["figures"]["heatmaps"],
                TEXT.line("figure of a sentence", sentence=_quoted(sentence)),
                TEXT.line("figure of a sentence, without seeing it", sentence=sentence["text"]),
            )
        )
    return [*blocks, *_lines(shown)]


def _choice(sentences: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return where the sentences come from."""
    reasons = [literal(str(sentence["reason"])) for sentence in sentences]
    number = plural(len(sentences), "sentence")
    if len({*reasons}) == 1:
        return TEXT.blocks("sentences of one kind", sentences=number, reason=reasons[0])
    return TEXT.blocks("sentences of the split", sentences=number, reasons=listed(reasons))


def sentence_comment(sentence: Mapping[str, Any]) -> str:
    """Return what stands out in a sentence: a word that returns, or the largest weight."""
    parts = []
    returning = sentence["returning"]
    if returning is not None:
        share, uniform = percent(returning["weight"], 0), percent(returning["even"], 0)
        word, head = code(str(returning["word"])), returning["head"]
        if returning["weight"] > 2 * returning["even"]:
            parts.append(
                f"From the second {word} head {head} gives {share} of its weight to the first, "
                f"{plural(returning['back'], 'token')} back; uniform attention would give "
                f"{uniform}."
            )
        else:
            parts.append(
                f"From the second {word} to the first no head gives more than {share} (head "
                f"{head}); uniform attention would give {uniform}."
            )
    link = sentence["link"]
    if link is not None:
        parts.append(
            "The largest weight between tokens that are not adjacent is "
            f"{percent(link['weight'], 0)}, from {code(str(link['query']))} to "
            f"{code(str(link['key']))} {plural(link['back'], 'token')} back, in head "
            f"{link['head']}."
        )
    return " ".join(parts)


def _lines(sentences: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the layer of the largest weight as lines."""
    linked = [sentence for sentence in sentences if sentence["link"] is not None]
    if not linked:
        return []
    strongest = max(linked, key=lambda sentence: float(sentence["link"]["weight"]))
    layer = int(str(strongest["link"]["head"]).partition(".")[0])
    path = strongest["figures"]["lines"][layer - 1]
    return [
        *TEXT.blocks("lines", layer=str(layer)),
        Figure(
            "fig:attention-lines",
            path,
            TEXT.line("figure of the lines", layer=str(layer), sentence=_quoted(strongest)),
            TEXT.line(
                "figure of the lines, without seeing it",
                layer=str(layer),
                sentence=strongest["text"],
            ),
        ),
    ]


def _page(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    if not results.has_figure(result["html"]):
        return []
    return TEXT.blocks("page", page=literal(result["html"]))


def _quoted(sentence: Mapping[str, Any]) -> str:
    """Return a sentence in italics: some hold quotation marks themselves."""
    return f"*{literal(sentence['text'])}*"


def _name(head: Head) -> str:
    return head_name(head["layer"], head["head"])
