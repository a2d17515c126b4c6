"""What the attention heads look at, and what each is worth."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.interpretability.head_roles import CLOSE, MIXED, STANDS_OUT
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Paragraph, Table, code, literal
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)
Head = Mapping[str, Any]

_HEADS = "figures/attention-heads.svg"
_SHOWN = 8
"""Heads that are described in words."""
_APART = 1.15
"""Ratio of two layers' mean distances from which one is said to look further back. A word for a
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
        Paragraph(worth_comment(result)),
        *TEXT.blocks("heads in words"),
        Bullets(
            tuple(
                f"*Head {_name(head)}.* {_told(head['interpretation'])} "
                f"{literal(head['worth_told'])}"
                for head in _chosen(heads)
            )
        ),
        *_sentences(results, result["sentences"]),
        *_page(results, result),
    ]


def _overview(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    heads = result["heads"]
    text = f"{roles_comment(heads)} {reach_comment(heads)} [[tab:heads]] lists them"
    blocks: list[Block] = []
    if results.has_figure(_HEADS):
        text += ", and [[fig:heads]] shows every share"
        blocks.append(
            Figure(
                "fig:heads",
                _HEADS,
                TEXT.line("figure of the heads"),
                TEXT.line("figure of the heads, without seeing it"),
            )
        )
    return [Paragraph(f"{text}."), _table(heads), *blocks]


def roles_comment(heads: Sequence[Head]) -> str:
    """Return how many heads have each role."""
    roles = Counter(str(head["role"]) for head in heads).most_common()
    if len(heads) == 1:
        return f"The one head has the role: {literal(roles[0][0])}."
    if len(roles) == 1:
        return f"All {plural(len(heads), 'head')} have one role: {literal(roles[0][0])}."
    counted = listed([f"{literal(role)} ({number})" for role, number in roles])
    return f"The {plural(len(heads), 'head')} fall into {len(roles)} roles: {counted}."


def reach_comment(heads: Sequence[Head]) -> str:
    """Return how far back each layer looks, and whether that follows the order of the layers."""
    layers = sorted({head["layer"] for head in heads})
    means = [mean([float(h["distance"]) for h in heads if h["layer"] == n]) for n in layers]
    even = heads[0]["even_distance"]
    against = f"an even spread would look {even:.1f} back"
    if len(means) == 1:
        return (
            f"The weight that does not rest on the first token lies {means[0]:.1f} tokens back on "
            f"average; {against}."
        )
    distances = listed([f"{distance:.1f}" for distance in means])
    text = (
        "The weight that does not rest on the first token lies, from the first layer to the last, "
        f"{distances} tokens back on average ({against}): "
    )
    steps = [later / earlier for earlier, later in pairwise(means)]
    if all(step >= _APART for step in steps):
        return text + "the higher a layer, the further back it looks."
    if all(step <= 1 / _APART for step in steps):
        return text + "the higher a layer, the nearer it looks."
    if max(means) / min(means) < _APART:
        return text + "the layers differ little in reach."
    furthest = means.index(max(means)) + 1
    return text + f"layer {furthest} looks furthest back, and reach does not follow the order."


def worth_comment(result: Mapping[str, Any]) -> str:
    """Return which heads matter most, and which show nothing."""
    heads = result["heads"]
    worth = {_name(head): Difference.from_result(head["worth"]) for head in heads}
    more = {name: rise for name, rise in worth.items() if rise.verdict is Verdict.MORE}
    less = [name for name, rise in worth.items() if rise.verdict is Verdict.LESS]
    text = (
        "*What the heads are worth.* The loss on these texts is "
        f"{result['loss']:.4f} nats a token. "
    )
    if more:
        best = max(more, key=lambda name: more[name].value)
        role = next(head["role"] for head in heads if _name(head) == best)
        text += (
            f"It depends most on head {best} ({literal(role)}): without it the loss is "
            f"{_nats(more[best])} higher. "
        )
    if len(worth) == 1:
        text += (
            f"Removing the only head {'raises' if more else 'does not measurably raise'} the loss. "
        )
    elif len(more) == len(worth):
        text += f"Removing any one of the {len(worth)} heads raises the loss. "
    elif more:
        raises = "raises" if len(more) == 1 else "raise"
        text += (
            f"Of the {len(worth)} heads {count(len(more))} {raises} the loss measurably when they "
            "are removed one at a time. "
        )
    else:
        text += f"Removing one of the {len(worth)} heads does not measurably raise the loss. "
    if less:
        text += f"Without {_one_of(less)} the loss is even lower. "
    idle = result["idle"]
    if idle:
        text += (
            f"Without {_one_of(idle)} the loss is not measurably different: what such a head does "
            "is not needed on these texts, or other heads do it too. "
        )
    if result["without_idle"] is not None:
        together = Difference.from_result(result["without_idle"])
        if together.verdict is Verdict.MORE:
            text += (
                f"Without all of these at once the loss is {_nats(together)} higher, so that they "
                "stand in for one another."
            )
        elif together.verdict is Verdict.LESS:
            text += f"Without all of these at once the loss is {_nats(-together)} lower."
        else:
            text += "Without all of these at once it is not measurably different either."
    return text.strip()


def _one_of(names: Sequence[str]) -> str:
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
                literal(str(head["role"])),
                "–" if leading is None else percent(leading["share"], 0),
                "–" if leading is None else percent(leading["expected"], 0),
                literal(str(head["second"] or "–")),
                f"{head['distance']:.1f}",
                f"{head['entropy']:.2f}",
                "–" if worth.verdict is Verdict.UNKNOWN else f"{worth.value:.4f}",
            )
        )
    return Table(
        "tab:heads",
        TEXT.line("table of the heads"),
        ("Head", "Role", "Share", "Expected", "Second", "Back", "Entropy", "Worth"),
        tuple(rows),
        "llrrlrrr",
        TEXT.line("table of the heads, note"),
    )


def _chosen(heads: Sequence[Head]) -> list[Head]:
    """Return the sharpest head of each role, then those of most worth, up to ``_SHOWN``."""
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
    """Return what stands out in a sentence: a word that returns, or the strongest link."""
    parts = []
    returning = sentence["returning"]
    if returning is not None:
        share, even = percent(returning["weight"], 0), percent(returning["even"], 0)
        word, head = code(str(returning["word"])), returning["head"]
        if returning["weight"] > 2 * returning["even"]:
            parts.append(
                f"From the second {word} head {head} gives {share} of its weight to the first, "
                f"{plural(returning['back'], 'token')} back, where an even spread would give "
                f"{even}."
            )
        else:
            parts.append(
                f"No head looks much from the second {word} to the first: the most is {share}, "
                f"in head {head}, where an even spread would give {even}."
            )
    link = sentence["link"]
    if link is not None:
        parts.append(
            "The strongest link of words that are no neighbours leads "
            f"{plural(link['back'], 'token')} back, from {code(str(link['query']))} to "
            f"{code(str(link['key']))}: {percent(link['weight'], 0)}, in head {link['head']}."
        )
    return " ".join(parts)


def _lines(sentences: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the layer of the strongest link as lines."""
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


def _told(interpretation: str) -> str:
    """Return what a head does as inline markup, the tokens in it as code."""
    marked = re.split(r"“(.+?)”(?= \()", interpretation)
    return "".join(code(part) if i % 2 else literal(part) for i, part in enumerate(marked))


def _name(head: Head) -> str:
    return f"{head['layer'] + 1}.{head['head'] + 1}"
