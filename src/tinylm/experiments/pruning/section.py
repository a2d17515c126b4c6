"""Pruning: what it costs in perplexity, what it saves, and which heads can go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.block_losses import loss_difference, perplexity_of
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.pruning.comparing import by_share
from tinylm.measurement import CONFIDENCE, TIME_WORDS, Difference, Verdict
from tinylm.perplexity import perplexity_text
from tinylm.report.blocks import Block, Bullets, Figure, Heading, Table
from tinylm.report.formatting import count, head_name, listed, percent, plural, significant
from tinylm.report.measurements import (
    compared,
    disturbances,
    hardware,
    in_nats,
    measured,
    median,
    mib,
    rounds,
    signed,
)
from tinylm.report.passages import passages

Row = Mapping[str, Any]
TEXT = passages(__file__)
_SVG = "figures/pruning.svg"
_TIMED = {"decoding": "Decoding", "step": "A training step"}
_IS = {
    **{v: f"is {TIME_WORDS[v]}" for v in (Verdict.LESS, Verdict.MORE, Verdict.ALIKE)},
    Verdict.UNKNOWN: TIME_WORDS[Verdict.UNKNOWN],
}
"""What follows the name of something that is timed."""
_UNDECIDED = (Verdict.ALIKE, Verdict.UNKNOWN)


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``pruning``."""
    result = results.results.get("pruning")
    if result is None:
        return []
    comment = _losses_comment(result)
    drawn = results.has_figure(_SVG)
    steps = result["steps"]
    section: list[Block] = [
        Heading(1, "Pruning", "sec:pruning"),
        *TEXT.blocks("method"),
        Bullets(tuple(method["explanation"] for method in result["methods"])),
        *TEXT.blocks(
            "what goes",
            windows=plural(result["calibration"], "window"),
            trained=TEXT.line(
                "trained", steps=plural(steps, "step"), rate=significant(result["rate"], 2)
            )
            if steps
            else "",
        ),
        *(
            TEXT.blocks("results, with the figure", comment=comment)
            if drawn
            else TEXT.blocks("results", comment=comment)
        ),
        _table(result),
    ]
    if drawn:
        section.append(
            Figure(
                "fig:pruning",
                _SVG,
                TEXT.line("figure", decoded=plural(result["decoded"], "token")),
                TEXT.line("figure, without seeing it"),
            )
        )
    section += TEXT.blocks(
        "savings",
        bytes=_bytes_comment(result),
        times=_times_comment(result),
        sparse=_sparse_comment(result["sparse"]),
    )
    section.append(_savings(result))
    heads = result["heads"]
    if "refused" in heads:
        return [*section, *TEXT.blocks("heads, none", why=heads["refused"])]
    return [
        *section,
        *TEXT.blocks(
            "heads",
            stories=plural(heads["stories"], "validation story", "validation stories"),
            comment=_heads_comment(result),
        ),
        _heads_table(heads),
    ]


def abstract(result: Row) -> str:
    """Return what pruning costs and saves."""
    sentences = (
        _costs(result, "after" if result["steps"] else "losses"),
        _times_comment(result),
        _sparse_comment(result["sparse"]),
    )
    return " ".join(filter(None, sentences))


def _losses_comment(result: Row) -> str:
    if not result["steps"]:
        return _costs(result, "losses")
    parts = (_costs(result, "losses"), _harmed(result), _costs(result, "after"), _free(result))
    return " ".join(filter(None, parts))


def _harmed(result: Row) -> str:
    """Return what training on does to the whole model, beside which the others are then seen."""
    whole, tokens = result["whole"], result["tokens"]
    if loss_difference(whole["after"], whole["losses"], tokens).verdict is not Verdict.MORE:
        return ""
    return TEXT.line(
        "harmed",
        after=_perplexity(whole["after"], tokens),
        before=_perplexity(whole["losses"], tokens),
    )


def _costs(result: Row, key: str) -> str:
    return " ".join(filter(None, (_cost(result, key, removes) for removes in (False, True))))


def _cost(result: Row, key: str, removes: bool) -> str:
    """Return which method loses least, and which most, at the share that is nearest to a half."""
    tokens, whole = result["tokens"], result["whole"][key]
    able = [m for m in result["methods"] if m["rows"] and m["removes"] is removes]
    if not able:
        return ""
    shares = {share for method in able for share in by_share(method)}
    half = min(shares, key=lambda share: abs(share - 0.5))
    losses = {m["noun"]: by_share(m)[half][key] for m in able if half in by_share(m)}
    order = sorted(losses, key=lambda noun: sum(losses[noun]))
    first, last = order[0], order[-1]
    when = f"after {plural(result['steps'], 'step')}" if key == "after" else "with nothing trained"
    how = "parts removed" if removes else "weights masked"
    change = loss_difference(losses[first], whole, tokens)
    text = (
        f"At $p = {percent(half, 0)}$, {how} and {when}, the perplexity is lowest by {first}, "
        f"{_perplexity(losses[first], tokens)} against {_perplexity(whole, tokens)} of the whole "
        f"model ({change.word})"
    )
    level = [
        noun
        for noun in order[1:]
        if loss_difference(losses[noun], losses[first], tokens).verdict in _UNDECIDED
    ]
    if level:
        text += f"; {listed(level)} {'is' if len(level) == 1 else 'are'} not measurably different"
    if last != first and last not in level:
        text += f"; it is highest by {last}, {_perplexity(losses[last], tokens)}"
    return text + "."


