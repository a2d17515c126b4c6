"""What is said of families of models: sentences that follow from the measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from tinylm.experiments.encoders.asking import CHANCE, LEARNED
from tinylm.experiments.encoders.readings import Budget, difference, gap, shown_name, training_of
from tinylm.measurement import Difference, Verdict, mean
from tinylm.report.blocks import literal
from tinylm.report.formatting import listed, percent, significant
from tinylm.report.measurements import compared, in_nats, times

Row = Mapping[str, Any]
TEXTS = {"stories": "stories", "translation": "translations"}
"""Texts of the result, as sentences name them."""
_BUDGETS: dict[Budget, str] = {
    "tokens": "After equally many tokens",
    "operations": "After equally many operations",
    "time": "After an equally long time",
    "targets": "After equally many predicted tokens",
}
_ENDS = {Verdict.LESS: "holds", Verdict.MORE: "does not hold"}
_UNDECIDED = "cannot be decided"


def emphasised(name: str) -> str:
    """Return a variant's name as inline markup."""
    return f"*{literal(shown_name(name))}*"


def names(result: Row) -> list[str]:
    """Return the variants, the one that others are compared with first."""
    return [variant["name"] for variant in result["variants"]]


def rest_name(result: Row) -> str | None:
    """Return the first kind trained on the rests of windows alone; None where it is not."""
    first, *others = result["variants"]
    kinds = [row["name"] for row in others if row["kind"] == first["kind"]]
    return kinds[0] if kinds else None


def others(result: Row, predicts: str) -> list[str]:
    """Return the variants of other kinds than the first that predict so much of a window."""
    first = result["variants"][0]
    return [
        row["name"]
        for row in result["variants"]
        if row["kind"] != first["kind"] and row["predicts"] == predicts
    ]


def grouped(pairs: Sequence[tuple[str, Difference]], what: str) -> str:
    """Return of which variants something is lower, higher, or not measurably different.

    Args:
        pairs: a variant and how much more it has than what it is compared with.
        what: how the sentence begins, such as "the loss is".
    """
    groups: dict[Verdict, list[str]] = {}
    for name, value in pairs:
        shown = emphasised(name)
        if value.verdict in (Verdict.LESS, Verdict.MORE):
            shown += f" by {in_nats(-value if value.verdict is Verdict.LESS else value)}"
        groups.setdefault(value.verdict, []).append(shown)
    said = [
        f"{words} {listed(groups[verdict])}"
        for verdict, words in (
            (Verdict.LESS, "lower for"),
            (Verdict.MORE, "higher for"),
            (Verdict.ALIKE, "not measurably different for"),
            (Verdict.UNKNOWN, "not to be compared for"),
        )
        if verdict in groups
    ]
    return f"{what} {'; '.join(said)}"


def loss_comment(result: Row, text: Row, budget: Budget) -> str:
    """Return how the losses of all others compare with the first kind's at a budget."""
    first, *rest = names(result)
    pairs = [(name, gap(text, name, first, budget)) for name in rest]
    if not pairs:
        return ""
    what = f"the loss on {TEXTS[text['name']]}, beside {emphasised(first)}, is"
    return f"{grouped(pairs, f'{_BUDGETS[budget]} {what}')}."


def accuracy_comment(result: Row, text: Row) -> str:
    """Return how many translations are right after equally many operations."""
    first, *rest = names(result)
    parts = []
    for name in rest:
        more = gap(text, name, first, "operations", "accuracy")
        parts.append(f"{emphasised(name)} {more.word}")
    if not parts:
        return ""
    return (
        "The share of right translations after equally many operations, beside that of "
        f"{emphasised(first)}, is for {listed(parts)}."
    )


def dense_comment(result: Row, text: Row) -> str:
    """Return what it costs to predict a part of each window alone, in the same architecture."""
    first, rest = names(result)[0], rest_name(result)
    if rest is None:
        return ""
    whole, part = training_of(text, first), training_of(text, rest)
    saved = gap(text, first, rest, "tokens")
    equal = gap(text, first, rest, "targets")
    return (
        f"On {TEXTS[text['name']]} a token that is read gives {significant(whole['targets'], 2)} "
        f"targets in {emphasised(first)} and {significant(part['targets'], 2)} where the rest "
        "alone is predicted. The same architecture, trained on all of them, has after equally "
        f"many tokens a loss that is {_amount(saved)}; after equally many predicted tokens, for "
        f"which it has read fewer, one that is {_amount(equal)}."
    )


