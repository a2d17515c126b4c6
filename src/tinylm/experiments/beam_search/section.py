"""Beam search beside greedy decoding and sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from tinylm.experiments.beam_search.judgement import judgement
from tinylm.experiments.document.inputs import ReportInputs
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
from tinylm.report.measurements import (
    compared,
    disturbances,
    hardware,
    measured,
    median,
    named,
    rounds,
    seconds,
    signed,
    spread,
    times,
)

_WHOLE = 2
"""Prompts whose texts are printed whole, at every strategy."""
_OTHERS = 3
"""Further prompts, in a table."""
_SHORT = 220
"""Characters of the other prompts' texts."""
_VARIANTS = 0.5
"""Share of words in common from which hypotheses are called variants of one text."""
_AROUND = 2
"""Words that stay on either side of what differs from the best hypothesis."""
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
    if found is None:
        return []
    comparisons = found["comparisons"]
    made: list[Block] = [
        Heading(1, "Beam search", "sec:beam-search"),
        *_technique(found),
        Paragraph(_setting(found)),
        *(_quality(comparison, i) for i, comparison in enumerate(comparisons)),
        _cost(found),
    ]
    first, *rest = judgement(comparisons)
    made.append(Paragraph(first))
    if results.has_figure("figures/beam-search.svg"):
        largest = max(comparisons, key=lambda comparison: comparison["num_prompts"])
        made[-1] = Paragraph(f"{first} [[fig:beam-search]] draws likelihood, BLEU and variety.")
        made.append(
            Figure(
                "fig:beam-search",
                "figures/beam-search.svg",
                f"Decoding strategies on {plural(largest['num_prompts'], 'prompt')}. Left: how "
                "likely the texts are under the model, against the speed of generation. Right: "
                "BLEU against the true continuations, and variety of the texts.",
                "Log-probability per token against tokens per second, and BLEU and distinct-2 by "
                "decoding strategy.",
            )
        )
    made += [Paragraph(text) for text in rest]
    return [
        *made,
        Heading(2, "The texts side by side", "sec:beam-texts"),
        *_examples(comparisons),
        *_n_best(found),
    ]


def _technique(found: Mapping[str, Any]) -> list[Block]:
    ending = _ending(found["early_stopping"])
    return [
        Paragraph(
            "Greedy decoding takes the most likely token at every step, which need not lead to the "
            "most likely text. Beam search keeps the $k$ most likely beginnings (*hypotheses*): "
            "each is extended by every token, and the extensions are ordered by their summed "
            "log-probability. Those among the first $k$ that end the story are set aside as "
            "complete, and the first $k$ of the others are kept. "
            f"With $k = 1$ this is greedy decoding. A search stops {ending}. Since every token "
            "makes a text less likely, the sum alone would favour short texts; hypotheses $y$ for "
            "a prompt $x$ are therefore ranked by"
        ),
        Equation('"score"(y) = 1/(|y|^alpha) sum_(t=1)^(|y|) log p_theta (y_t | x, y_(<t)),'),
        Paragraph(
            f"with a length penalty of $alpha$ = {setting(found['length_penalty'])}. Wu et al. "
            "[[wu2016]] found such a normalisation necessary in translation; their divisor is "
            "$((5 + |y|) slash 6)^alpha$. Beam search is not exact: a beginning that is dropped "
            "early might have led to the best text."
        ),
    ]


def _ending(early_stopping: object) -> str:
    return _ENDING.get(str(early_stopping), f"by the rule {code(str(early_stopping))}")


def _setting(found: Mapping[str, Any]) -> str:
    comparisons = found["comparisons"]
    sizes = [str(comparison["num_prompts"]) for comparison in comparisons]
    filtered = f" and top-p {setting(found['top_p'])}" if found["top_p"] != 1 else ""
    tables = [f"[[tab:beam-{i + 1}]]" for i in range(len(comparisons))]
    shown = "shows" if len(tables) == 1 else "show"
    return (
        f"The first {plural(found['prompt_tokens'], 'token')} of {listed(sizes)} validation "
        "stories, spread evenly over the split, were continued by at most "
        f"{plural(found['max_new_tokens'], 'token')}; sampling is at temperature "
        f"{setting(found['temperature'])}{filtered}. {listed(tables)} {shown} how likely the texts "
        "are under the model, how well they agree with the true continuations, and how varied they "
        "are; [[tab:beam-cost]] shows what they cost. Differences are judged prompt by prompt: "
        "what is said to differ does so with its 95 % interval."
    )


