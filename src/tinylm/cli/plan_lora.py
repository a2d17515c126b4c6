"""``tinylm plan lora``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.output import say, say_json

if TYPE_CHECKING:
    from tinylm.planning.lora import LoraPlan, Shape


def lora(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run's folder, or a checkpoint's.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="MxN", help="One matrix, in place of a run's.")
    ] = None,
    reduction: Annotated[
        float | None, typer.Option(min=0.001, metavar="N", help="Train N times fewer numbers.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, metavar="R", help="Or this rank.")] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Linear maps of the run; empty: every projection."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say which rank of LoRA trains so many times fewer numbers, or what a rank saves."""
    from tinylm.errors import ConfigError
    from tinylm.planning.lora import plan_lora, read_shape

    if (run is None) == (shape is None):
        raise ConfigError("give either --shape MxN or a run's folder")
    if shape is not None:
        if target:
            raise ConfigError("--target chooses among the matrices of a run: leave out --shape")
        shapes = {"matrix": read_shape(shape)}
    else:
        assert run is not None
        shapes = _shapes_of(run, target)
    plans = plan_lora(shapes, reduction, rank)
    if as_json:
        say_json(_as_dict(plans))
    elif shape is not None:
        _print_one(next(iter(plans.values())))
    else:
        _print_table(plans)


def _shapes_of(run: Path, targets: list[str] | None) -> dict[str, Shape]:
    import torch

    from tinylm.checkpoint import find_checkpoint, load_checkpoint
    from tinylm.config.finetuning import EVERY_PROJECTION
    from tinylm.finetuning.linear import find_linears
    from tinylm.finetuning.lora import sizes
    from tinylm.model.base import build

    config = load_checkpoint(find_checkpoint(run)).config
    with torch.device("meta"):
        model = build(config)
    return {path: sizes(m) for path, m in find_linears(model, targets or EVERY_PROJECTION).items()}


def _as_dict(plans: dict[str, LoraPlan]) -> dict[str, object]:
    weights = sum(plan.weights for plan in plans.values())
    trained = sum(plan.trained for plan in plans.values())
    return {
        "rank": next(iter(plans.values())).rank,
        "weights": weights,
        "trained": trained,
        "reduction": weights / trained,
        "bytes": 4 * trained,
        "matrices": {
            name: {"shape": plan.shape, "weights": plan.weights, "trained": plan.trained}
            for name, plan in plans.items()
        },
    }


def _print_one(plan: LoraPlan) -> None:
    rows, columns = plan.shape
    say(
        f"rank {plan.rank}: {rows} x {columns} = {plan.weights:,} weights against "
        f"{rows + columns} r = {plan.trained:,} numbers, {plan.reduction:.4g} times fewer"
    )


def _print_table(plans: dict[str, LoraPlan]) -> None:
    width = max(len(name) for name in plans)
    rank = next(iter(plans.values())).rank
    say(f"rank {rank}")
    say(f"{'matrix':<{width}}  {'shape':>12}  {'weights':>12}  {'trained':>12}  {'fewer':>7}")
    for name, plan in plans.items():
        shape = f"{plan.shape[0]} x {plan.shape[1]}"
        say(
            f"{name:<{width}}  {shape:>12}  {plan.weights:>12,}  {plan.trained:>12,}  "
            f"{plan.reduction:>6.4g}x"
        )
    weights = sum(plan.weights for plan in plans.values())
    trained = sum(plan.trained for plan in plans.values())
    say(f"{'all':<{width}}  {'':>12}  {weights:>12,}  {trained:>12,}  {weights / trained:>6.4g}x")
    say(
        f"on disk, in float32: {4 * trained / 2**20:.2f} MiB in place of "
        f"{4 * weights / 2**20:.2f} MiB"
    )