def _free(result: Row) -> str:
    """Return the greatest share that is measured to cost nothing after training."""
    tokens, whole = result["tokens"], result["whole"]["after"]
    free = [
        (share, method["noun"])
        for method in result["methods"]
        for share, row in by_share(method).items()
        if loss_difference(row["after"], whole, tokens).verdict is not Verdict.MORE
    ]
    if not free:
        return "Every share that was measured costs perplexity, however it was chosen."
    most = max(share for share, _ in free)
    nouns = listed([noun for share, noun in free if share == most])
    return (
        "The greatest share without a measurable loss beside the whole model, trained as long, is "
        f"$p = {percent(most, 0)}$, of {nouns}."
    )


def _timed(result: Row) -> list[Row]:
    return [method for method in result["methods"] if method["name"] in result["timed"]]


def _bytes_comment(result: Row) -> str:
    whole = result["whole"]
    text = (
        f"The whole model has {count(whole['nonzero'])} numbers that are not 0 in "
        f"{mib(whole['bytes'])} MiB, {mib(whole['compressed'])} MiB compressed."
    )
    for method in _timed(result):
        share, row = list(by_share(method).items())[-1]
        text += (
            f" After {method['noun']} at $p = {percent(share, 0)}$ {count(row['nonzero'])} are "
            f"left in {mib(row['bytes'])} MiB, {mib(row['compressed'])} MiB compressed."
        )
    return text


def _times_comment(result: Row) -> str:
    """Return after which methods decoding and a training step take less time, and by how much."""
    sentences = [_times(result, what, key) for key, what in _TIMED.items()]
    for method in _timed(result):
        rows = list(by_share(method).items())
        if not method["removes"] and len(rows) > 1:
            (low, lowest), (high, highest) = rows[0], rows[-1]
            words = [
                f"{what[0].lower()}{what[1:]} {_compared(highest, lowest, key)}"
                for key, what in _TIMED.items()
            ]
            sentences.append(
                f"After {method['noun']} at $p = {percent(high, 0)}$, beside "
                f"$p = {percent(low, 0)}$, {listed(words)}."
            )
    return " ".join(sentences)


def _times(result: Row, what: str, key: str) -> str:
    """Return what the models take of the whole model's time, at the greatest share of each."""
    groups: dict[Verdict, list[str]] = {}
    last = {method["noun"]: max(by_share(method)) for method in _timed(result)}
    alike = len(set(last.values())) == 1
    for method in _timed(result):
        name, share = method["noun"], last[method["noun"]]
        if not alike:
            name += f" at $p = {percent(share, 0)}$"
        comparison = compared(by_share(method)[share][key], result["whole"][key])
        if comparison.verdict in (Verdict.LESS, Verdict.MORE):
            name += f" ({comparison.ratio:.2f} of the whole model's time)"
        groups.setdefault(comparison.verdict, []).append(name)
    said = [
        f"{_IS[verdict]} after {listed(groups[verdict])}" for verdict in _IS if verdict in groups
    ]
    text = f"{what} {'; it '.join(said)}."
    if not alike:
        return text
    return f"At $p = {percent(max(last.values()), 0)}$ {text[0].lower()}{text[1:]}"


def _compared(row: Row, other: Row, key: str) -> str:
    """Return how one time is beside another, with a ratio where it can be told from 1."""
    comparison = compared(row[key], other[key])
    if comparison.verdict in (Verdict.LESS, Verdict.MORE):
        return f"{_IS[comparison.verdict]} ({comparison.ratio:.2f} of the time)"
    return _IS[comparison.verdict]


def _sparse_comment(sparse: Row) -> str:
    clauses = []
    for size in ("token", "batch"):
        begins = None
        for row in reversed(sparse[size]["rows"]):
            if compared(row["sparse"], row["dense"]).verdict is not Verdict.LESS:
                break
            begins = row["share"]
        where = (
            "at no share that was tried"
            if begins is None
            else f"from {percent(begins, 0)} zeros on"
        )
        clauses.append(f"with {plural(sparse[size]['tokens'], 'token')} {where}")
    return (
        f"In compressed sparse rows the product of a map of {count(sparse['rows'])} × "
        f"{count(sparse['columns'])} is quicker than the dense one {listed(clauses)}."
    )


