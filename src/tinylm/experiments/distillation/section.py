"""Distillation: what a student gains from its teacher by each method, and what it saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinylm.experiments.distillation.comparing import (
    BLEU,
    LOSS,
    average,
    beside_alone,
    values,
)
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, VALUE_WORDS, Measurement, Verdict, compare
from tinylm.perplexity import perplexity, perplexity_text
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Table, literal
from tinylm.report.formatting import (
    count,
    excerpt,
    listed,
    percent,
    plural,
    setting,
    significant,
    with_sign,
)
from tinylm.report.measurements import (
    compared,
    disturbances,
    factor,
    hardware,
    measured,
    median,
    mib,
    rounds,
)
from tinylm.report.passages import passages

Row = Mapping[str, Any]
TEXT = passages(__file__)
_SVG = "figures/distillation.svg"
_CERTAIN = percent(CONFIDENCE, 0)
_GOOD = {LOSS: Verdict.LESS, **dict.fromkeys(BLEU, Verdict.MORE)}
"""What is better of each measure."""
_LONGEST_SAMPLE = 220


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``distillation``."""
    result = results.results.get("distillation")
    if result is None:
        return []
    drawn = results.has_figure(_SVG)
    brackets = TEXT.line("brackets", confidence=_CERTAIN) if _seeds(result) > 1 else ""
    items = [TEXT.line("alone"), *(method["explanation"] for method in _taught(result))]
    section: list[Block] = [
        Heading(1, "Distillation", "sec:distillation"),
        *TEXT.blocks(
            "method",
            layers=plural(result["teacher"]["num_layers"], "layer"),
            width=count(result["teacher"]["hidden_size"]),
            student_layers=plural(result["student"]["num_layers"], "layer"),
            student_width=count(result["student"]["hidden_size"]),
        ),
        Bullets(tuple(items)),
        *_loss(result),
        *_written(result),
        *_measure(result),
        *(
            TEXT.blocks("results, with the figure", brackets=brackets)
            if drawn
            else TEXT.blocks("results", brackets=brackets)
        ),
        _table(result),
    ]
    if drawn:
        caption = (
            TEXT.line("figure", confidence=_CERTAIN)
            if _seeds(result) > 1
            else TEXT.line("figure, one seed")
        )
        without = TEXT.line("figure, without seeing it")
        section.append(Figure("fig:distillation", _SVG, caption, without))
    judgement = _judgement(result)
    return [
        *section,
        *TEXT.blocks("perplexity", comment=_perplexities(result)),
        *TEXT.blocks("BLEU", comment=" ".join(_bleus(result))),
        *(TEXT.blocks("judgement", comment=judgement) if judgement else []),
        *TEXT.blocks("samples"),
        _samples(result),
        *TEXT.blocks("savings", comment=f"{_savings(result)} {_trainings(result)}"),
        _sizes(result),
    ]


def abstract(result: Row) -> str:
    """Return what the methods bring, and what the student saves."""
    brackets = TEXT.line("brackets", confidence=_CERTAIN) if _seeds(result) > 1 else ""
    parts = (_perplexities(result), brackets, _judgement(result), _savings(result))
    return " ".join(filter(None, parts))


def _taught(result: Row) -> list[Row]:
    methods: list[Row] = result["methods"][1:]
    return methods


def _alone(result: Row) -> Row:
    row: Row = result["methods"][0]
    return row


def _seeds(result: Row) -> int:
    return len(_alone(result)["students"])


def _loss(result: Row) -> list[Block]:
    """Return how teacher and true labels are mixed, for the methods that do."""
    mixed: dict[str, list[str]] = {}
    for method in _taught(result):
        own = method["settings"]
        if "alpha" in own:
            values = f"$alpha = {setting(own['alpha'])}$ and $T = {setting(own['temperature'])}$"
            mixed.setdefault(values, []).append(method["noun"])
    if not mixed:
        return []
    settings = [f"{values} in {listed(nouns)}" for values, nouns in mixed.items()]
    return TEXT.blocks("loss", settings=listed(settings))


def _written(result: Row) -> list[Block]:
    texts = result["texts"]
    if texts is None:
        return []
    left = texts["left_out"]
    return TEXT.blocks(
        "texts",
        beginning=plural(result["beginning_tokens"], "token"),
        beginnings=plural(texts["beginnings"], "training text"),
        written=count(texts["beginnings"] - left),
        tokens=plural(texts["tokens"], "token"),
        left=f"the other {count(left)} would have taught a wrong end."
        if left
        else "none was left out.",
        times=significant(result["tokens"] / texts["tokens"], 2),
    )


