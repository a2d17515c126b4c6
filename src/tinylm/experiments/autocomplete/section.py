"""What predicting the next token teaches: tasks in plain text, and the state behind them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import Difference, Verdict, mean
from tinylm.report.blocks import Block, Heading, Paragraph, Table, literal
from tinylm.report.formatting import count, duration, listed, percent, plural
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]
LABELS = {
    "translation": "translation",
    "summary": "summary",
    "holder": "holder",
    "rules": "rules",
    "rules-chain": "rules with chain",
    "copy": "copy",
    "sum": "sum",
}
"""Tasks as figures and tables name them."""
_KINDS = ("trained", "new", "withheld")
_WAYS = {
    "mixed": "Text of all tasks, next token",
    "alone": "Text of this task, next token",
    "head": "Stories of this task, a head for the ten people",
}


def others(result: Row, varied: str) -> list[Row]:
    """Return the trainings that differ from the main one in a setting, such as ``items``."""
    main, *rest = result["trainings"]
    return [row for row in rest if row[varied] != main[varied]]


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    return " ".join(
        [TEXT.line("summary"), accuracy_comment(result), reading_comment(result["reading"])]
    )


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``autocomplete``."""
    result = results.results.get("autocomplete")
    if result is None:
        return []
    main = result["trainings"][0]
    values = {
        "items": count(main["items"]),
        "parameters": count(statistics.mean(main["parameters"])),
        "layers": plural(result["num_layers"], "layer"),
        "steps": plural(result["steps"], "step"),
        "tokens": count(result["tokens_per_step"]),
        "seconds": duration(statistics.mean(main["seconds"])),
        "seeds": plural(len(result["seeds"]), "seed"),
        "withheld": percent(main["withheld"], 0),
        "asked": count(result["held_out"]),
    }
    return [
        Heading(1, "What predicting the next token teaches", "sec:autocomplete"),
        *TEXT.blocks("technique"),
        _tasks_table(result["tasks"]),
        *TEXT.blocks("setting", **values),
        Heading(2, "Accuracy", "sec:autocomplete-accuracy"),
        Paragraph(accuracy_comment(result)),
        _accuracy_table(result),
        *[Paragraph(said) for said in [chain_comment(result)] if said],
        *results.told_figure(
            "autocomplete-steps",
            TEXT.line("steps, before the figure"),
            TEXT.line("steps, figure"),
            TEXT.line("steps, without seeing it"),
        ),
        Heading(2, "Generalising or remembering", "sec:autocomplete-withheld"),
        *TEXT.blocks("withheld"),
        *[Paragraph(withheld_comment(row)) for row in (main, *others(result, "withheld"))],
        *results.told_figure(
            "autocomplete-withheld",
            TEXT.line("withheld, before the figure"),
            TEXT.line("withheld, figure"),
            TEXT.line("withheld, without seeing it"),
        ),
        *_sizes(results, result),
        Heading(2, "Who has the ball", "sec:autocomplete-state"),
        *TEXT.blocks("state", stories=count(result["stories"])),
        Paragraph(reading_comment(result["reading"])),
        *TEXT.blocks("exchange"),
        Paragraph(exchange_comment(result["exchange"])),
        *results.told_figure(
            "autocomplete-state",
            TEXT.line("state, before the figure"),
            TEXT.line("state, figure"),
            TEXT.line("state, without seeing it"),
        ),
        Heading(2, "A head of its own", "sec:autocomplete-heads"),
        *TEXT.blocks("heads"),
        _heads_table(result["heads"]),
        Paragraph(heads_comment(result["heads"])),
    ]


def _sizes(results: ReportInputs, result: Row) -> list[Block]:
    """Return what fewer items and smaller models change; nothing where none was tried."""
    said = sizes_comment(result)
    if not said:
        return []
    heading = Heading(2, "Data and size", "sec:autocomplete-sizes")
    return [
        heading,
        Paragraph(said),
        *results.told_figure(
            "autocomplete-sizes",
            TEXT.line("sizes, before the figure"),
            TEXT.line("sizes, figure"),
            TEXT.line("sizes, without seeing it"),
        ),
    ]


