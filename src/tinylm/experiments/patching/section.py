"""Which places and heads carry an answer, by patches between pairs of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.patching.figures import measured_behaviours, place_in_words
from tinylm.interpretability.attribution_patching import LEAST_EFFECT
from tinylm.measurement import Difference
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, head_name, listed, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)
_HALF = 0.5
"""Effect from which a place of the stream is said to carry most of the answer."""
Behaviour = Mapping[str, Any]


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``patching``."""
    result = results.results.get("patching")
    if result is None:
        return []
    behaviours, asked = measured_behaviours(result), result["behaviours"]
    section: list[Block] = [
        Heading(1, "Which parts carry an answer", "sec:patching"),
        *TEXT.blocks("method"),
        Paragraph(" ".join([right_comment(asked), TEXT.line("before the table")])),
        _table(asked),
    ]
    if not behaviours:
        return section
    section.append(Bullets(tuple(behaviour_comment(each, result) for each in behaviours)))
    figures = [
        (f"fig:patching-{each['name']}", f"figures/patching-{each['name']}.svg", each)
        for each in behaviours
    ]
    drawn = [figure for figure in figures if results.has_figure(figure[1])]
    if results.has_figure("figures/patching-heads.svg"):
        names = [f"[[{key}]]" for key, _, _ in drawn]
        section += [
            *TEXT.blocks("before the figures", pairs=listed(names)),
            Figure(
                "fig:patching-heads",
                "figures/patching-heads.svg",
                TEXT.line("figure of the heads"),
                TEXT.line("figure of the heads, without seeing it"),
            ),
            *(
                Figure(
                    key,
                    path,
                    TEXT.line("figure of a pair", **_words(each)),
                    TEXT.line("figure of a pair, without seeing it"),
                )
                for key, path, each in drawn
            ),
        ]
    method = TEXT.line("estimates", least=percent(LEAST_EFFECT, 0))
    section.append(Paragraph(" ".join([method, estimates_comment(behaviours)])))
    return section


def _words(behaviour: Behaviour) -> dict[str, str]:
    example = behaviour["example"]
    return {
        "asks": literal(behaviour["asks"]),
        "answer": literal(example["answer"]),
        "wrong": literal(example["wrong"]),
    }


def _table(behaviours: Sequence[Behaviour]) -> Table:
    return Table(
        "tab:patching",
        TEXT.line("table"),
        ("Asked", "Prompt", "Pairs", "Right", "Clean", "Corrupted"),
        tuple(
            (
                literal(each["asks"]),
                literal(each["prompt"]),
                count(each["pairs"]),
                count(each["right"]),
                f"{each['clean_difference']:+.2f}",
                f"{each['corrupted_difference']:+.2f}",
            )
            for each in behaviours
        ),
        "lprrrr",
        TEXT.line("table's note"),
    )


def right_comment(behaviours: Sequence[Behaviour]) -> str:
    """Return how many pairs the model answers right, and what cannot be patched."""
    right, pairs = (sum(each[key] for each in behaviours) for key in ("right", "pairs"))
    text = f"Of {plural(pairs, 'pair')} the model answers {count(right)} right on both prompts."
    few = [f"“{literal(each['asks'])}”" for each in behaviours if "example" not in each]
    if few:
        text += f" Too few are right to patch {listed(few)}."
    return text


def behaviour_comment(behaviour: Behaviour, result: Mapping[str, Any]) -> str:
    """Return which head does most for a behaviour, and where in the stream its answer stands."""
    text = f"*{_capital(literal(behaviour['asks']))}.* "
    suffices, needed = (
        [Difference.from_result(value) for value in behaviour[way]["heads"]]
        for way in ("denoising", "noising")
    )
    best, first = (_greatest(values) for values in (suffices, needed))
    text += (
        f"Head {_head(best, result['heads'])} has the largest mean effect: put in alone it takes "
        f"the run {_share(suffices[best])} of the way"
        f"{_as_much(suffices, best, result['heads'])}. Most is lost without "
    )
    text += "it" if first == best else f"head {_head(first, result['heads'])}"
    text += f", {_share(needed[first])}{_as_much(needed, first, result['heads'])}"
    return f"{text}. {_moved(behaviour, result['places'])}"


def _as_much(values: Sequence[Difference], best: int, heads: int) -> str:
    """Return which other heads may do as much: those whose intervals reach that of the best."""
    others = [i for i, value in enumerate(values) if i != best and value.high >= values[best].low]
    if not others:
        return ""
    names = listed([_head(i, heads) for i in others])
    if len(others) == 1:
        return f", though the interval of head {names} overlaps its own"
    return f", though the intervals of heads {names} overlap its own"


def _moved(behaviour: Behaviour, places: Sequence[str]) -> str:
    """Return from which place of the stream on the answer stands at the last position."""
    stream = [Difference.from_result(value) for value in behaviour["denoising"]["stream"]]
    last = stream[2::3]
    for place, value in zip(places, last, strict=True):
        if value.value >= _HALF:
            return f"The stream at the last token carries most of it {place_in_words(place)}."
    return "No place of the stream at the last token carries most of it."


def estimates_comment(behaviours: Sequence[Behaviour]) -> str:
    """Return how far attribution patching agrees with the patches, in both directions."""
    parts = []
    for way, name in (("denoising", "clean into corrupted"), ("noising", "corrupted into clean")):
        values = {
            key: [each[way][key][0][0] for each in behaviours]
            for key in ("correlation", "same_sign")
        }
        known = {key: [v for v in column if v is not None] for key, column in values.items()}
        if known["correlation"] and known["same_sign"]:
            correlations, signs = known["correlation"], known["same_sign"]
            parts.append(
                f"{name} the correlation is {_range(correlations, '{:.2f}'.format)} and "
                f"{_range(signs, lambda value: percent(value, 0))} of the signs agree"
            )
    if not parts:
        return "They cannot be compared: no patch of one part has an effect."
    return (
        "Over the behaviours, for every head and feed-forward part at every position, estimates "
        f"and patches agree as follows: {'; '.join(parts)}."
    )


def _range(values: Sequence[float], form: Any) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _greatest(values: Sequence[Difference]) -> int:
    return max(range(len(values)), key=lambda i: values[i].value)


def _head(index: int, heads: int) -> str:
    return head_name(*divmod(index, heads))


def _share(value: Difference) -> str:
    return f"{percent(value.value, 0)} ({percent(value.low, 0)} to {percent(value.high, 0)})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def summary(result: Mapping[str, Any]) -> str:
    """Return the abstract of the experiment's own document."""
    behaviours = measured_behaviours(result)
    return f"{right_comment(result['behaviours'])} " + (
        estimates_comment(behaviours) if behaviours else "So nothing is patched."
    )
