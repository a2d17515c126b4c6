"""Sample generations at several settings, and what their numbers say about quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import Block, Heading, Paragraph, Sample, Table, literal
from tinylm.report.formatting import listed, percent, plural, significant
from tinylm.report.inputs import ReportInputs

_CLOSE = 0.1


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``samples``."""
    found = results.results.get("samples")
    if found is None or not found["settings"]:
        return []
    settings, reference = found["settings"], found.get("reference")
    made: list[Block] = [
        Heading(1, "Sample generations", "sec:samples"),
        Paragraph(
            f"The model continues the same beginnings, by at most "
            f"{plural(found['max_new_tokens'], 'token')}, at "
            f"{plural(len(settings), 'decoding setting')}: "
            f"{listed([literal(setting['name']) for setting in settings])}. Greedy decoding "
            "always takes the likeliest token. Sampling draws from the prediction; a temperature "
            "below 1 sharpens it first, and top-p draws only from the fewest tokens whose "
            "probability reaches $p$ [[holtzman2020]]. [[tab:samples]] has the numbers."
        ),
        Heading(2, "Quality in numbers", "sec:quality"),
        _table(settings, reference),
    ]
    made += [Paragraph(text) for text in comments(settings, reference)]
    made.append(Heading(2, "The texts", "sec:texts"))
    shown = _nearest(settings, reference) if reference else settings[0]
    made.append(
        Paragraph(
            "The given beginning in bold; unselected: the first text of every setting, and "
            f"every prompt's for *{literal(shown['name'])}*. “Ended” means that the model closed "
            "the story itself; the others were cut at the limit."
        )
    )
    for setting in settings:
        for output in setting["outputs"] if setting is shown else setting["outputs"][:1]:
            state = "ended" if output["finished"] else "cut at the limit"
            note = f"{plural(output['num_tokens'], 'token')}, {state}"
            prompt, text = output["prompt"], output["text"]
            # Either the whole text or only what follows the prompt may have been kept.
            if text.startswith(prompt):
                text = text[len(prompt) :].lstrip()
            made.append(Sample(setting["name"], text, prompt, note))
    return made


def _row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        significant(metrics["perplexity"]),
        f"{metrics['distinct_1']:.3f}",
        f"{metrics['distinct_2']:.3f}",
        percent(metrics["repetition"]),
        percent(metrics["unk_rate"]),
        significant(metrics["mean_length"]),
        percent(metrics["finished_share"], 0) if "finished_share" in metrics else "–",
    )


def _table(settings: Sequence[Mapping[str, Any]], reference: Mapping[str, Any] | None) -> Table:
    rows = [_row(literal(setting["name"]), setting["metrics"]) for setting in settings]
    if reference:
        rows.append(_row("true stories", reference))
    return Table(
        "tab:samples",
        "What the settings do to the text"
        + (", with true validation stories as the measure." if reference else "."),
        ("Setting", "Perplexity", "Distinct-1", "Distinct-2", "Repeated", "Unknown", "Length",
         "Ended"),
        tuple(rows),
        "lrrrrrrr",
        "Perplexity is the model's own; repeated: share of 4-grams seen before in the same text; "
        "distinct-n of one text a prompt, averaged over the seeds; length in tokens.",
        emphasised=(len(rows) - 1,) if reference else (),
    )  # fmt: skip


def comments(
    settings: Sequence[Mapping[str, Any]], reference: Mapping[str, Any] | None
) -> list[str]:
    """Return paragraphs that judge the settings by repetition, variety and perplexity."""
    made = []
    if len(settings) > 1:
        made.append(_between(settings))
    if reference:
        made.append(_against(settings, reference))
    unfinished = [s for s in settings if s["metrics"]["finished_share"] < 0.5]
    if len(unfinished) == len(settings):
        made.append(
            "At no setting does the model end most of its stories within the limit; the texts "
            "below stop where they were cut."
        )
    elif unfinished:
        names = listed([f"*{literal(s['name'])}*" for s in unfinished])
        made.append(f"Most texts were cut before they had ended with {names}.")
    return made


def _between(settings: Sequence[Mapping[str, Any]]) -> str:
    by_repetition = sorted(settings, key=lambda s: s["metrics"]["repetition"])
    by_distinct = sorted(settings, key=lambda s: s["metrics"]["distinct_2"])
    by_perplexity = sorted(settings, key=lambda s: s["metrics"]["perplexity"])
    most, least = by_repetition[-1], by_repetition[0]
    name = {id(s): f"*{literal(s['name'])}*" for s in settings}
    if most["metrics"]["repetition"] - least["metrics"]["repetition"] < 0.005:
        text = "The settings hardly differ in repetition. "
    else:
        text = (
            f"The most repetitive setting is {name[id(most)]} "
            f"({percent(most['metrics']['repetition'])} repeated 4-grams), the least "
            f"{name[id(least)]} ({percent(least['metrics']['repetition'])}). "
        )
    text += (
        f"Variety is greatest with {name[id(by_distinct[-1])]} "
        f"(distinct-2 {by_distinct[-1]['metrics']['distinct_2']:.3f}) and smallest with "
        f"{name[id(by_distinct[0])]} ({by_distinct[0]['metrics']['distinct_2']:.3f}). "
        f"Perplexity is lowest with {name[id(by_perplexity[0])]} "
        f"({significant(by_perplexity[0]['metrics']['perplexity'])}) and highest with "
        f"{name[id(by_perplexity[-1])]} "
        f"({significant(by_perplexity[-1]['metrics']['perplexity'])})."
    )
    if by_perplexity[0] is most:
        text += (
            " The likeliest text is thus also the most repetitive: a low perplexity alone is no "
            "sign of good writing [[holtzman2020]]."
        )
    if by_perplexity[-1] is by_distinct[-1]:
        text += (
            " The most varied text is also the one that the model finds least likely, which is "
            "the price of variety."
        )
    return text


def _distance(metrics: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    keys = ("distinct_1", "distinct_2", "repetition")
    return float(sum(abs(metrics[key] - reference[key]) for key in keys))


def _nearest(
    settings: Sequence[Mapping[str, Any]], reference: Mapping[str, Any]
) -> Mapping[str, Any]:
    return min(settings, key=lambda s: _distance(s["metrics"], reference))


def _against(settings: Sequence[Mapping[str, Any]], reference: Mapping[str, Any]) -> str:
    nearest = _nearest(settings, reference)
    metrics = nearest["metrics"]
    text = (
        f"Nearest to the true stories in distinct-1, distinct-2 and repetition together (sum of "
        f"the absolute differences, {_distance(metrics, reference):.3f}) is "
        f"*{literal(nearest['name'])}*. "
    )
    repeated, natural = metrics["repetition"], reference["repetition"]
    pair = f"({percent(repeated)} against {percent(natural)})"
    if repeated > natural * 1.25 + 0.005:
        text += f"It still repeats itself more than they do {pair}, "
    elif repeated < natural * 0.75 - 0.005:
        text += f"It repeats itself less than they do {pair}, "
    else:
        text += f"It repeats itself about as much as they do {pair}, "
    own, true = metrics["perplexity"], reference["perplexity"]
    pair = f"({significant(own)} against {significant(true)})"
    if own < true * (1 - _CLOSE):
        text += f"and its text is more predictable than theirs {pair}."
    elif own > true * (1 + _CLOSE):
        text += f"and its text is less predictable than theirs {pair}."
    else:
        text += f"and its text is about as predictable as theirs {pair}."
    return (
        f"{text} These numbers see single words and short phrases. Whether a story holds "
        "together from beginning to end they cannot tell; for that, read on."
    )