def _quality(comparison: Mapping[str, Any], index: int) -> Table:
    rows = [_quality_row(literal(row["name"]), row) for row in comparison["rows"]]
    rows.append(_quality_row("true texts", comparison["true"]))
    return Table(
        f"tab:beam-{index + 1}",
        f"Quality by strategy, {plural(comparison['num_prompts'], 'prompt')}.",
        ("Strategy", "log p", "per token", "BLEU", "sent.", "Dist.-1", "Dist.-2", "Dist.-3",
         "Rep.", "Length", "Ended"),
        tuple(rows),
        "lrrrrrrrrrr",
        "log p: mean summed log-probability in nats; BLEU: corpus BLEU and mean of the sentences; "
        "Rep.: share of 4-grams that occurred before in the same text; length in tokens; Ended: "
        "share of texts that the model ended by itself.",
        emphasised=(len(rows) - 1,),
    )  # fmt: skip


def _quality_row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    bleu = [f"{row[key]:.2f}" if key in row else "–"
            for key in ("bleu_corpus", "bleu_sentence_mean")]  # fmt: skip
    return (
        name,
        signed(row["log_probability"], 1),
        signed(row["log_probability_per_token"], 3),
        *bleu,
        *(f"{row['distinct'][n]:.3f}" for n in ("1", "2", "3")),
        percent(row["repetition"]),
        f"{row['mean_length']:.1f}",
        percent(row["finished_share"], 0),
    )


def _cost(found: Mapping[str, Any]) -> Table:
    rows, timings = [], []
    for comparison in found["comparisons"]:
        first = comparison["rows"][0]
        for i, row in enumerate(comparison["rows"]):
            timing = row["seconds"]
            timings.append(timing)
            rows.append(
                (
                    str(comparison["num_prompts"]) if i == 0 else "",
                    literal(row["name"]),
                    median(timing),
                    f"{seconds(timing['min_s'])} to {seconds(timing['max_s'])}",
                    spread(timing),
                    times(compared(timing, first["seconds"]).ratio),
                    count(row["tokens_per_second"]),
                )
            )
    return Table(
        "tab:beam-cost",
        f"Time by strategy: {rounds(*timings)}, taken in turns.",
        ("Prompts", "Strategy", "Time", "Range", "Spread", f"To {literal(first['name'])}",
         "Tokens per second"),
        tuple(rows),
        "rlrrrrr",
        "Spread: distance between the quartiles, relative to the median. Measured on "
        f"{hardware(found)}.{disturbances(map(measured, timings))} Corpus BLEU: "
        f"{code(found['signature'])}; sentences: {code(found['sentence_signature'])}.",
    )  # fmt: skip


def _examples(comparisons: Sequence[Mapping[str, Any]]) -> list[Block]:
    smallest = min(comparisons, key=lambda comparison: comparison["num_prompts"])
    examples = smallest["texts"][: _WHOLE + _OTHERS]
    whole, others = examples[:_WHOLE], examples[_WHOLE:]
    more = (
        f" [[tab:beam-texts]] sets {plural(len(others), 'more prompt')} side by side."
        if others
        else ""
    )
    first = f"{plural(len(whole), 'prompt')} are" if len(whole) > 1 else "prompt is"
    made: list[Block] = [
        Paragraph(
            f"The first {first} shown with the continuations by every strategy, unselected, and "
            f"the true ones; the given beginning is in bold.{more}"
        )
    ]
    for i, example in enumerate(whole, 1):
        prompt = example["prompt"]
        made += [
            Sample(f"{i}. {name}", _continuation(text, prompt), prompt)
            for name, text in [*example["outputs"].items(), ("true", example["true"])]
        ]
    return [*made, _side_by_side(others)] if others else made


