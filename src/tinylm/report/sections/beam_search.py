"""Beam search beside greedy decoding and sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.report.blocks import (
    Block,
    Equation,
    Figure,
    Heading,
    Paragraph,
    Sample,
    Table,
    code,
    literal,
)
from tinylm.report.formatting import count, listed, percent, plural, setting
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import hardware, median, named, rounds, seconds, spread, times
from tinylm.report.sections.beam_judgement import judgement

_WHOLE = 2
"""Prompts whose texts are printed whole, at every strategy."""
_SHORT = 220
"""Characters of the other prompts' texts."""
_ENDING = {
    "full": "as soon as $k$ hypotheses are complete",
    "heuristic": "when $k$ hypotheses are complete and the best open one, scored at its present "
    "length, is no better than the worst of them",
    "never": "when $k$ hypotheses are complete and no open one can become better than the worst of "
    "them",
}
"""``early_stopping`` -> when a search ends."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``beam-search``."""
    found = results.results.get("beam-search")
    if found is None or not found["comparisons"]:
        return []
    comparisons = found["comparisons"]
    made: list[Block] = [
        Heading(1, "Beam search", "sec:beam-search"),
        *_technique(found),
        Paragraph(_setting(found)),
        *(_quality(one, i) for i, one in enumerate(comparisons)),
        _cost(found),
    ]
    if results.has_figure("figures/beam-search.svg"):
        largest = max(comparisons, key=lambda one: one["num_prompts"])
        made.append(
            Figure(
                "fig:beam-search",
                "figures/beam-search.svg",
                f"Decoding strategies on {plural(largest['num_prompts'], 'prompt')}. Left: how "
                "likely the model finds the texts, against the speed of making them. Right: BLEU "
                "against the true continuations, and variety of the texts.",
                "Log-probability per token against tokens a second, and BLEU and distinct-2 by "
                "decoding strategy.",
            )
        )
    made += [Paragraph(text) for text in judgement(comparisons)]
    texts = [*_examples(found), *_n_best(found)]
    if texts:
        made += [Heading(2, "The texts side by side", "sec:beam-texts"), *texts]
    return made


def _technique(found: Mapping[str, Any]) -> list[Block]:
    ending = _ending(found["early_stopping"])
    return [
        Paragraph(
            "Greedy decoding takes the likeliest token at every step, which need not lead to the "
            "likeliest text. Beam search keeps the $k$ likeliest beginnings (*hypotheses*): each "
            "is extended by every token, and the extensions are ordered by their summed "
            "log-probability. Those among the first $k$ that end the story are set aside as "
            "complete, and the first $k$ of the others are kept. "
            f"With $k = 1$ this is greedy decoding. A search stops {ending}. Since every token "
            "makes a text less likely, a sum alone would favour short texts; hypotheses $y$ for a "
            "prompt $x$ are therefore ranked by"
        ),
        Equation('"score"(y) = 1/(|y|^alpha) sum_(t=1)^(|y|) log p_theta (y_t | x, y_(<t)),'),
        Paragraph(
            f"with a length penalty of $alpha$ = {setting(found['length_penalty'])}. Wu et al. "
            "[[wu2016]] found such a normalisation necessary in translation; their divisor is "
            "$((5 + |y|) slash 6)^alpha$. Beam search is no exact search: a beginning that is "
            "dropped early may have led to the best text."
        ),
    ]


def _ending(early_stopping: object) -> str:
    return _ENDING.get(str(early_stopping), f"by the rule {code(str(early_stopping))}")


def _setting(found: Mapping[str, Any]) -> str:
    sizes = [str(one["num_prompts"]) for one in found["comparisons"]]
    cut = found.get("top_p", 1)
    filtered = f" and top-p {setting(cut)}" if cut != 1 else ""
    tables = listed([f"[[tab:beam-{i + 1}]]" for i in range(len(found["comparisons"]))])
    shown = "shows" if len(sizes) == 1 else "show"
    return (
        f"The first {plural(found['prompt_tokens'], 'token')} of {listed(sizes)} validation "
        f"stories, spread evenly over the split, were continued by at most "
        f"{plural(found['max_new_tokens'], 'token')}; sampling is at temperature "
        f"{setting(found['temperature'])}{filtered}. {tables} {shown} how likely the texts "
        "are under the model, how well they agree with the true continuations, and how varied they "
        "are; [[tab:beam-cost]] shows what they cost."
    )


def _quality(comparison: Mapping[str, Any], index: int) -> Table:
    rows = [_quality_row(literal(row["name"]), row) for row in comparison["rows"]]
    true = comparison.get("true")
    if true:
        rows.append(_quality_row("true texts", true))
    return Table(
        f"tab:beam-{index + 1}",
        f"Quality by strategy, {plural(comparison['num_prompts'], 'prompt')}.",
        ("Strategy", "log p", "per token", "BLEU", "sent.", "Dist.-1", "Dist.-2", "Dist.-3",
         "Rep.", "Length", "Ended"),
        tuple(rows),
        "lrrrrrrrrrr",
        "log p: mean summed log-probability in nats; BLEU: corpus BLEU and mean of the sentences; "
        "Rep.: share of 4-grams seen before in the same text; length in tokens; Ended: share of "
        "texts that the model closed itself.",
        emphasised=(len(rows) - 1,) if true else (),
    )  # fmt: skip