def _tasks_table(tasks: Sequence[Row]) -> Table:
    return Table(
        "tab:autocomplete-tasks",
        TEXT.line("tasks, table"),
        ("Task", "A held-out item", "Guessing"),
        tuple(
            (
                LABELS[task["name"]],
                f"{literal(task['prompt'])} *{literal(task['answer'])}*",
                percent(task["guess"]),
            )
            for task in tasks
        ),
        "lpr",
        TEXT.line("tasks, table's note"),
    )


def share(values: Sequence[float]) -> str:
    """Return the mean of shares and, of several seeds, its interval as far as shares go."""
    value = mean(values)
    if value.verdict is Verdict.UNKNOWN:
        return percent(value.value, 0)
    low, high = (100 * min(1.0, max(0.0, end)) for end in value.ends)
    return f"{percent(value.value, 0)} ({low:.0f}–{high:.0f})"


def _accuracy_table(result: Row) -> Table:
    main = result["trainings"][0]
    return Table(
        "tab:autocomplete-accuracy",
        TEXT.line("accuracy, table"),
        ("Task", "Trained on", "New, facts seen", "Facts withheld", "Guessing"),
        tuple(
            (
                LABELS[task["name"]],
                *(_cell(main["accuracy"][kind].get(task["name"])) for kind in _KINDS),
                percent(task["guess"]),
            )
            for task in result["tasks"]
        ),
        "lrrrr",
        TEXT.line("accuracy, table's note", seeds=plural(len(result["seeds"]), "seed")),
    )


def _cell(values: Sequence[float] | None) -> str:
    """Return a share, or a dash where there were no such items."""
    return "–" if values is None else share(values)


def _shown(tasks: Sequence[Row], shares: Row) -> str:
    return listed([f"{LABELS[t['name']]} at {share(shares[t['name']])}" for t in tasks])


def accuracy_comment(result: Row) -> str:
    """Return which tasks are done better than by guessing, on facts that were withheld."""
    shares = result["trainings"][0]["accuracy"]["withheld"]
    better: list[Row] = []
    rest: list[Row] = []
    for task in result["tasks"]:
        gain = mean([value - task["guess"] for value in shares[task["name"]]])
        (better if gain.verdict is Verdict.MORE else rest).append(task)
    text = (
        f"Where the facts were withheld, the answers to {len(better)} of "
        f"{plural(len(result['tasks']), 'task')} are measurably better than guessing"
    )
    if better:
        text += f": {_shown(better, shares)}"
    if rest:
        text += f". Of the others, no gain can be told: {_shown(rest, shares)}"
    return f"{text}."


_CHAIN = {
    Verdict.MORE: "Each colour of the chain is one step from the one before it, which the model "
    "has written by then; at once it would have to take both steps before it writes the first "
    "token of its answer.",
    Verdict.LESS: "Writing the chain gives the model more tokens to get wrong.",
    Verdict.ALIKE: "The trainings do not tell the two apart.",
    Verdict.UNKNOWN: "One seed has no interval: nothing follows from the two numbers.",
}


def chain_comment(result: Row) -> str:
    """Return whether two rules are applied better when the chain is written out.

    Empty where a training had not both tasks.
    """
    shares = result["trainings"][0]["accuracy"]["withheld"]
    if not {"rules", "rules-chain"} <= shares.keys():
        return ""
    gap = _difference(shares["rules-chain"], shares["rules"])
    return (
        f"The same two steps are asked for at once and with the chain written out "
        f"[[wei2022cot]]: of withheld items {share(shares['rules'])} are right at once, "
        f"{share(shares['rules-chain'])} with the chain, which is {gap.word}. "
        f"{_CHAIN[gap.verdict]}"
    )


def withheld_comment(row: Row) -> str:
    """Return for which tasks withheld facts are answered worse than those seen."""
    lower: list[str] = []
    alike: list[str] = []
    higher: list[str] = []
    accuracy = row["accuracy"]
    for task, seen in accuracy["new"].items():
        pairs = zip(accuracy["withheld"][task], seen, strict=True)
        verdict = mean([withheld - new for withheld, new in pairs]).verdict
        name = f"{LABELS[task]} at {share(accuracy['withheld'][task])} against {share(seen)}"
        groups = {Verdict.LESS: lower, Verdict.MORE: higher}
        groups.get(verdict, alike).append(name)
    text = f"With {percent(row['withheld'], 0)} of the facts withheld, "
    said = [
        f"{words} {listed(names)}"
        for names, words in (
            (lower, "accuracy on withheld facts is lower than on facts seen for"),
            (higher, "higher for"),
            (alike, "no difference can be told for"),
        )
        if names
    ]
    return f"{text}{'; '.join(said)}."