def _side_by_side(examples: Sequence[Mapping[str, Any]]) -> Table:
    names = list(examples[0]["outputs"])
    shown = [names[0], names[-1]]
    rows = tuple(
        tuple(
            f"*{literal(example['prompt'])}*{_joint(text, example['prompt'])}"
            f"{literal(_cut(text, example['prompt']))}"
            for text in [*(example["outputs"][name] for name in shown), example["true"]]
        )
        for example in examples
    )
    return Table(
        "tab:beam-texts",
        f"Other prompts, continued by {listed(named(shown))}, and as they really continue; texts "
        f"are cut after {_SHORT} characters.",
        (*(literal(name) for name in shown), "true"),
        rows,
        "p" * (len(shown) + 1),
    )


def _joint(text: str, prompt: str) -> str:
    """Return what stands between a prompt and its continuation: nothing before a full stop."""
    rest = text.removeprefix(prompt)
    return "" if len(rest) < len(text) and rest[:1].strip() else " "


def _continuation(text: str, prompt: str) -> str:
    """Return a text without the prompt, which it may or may not begin with, on one line."""
    return " ".join(text.removeprefix(prompt).split())


def _cut(text: str, prompt: str) -> str:
    whole = _continuation(text, prompt)
    if len(whole) <= _SHORT:
        return whole
    return whole[:_SHORT].rsplit(" ", 1)[0] + " …"


def _n_best(found: Mapping[str, Any]) -> list[Block]:
    best = found["n_best"]
    hypotheses = best["hypotheses"]
    texts = [_continuation(hypothesis["text"], best["prompt"]) for hypothesis in hypotheses]
    rows = tuple(
        (
            str(i),
            signed(hypothesis["score"], 3),
            signed(hypothesis["log_probability"], 1),
            count(hypothesis["num_tokens"]),
            literal(text if i == 1 else beside_first(texts[0], text)),
        )
        for i, (hypothesis, text) in enumerate(zip(hypotheses, texts, strict=True), 1)
    )
    return [
        Paragraph(f"[[tab:n-best]] lists what one search returns. {likeness(texts)}"),
        Table(
            "tab:n-best",
            f"The {plural(len(hypotheses), 'best hypothesis', 'best hypotheses')} for "
            f"“{literal(best['prompt'])}” with {plural(best['num_beams'], 'beam')}.",
            ("", "Score", "log p", "Tokens", "Continuation"),
            rows,
            "rrrrp",
            "Of the later ones, … stands for words that they share with the first."
            if any("…" in row[-1] for row in rows[1:])
            else "",
        ),
    ]


def beside_first(first: str, text: str) -> str:
    """Return a text with … for each long run of words that the first one has in the same order.

    Two words beside what differs stay, so that one sees where it stands.
    """
    words, others = first.split(), text.split()
    shown: list[str] = []
    runs = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    done = 0
    for run in runs:
        shown += others[done : run.b]
        same = others[run.b : run.b + run.size]
        before = _AROUND * (run.b > 0)
        after = _AROUND * (run.b + run.size < len(others))
        if len(same) > before + after + 1:
            same = [*same[:before], "…", *same[len(same) - after :]]
        shown += same
        done = run.b + run.size
    return " ".join(shown)


def likeness(texts: Sequence[str]) -> str:
    """Return how much of the best hypothesis of a search the others share."""
    best, *others = (text.split() for text in texts)
    if not others:
        return "It is a single hypothesis."
    if all(words == best for words in others):
        return f"All {len(texts)} consist of the same words."
    shares = [SequenceMatcher(None, best, words, autojunk=False).ratio() for words in others]
    share = sum(shares) / len(shares)
    text = (
        f"On average {percent(share, 0)} of the words of another hypothesis and of the best one "
        "are the same and in the same order"
    )
    if share >= _VARIANTS:
        return f"{text}: they are variants of one text rather than different texts."
    return f"{text}."
