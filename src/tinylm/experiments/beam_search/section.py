"""Beam search compared with greedy decoding and sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from functools import partial
from typing import Any

from tinylm.experiments.beam_search.judgement import judgement
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.report.blocks import (
    Block,
    Figure,
    Heading,
    Paragraph,
    Sample,
    Table,
    code,
    joint,
    literal,
)
from tinylm.report.formatting import count, excerpt, listed, open_end, percent, plural, setting
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
from tinylm.report.passages import passages

TEXT = passages(__file__)
_WHOLE = 2
"""Prompts whose texts are printed whole, at every strategy."""
_OTHERS = 3
"""Further prompts, in a table."""
_SHORT = 220
"""Characters of the other prompts' texts."""
_AROUND = 2
"""Words that stay on either side of what differs from the best hypothesis."""
_ENDING = {
    "full": partial(TEXT.line, "end of a search, at k complete hypotheses"),
    "heuristic": partial(TEXT.line, "end of a search, by a heuristic"),
    "never": partial(TEXT.line, "end of a search, when nothing can improve"),
}
"""``early_stopping`` -> when a search ends."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``beam-search``."""
    result = results.results.get("beam-search")
    if result is None:
        return []
    comparisons = result["comparisons"]
    section: list[Block] = [
        Heading(1, "Beam search", "sec:beam-search"),
        *TEXT.blocks(
            "technique",
            ending=_ending(result["early_stopping"]),
            length_penalty=setting(result["length_penalty"]),
        ),
        *_setting(result),
        *(_quality(result, i) for i in range(len(comparisons))),
        _cost(result),
    ]
    first, *rest = judgement(comparisons)
    section.append(Paragraph(first))
    if results.has_figure("figures/beam-search.svg"):
        largest = max(comparisons, key=lambda comparison: comparison["num_prompts"])
        section[-1] = Paragraph(" ".join([first, TEXT.line("before the figure")]))
        section.append(
            Figure(
                "fig:beam-search",
                "figures/beam-search.svg",
                TEXT.line("figure", prompts=plural(largest["num_prompts"], "prompt")),
                TEXT.line("figure, without seeing it"),
            )
        )
    section += [Paragraph(text) for text in rest]
    return [
        *section,
        Heading(2, "The texts side by side", "sec:beam-texts"),
        *_examples(comparisons),
        *_n_best(result),
    ]


def _ending(early_stopping: object) -> str:
    rule = str(early_stopping)
    return _ENDING[rule]() if rule in _ENDING else f"by the rule {code(rule)}"


def _setting(result: Mapping[str, Any]) -> list[Block]:
    comparisons = result["comparisons"]
    sizes = [str(comparison["num_prompts"]) for comparison in comparisons]
    filtered = f" and top-p {setting(result['top_p'])}" if result["top_p"] != 1 else ""
    tables = [f"[[tab:beam-{i + 1}]]" for i in range(len(comparisons))]
    shown = "shows" if len(tables) == 1 else "show"
    return TEXT.blocks(
        "setting",
        prompt_tokens=plural(result["prompt_tokens"], "token"),
        prompts=listed(sizes),
        new_tokens=plural(result["max_new_tokens"], "token"),
        temperature=setting(result["temperature"]),
        filtered=filtered,
        tables=f"{listed(tables)} {shown}",
    )


def _quality(result: Mapping[str, Any], index: int) -> Table:
    comparison = result["comparisons"][index]
    rows = [_quality_row(literal(row["name"]), row) for row in comparison["rows"]]
    rows.append(_quality_row("true texts", comparison["true"]))
    return Table(
        f"tab:beam-{index + 1}",
        TEXT.line("quality, table", prompts=plural(comparison["num_prompts"], "prompt")),
        ("Strategy", "log p", "per token", "BLEU", "sent.", "Dist.-1", "Dist.-2", "Dist.-3",
         "Rep.", "Length", "Ended"),
        tuple(rows),
        "lrrrrrrrrrr",
        TEXT.line("quality, a further table's note")
        if index
        else TEXT.line(
            "quality, table's note",
            corpus=code(result["signature"]),
            sentences=code(result["sentence_signature"]),
        ),
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


def _cost(result: Mapping[str, Any]) -> Table:
    rows, timings = [], []
    for comparison in result["comparisons"]:
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
        TEXT.line("cost, table", rounds=rounds(*timings)),
        ("Prompts", "Strategy", "Time", "Range", "Spread", "Ratio",
         "Tokens per second"),
        tuple(rows),
        "rlrrrrr",
        TEXT.line(
            "cost, table's note",
            first=named([result["comparisons"][0]["rows"][0]["name"]])[0],
            hardware=hardware(result),
            disturbances=disturbances(map(measured, timings)),
        ),
    )  # fmt: skip


def _examples(comparisons: Sequence[Mapping[str, Any]]) -> list[Block]:
    smallest = min(comparisons, key=lambda comparison: comparison["num_prompts"])
    examples = smallest["texts"][: _WHOLE + _OTHERS]
    whole, others = examples[:_WHOLE], examples[_WHOLE:]
    more = (
        " " + TEXT.line("texts, further prompts", prompts=plural(len(others), "more prompt"))
        if others
        else ""
    )
    first = f"{plural(len(whole), 'prompt')} are" if len(whole) > 1 else "prompt is"
    section = TEXT.blocks("texts", prompts=first, more=more)
    for i, example in enumerate(whole, 1):
        prompt = example["prompt"]
        section += [
            Sample(f"{i}. {name}", open_end(_continuation(text, prompt)), prompt)
            for name, text in [*example["outputs"].items(), ("true", example["true"])]
        ]
    return [*section, _side_by_side(others)] if others else section


def _side_by_side(examples: Sequence[Mapping[str, Any]]) -> Table:
    names = list(examples[0]["outputs"])
    shown = [names[0], names[-1]]
    rows = tuple(
        tuple(
            f"*{literal(example['prompt'])}*{joint(text)}{literal(text)}"
            for text in (
                excerpt(_continuation(whole, example["prompt"]), _SHORT)
                for whole in [*(example["outputs"][name] for name in shown), example["true"]]
            )
        )
        for example in examples
    )
    return Table(
        "tab:beam-texts",
        TEXT.line("texts, table", strategies=listed(named(shown)), length=count(_SHORT)),
        (*(literal(name) for name in shown), "true"),
        rows,
        "p" * (len(shown) + 1),
    )


def _continuation(text: str, prompt: str) -> str:
    """Return a text without the prompt, which it may or may not begin with, on one line."""
    return " ".join(text.removeprefix(prompt).split())


def _n_best(result: Mapping[str, Any]) -> list[Block]:
    best = result["n_best"]
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
        *TEXT.blocks("hypotheses", comment=likeness(texts)),
        Table(
            "tab:n-best",
            TEXT.line(
                "hypotheses, table",
                hypotheses=plural(len(hypotheses), "best hypothesis", "best hypotheses"),
                prompt=literal(best["prompt"]),
                beams=plural(best["num_beams"], "beam"),
            ),
            ("", "Score", "log p", "Tokens", "Continuation"),
            rows,
            "rrrrp",
            TEXT.line("hypotheses, table's note")
            if any("…" in row[-1] for row in rows[1:])
            else "",
        ),
    ]


def beside_first(first: str, text: str) -> str:
    """Return a text with … for each long run of words that the first one has in the same order.

    Two words on either side of a difference are kept to show where it is.
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
    return (
        f"In this search the other hypotheses share, on average, {percent(share, 0)} of their "
        "words, in the same order, with the best."
    )