def _quality_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    bleu = [f"{row[key]:.2f}" if row.get(key) is not None else "–"
            for key in ("bleu_corpus", "bleu_sentence_mean")]  # fmt: skip
    return (
        name,
        f"{row['log_probability']:.1f}".replace("-", "−"),
        f"{row['log_probability_per_token']:.3f}".replace("-", "−"),
        *bleu,
        *(f"{row['distinct'][n]:.3f}" for n in ("1", "2", "3")),
        percent(row["repetition"]),
        f"{row['mean_length']:.1f}",
        percent(row["finished_share"], 0),
    )


def _cost(found: Mapping[str, Any]) -> Table:
    rows = []
    for comparison in found["comparisons"]:
        base = comparison["rows"][0]["seconds"]["median_s"]
        for i, row in enumerate(comparison["rows"]):
            timing = row["seconds"]
            rows.append(
                (
                    str(comparison["num_prompts"]) if i == 0 else "",
                    literal(row["name"]),
                    median(timing),
                    f"{seconds(timing['min_s'])} to {seconds(timing['max_s'])}",
                    spread(timing),
                    times(timing["median_s"] / base),
                    count(row["tokens_per_second"]),
                )
            )
    first = found["comparisons"][0]["rows"][0]
    signatures = (
        f"Corpus BLEU: {code(found['signature'])}; sentences: {code(found['sentence_signature'])}."
    )
    return Table(
        "tab:beam-cost",
        f"Time by strategy: {rounds(first['seconds'])}, strategies taking turns.",
        ("Prompts", "Strategy", "Time", "Range", "Spread",
         f"To {literal(first['name'])}", "Tokens a second"),
        tuple(rows),
        "rlrrrrr",
        f"Spread: range over median. Measured on {hardware(found)}. {signatures}",
    )  # fmt: skip


def _examples(found: Mapping[str, Any]) -> list[Block]:
    examples = found.get("examples") or []
    if not examples:
        return []
    whole, others = examples[:_WHOLE], examples[_WHOLE:]
    more = (
        f" [[tab:beam-texts]] sets {plural(len(others), 'more prompt')} side by side."
        if others
        else ""
    )
    made: list[Block] = [
        Paragraph(
            f"The continuations of the first {plural(len(whole), 'prompt')}, unselected, by every "
            f"strategy, and the true ones; the given beginning is in bold.{more}"
        )
    ]
    for i, example in enumerate(whole, 1):
        prompt = example["prompt"]
        made += [
            Sample(f"{i}. {name}", _continuation(text, prompt), prompt)
            for name, text in [*example["outputs"].items(), ("true", example["true"])]
        ]
    return made + ([_side_by_side(others)] if others else [])


def _side_by_side(examples: Sequence[Mapping[str, Any]]) -> Table:
    names = list(examples[0]["outputs"])
    shown = [names[0], names[-1]] if len(names) > 1 else names
    rows = tuple(
        tuple(
            f"*{literal(example['prompt'])}* {literal(_cut(text, example['prompt']))}"
            for text in [*(example["outputs"][name] for name in shown), example["true"]]
        )
        for example in examples
    )
    return Table(
        "tab:beam-texts",
        f"Other prompts, continued by {listed(named(shown))}, and as they truly go on; texts are "
        f"cut after {_SHORT} characters.",
        (*(literal(name) for name in shown), "true"),
        rows,
        "p" * (len(shown) + 1),
    )


def _continuation(text: str, prompt: str) -> str:
    """Return a text without the prompt, which it may or may not begin with, on one line."""
    return " ".join(text.removeprefix(prompt).split())


def _cut(text: str, prompt: str) -> str:
    whole = _continuation(text, prompt)
    if len(whole) <= _SHORT:
        return whole
    return whole[:_SHORT].rsplit(" ", 1)[0] + " …"


def _n_best(found: Mapping[str, Any]) -> list[Block]:
    best = found.get("n_best")
    if not best or not best["hypotheses"]:
        return []
    hypotheses = best["hypotheses"]
    rows = tuple(
        (
            str(i),
            f"{one['score']:.3f}".replace("-", "−"),
            f"{one['log_probability']:.1f}".replace("-", "−"),
            count(one["num_tokens"]),
            literal(_continuation(one["text"], best["prompt"])),
        )
        for i, one in enumerate(hypotheses, 1)
    )
    texts = [_continuation(one["text"], best["prompt"]).split() for one in hypotheses]
    return [
        Paragraph(f"[[tab:n-best]] lists what one search returns. {shared_start(texts)}"),
        Table(
            "tab:n-best",
            f"The {plural(len(hypotheses), 'best hypothesis', 'best hypotheses')} for "
            f"“{literal(best['prompt'])}” with {plural(best['num_beams'], 'beam')}.",
            ("", "Score", "log p", "Tokens", "Continuation"),
            rows,
            "rrrrp",
        ),
    ]


def shared_start(texts: Sequence[Sequence[str]]) -> str:
    """Return how much of their beginning the hypotheses of one search share."""
    if len(texts) < 2:
        return "It is one hypothesis only."
    longest = max(len(text) for text in texts)
    same = 0
    for words in zip(*texts, strict=False):
        if len(set(words)) > 1:
            break
        same += 1
    if same == longest:
        return f"All {len(texts)} are the same words."
    text = f"The {len(texts)} hypotheses have their first {plural(same, 'word')} in common"
    if same == 0:
        return f"The {len(texts)} hypotheses differ from the first word on."
    share = same / longest
    if share >= 0.5:
        return (
            f"{text}, {percent(share, 0)} of the longest one: they are variants of one text, not "
            "different stories."
        )
    return f"{text}, {percent(share, 0)} of the longest one."
