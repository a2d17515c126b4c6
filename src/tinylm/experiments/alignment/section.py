"""Alignment: what each method earns and costs, and what a learned reward leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.experiments.alignment.comparing import (
    after_the_best,
    average,
    best_place,
    gained,
    on_the_way,
    share_of_attainable,
    too_far,
    values,
)
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Difference, Measurement, Verdict
from tinylm.perplexity import perplexity, perplexity_text
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, setting, significant, with_sign
from tinylm.report.measurements import disturbances, median
from tinylm.report.passages import passages

Row = Mapping[str, Any]
TEXT = passages(__file__)
_SVG = "figures/alignment.svg"
_CERTAIN = percent(CONFIDENCE, 0)
_END = 150
"""Letters of a sample that are shown of its beginning, and of its end."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``alignment``."""
    result = results.results.get("alignment")
    if result is None:
        return []
    drawn = results.has_figure(_SVG)
    rule, start = result["rule"], result["start"]
    section: list[Block] = [
        Heading(1, "Alignment", "sec:alignment"),
        *TEXT.blocks("method", noun=rule["noun"], explanation=rule["explanation"]),
        Bullets(tuple(method["explanation"] for method in result["methods"])),
        *TEXT.blocks(
            "frontier",
            responses=plural(start["responses"], "response"),
            each=count(start["responses"] // result["prompts"]),
            prompts=plural(result["prompts"], "prompt"),
        ),
        *_measure(result),
        *(TEXT.blocks("results, with the figure") if drawn else TEXT.blocks("results")),
        _table(result),
    ]
    if drawn:
        without = TEXT.line("figure, without seeing it")
        section.append(Figure("fig:alignment", _SVG, TEXT.line("figure"), without))
    return [
        *section,
        *TEXT.blocks("reward", comment=_rewards(result)),
        *TEXT.blocks("cost", comment=_costs(result)),
        *_learned(result),
        *TEXT.blocks("samples"),
        _samples(result),
    ]


def abstract(result: Row) -> str:
    """Return what the methods earn, and where the learned reward leads."""
    return f"{_rewards(result)} {_too_far(result)}"


def _seeds(result: Row) -> int:
    return len(result["methods"][0]["policies"])


def _measure(result: Row) -> list[Block]:
    seeds = _seeds(result)
    interval = TEXT.line("interval", confidence=_CERTAIN) if seeds > 1 else TEXT.line("no interval")
    return TEXT.blocks(
        "measure",
        tokens=plural(result["tokens"], "token"),
        policies=f"each method has {plural(seeds, 'policy', 'policies')}",
        prompts=f"{count(result['prompts'])} beginnings",
        prompt=plural(result["prompt_tokens"], "token"),
        responses=plural(result["responses"], "response"),
        new=plural(result["new_tokens"], "token"),
        interval=interval,
        windows=plural(result["windows"], "window"),
    )


def _rewards(result: Row) -> str:
    """Return what start and policies earn, and whether the gain is measurable."""
    start = result["start"]
    best = percent(start["perfect"], 0)
    first = (
        f"The start earns {start['reward']:.2f} of {start['best']:g}: {best} of its responses earn "
        "the most."
    )
    earned = [
        f"{average(method, 'reward'):.2f} by {method['noun']} ({_change(result, method)})"
        for method in result["methods"]
    ]
    return f"{first} The policies earn {listed(earned)}."


def _change(result: Row, method: Row) -> str:
    """Return what was gained, and whether it is measurable."""
    gain = gained(method)
    if _seeds(result) == 1:
        return f"{_signed(gain.value)}"
    return f"{_signed(gain.value)}, {_signed(gain.low)} to {_signed(gain.high)}: {gain.word}"


def _signed(value: float) -> str:
    return with_sign(value, 2)


def _costs(result: Row) -> str:
    """Return divergence, perplexity, length and variety beside the start's."""
    start = result["start"]
    known = perplexity_text(perplexity(start["loss"]))
    parts = [
        f"{method['noun']} is {significant(average(method, 'kl'), 2)} nats from it"
        f"{_of_frontier(result, method)}, with a perplexity of "
        f"{perplexity_text(perplexity(average(method, 'loss')))}"
        for method in result["methods"]
    ]
    text = listed(parts)
    whole = significant(result["frontier"][-1][0], 2)
    return (
        f"The start's perplexity is {known}; {text}. To earn nothing but the best reward need not "
        f"cost more than {whole} nats."
    )


def _of_frontier(result: Row, method: Row) -> str:
    """Return what share of the possible was gained, where a gain is measurable."""
    if gained(method).verdict is not Verdict.MORE:
        return ""
    return f" and has gained {percent(share_of_attainable(result, method), 0)} of what that allows"


def _learned(result: Row) -> list[Block]:
    learned = result["learned"]
    wrong = (
        f"of which {percent(learned['wrong'], 0)} are turned round"
        if learned["wrong"]
        else "all of them right"
    )
    return TEXT.blocks(
        "learned",
        rankings=plural(learned["rankings"], "prompt"),
        wrong=wrong,
        noun=learned["noun"],
        beta=setting(learned["beta"]),
        comment=f"{_accuracy(result)} {_too_far(result)}",
    )


def _accuracy(result: Row) -> str:
    """Return how often the reward models are right on pairs that they have not seen."""
    shares = [
        Difference.from_result(policy["reward_model"]["accuracy"]).value
        for policy in result["learned"]["policies"]
    ]
    said = listed([percent(share, 0) for share in shares])
    return f"On pairs of responses that it has not seen such a model is right in {said}."


def _too_far(result: Row) -> str:
    """Return whether the learned reward rises while the true one falls, and where to stop."""
    true, kl = on_the_way(result, "true"), on_the_way(result, "kl")
    place = best_place(true)
    seeds = len(true)
    best = sum(curve[place] for curve in true) / seeds
    last = sum(curve[-1] for curve in true) / seeds
    where = significant(sum(curve[place] for curve in kl) / seeds, 2)
    rise, fall = after_the_best(result, "learned"), after_the_best(result, "true")
    if place == len(true[0]) - 1:
        text = (
            f"By the learned reward the true one rises to {best:.2f}, and is highest at the end, "
            f"{where} nats from the start, by the mean of all"
        )
        return f"{text}. {_one_by_one(result)}"
    text = (
        f"By the learned reward the true one rises to {best:.2f} at {where} nats from the start, "
        f"and is {last:.2f} in the end"
    )
    if seeds == 1:
        return f"{text}. {_one_by_one(result)}"
    return (
        f"{text}, by the mean of all: from there on the learned reward is {rise.word} "
        f"({_ends(rise)}) and the true one {fall.word} ({_ends(fall)}). {_one_by_one(result)}"
    )


def _one_by_one(result: Row) -> str:
    """Return which of the policies by the learned reward were over-optimised."""
    policies = result["learned"]["policies"]
    said = []
    for policy in policies:
        far, curve = too_far(policy), policy["curve"]
        if far.over_optimised:
            best, end = curve[far.place], curve[-1]
            said.append(
                f"that of seed {policy['seed']} from {best['true']:.2f} at "
                f"{significant(best['kl'], 2)} nats to {end['true']:.2f} at "
                f"{significant(end['kl'], 2)}, while the learned reward rises from "
                f"{_signed(best['learned'])} to {_signed(end['learned'])}"
            )
    trainings = plural(len(policies), "training")
    if not said:
        return (
            f"In none of {trainings} does the true reward fall measurably, text by text, from its "
            "best to the end while the learned one rises: over-optimisation is not shown."
        )
    return (
        f"In {count(len(said))} of {trainings} the true reward falls measurably, text by text, "
        f"from its best to the end: {listed(said)}. That is over-optimisation: what the reward "
        "model says gives no sign of it, so that where to stop shows in the true reward alone."
    )


def _ends(difference: Difference) -> str:
    return f"{_signed(difference.value)}, {_signed(difference.low)} to {_signed(difference.high)}"


def _table(result: Row) -> Table:
    first = result["methods"][0]  # the start answered for all of them alike
    rows = [
        (
            "start",
            f"{average(first, 'start_reward'):.2f}",
            "",
            "",
            _signed(average(first, "start_learned")),
            "0",
            perplexity_text(perplexity(result["start"]["loss"])),
            f"{average(first, 'start_length'):.0f}",
            f"{average(first, 'start_variety'):.2f}",
            "",
        )
    ]
    timings = [Measurement.of(values(method, "seconds")) for method in result["methods"]]
    for method, times in zip(result["methods"], timings, strict=True):
        rows.append(
            (
                literal(str(method["label"])),
                f"{average(method, 'reward'):.2f}",
                _gain(result, method),
                percent(share_of_attainable(result, method), 0)
                if gained(method).verdict is Verdict.MORE
                else "",
                _signed(average(method, "learned")),
                f"{average(method, 'kl'):.1f}",
                perplexity_text(perplexity(average(method, "loss"))),
                f"{average(method, 'length'):.0f}",
                f"{average(method, 'variety'):.2f}",
                median(times.as_result()),
            )
        )
    interval = f", ± half of the {_CERTAIN} interval" if _seeds(result) > 1 else ""
    headers = ("", "Reward", "Of the frontier", "Learned", "KL", "Perplexity", "Length",
               "Variety", "Training")  # fmt: skip
    return Table(
        "tab:alignment",
        TEXT.line("table"),
        headers,
        tuple(rows),
        "lrrrrrrrrr",
        TEXT.line(
            "table's note",
            interval=interval,
            training=f"median of {plural(_seeds(result), 'training')}",
            disturbances=disturbances(timings, repeated=False),
        ),
        spans=(1, 2, *(1 for _ in headers[2:])),
    )


def _gain(result: Row, method: Row) -> str:
    gain = gained(method)
    text = _signed(gain.value)
    if _seeds(result) > 1:
        text += f" ± {(gain.high - gain.low) / 2:.2f}"
    return f"({text})".replace(" ", "\u00a0")


def _samples(result: Row) -> Table:
    sample = result["sample"]
    labels = {"start": "start"} | {each["name"]: each["label"] for each in result["methods"]}
    return Table(
        "tab:alignment-samples",
        TEXT.line("samples' table", prompt=literal(str(sample["prompt"]))),
        ("Written by", "Text"),
        tuple(
            (literal(str(label)), _sample(str(sample["texts"][name])))
            for name, label in labels.items()
        ),
        "lp",
        TEXT.line("samples' table's note", length=count(_END)),
    )


def _sample(text: str) -> str:
    if not text:
        return "*nothing: it ends at once*"
    text = " ".join(text.split())
    if len(text) > 2 * _END:
        return (
            f"{literal(text[:_END].rsplit(' ', 1)[0])} … {literal(text[-_END:].split(' ', 1)[1])}"
        )
    return literal(text)
