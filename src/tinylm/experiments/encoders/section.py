"""Why encoders went out of use, measured: families of models on the same tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.encoders import discussion
from tinylm.experiments.encoders.asking import CHANCE, LEARNED
from tinylm.experiments.encoders.discussion import TEXTS, emphasised
from tinylm.experiments.encoders.readings import Budget, at_budget, training_of
from tinylm.measurement import Verdict, mean
from tinylm.report.blocks import Block, Bullets, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, keyed, percent, plural, significant
from tinylm.report.measurements import disturbances, hardware, measured, median, mib, rounds
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]
_PREDICTED = {"whole": "all", "rest": "the rest"}
_BUDGETS: tuple[Budget, ...] = ("tokens", "operations", "time", "targets")


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    return " ".join([TEXT.line("summary"), *_verdicts(result)])


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``encoders``."""
    result = results.results.get("encoders")
    if result is None:
        return []
    stories = result["texts"][0]
    seconds = [value for text in result["texts"] for row in text["trainings"]
               for value in row["seconds"]]  # fmt: skip
    return [
        Heading(1, "Why encoders went out of use", "sec:encoders"),
        *TEXT.blocks("technique"),
        *TEXT.blocks(
            "setting",
            first=emphasised(discussion.names(result)[0]),
            seeds=plural(len(result["seeds"]), "seed"),
            trainings=plural(len(seconds), "training"),
            seconds=duration(sum(seconds)),
            machine=hardware(result),
            tokens=count(stories["tokens_per_step"]),
        ),
        _models_table(result),
        Heading(2, "Equal tokens, equal operations", "sec:encoders-losses"),
        *TEXT.blocks("losses", windows=count(result["held_out"])),
        *[_losses_table(result, text) for text in result["texts"]],
        *_paragraphs(
            discussion.loss_comment(result, text, budget)
            for text in result["texts"]
            for budget in ("tokens", "operations")
        ),
        *_paragraphs(
            discussion.accuracy_comment(result, text)
            for text in result["texts"]
            if text["guess"] is not None
        ),
        *results.told_figure(
"encoders-curves",
            TEXT.line("curves, before the figure"),
            TEXT.line("curves, figure"),
            TEXT.line("curves, without seeing it"),
        ),
        Heading(2, "The signal of a token", "sec:encoders-signal"),
        *TEXT.blocks("signal"),
        *_paragraphs(discussion.dense_comment(result, text) for text in result["texts"]),
        *_paragraphs(discussion.architecture_comment(result, text) for text in result["texts"]),
        Heading(2, "What is kept of a text", "sec:encoders-cache"),
        *TEXT.blocks("cache"),
        Paragraph(discussion.cache_comment(result["costs"])),
        *_paragraphs(
            [
                discussion.planned_comment(result["costs"]),
                discussion.decoding_comment(result["costs"]),
            ]
        ),
        _cache_table(result["costs"]),
        *results.told_figure(
"encoders-costs",
            TEXT.line("costs, before the figure"),
            TEXT.line("costs, figure"),
            TEXT.line("costs, without seeing it"),
        ),
        Heading(2, "How long a text may be", "sec:encoders-context"),
        *TEXT.blocks(
            "context",
            tail=count(result["contexts"]["tail"]),
            places=count(result["contexts"]["places"]),
            trained=count(stories["context"]),
        ),
        _context_table(result["costs"]),
        *_paragraphs([discussion.context_comment(result)]),
        *results.told_figure(
"encoders-contexts",
            TEXT.line("contexts, before the figure"),
            TEXT.line("contexts, figure"),
            TEXT.line("contexts, without seeing it"),
        ),
        Heading(2, "A task that nobody trained it for", "sec:encoders-questions"),
        *TEXT.blocks("questions", asked=count(result["questions"]["asked"]),
                     **{form["name"]: _example(form) for form in result["questions"]["forms"]}),
        _questions_table(result),
        *_paragraphs(discussion.questions_comment(form, discussion.names(result)[0])
                     for form in result["questions"]["forms"]),
        Heading(2, "What holds at this size", "sec:encoders-verdicts"),
        *TEXT.blocks("verdicts"),
        Bullets(tuple(_verdicts(result))),
        *TEXT.blocks("limits"),
    ]  # fmt: skip


def _verdicts(result: Row) -> list[str]:
    said = [
        discussion.verdict_of_density(result),
        discussion.verdict_of_architecture(result),
        discussion.verdict_of_cache(result),
        discussion.verdict_of_flexibility(result),
    ]
    return [sentence for sentence in said if sentence]


def _paragraphs(texts: Iterator[str] | Sequence[str]) -> list[Block]:
    """Return a paragraph of those sentences that have something to say."""
    said = [text for text in texts if text]
    return [Paragraph(" ".join(said))] if said else []


def _example(example: Row) -> str:
    return f"{literal(example['text'])} *{literal(example['answer'])}*"


