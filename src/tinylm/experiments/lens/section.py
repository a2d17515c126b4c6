"""What each layer says of the next word, and what each part adds to its logit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.lens.figures import PARTS, PLACES, SENTENCE, shown_parts
from tinylm.experiments.lens.parts import label
from tinylm.interpretability.lens import READ
from tinylm.measurement import Difference, Verdict
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table
from tinylm.report.formatting import count, listed, percent, plural
from tinylm.report.measurements import in_nats, signed
from tinylm.report.passages import passages

TEXT = passages(__file__)
_MOST = 3
"""Parts that are named, at most."""

Place = Mapping[str, Any]
Part = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``lens``."""
    result = results.results.get("lens")
    if result is None:
        return []
    places, parts = result["places"], result["parts"]
    followed = plural(result["followed"], "position")
    hidden = len(parts) - len(shown_parts(parts))
    return [
        Heading(1, "What each layer says of the next word", "sec:lens"),
        *TEXT.blocks(
            "method",
            read=READ[result["norm_placement"]],
            steps=plural(result["steps"], "step"),
            tuned_stories=plural(result["tuned_stories"], "story", "stories"),
            stories=plural(result["stories"], "validation story", "validation stories"),
            positions=plural(result["positions"], "position"),
        ),
        Paragraph(
            f"{lens_comment(places)} {steps_comment(places)} {_seen(results, PLACES)}".strip()
        ),
        _table(places),
        *_figure(
            results,
            PLACES,
            TEXT.line("figure of the places"),
            TEXT.line("figure of the places, without seeing it"),
        ),
        Paragraph(f"{tuned_comment(places)} {_seen(results, SENTENCE)}".strip()),
        *_figure(
            results,
            SENTENCE,
            TEXT.line("figure of the sentence"),
            TEXT.line("figure of the sentence, without seeing it"),
        ),
        *(
            TEXT.blocks("attribution, pre")
            if result["norm_placement"] == "pre"
            else TEXT.blocks("attribution, post")
        ),
        Paragraph(f"{parts_comment(parts, followed)} {_seen(results, PARTS)}".strip()),
        *_figure(
            results,
            PARTS,
            TEXT.line(
                "figure of the parts",
                followed=followed,
                left_out=(
                    f" The {count(hidden)} parts that add least are left out." if hidden else ""
                ),
            ),
            TEXT.line("figure of the parts, without seeing it"),
        ),
    ]


def sentence(inputs: ReportInputs) -> str:
    """Return what the report's abstract says of it."""
    before = inputs.results["lens"]["places"][-2]
    share = Difference.from_result(before["agreement"]["logit"])
    return (
        "By the logit lens the likeliest word before the last part of the model is that of the end "
        f"at {percent(share.value)} of the positions."
    )


def _seen(results: ReportInputs, name: str) -> str:
    """Return the sentence that leads to a figure and, for the places, to their table."""
    drawn = results.has_figure(f"figures/{name}.svg")
    if name == PLACES:
        return "[[tab:lens]] and [[fig:lens]] show all places." if drawn else "All: [[tab:lens]]."
    if not drawn:
        return ""
    return {
        SENTENCE: "[[fig:lens-sentence]] shows a sentence place by place.",
        PARTS: "[[fig:lens-parts]] shows the parts.",
    }[name]


def _figure(results: ReportInputs, name: str, caption: str, alt: str) -> list[Block]:
    path = f"figures/{name}.svg"
    return [Figure(f"fig:{name}", path, caption, alt)] if results.has_figure(path) else []