def _heads_comment(result: Row) -> str:
    heads, tokens = result["heads"], result["tokens"]
    rows, total = heads["heads"], heads["num_heads"]
    beyond = heads["by_lot"] <= 1 - CONFIDENCE
    text = (
        f"The two orders have a rank correlation of {signed(heads['correlation'], 2)} within the "
        f"layers; {percent(heads['by_lot'])} of orders by lot reach as much, so that removal "
        + (
            "follows the worth of heads."
            if beyond
            else "is not shown to follow the worth of heads."
        )
    )
    idle = [row for row in rows if row["idle"]]
    gone = [row for row in rows if row["place"] == 0]
    both = [head_name(row["layer"], row["head"]) for row in gone if row["idle"]]
    if not idle:
        text += " No head is idle: without each the loss is measurably different."
    else:
        text += (
            f" {count(len(idle))} of {plural(len(rows), 'head')} are idle, not measurably missed "
            f"alone; of the {count(len(gone))} that go first in their layers {count(len(both))} "
            f"are{' among them: ' + listed(both) if both else ''}."
        )
    half = max(1, total // 2)
    removal, worth = (heads["without"][name][half - 1] for name in ("removal", "worth"))
    difference = loss_difference(removal, worth, tokens)
    return text + (
        f" Without {count(half)} of {count(total)} heads of each layer the perplexity is "
        f"{_perplexity(removal, tokens)} where removal chose and {_perplexity(worth, tokens)} "
        f"where worth did, a difference of {in_nats(difference)}: {_lesson(difference)}."
    )


def _heads_table(heads: Row) -> Table:
    rows = []
    for layer in sorted({row["layer"] for row in heads["heads"]}):
        own = [row for row in heads["heads"] if row["layer"] == layer]
        order = sorted(own, key=lambda row: row["place"])
        rows.append(
            (
                count(layer + 1),
                ", ".join(
                    f"{head_name(layer, row['head'])} ({signed(row['worth'][0], 3)})"
                    for row in order
                ),
            )
        )
    return Table(
        "tab:pruning-heads",
        TEXT.line("heads' table"),
        ("Layer", "Heads in the order of removal (worth)"),
        tuple(rows),
        "rl",
        TEXT.line("heads' table's note"),
    )


def _lesson(difference: Difference) -> str:
    if difference.verdict is Verdict.LESS:
        return "the order of removal, measured anew after each head, is the better guide"
    if difference.verdict is Verdict.MORE:
        return "the worth of each head alone is the better guide"
    return "either order serves"


def _perplexity(losses: Sequence[float], tokens: Sequence[int]) -> str:
    return perplexity_text(perplexity_of(losses, tokens))


def _table(result: Row) -> Table:
    tokens, whole = result["tokens"], result["whole"]
    shares = sorted({share for method in result["methods"] for share in by_share(method)})
    keys = {"losses": "none", **({"after": count(result["steps"])} if result["steps"] else {})}
    rows = []
    for method in result["methods"]:
        if not method["rows"]:
            continue
        known = by_share(method)
        for place, (key, steps) in enumerate(keys.items()):
            cells = [
                _perplexity(known[share][key], tokens) if share in known else "–"
                for share in shares
            ]
            rows.append(("" if place else method["label"], steps, *cells))
    described = [
        _perplexity(whole["losses"], tokens),
        *([f"{_perplexity(whole['after'], tokens)} after training"] if result["steps"] else []),
    ]
    refused = [
        f"{method['label']} at {listed([percent(each['share'], 0) for each in method['refused']])}"
        for method in result["methods"]
        if method["refused"]
    ]
    return Table(
        "tab:pruning",
        TEXT.line("table"),
        ("Method", "Steps", *(percent(share, 0) for share in shares)),
        tuple(rows),
        "lr" + "r" * len(shares),
        TEXT.line(
            "table's note",
            whole=listed(described),
            refused=f" –: cannot be ({'; '.join(refused)})." if refused else "",
        ),
    )


def _savings(result: Row) -> Table:
    timings, cells = [], []
    rows = [("whole model", "–", result["whole"])]
    for method in _timed(result):
        for place, (share, row) in enumerate(by_share(method).items()):
            rows.append(("" if place else method["label"], percent(share, 0), row))
    for label, gone, row in rows:
        timings += [row["decoding"], row["step"]]
        cells.append(
            (
                label,
                gone,
                count(row["nonzero"]),
                mib(row["bytes"]),
                mib(row["compressed"]),
                median(row["decoding"]),
                median(row["step"]),
            )
        )
    return Table(
        "tab:pruning-savings",
        TEXT.line("savings' table"),
        ("Method", "p", "Not 0", "File, MiB", "Deflated", "Decoding", "Step"),
        tuple(cells),
        "lrrrrrr",
        TEXT.line(
            "savings' table's note",
            decoded=plural(result["decoded"], "token"),
            rounds=rounds(*timings),
            hardware=hardware(result),
            disturbances=disturbances(measured(timing) for timing in timings),
        ),
    )