def _overall(row: Row) -> list[float]:
    """Return the mean accuracy over the tasks on withheld facts, of each seed."""
    return [
        statistics.mean(values)
        for values in zip(*row["accuracy"]["withheld"].values(), strict=True)
    ]


def sizes_comment(result: Row) -> str:
    """Return what fewer items and smaller models change; empty where none was tried."""
    main = result["trainings"][0]
    whole, said = _overall(main), []
    for varied, words in (("items", "training items"), ("hidden_size", "dimensions")):
        for row in others(result, varied):
            pairs = zip(_overall(row), whole, strict=True)
            verdict = mean([part - all_ for part, all_ in pairs]).word
            said.append(f"{share(_overall(row))} with {count(row[varied])} {words} ({verdict})")
    if not said:
        return ""
    return (
        "The mean accuracy over the tasks, on withheld facts, is "
        f"{share(whole)} for the main model of {count(main['hidden_size'])} dimensions and "
        f"{count(main['items'])} items; it is {listed(said)}."
    )


def reading_comment(reading: Sequence[Row]) -> str:
    """Return how well the holder is read from activations, and beside what."""
    best = max(reading, key=lambda row: statistics.mean(row["unnamed"]))
    pairs = zip(best["unnamed"], best["untrained_unnamed"], strict=True)
    beside = mean([own - other for own, other in pairs])
    where = _place(best)
    return (
        f"{where} a linear probe reads who has the ball after {share(best['all'])} of the "
        f"sentences, and after {share(best['unnamed'])} of those that do not name that person; of "
        f"a model with random weights the latter is {share(best['untrained_unnamed'])}, so that "
        f"what is read is {beside.word} in the trained one. The control task's labels are read in "
        f"{share(best['control'])}."
    )


def _place(row: Row) -> str:
    layer = row["layer"][0]
    return f"After layer {layer}" if layer else "From the embedding"


def exchange_comment(exchange: Row) -> str:
    """Return whether the answer follows the activations of another story."""
    pairs, layers = sum(exchange["pairs"]), exchange["layers"]
    if not min(exchange["pairs"]):
        return (
            "With some seed the model answered no pair of stories right, so that nothing follows."
        )
    first = layers[0]
    later = max(layers[1:], key=lambda row: statistics.mean(row["last"]))
    last = layers[-1]
    return (
        f"Of {plural(pairs, 'pair')} that were answered right, the answer becomes that of the "
        f"other story in {share(first['last'])} when the embeddings of the last sentence are "
        f"exchanged, in {share(later['last'])} when its residual stream after layer "
        f"{later['layer'][0]} is, and in {share(last['last'])} after the last layer, where nothing "
        f"reads it any more. Exchanging the sentence before, which moves the other thing, after "
        f"layer {later['layer'][0]} leaves the answer in {share(later['kept_other'])}."
    )


def _heads_table(heads: Row) -> Table:
    kinds = ("new", "withheld")
    return Table(
        "tab:autocomplete-heads",
        TEXT.line("heads, table"),
        ("Trained on", "New, facts seen", "Facts withheld"),
        tuple(
            (label, *(share(heads[way][kind]) for kind in kinds)) for way, label in _WAYS.items()
        ),
        "lrr",
        TEXT.line(
            "heads, table's note",
            text=count(statistics.mean(heads["parameters"]["text"])),
            head=count(statistics.mean(heads["parameters"]["head"])),
        ),
    )


def heads_comment(heads: Row) -> str:
    """Return how a head of its own compares with text."""
    said = []
    for kind, words in (
        ("new", "On new stories of known facts"),
        ("withheld", "on withheld facts"),
    ):
        parts = []
        for way, name in (("mixed", "the model of all tasks"), ("alone", "the model of this task")):
            gap = _difference(heads["head"][kind], heads[way][kind])
            joint = "than" if gap.verdict in (Verdict.LESS, Verdict.MORE) else "from"
            parts.append(f"{gap.word} {joint} that of {name}")
        said.append(f"{words} the head's accuracy is {listed(parts)}")
    return f"{'; '.join(said)}."


def _difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    return mean([a - b for a, b in zip(first, second, strict=True)])