def _measure(result: Row) -> list[Block]:
    seeds = _seeds(result)
    interval = (
        TEXT.line("interval", confidence=_CERTAIN, seeds=plural(seeds, "seed"))
        if seeds > 1
        else TEXT.line("no interval")
    )
    return TEXT.blocks(
        "measure",
        steps=plural(result["steps"], "step"),
        batch=plural(result["tokens"] / result["steps"], "token"),
        rate=setting(result["learning_rate"]),
        students=f"each method from {plural(seeds, 'seed')}",
        interval=interval,
        windows=plural(result["windows"], "window"),
        stories=plural(result["stories"], "validation story", "validation stories"),
        new=plural(result["new_tokens"], "token"),
        prompt=plural(result["prompt_tokens"], "token"),
        beams=plural(result["num_beams"], "beam"),
    )


def _perplexities(result: Row) -> str:
    """Return the perplexity of teacher and of those alone, and which methods change it."""
    alone = perplexity_text(average(_alone(result), LOSS))
    teacher = perplexity_text(perplexity(result["teacher"][LOSS]))
    return (
        f"A student that learns alone reaches a perplexity of {alone}, the teacher has {teacher}. "
        f"{_beside(result, LOSS, 'The perplexity')}"
    )


def _bleus(result: Row) -> Iterator[str]:
    """Yield the BLEU by each strategy, and which methods change it."""
    for key, name in BLEU.items():
        alone, teacher = average(_alone(result), key), result["teacher"][key]
        yield (
            f"By {name} those alone reach {alone:.1f}, the teacher {teacher:.1f}. "
            f"{_beside(result, key, 'BLEU')}"
        )


def _beside(result: Row, key: str, subject: str) -> str:
    """Return which methods are measurably higher and lower than training alone, and which not."""
    if _seeds(result) == 1:
        return "Whether the methods change it is not shown by one seed."
    parts = []
    for verdict, word in VALUE_WORDS.items():
        names = [
            f"{method['noun']} ({_change(result, method, key)})"
            for method in _taught(result)
            if beside_alone(result, method, key).verdict is verdict
        ]
        if names:
            measurably = "measurably " if verdict in (Verdict.LESS, Verdict.MORE) else ""
            parts.append(f"{measurably}{word} after {listed(names)}")
    return f"{subject} is {'; '.join(parts)}."


def _change(result: Row, method: Row, key: str) -> str:
    """Return a difference from training alone with its interval."""
    more = beside_alone(result, method, key)
    shown = _percent if key == LOSS else _points
    return f"{shown(more.value)}, {shown(more.low)} to {shown(more.high)}"


def _percent(nats: float) -> str:
    """Return a difference of losses as one of perplexity, with its sign."""
    share = 100 * math.expm1(nats)
    digits = 0 if abs(share) >= 100 else 1
    return f"{with_sign(share, digits)}\u202f%"


def _points(value: float) -> str:
    return with_sign(value, 2)


def _judgement(result: Row) -> str:
    """Return which methods are better by one measure and worse by none, and where they disagree."""
    if _seeds(result) == 1:
        return ""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for method in _taught(result):
        groups.setdefault(_sides(result, method), []).append(method["noun"])
    sentences = [_judged(nouns, *sides) for sides, nouns in groups.items()]
    if any(better and LOSS in worse for better, worse in groups):
        sentences.append(TEXT.line("two measures"))
    return " ".join(sentences)


def _sides(result: Row, method: Row) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return by which measures a method is better than training alone, and by which worse."""
    verdicts = {key: beside_alone(result, method, key).verdict for key in _GOOD}
    better = tuple(key for key, good in _GOOD.items() if verdicts[key] is good)
    apart = (Verdict.LESS, Verdict.MORE)
    return better, tuple(key for key in _GOOD if verdicts[key] in apart and key not in better)


def _judged(nouns: Sequence[str], better: Sequence[str], worse: Sequence[str]) -> str:
    subject, are = listed(nouns), "is" if len(nouns) == 1 else "are"
    good, bad = _measures(better), _measures(worse)
    if better and worse:
        said = f"{subject} {are} better than training alone in {good}, and worse in {bad}."
    elif better:
        said = f"{subject} {are} better than training alone in {good}, and worse in no measure."
    elif worse:
        said = f"{subject} {are} worse than training alone in {bad}, and better in no measure."
    else:
        said = f"of {subject} no difference from training alone is shown in any measure."
    return said[0].upper() + said[1:]


def _measures(keys: Sequence[str]) -> str:
    """Return the names of measures, such as ``perplexity and BLEU by beam search``."""
    searches = [name for key, name in BLEU.items() if key in keys]
    names = ["perplexity"] if LOSS in keys else []
    return listed([*names, *([f"BLEU by {listed(searches)}"] if searches else [])])


def _savings(result: Row) -> str:
    """Return the size of a student and its speed beside the teacher's."""
    teacher, student = result["teacher"], result["student"]
    ratio = compared(student["decoding"], teacher["decoding"])
    share = percent(student["weights"] / teacher["weights"], 0)
    return (
        f"A student has {count(student['weights'])} numbers, {share} of the teacher's "
        f"{count(teacher['weights'])}, and decodes a text in {factor(ratio)} of the "
        f"teacher's time ({ratio.word})."
    )


