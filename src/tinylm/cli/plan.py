"""``tinylm plan``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import ConfigFile, Data, Overrides, Preset, configuration
from tinylm.cli.output import say, say_json
from tinylm.cli.plan_advantage import advantage
from tinylm.cli.plan_cluster import cluster
from tinylm.cli.plan_lora import lora
from tinylm.cli.plan_models import assumed_vocabulary, sized_model
from tinylm.cli.plan_zero import zero

if TYPE_CHECKING:
    import torch

    from tinylm.config import ModelConfig, RunConfig, TrainingConfig

app = typer.Typer()
app.command("advantage")(advantage)
app.command("cluster")(cluster)
app.command("lora")(lora)
app.command("zero")(zero)


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    preset: Preset = None,
    config: ConfigFile = None,
    data: Data = None,
    override: Overrides = [],  # noqa: B006
    tokens: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Plan for so many tokens, all epochs together, and leave the data out of it.",
        ),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="GFLOPS", help="Rate of matrix products; empty: measured."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of it that training reaches.")
    ] = 0.4,
    memory: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="GIB", help="Memory for training; empty: the machine's."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say before training what a model costs: parameters, FLOPs, memory, time, tokens.

    The data are prepared as the run would, for its vocabulary, steps and tokens, and some steps are
    taken to tell its time. With --tokens nothing is prepared, and time follows from FLOPs alone.
    """
    if context.invoked_subcommand is not None:
        return
    wanted = configuration(preset, config, data, override)
    if tokens is None:
        wanted, run = _predict(wanted)
        result = _plan(wanted, run["tokens_seen"], rate, utilisation, memory)
        _put_measured(result, run)
    else:
        if data is not None:
            say(
                f"--tokens plans for {tokens:,.0f} tokens without looking at any data: {data} is "
                "not read; leave --tokens out to plan the run that it makes",
                err=True,
            )
        result = _plan(wanted, tokens, rate, utilisation, memory)
    if as_json:
        say_json(result)
    else:
        _print_tables(result)


def _predict(config: RunConfig) -> tuple[RunConfig, dict[str, Any]]:
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import DataError
    from tinylm.experiments.prediction import predict

    try:
        return predict(config, TerminalConsole())
    except DataError as error:
        raise DataError(f"{error}; with --tokens N the plan leaves the data out") from error


def _put_measured(result: dict[str, Any], run: dict[str, Any]) -> None:
    """Put the run's own numbers into a plan, measured times in place of those from FLOPs."""
    time = result["time"]
    rate = time["gflops_per_second"] * 1e9
    flops_per_second = run["tokens_per_second"] * result["flops_per_token"]["forward_and_backward"]
    time.update(
        utilisation=flops_per_second / rate,
        tokens_per_second=run["tokens_per_second"],
        seconds=run["seconds"],
    )
    result["snapshots"]["count"] = run["snapshots"]
    result["run"] = run


def _plan(
    config: RunConfig, tokens: float, rate: float | None, share: float, memory: float | None
) -> dict[str, Any]:
    from dataclasses import replace

    from tinylm.planning.budget import compute_optimal_tokens, training_seconds
    from tinylm.planning.flops import decoding_flops, flops_per_token, forward_flops
    from tinylm.planning.memory import kv_bytes, state_bytes
    from tinylm.planning.parameters import parameter_counts

    model, training = sized_model(config), config.training
    context = model.context_length
    counts = parameter_counts(model)
    forward = forward_flops(model, context)
    per_token = flops_per_token(model)
    optimal = compute_optimal_tokens(counts["total"])
    if rate is None or memory is None or training.precision == "auto":
        from tinylm.evaluation.speed import product_rate
        from tinylm.training.precision import resolve_device, resolve_precision

        device = resolve_device(training.device)
        precision = resolve_precision(training.precision, device)
        training = replace(training, precision=precision)
        rate = rate or product_rate(precision, device) / 1e9
        memory = memory or _memory_gib(device)
    new = context // 2
    return {
        "vocab_size": model.resolved_vocab_size,
        "vocab_size_assumed": config.model.vocab_size is None,
        "parameters": counts,
        "flops_per_token": {
            **{part: flops / context for part, flops in forward.parts.items()},
            "forward": forward.total / context,
            "forward_and_backward": per_token,
        },
        "decoding_flops": {
            "prompt": context - new,
            "new": new,
            "cached": decoding_flops(model, context - new, new),
            "uncached": decoding_flops(model, context - new, new, cached=False),
        },
        "bytes": {
            "weights": 4 * counts["total"],
            "training_state": state_bytes(model, training.optimizer, training.beta1 > 0),
            **_decoding_state(model, kv_bytes(model, 1, context - 1), kv_bytes(model, 1, context)),
        },
        "training_memory": _training_memory(
            model, training, not config.vectors.trainable, memory * 2**30
        ),
        "snapshots": {"count": training.snapshots, "bytes_each": 4 * counts["total"]},
        "tokens": {"compute_optimal": optimal, "planned": tokens},
        "time": {
            "precision": training.precision,
            "gflops_per_second": rate,
            "utilisation": share,
            "tokens_per_second": rate * 1e9 * share / per_token,
            "seconds": training_seconds(per_token * tokens, rate * 1e9, share),
        },
    }