def _amount(value: Difference) -> str:
    """Return a difference of losses in words: lower or higher by how much, or not told."""
    if value.verdict is Verdict.LESS:
        return f"lower by {in_nats(-value)}"
    if value.verdict is Verdict.MORE:
        return f"higher by {in_nats(value)}"
    return value.word


def architecture_comment(result: Row, text: Row) -> str:
    """Return what another architecture gives, where as much of each window is predicted."""
    rest = rest_name(result)
    alike = others(result, "rest")
    if rest is None or not alike:
        return ""
    pairs = [(name, gap(text, name, rest, "tokens")) for name in alike]
    what = (
        f"On {TEXTS[text['name']]} the loss after equally many tokens, beside {emphasised(rest)}, "
        "which predicts as much, is"
    )
    return f"{grouped(pairs, what)}."


def cache_comment(costs: Mapping[str, Sequence[Row]]) -> str:
    """Return how large the state of a text is at its longest, and how it grew."""
    first, *rest = costs
    start, end = costs[first][0], costs[first][-1]
    grown = end["state_bytes"] / start["state_bytes"]
    said = [
        f"{emphasised(kind)} {times(costs[kind][-1]['state_bytes'] / end['state_bytes'])} of that, "
        f"{_growth(costs[kind])}"
        for kind in rest
    ]
    text = (
        f"For a text of {end['context']:,} tokens {emphasised(first)} keeps "
        f"{_size(end['state_bytes'])}, {times(grown)} what it keeps for {start['context']:,}"
    )
    return f"{text}; {listed(said)}." if said else f"{text}."


def _growth(rows: Sequence[Row]) -> str:
    start, end = rows[0]["state_bytes"], rows[-1]["state_bytes"]
    return "the same at any length" if start == end else f"{times(end / start)} its own at first"


def _size(number: float) -> str:
    """Return bytes as KiB or MiB."""
    if number < 2**20:
        return f"{significant(number / 2**10)}\u00a0KiB"
    return f"{significant(number / 2**20)}\u00a0MiB"


def planned_comment(costs: Mapping[str, Sequence[Row]]) -> str:
    """Return whether the sizes that were measured are those that were planned."""
    different = [
        f"{emphasised(kind)} at {row['context']:,} tokens"
        for kind, rows in costs.items()
        for row in rows
        if row["state_bytes"] != row["planned_state_bytes"]
    ]
    if not different:
        return "Every size that was measured is the one that was planned."
    return f"The sizes measured are those planned but for {listed(different)}."


def decoding_comment(costs: Mapping[str, Sequence[Row]]) -> str:
    """Return how the time of a token at the end of the longest text compares."""
    first, *rest = costs
    end = costs[first][-1]
    said = []
    for kind in rest:
        comparison = compared(costs[kind][-1]["decoding"], end["decoding"])
        joint = "" if comparison.verdict is Verdict.UNKNOWN else "is "
        said.append(f"{emphasised(kind)} {joint}{comparison.word}")
    if not said:
        return ""
    return (
        f"A token at the end of {end['context']:,} others is decoded in "
        f"{significant(1000 * end['decoding']['median_s'] / end['decoded'])}\u00a0ms by "
        f"{emphasised(first)}; beside it, {listed(said)}."
    )


def context_comment(result: Row) -> str:
    """Return how the loss falls with the tokens that are given, variant by variant."""
    contexts = result["contexts"]
    given, trained = contexts["given"], result["texts"][0]["context"]
    within = [number for number in given if number <= trained]
    if len(within) < 2:
        return ""
    low, high = given.index(within[0]), given.index(within[-1])
    said, beyond = [], []
    for name, losses in contexts["losses"].items():
        said.append(f"{emphasised(name)} {_amount(difference(losses[high], losses[low]))}")
        if high + 1 < len(given):
            more = difference(losses[-1], losses[high])
            beyond.append(f"{emphasised(name)} {_amount(more)}")
    text = (
        f"Given {within[-1]:,} tokens in place of {within[0]:,}, the loss of the tokens that "
        f"follow is for {listed(said)}."
    )
    if beyond:
        text += (
            f" Given {given[-1]:,}, which is longer than the windows of training, it is, beside "
            f"{within[-1]:,}, for {listed(beyond)}."
        )
    return text


