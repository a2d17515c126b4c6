"""``tinylm preferences``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import RunFolder, method_option
from tinylm.cli.output import say
from tinylm.registry import RULES


def preferences(
    run: RunFolder,
    rule: Annotated[str, typer.Option(help=f"What is better: {', '.join(RULES)}.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A new file, NAME.jsonl.")],
    prompts: Annotated[
        int, typer.Option(min=2, help="Beginnings of training stories that are gone on with.")
    ] = 400,
    responses: Annotated[int, typer.Option(min=2, max=64, help="To each of them.")] = 4,
    wrong: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rankings that are turned round.")
    ] = 0.0,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a prompt.")] = 8,
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Of a response; empty: what the context holds.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.01, help="Of the samples.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    option: Annotated[list[str], method_option("Of the rule, such as words=[dog,ball].")] = [],  # noqa: B006
) -> None:
    """Rank a run's own samples by a rule, and write the rankings as JSON lines."""
    from tinylm.cli.console import TerminalConsole
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import open_run, threads
    from tinylm.experiments.preparation import encoded_split
    from tinylm.experiments.ranking import Drawing, beginnings, room_after, write_own_rankings
    from tinylm.experiments.rewards import chosen_rule
    from tinylm.language_model import LanguageModel
    from tinylm.names import checked_file

    out = checked_file(out, "--out")
    if out.suffix.lower() != ".jsonl":
        raise ConfigError(f"--out {out}: rankings are JSON lines: call the file NAME.jsonl")
    if out.exists():
        raise ConfigError(f"--out {out} is there already: delete it, or give another name")
    if not math.isfinite(temperature):
        raise ConfigError(f"--temperature {temperature:g}: give a finite number")
    choice, _ = chosen_rule(rule, [f"rule.{each}" for each in option])
    assert choice is not None  # a rule is named
    console = TerminalConsole()
    context = open_run(run, console)
    lm = LanguageModel.load(run)
    room = room_after(prompt_tokens, lm, "--prompt-tokens ") - 1  # a reward model reads all of it
    with threads(context.config.training.threads):
        train = encoded_split(context.config.data, lm.tokenizer, "train", console)
        starts = beginnings(train, prompt_tokens, "--prompt-tokens ")
        most = max(1, min(max_new_tokens or room, room))
        drawing = Drawing(prompts, responses, most, seed, wrong, temperature)
        ranked = write_own_rankings(out, lm, choice.open(lm), starts, drawing, console)
    console.note(f"{len(ranked.rankings):,} rankings")
    say(str(out))
