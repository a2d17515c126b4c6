"""The tables of ``tinylm plan cluster``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from tinylm.cli.output import say

if TYPE_CHECKING:
    from tinylm.planning.cluster.plan import ClusterPlan
    from tinylm.planning.cluster.published import Published

STEP = {
    "products": "matrix products",
    "memory": "norms, sums, activations",
    "tensor": "tensor-parallel collectives",
    "context": "context-parallel collectives",
    "expert": "tokens sent to experts and back",
    "pipeline": "sending between stages",
    "bubble": "pipeline bubble",
    "data": "data-parallel traffic, exposed",
    "update": "optimizer",
}
MEMORY = {
    "parameters": "parameters",
    "gradients": "gradients",
    "optimizer": "optimizer's state",
    "activations": "activations",
    "output": "embedding, output, logits",
    "gathered": "layers gathered whole",
}
WIDTH = 34
"""Of the column of names."""


def print_plan(plan: ClusterPlan, own_activations: int | None) -> None:
    """Print a plan.

    Args:
        plan: checked.
        own_activations: bytes that tinylm's own step keeps; None: it has no such layout.
    """
    _print_heading(plan)
    time = plan.time
    rows = [
        (STEP[name], _seconds(value), _share(value, time.total))
        for name, value in time.parts.items()
        if value
    ]
    _print("Time of a step", [*rows, ("together", _seconds(time.total), "100.0%")])
    card, memory = plan.machine.card, plan.memory
    rows = [
        (words, _bytes(value), _share(value, card.memory))
        for name, words in MEMORY.items()
        if (value := getattr(memory, name))
    ]
    rows.append(
        (f"of {_bytes(card.memory)}", _bytes(memory.total), _share(memory.total, card.memory))
    )
    if own_activations is not None:
        share = _share(own_activations, card.memory)
        rows.append(("activations, as tinylm keeps them", _bytes(own_activations), share))
    _print("Memory of a card", rows)
    sent = [(name, _bytes(size), "") for name, size in plan.traffic.parts.items() if size]
    if sent:
        _print("Sent by a card in a step", sent)
    _print_run(plan)
    say()
    say("Limited by")
    for limit in plan.limits:
        say(f"  {limit}")


def _print_heading(plan: ClusterPlan) -> None:
    shape, layout, card = plan.shape, plan.layout, plan.machine.card
    say(
        f"{_count(shape.parameters)} parameters: {shape.layers} layers, width {shape.hidden:,}, "
        f"{shape.heads} heads, {shape.context:,} places"
    )
    degrees = {
        "data": layout.data,
        "tensor": layout.tensor,
        "pipeline": layout.pipeline,
        "context": layout.context,
        "expert": layout.expert,
    }
    words = " x ".join(f"{name} {n}" for name, n in degrees.items() if n > 1 or name == "data")
    say(f"{layout.gpus:,} x {card.name}: {words}; ZeRO stage {layout.stage}")
    parts = f"; parts a stage: {layout.interleave}" if layout.interleave > 1 else ""
    say(
        f"{layout.batch:,} texts a step; micro-batches of a copy: {layout.micro_batches:,} x "
        f"{layout.micro_batch}{parts}; recomputed: {layout.recompute}"
    )


def _print_run(plan: ClusterPlan) -> None:
    reliability, costs = plan.reliability, plan.costs
    rows = [
        ("tokens a second", f"{plan.tokens_per_second:,.0f}", ""),
        ("TFLOP/s a card, model", f"{plan.model_rate / 1e12:,.1f}", f"{plan.utilisation:.1%}"),
    ]
    if plan.layout.recompute != "none":
        share = plan.hardware_rate / plan.machine.card.peak
        rows.append(
            ("TFLOP/s a card, recomputed too", f"{plan.hardware_rate / 1e12:,.1f}", f"{share:.1%}")
        )
    rows += [
        ("a failure every", _duration(reliability.between), ""),
        ("a checkpoint takes", _duration(reliability.checkpoint), _bytes(plan.checkpoint_bytes)),
        ("best interval (Daly)", _duration(reliability.interval), ""),
        ("time that trains", "", f"{reliability.useful:.1%}"),
    ]
    if costs.tokens:
        wall = plan.wall_seconds
        hours = wall * plan.layout.gpus / 3600
        rows += [
            (f"{_count(costs.tokens)} tokens", _duration(wall), ""),
            ("expected failures", f"{reliability.failures(wall):,.1f}", ""),
            ("hours of a card", f"{hours:,.0f}", ""),
        ]
        if costs.price:
            rows.append(("cost", f"{hours * costs.price:,.0f}", ""))
    _print("Run", rows)


def _print(title: str, rows: Sequence[tuple[str, str, str]]) -> None:
    say()
    say(title)
    for name, value, share in rows:
        say(f"  {name:<{WIDTH}}{value:>17}{share:>13}".rstrip())


def print_published(runs: Sequence[Published]) -> None:
    """Print published runs beside what is predicted of them."""
    for (source, quantity), group in groupby(runs, key=lambda run: (run.source, run.quantity)):
        say(f"{source}: {quantity}")
        say(f"  {'':<36}{'measured':>11}{'predicted':>11}{'faster':>8}")
        for run in group:
            numbers = f"{_number(run.measured):>11}{_number(run.predicted):>11}{run.error:>+8.1%}"
            say(f"  {run.name:<36}{numbers}" + ("" if run.within else "  *"))
            if run.note:
                say(f"    {run.note}")
        say()
    outside = [run for run in runs if not run.within]
    say(
        f"{len(runs) - len(outside)} of {len(runs)} within 20 %; * the others. One constant is "
        "fitted, to one of them."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}"


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:,.2f} s"
    return f"{1000 * value:.3g} ms" if value >= 1e-3 else f"{1e6 * value:.3g} us"


def _bytes(size: float) -> str:
    from tinylm.planning.limits import shown_bytes

    return shown_bytes(size)


def _count(number: float) -> str:
    for unit, size in (("trillion", 1e12), ("billion", 1e9), ("million", 1e6)):
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return f"{number:,.0f}"


def _duration(seconds: float) -> str:
    if seconds >= 3e9:
        return f"{seconds / 3.156e7:,.3g} years"
    if seconds >= 3 * 86_400:
        return f"{seconds / 86_400:,.1f} days"
    if seconds >= 60:
        return str(timedelta(seconds=round(seconds)))
    return _seconds(seconds)