def _models_table(result: Row) -> Table:
    stories = result["texts"][0]
    trainings = keyed(stories["trainings"], "name")
    timings = [row[speed] for row in stories["trainings"] for speed in ("quick", "plain")]
    rows = []
    for variant in result["variants"]:
        row = trainings[variant["name"]]
        rows.append(
            (
                emphasised(variant["name"]),
                _PREDICTED[variant["predicts"]],
                count(row["hidden_size"]),
                count(row["parameters"]),
                significant(row["flops_per_token"] / 1e6),
                significant(row["targets"], 2),
                *(_rate(stories, row[speed]) for speed in ("quick", "plain")),
            )
        )
    return Table(
        "tab:encoders-models",
        TEXT.line("models, table"),
        ("Model", "Predicts", "Width", "Parameters", "MFLOPs", "Targets", "Quick", "Plain"),
        tuple(rows),
        "llrrrrrr",
        TEXT.line("models, table's note", rounds=rounds(*timings))
        + disturbances(measured(timing) for timing in timings),
    )


def _rate(text: Row, timing: Row) -> str:
    """Return the tokens a second of a step's timing, with a dagger if it was disturbed."""
    mark = median(timing).lstrip("0123456789.,\u00a0ms")
    return f"{count(text['tokens_per_step'] / timing['median_s'])}{mark}"


def _losses_table(result: Row, text: Row) -> Table:
    asked = text["guess"] is not None
    rows = []
    for name in discussion.names(result):
        cells = [_mean(at_budget(text, name, budget)) for budget in _BUDGETS]
        if asked:
            cells.append(_share(training_of(text, name)["curve"][-1]["accuracy"]))
        rows.append((emphasised(name), *cells))
    headers = ("Model", "Tokens", "Operations", "Time", "Targets")
    note = TEXT.line(
        "losses, table's note",
        seeds=plural(len(result["seeds"]), "seed"),
        steps=count(text["common_steps"]),
    )
    if asked:
        note += " " + TEXT.line("losses, note of answers", asked=count(text["asked"]))
    return Table(
        f"tab:encoders-{text['name']}",
        TEXT.line("losses, table", text=TEXTS[text["name"]]),
        (*headers, "Right") if asked else headers,
        tuple(rows),
        "lrrrrr" if asked else "lrrrr",
        note,
    )


def _mean(values: Sequence[float] | None) -> str:
    """Return a mean over the seeds with half of its interval, or a dash where there is none."""
    if values is None:
        return "–"
    value = mean(values)
    if value.verdict is Verdict.UNKNOWN:
        return f"{value.value:.3f}"
    return f"{value.value:.3f} ± {(value.high - value.low) / 2:.3f}"


def _share(values: Sequence[float]) -> str:
    """Return a mean share of several seeds with its interval, as far as shares go."""
    value = mean(values)
    if value.verdict is Verdict.UNKNOWN:
        return percent(value.value)
    low, high = (100 * min(1.0, max(0.0, end)) for end in value.ends)
    return f"{percent(value.value)} ({low:.0f}–{high:.0f})"


def _cache_table(costs: Mapping[str, Sequence[Row]]) -> Table:
    lengths = [row["context"] for row in next(iter(costs.values()))]
    return Table(
        "tab:encoders-cache",
        TEXT.line("cache, table"),
        (
            "Model",
            *(f"KiB at {count(length)}" for length in lengths),
            *(f"ms at {count(length)}" for length in lengths),
        ),
        tuple(
            (
                emphasised(kind),
                *(significant(row["state_bytes"] / 2**10) for row in rows),
                *(_per_token(row["decoding"], row["decoded"]) for row in rows),
            )
            for kind, rows in costs.items()
        ),
        "l" + "r" * (2 * len(lengths)),
        TEXT.line("cache, table's note")
        + disturbances(measured(row["decoding"]) for rows in costs.values() for row in rows),
    )


def _per_token(timing: Row, tokens: int) -> str:
    mark = median(timing).lstrip("0123456789.,\u00a0ms")
    return f"{significant(1000 * timing['median_s'] / tokens)}{mark}"


def _context_table(costs: Mapping[str, Sequence[Row]]) -> Table:
    rows = []
    for kind, lengths in costs.items():
        for row in lengths:
            step, held = row["step"], row["step_bytes"]
            planned = f"{mib(row['planned_step_bytes'])} (planned)"
            rows.append(
                (
                    emphasised(kind),
                    count(row["context"]),
                    significant(row["step_flops"] / 1e6),
                    significant(row["decoding_flops"] / 1e6),
                    "–" if step is None else significant(1e6 * step["median_s"] / row["tokens"]),
                    planned if held is None else mib(held),
                )
            )
    return Table(
        "tab:encoders-context",
        TEXT.line("context, table"),
        ("Model", "Tokens", "Step, MFLOPs", "Decoding, MFLOPs", "Step, µs", "Kept, MiB"),
        tuple(rows),
        "lrrrrr",
        TEXT.line("context, table's note"),
    )


def _questions_table(result: Row) -> Table:
    forms = result["questions"]["forms"]
    return Table(
        "tab:encoders-questions",
        TEXT.line("questions, table"),
        ("Model", *(form["name"].capitalize() for form in forms)),
        tuple(
            (emphasised(name), *(_share(form["right"][name]) for form in forms))
            for name in discussion.names(result)
        ),
        "l" + "r" * len(forms),
        TEXT.line(
            "questions, table's note",
            chance=percent(CHANCE, 0),
            learned=percent(LEARNED, 0),
            seeds=plural(len(result["seeds"]), "seed"),
        ),
    )