def questions_comment(form: Row, first: str) -> str:
    """Return which variants answer questions of a new form better than by guessing."""
    right = form["right"]
    groups: dict[str, list[str]] = {}
    for name, shares in right.items():
        how = "better than by guessing by" if _is_learned(shares) else "as by guessing by"
        groups.setdefault(how, []).append(f"{emphasised(name)} at {percent(fmean(shares))}")
    said = [f"{how} {listed(group)}" for how, group in groups.items()]
    text = f"Questions of the form *{form['name']}* are answered {'; '.join(said)}."
    apart = [
        emphasised(name)
        for name, shares in right.items()
        if _is_learned(shares) != _is_learned(right[first])
        and difference(shares, right[first]).verdict in (Verdict.LESS, Verdict.MORE)
    ]
    if apart:
        return f"{text} Measurably different from {emphasised(first)}: {listed(apart)}."
    return text


def _is_learned(shares: Sequence[float]) -> bool:
    """Whether right answers are more than guessing by what the seeds spread, and by enough."""
    gain = mean([share - CHANCE for share in shares])
    return gain.verdict is Verdict.MORE and gain.value >= LEARNED - CHANCE


def verdict_of_density(result: Row) -> str:
    """Return whether the dense signal is what the first kind gains by."""
    first, rest = names(result)[0], rest_name(result)
    if rest is None:
        return ""
    said = []
    for text in result["texts"]:
        verdict = gap(text, first, rest, "tokens").verdict
        said.append(f"{_ENDS.get(verdict, _UNDECIDED)} on {TEXTS[text['name']]}")
    return (
        "*Dense signal*: that a loss on every token teaches more for each token read than one on a "
        f"part of them, in the same architecture, {listed(said)}."
    )


def verdict_of_architecture(result: Row) -> str:
    """Return whether reading the source in both directions is worse, the signal being equal."""
    rest, alike = rest_name(result), others(result, "rest")
    if rest is None or not alike:
        return ""
    said = []
    for name in alike:
        for text in result["texts"]:
            verdict = gap(text, rest, name, "tokens").verdict
            said.append(
                f"{_ENDS.get(verdict, _UNDECIDED)} against {emphasised(name)} on "
                f"{TEXTS[text['name']]}"
            )
    return (
        "*Architecture*: that a decoder is better than a model that reads its source in both "
        f"directions where both predict as much, {listed(said)}."
    )


def verdict_of_cache(result: Row) -> str:
    """Return whether the first kind keeps less of the longest text than those with a source."""
    costs = result["costs"]
    first, *rest = costs
    start, end = costs[first][0], costs[first][-1]
    own = end["state_bytes"]
    said = []
    for kind in others(result, "rest"):
        theirs = costs[kind][-1]["state_bytes"]
        holds = "holds" if own < theirs else "does not hold"
        said.append(
            f"{holds} against {emphasised(kind)}, which keeps {times(theirs / own)} of that"
        )
    constant = [
        f"{emphasised(kind)} ({times(costs[kind][-1]['state_bytes'] / own)} of that)"
        for kind in rest
        if costs[kind][0]["state_bytes"] == costs[kind][-1]["state_bytes"]
    ]
    sentences = []
    if said:
        sentences.append(
            f"that {emphasised(first)} keeps less of {end['context']:,} tokens than a model that "
            f"reads a source {'; it '.join(said)}"
        )
    if constant:
        sentences.append(
            f"as much of {start['context']:,} tokens as of {end['context']:,} is kept by "
            f"{listed(constant)}"
        )
    return f"*One cache*: {'; '.join(sentences)}." if sentences else ""


def verdict_of_flexibility(result: Row) -> str:
    """Return whether the first kind answers new forms of questions, and whether it does best."""
    first = names(result)[0]
    said = []
    for form in result["questions"]["forms"]:
        right = form["right"]
        above = _is_learned(right[first])
        worse = [
            emphasised(name)
            for name in right
            if difference(right[name], right[first]).verdict is Verdict.LESS
        ]
        where = f"for *{form['name']}*"
        if not above:
            said.append(f"does not hold {where}, where {emphasised(first)} is not above guessing")
        elif worse:
            said.append(
                f"holds {where}, which {emphasised(first)} does better than {listed(worse)}"
            )
        else:
            said.append(f"holds {where}, where for none it can be told that it does worse")
    return (
        "*Flexibility*: that a task phrased as a continuation is done without being trained "
        f"{'; it '.join(said)}."
    )
