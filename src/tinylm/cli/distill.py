"""``tinylm distill``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import method_option
from tinylm.cli.output import say
from tinylm.registry import DISTILLATIONS


def distill(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The teacher's run.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The student's run, a new folder.")],
    method: Annotated[str, typer.Option(help=f"{', '.join(DISTILLATIONS)}.")] = "word",
    steps: Annotated[int | None, typer.Option(min=1, help="Empty: as the teacher's run.")] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Begin with this run's model, weights and masks, such as the teacher's pruned.",
        ),
    ] = None,
    option: Annotated[
        list[str],
        method_option(
            "Of the student's run, such as model.num_layers=1, or of the method, such as "
            "temperature=2."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Train a smaller model to do as a run's; interrupted, `tinylm train --resume` goes on."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.distilling import distill as distill_run
    from tinylm.experiments.records import read_distillation
    from tinylm.perplexity import perplexity, perplexity_text

    max_steps = "training.max_steps"
    if steps is not None and any(each.partition("=")[0].strip() == max_steps for each in option):
        raise ConfigError(f"--steps and -o {max_steps} say the same: give one of them")
    console = TerminalConsole()
    options = [*option, *([] if steps is None else [f"{max_steps}={steps}"])]
    result = distill_run(run, out, method, options, console, start)
    written = read_distillation(out)
    assert written is not None
    teacher, best = written["teacher_loss"], result["best"]["perplexity"]
    console.note(
        f"{out}: {written['student_weights']:,} numbers, the teacher has "
        f"{written['teacher_weights']:,}; {result['steps']:,} steps, best validation perplexity "
        f"{perplexity_text(best)}, the teacher's is {perplexity_text(perplexity(teacher))}"
    )
    say(str(out))