def _table(places: Sequence[Place]) -> Table:
    rows = []
    for place in places:
        of_both = [
            Difference.from_result(place[measure][lens])
            for measure in ("divergence", "agreement")
            for lens in ("logit", "tuned")
        ]
        less = Difference.from_result(place["divergence"]["tuned_less_logit"])
        rows.append(
            (
                str(place["place"]),
                *(f"{value.value:.3f}" for value in of_both[:2]),
                f"{signed(less.value, 3)} ({signed(less.low, 3)} to {signed(less.high, 3)})",
                *(percent(value.value) for value in of_both[2:]),
            )
        )
    return Table(
        "tab:lens",
        TEXT.line("table"),
        ("Place", "KL, logit", "KL, tuned", "Difference", "Same, logit", "Same, tuned"),
        tuple(rows),
        "lrrrrr",
        TEXT.line("table's note"),
    )


def lens_comment(places: Sequence[Place]) -> str:
    """Return how near the first place and the one before the end are to it."""
    first, before = (
        f"after {_place(place)} at {percent(_logit(place, 'agreement'))} of the positions "
        f"(divergence: {_logit(place, 'divergence'):.3f} nats)"
        for place in (places[0], places[-2])
    )
    return f"By the logit lens the likeliest word is that of the end {first}, and {before}."


def _logit(place: Place, measure: str) -> float:
    return Difference.from_result(place[measure]["logit"]).value


def _place(place: Place) -> str:
    """Return a place in words: ``the embedding``, ``the attention of layer 2``."""
    layer, _, part = str(place["place"]).partition(" ")
    return f"the {part} of layer {layer}" if part else f"the {layer}"


def steps_comment(places: Sequence[Place]) -> str:
    """Return whether each part brings the stream nearer to the end, but the last, which is it."""
    steps = [
        (_place(place), Difference.from_result(place["divergence"]["less_before"]))
        for place in places[1:-1]
    ]
    return "Divergence compared with the place before, by the logit lens: " + _by_word(steps)


def _by_word(differences: Sequence[tuple[str, Difference]]) -> str:
    """Return what differences come to: ``lower after the embedding; higher after …``."""
    groups: dict[str, list[str]] = {}
    for name, difference in differences:
        groups.setdefault(difference.word, []).append(name)
    if len(groups) == 1 and len(differences) > 1:
        (word,) = groups
        return f"{word} at each of the {len(differences)} places."
    phrases = [f"{word} after {listed(names)}" for word, names in groups.items()]
    return f"{'; '.join(phrases)}."


def tuned_comment(places: Sequence[Place]) -> str:
    """Return what the tuned lens changes."""
    differences = [
        (_place(place), Difference.from_result(place["divergence"]["tuned_less_logit"]))
        for place in places[:-1]
    ]
    where, largest = max(differences, key=lambda named: abs(named[1].value))
    return (
        "Divergence of the tuned lens compared with the logit lens, before the end: "
        f"{_by_word(differences)} The difference is largest after {where}: {in_nats(largest)}."
    )


def parts_comment(parts: Sequence[Part], followed: str) -> str:
    """Return how high the logit stands and which parts add most to it."""
    adds = {label(str(part["part"])): Difference.from_result(part["adds"]) for part in parts}
    total = sum(difference.value for difference in adds.values())
    text = (
        f"On average over {followed} the logit of the word that follows is {abs(total):.2f} "
        f"{'above' if total >= 0 else 'below'} the mean logit of the vocabulary."
    )
    more = [name for name, difference in adds.items() if difference.verdict is Verdict.MORE]
    less = [name for name, difference in adds.items() if difference.verdict is Verdict.LESS]
    if more:
        most = sorted(more, key=lambda name: -adds[name].value)[:_MOST]
        named = listed([f"{name} ({signed(adds[name].value, 2)})" for name in most])
        add = "adds" if len(more) == 1 else "add"
        text += f" {plural(len(more), 'part')} {add} to it measurably, the most: {named}."
    else:
        text += " No part adds to it measurably."
    if less:
        least = min(less, key=lambda name: adds[name].value)
        take = "takes" if len(less) == 1 else "take"
        text += (
            f" {plural(len(less), 'part')} {take} from it measurably, the most: {least} "
            f"({signed(adds[least].value, 2)})."
        )
    return text
