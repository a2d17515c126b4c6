"""``tinylm generate``."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import Adapter, Overrides, Rank, Run
from tinylm.cli.output import say
from tinylm.registry import STRATEGIES

if TYPE_CHECKING:
    from tinylm.config import GenerationConfig


def generate(
    run: Run,
    prompts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROMPT]...", help="One text each; else what is piped in."),
    ] = None,
    strategy: Annotated[str | None, typer.Option(help=f"{' or '.join(STRATEGIES)}.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1 is safer, 0 greedy.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k likeliest tokens.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Keep the nucleus of this mass.")] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Keep tokens this likely, relatively.")
    ] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 1 varies more.")] = None,
    num_beams: Annotated[int | None, typer.Option(help="Width of beam search.")] = None,
    length_penalty: Annotated[
        float | None, typer.Option(help="Of beam search; above 0 favours long texts.")
    ] = None,
    num_return: Annotated[
        int | None, typer.Option(help="Texts of beam search that are shown, with scores.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Most tokens after a prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text.")] = None,
    adapter: Adapter = None,
    rank: Rank = None,
    samples: Annotated[int, typer.Option(min=1, help="Texts a prompt.")] = 1,
    override: Overrides = [],  # noqa: B006
) -> None:
    """Continue prompts with a trained model; one text is streamed as it comes."""
    import secrets
    from dataclasses import replace

    from tinylm.cli.adapters import loaded
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.input import piped_text
    from tinylm.errors import ConfigError
    from tinylm.generation.effects import uses
    from tinylm.planning.limits import refuse_generation

    given = {
        "strategy": strategy,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "num_beams": num_beams,
        "length_penalty": length_penalty,
        "num_return": num_return,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
    }
    config, asked = _settings(run, {key: v for key, v in given.items() if v is not None}, override)
    console = TerminalConsole()
    piped = None if prompts else piped_text()
    if piped is not None:
        prompts = [piped]
    lm = loaded(run, adapter, rank)
    if samples > 1 and "seed" not in uses(config):
        raise ConfigError(
            f"--samples {samples} with strategy {config.strategy} gives the same text {samples} "
            "times: --strategy sampling draws different ones, and --strategy beam --num-return "
            "gives several hypotheses"
        )
    lm.refuse_without_source(prompts or [""])
    texts = len(prompts or [""]) * samples
    refuse_generation(lm.model.config, texts, 1, "--samples or the number of prompts")
    if "seed" not in asked and "seed" in uses(config):
        config = replace(config, seed=secrets.randbelow(2**31))
        console.note(f"note: seed {config.seed}; --seed {config.seed} gives the same again")
    wanted = [prompt for prompt in (prompts or [""]) for _ in range(samples)]
    searches = hasattr(STRATEGIES.load(config.strategy), "search")
    if len(wanted) == 1 and not searches:
        prompt = wanted[0]
        pieces = lm.stream(prompt, config)
        first = next(pieces, "")  # what cannot be generated is refused before anything is printed
        say(lm.begun(prompt), nl=False)
        length = 0
        for piece in itertools.chain([first] if first else [], pieces):
            say(piece, nl=False)
            length += 1
        say()
        for note in lm.notes(prompt, min(length + 1, config.max_new_tokens)):  # with <eos>
            console.note(f"note: {note}")
        return
    # A search has no token to show before it ends.
    with console.task("Generating", config.max_new_tokens, brief=True) as done:
        results = lm.generate(wanted, config, done)
    for i, result in enumerate(results):
        if i:
            say()
        hypotheses = [result, *result.alternatives]
        for hypothesis in hypotheses:
            shown = hypothesis.score is not None and config.num_return > 1
            say(f"{hypothesis.score:.4f} {hypothesis.text}" if shown else hypothesis.text)
        for note in dict.fromkeys(note for hypothesis in hypotheses for note in hypothesis.notes):
            console.note(f"note: {note}")


def _settings(
    run: Path, given: dict[str, Any], overrides: list[str]
) -> tuple[GenerationConfig, list[str]]:
    """Return the run's own generation settings with those given on top, and the names of these."""
    import json

    from tinylm.config import load_config
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import run_of
    from tinylm.generation.effects import refuse_without_effect

    folder = run_of(run)
    options = [f"generation.{key}={json.dumps(value)}" for key, value in given.items()]
    config = load_config(
        None if folder is None else folder / "config.yaml", overrides=[*options, *overrides]
    )
    for override in overrides:
        if not override.strip().startswith("generation."):
            raise ConfigError(f"-o {override}: only generation.* changes what is generated")
    asked = [*given, *(key.partition("=")[0].strip().partition(".")[2] for key in overrides)]
    # A seed is allowed where nothing is drawn: it then has no effect, and promises none.
    refuse_without_effect(config.generation, [name for name in asked if name != "seed"])
    return config.generation, asked