def _trainings(result: Row) -> str:
    """Return how long the trainings of equal steps take beside those of training alone."""
    alone = Measurement.of(values(_alone(result), "seconds"))
    said = []
    for method in _taught(result):
        ratio = compare(Measurement.of(values(method, "seconds")), alone)
        times = significant(ratio.ratio, 2)
        said.append(f"{times} times as long by {method['noun']} ({ratio.word})")
    return f"Beside training alone the same steps take {listed(said)}."


def _table(result: Row) -> Table:
    teacher = result["teacher"]
    bleus = [f"{teacher[key]:.1f}" for key in BLEU]
    known = perplexity_text(perplexity(teacher[LOSS]))
    rows = [("teacher", known, "", *_woven(bleus, ("",) * len(BLEU)), "")]
    timings = []
    for method in result["methods"]:
        timing = Measurement.of(values(method, "seconds"))
        timings.append(timing)
        first = method is _alone(result)
        cells = [f"{average(method, key):.1f}" for key in BLEU]
        beside = ["" if first else _cell(result, method, key) for key in BLEU]
        rows.append(
            (
                literal(str(method["label"])),
                perplexity_text(average(method, LOSS)),
                "" if first else _cell(result, method, LOSS),
                *_woven(cells, beside),
                median(timing.as_result()),
            )
        )
    interval = f", ± half of the {_CERTAIN} interval" if _seeds(result) > 1 else ""
    return Table(
        "tab:distillation",
        TEXT.line("table", steps=plural(result["steps"], "step")),
        ("Learned", "Perplexity", "BLEU, greedy", "BLEU, beam", "Training"),
        tuple(rows),
        "l" + "r" * (3 + 2 * len(BLEU)),
        TEXT.line(
            "table's note",
            interval=interval,
            training=f"median of {plural(_seeds(result), 'training')}",
            signature=literal(str(result["signature"])),
            disturbances=disturbances(timings, repeated=False),
        ),
        spans=(1, *(2 for _ in _GOOD), 1),
    )


def _woven(first: Sequence[str], second: Sequence[str]) -> list[str]:
    return [cell for pair in zip(first, second, strict=True) for cell in pair]


def _cell(result: Row, method: Row, key: str) -> str:
    """Return a difference from training alone with half of its interval, if it has one."""
    more = beside_alone(result, method, key)
    value, low, high = (
        100 * math.expm1(part) if key == LOSS else part for part in (more.value, *more.ends)
    )
    digits = 0 if abs(value) >= 100 else 1
    text = with_sign(value, digits)
    if not math.isnan(low):
        text += f" ± {(high - low) / 2:,.{digits}f}"
    return f"{text}\u202f%" if key == LOSS else text


def _sizes(result: Row) -> Table:
    pair = [result[name] for name in ("teacher", "student")]
    return Table(
        "tab:distillation-sizes",
        TEXT.line("sizes' table"),
        ("", "Layers", "Width", "Numbers", "File, MiB", "Decoding"),
        tuple(
            (
                name,
                count(each["num_layers"]),
                count(each["hidden_size"]),
                count(each["weights"]),
                mib(each["bytes"]),
                median(each["decoding"]),
            )
            for name, each in zip(("teacher", "student"), pair, strict=True)
        ),
        "lrrrrr",
        TEXT.line(
            "sizes' table's note",
            decoded=plural(result["decoded"], "token"),
            rounds=rounds(*(each["decoding"] for each in pair)),
            hardware=hardware(result),
            disturbances=disturbances(measured(each["decoding"]) for each in pair),
        ),
    )


def _samples(result: Row) -> Table:
    sample = result["sample"]
    labels = {"teacher": "teacher"} | {each["name"]: each["label"] for each in result["methods"]}
    return Table(
        "tab:distillation-samples",
        TEXT.line("samples' table", prompt=literal(str(sample["prompt"]))),
        ("Written by", "Text"),
        tuple(
            (literal(str(label)), _sample(str(sample["texts"][name])))
            for name, label in labels.items()
        ),
        "lp",
        TEXT.line("samples' table's note", length=count(_LONGEST_SAMPLE)),
    )


def _sample(text: str) -> str:
    return literal(excerpt(text, _LONGEST_SAMPLE)) if text else "*nothing: it ends at once*"
