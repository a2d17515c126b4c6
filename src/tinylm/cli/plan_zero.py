"""``tinylm plan zero``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import ConfigFile, Overrides, Preset, configuration
from tinylm.cli.output import say_json
from tinylm.cli.plan_models import assumed_vocabulary, sized_model
from tinylm.value_types import Precision

if TYPE_CHECKING:
    from pathlib import Path

_IN_PARTS = ("0: nothing", "1: states", "2: and gradients", "3: and parameters")


def zero(
    parameters: Annotated[
        float | None,
        typer.Option(min=1, metavar="P", help="Of any model, such as 7e9; empty: of the preset."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, metavar="N", help="Over which states are cut.")] = 8,
    precision: Annotated[
        Precision,
        typer.Option(
            help="bf16: parameters and gradients in bfloat16, a copy of the parameters and the "
            "optimizer's states in float32; fp32: all in float32."
        ),
    ] = "bf16",
    micro_batches: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="A step; empty: training.accumulation_steps."),
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    override: Overrides = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what each stage of ZeRO holds and sends on a GPU, and which stage fits which card.

    States alone: activations come on top, and what stage 3 gathers of a layer at a time.
    """
    from tinylm.errors import ConfigError

    frozen, notice = 0, None
    if parameters is None:
        parameters, frozen, steps, notice = _of_configuration(preset, config, override)
        micro_batches = micro_batches or steps
    elif preset is not None or config is not None or override:
        raise ConfigError(
            "--parameters is a model of that size, whatever a configuration says: leave out either "
            "it or --preset, --config and -o"
        )
    elif parameters % 1:
        raise ConfigError(f"--parameters {parameters:g} is no whole number, such as 7e9")
    result = _plan(int(parameters), frozen, gpus, precision, micro_batches or 1)
    if as_json:
        say_json(result)
    else:
        _print_tables(result, notice)


def _of_configuration(
    preset: str | None, file: Path | None, override: list[str]
) -> tuple[int, int, int, str | None]:
    """Return parameters that are trained and that are not, micro-batches, and what to say."""
    from tinylm.planning.parameters import parameter_counts

    wanted = configuration(preset, file, None, override)
    model = sized_model(wanted)
    counts = parameter_counts(model)
    frozen = 0 if wanted.vectors.trainable else counts["embedding"]
    notice = (
        assumed_vocabulary(model.resolved_vocab_size) if wanted.model.vocab_size is None else None
    )
    return counts["total"] - frozen, frozen, wanted.training.accumulation_steps, notice


def _plan(
    parameters: int, frozen: int, gpus: int, precision: Precision, micro_batches: int
) -> dict[str, Any]:
    from dataclasses import asdict

    from tinylm.planning.zero import (
        CARDS,
        FORMATS,
        GIGA,
        STAGES,
        fewest_ranks,
        zero_bytes,
        zero_numbers,
    )

    form, stages = FORMATS[precision], []
    for stage in STAGES:
        held = zero_bytes(stage, gpus, parameters, precision, frozen)
        numbers = zero_numbers(stage, gpus, parameters, micro_batches, frozen).total
        stages.append(
            {
                "stage": stage,
                "bytes": asdict(held) | {"total": held.total},
                "sent": {"numbers": numbers, "bytes": form.parameter * numbers},
                "fewest_gpus": {
                    str(size): fewest_ranks(stage, size * GIGA, parameters, precision, frozen)
                    for size in CARDS
                },
            }
        )
    return {
        "parameters": parameters,
        "frozen": frozen,
        "gpus": gpus,
        "precision": precision,
        "micro_batches": micro_batches,
        "stages": stages,
    }


def _print_tables(result: dict[str, Any], notice: str | None) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal
    from tinylm.planning.zero import CARDS, FORMATS

    terminal, gpus = Terminal(), result["gpus"]
    count, many = result["micro_batches"], "" if result["micro_batches"] == 1 else "es"
    frozen = f", {result['frozen']:,} that are not" if result["frozen"] else ""
    table = Table(
        title=f"{result['parameters']:,} parameters that are trained{frozen}, {gpus:,} "
        f"GPU{'' if gpus == 1 else 's'}, {FORMATS[result['precision']].label}; {count} "
        f"micro-batch{many} a step",
        title_justify="left",
    )
    table.add_column("stage: in parts", no_wrap=True)
    for name in ("parameters", "gradients", "states", "a GPU", "sent"):
        table.add_column(name, justify="right", no_wrap=True)
    for row, parts in zip(result["stages"], _IN_PARTS, strict=True):
        sizes = [*row["bytes"].values(), row["sent"]["bytes"]]
        table.add_row(parts, *map(_shown, sizes))
    terminal.print(table)
    cards = Table(title="Fits on a card, without activations", title_justify="left")
    cards.add_column("card")
    for row in result["stages"]:
        cards.add_column(f"stage {row['stage']}", justify="right", no_wrap=True)
    for size, names in CARDS.items():
        fewest = [row["fewest_gpus"][str(size)] for row in result["stages"]]
        cards.add_row(f"{size} GB ({names})", *(_fits(number, gpus) for number in fewest))
    terminal.print(cards)
    if notice:
        terminal.print(notice)


def _fits(fewest: int | None, gpus: int) -> str:
    if fewest is None:
        return "no"
    return "yes" if fewest <= gpus else f"from {fewest:,} GPUs"


def _shown(size: float) -> str:
    """Return bytes in units of 1,000, as cards are sold: ``38.5 GB``."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.4g} {unit}"
    return f"{size:,.4g} bytes"