def _decoding_state(model: ModelConfig, before: int, context: int) -> dict[str, int]:
    """Return the bytes of a text's decoding state, of a context less a token and of a context."""
    from tinylm.registry import MODELS

    if before == context:
        return {"decoding_state": context}
    token = context - before
    if MODELS.load(model.kind).rereads:  # no keys and values
        return {"ids_per_token": token, "ids_of_a_context": context}
    return {"kv_cache_per_token": token, "kv_cache_of_a_context": context}


def _memory_gib(device: torch.device) -> float:
    """Return the memory of the machine or of its GPU; 0 where the system does not report it."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_properties(device).total_memory / 2**30
    from tinylm.planning.limits import machine_memory

    return machine_memory() / 2**30


def _training_memory(
    model: ModelConfig, training: TrainingConfig, frozen_embedding: bool, memory: float
) -> dict[str, Any]:
    from dataclasses import asdict

    from tinylm.planning.activations import activation_bytes
    from tinylm.planning.memory import largest_batch, step_peak

    peak = step_peak(model, training, frozen_embedding)
    kept = activation_bytes(
        model,
        training.batch_size,
        precision=training.precision,
        segment=training.gradient_checkpointing,
        frozen_embedding=frozen_embedding,
        quick=training.speed == "auto",
    )
    return {
        "batch_size": training.batch_size,
        "activations": kept,
        "peak": asdict(peak) | {"total": peak.total},
        "available": memory,
        "largest_batch": largest_batch(model, training, memory, frozen_embedding)
        if memory
        else None,
    }


def _print_tables(result: dict[str, Any]) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal
    from tinylm.planning.limits import shown_bytes

    terminal = Terminal()

    def show(title: str, rows: list[tuple[str, str]]) -> None:
        table = Table(title=title, title_justify="left", show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        terminal.print(table)

    show("Parameters", [(name, f"{count:,}") for name, count in result["parameters"].items()])
    flops = result["flops_per_token"]
    decoding = result["decoding_flops"]
    text = f"{decoding['new']} tokens after {decoding['prompt']}"
    show(
        "FLOPs of matrix products",
        [
            *((f"{name.replace('_', ' ')}, a token", _si(value)) for name, value in flops.items()),
            (f"{text}, with cache", _si(decoding["cached"])),
            (f"{text}, without", _si(decoding["uncached"])),
        ],
    )
    show(
        "Memory in float32",
        [(name.replace("_", " "), shown_bytes(size)) for name, size in result["bytes"].items()],
    )
    count, size = result["snapshots"].values()
    if count:
        weights = f"{count:,} snapshots of {shown_bytes(size)} each, in all"
        show("On the disk, beside checkpoints", [(weights, shown_bytes(count * size))])
    tokens, time, training = result["tokens"], result["time"], result["training_memory"]
    run = result.get("run")
    kept, peak = training["activations"], training["peak"]
    windows = f"{training['batch_size']} windows"
    show(
        f"Memory of a training step, {time['precision']}",
        [
            *((f"kept for the backward pass, {part}", shown_bytes(kept[part])) for part in kept),
            (f"peak with {windows}, estimated ({peak['time']})", shown_bytes(peak["total"])),
            *(
                [(f"most windows in {shown_bytes(training['available'])}", f"{most:,}")]
                if (most := training["largest_batch"]) is not None
                else []
            ),
        ],
    )
    show(
        "Tokens and time",
        [
            ("compute-optimal tokens (20 a parameter)", f"{tokens['compute_optimal']:,.0f}"),
            *_of_the_run(run),
            ("planned tokens", f"{tokens['planned']:,.0f}"),
            (
                f"matrix products in {time['precision']}",
                f"{time['gflops_per_second']:,.0f} GFLOP/s",
            ),
            (
                "utilisation assumed" if run is None else "utilisation by measured steps",
                f"{100 * time['utilisation']:.0f} %",
            ),
            ("training, tokens a second", f"{time['tokens_per_second']:,.0f}"),
            ("training, time", _duration(time["seconds"])),
        ],
    )
    if run is not None and run["disturbed"]:
        terminal.print("something else kept the machine busy: time is not to be relied on")
    if result["vocab_size_assumed"]:
        terminal.print(assumed_vocabulary(result["vocab_size"]))


def _of_the_run(run: dict[str, Any] | None) -> list[tuple[str, str]]:
    if run is None:
        return []
    return [
        (f"training {run['unit']}s", f"{run['windows_per_epoch']:,}"),
        ("steps", f"{run['steps']:,} ({run['epochs']:.4g} epochs)"),
        ("a step, measured", f"{1000 * run['seconds_a_step']:,.1f} ms"),
        (
            "validations, each measured to take",
            f"{run['validations']:,} of {run['seconds_a_validation']:.3g} s",
        ),
    ]


def _si(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}FLOP"
    return f"{value:.4g} FLOP"


def _duration(seconds: float) -> str:
    from datetime import timedelta

    if seconds < 1e10:
        return str(timedelta(seconds=round(seconds)))
    return f"{seconds / 3.156e7:,.4g} years"
