"""``tinylm plan``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import ConfigFile, Overrides, Preset, configuration

if TYPE_CHECKING:
    from tinylm.config import RunConfig


def plan(
    preset: Preset = None,
    config: ConfigFile = None,
    override: Overrides = [],  # noqa: B006
    tokens: Annotated[
        float | None, typer.Option(min=1, metavar="N", help="Training tokens, all epochs together.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="GFLOPS", help="Rate of matrix products; empty: measured."),
    ] = None,
    utilisation: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of it that training reaches.")
    ] = 0.4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say before training what a model costs: parameters, FLOPs, memory, time, tokens."""
    wanted = configuration(preset, config, None, override)
    result = _plan(wanted, tokens, rate, utilisation)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        _print_tables(result)


def _plan(
    config: RunConfig, tokens: float | None, rate: float | None, share: float
) -> dict[str, Any]:
    from dataclasses import replace

    from tinylm.planning.budget import compute_optimal_tokens, training_seconds
    from tinylm.planning.flops import decoding_flops, flops_per_token, forward_flops
    from tinylm.planning.memory import kv_bytes, state_bytes
    from tinylm.planning.parameters import parameter_counts

    model, training = config.model, config.training
    if model.vocab_size is None:
        model = replace(model, vocab_size=config.tokenizer.max_size)
    context = model.context_length
    counts = parameter_counts(model)
    forward = forward_flops(model, context)
    per_token = flops_per_token(model)
    optimal = compute_optimal_tokens(counts["total"])
    wanted = tokens or optimal
    precision = training.precision
    if rate is None:
        from tinylm.evaluation.speed import product_rate
        from tinylm.training.precision import resolve_device, resolve_precision

        device = resolve_device(training.device)
        precision = resolve_precision(precision, device)  # type: ignore[assignment]
        rate = product_rate(precision, device) / 1e9
    new = context // 2
    return {
        "vocab_size": model.resolved_vocab_size,
        "vocab_size_assumed": config.model.vocab_size is None,
        "parameters": counts,
        "flops_per_token": {
            "projections": forward.projections / context,
            "attention": forward.attention / context,
            "feed_forward": forward.feed_forward / context,
            "unembedding": forward.unembedding / context,
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
            "kv_cache_per_token": kv_bytes(model, 1, 1),
            "kv_cache_of_a_context": kv_bytes(model, 1, context),
        },
        "tokens": {"compute_optimal": optimal, "planned": wanted},
        "time": {
            "precision": precision,
            "gflops_per_second": rate,
            "utilisation": share,
            "tokens_per_second": rate * 1e9 * share / per_token,
            "seconds": training_seconds(per_token * wanted, rate * 1e9, share),
        },
    }


def _print_tables(result: dict[str, Any]) -> None:
    from datetime import timedelta

    from rich.console import Console
    from rich.table import Table

    terminal = Console(highlight=False)

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
        [(name.replace("_", " "), _binary(size)) for name, size in result["bytes"].items()],
    )
    tokens, time = result["tokens"], result["time"]
    show(
        "Tokens and time",
        [
            ("compute-optimal tokens (20 a parameter)", f"{tokens['compute_optimal']:,.0f}"),
            ("planned tokens", f"{tokens['planned']:,.0f}"),
            (
                f"matrix products in {time['precision']}",
                f"{time['gflops_per_second']:,.0f} GFLOP/s",
            ),
            ("utilisation assumed", f"{100 * time['utilisation']:.0f} %"),
            ("training, tokens a second", f"{time['tokens_per_second']:,.0f}"),
            ("training, time", str(timedelta(seconds=round(time["seconds"])))),
        ],
    )
    if result["vocab_size_assumed"]:
        terminal.print(
            f"model.vocab_size is empty: {result['vocab_size']:,} (tokenizer.max_size) is assumed"
        )


def _si(value: float) -> str:
    for unit, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.4g} {unit}FLOP"
    return f"{value:.4g} FLOP"


def _binary(size: float) -> str:
    for unit, one in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= one:
            return f"{size / one:.4g} {unit}"
    return f"{size:,} bytes"
