"""``tinylm evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import Adapter, Data, Overrides, Rank, Run
from tinylm.cli.output import say_json
from tinylm.perplexity import perplexity_text

if TYPE_CHECKING:
    from tinylm.cli.console import Terminal


def evaluate(
    run: Run,
    data: Data = None,
    override: Overrides = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    again: Annotated[bool, typer.Option(help="Measure again even if nothing changed.")] = False,
    adapter: Adapter = None,
    rank: Rank = None,
) -> None:
    """Measure a model on validation stories that it continues, or on sources that it reads."""
    from tinylm.checkpoint import load_checkpoint
    from tinylm.cli.adapters import loaded, refuse_rank_alone
    from tinylm.cli.console import TerminalConsole
    from tinylm.cli.options import data_overrides
    from tinylm.config import load_config
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import open_run, run_of, run_or_measure
    from tinylm.experiments.evaluation.measure import evaluate_checkpoint, evaluate_model
    from tinylm.experiments.origins import refuse_without_effect

    console = TerminalConsole()
    result: dict[str, Any]
    refuse_rank_alone(adapter, rank)
    refuse_without_effect(["evaluation"], override, "what is measured")
    if adapter is None and data is None and (run / "config.yaml").exists():
        result = run_or_measure("evaluation", open_run(run, console, override), again)
    else:
        checkpoint = load_checkpoint(run)
        folder = run_of(run)
        if folder is None and data is None:
            raise ConfigError(f"{run} belongs to no run: say with --data which stories to measure")
        file = None if folder is None else folder / "config.yaml"
        config = load_config(file, overrides=[*data_overrides(data), *override])
        if adapter is None:
            result = evaluate_checkpoint(checkpoint, config, console)
        else:
            lm = loaded(run, adapter, rank)
            result = evaluate_model(lm.model, lm.tokenizer, config, console)
    if as_json:
        say_json(result)
    else:
        _print_tables(result)


def _print_tables(result: dict[str, Any]) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal

    terminal = Terminal()
    perplexity, bleu = result["perplexity"], result["bleu"]
    targets = result.get("targets")
    begun = (
        f"{result['num_stories']} validation stories continued from {result['prompt_tokens']} "
        "tokens"
        if targets is None
        else f"targets drawn after the sources of {result['num_stories']} validation pairs"
    )
    table = Table(
        title=f"{begun} (temperature {result['temperature']:g}, top-p {result['top_p']:g})"
    )
    table.add_column("measure")
    table.add_column("generated", justify="right")
    table.add_column("true", justify="right")
    rows = [
        (
            "perplexity, token-weighted",
            *(perplexity_text(perplexity[k]["token_weighted"]) for k in ("generated", "true")),
        ),
        (
            "perplexity, mean of sequences",
            *(perplexity_text(perplexity[k]["sequence_mean"]) for k in ("generated", "true")),
        ),
        *(
            (f"distinct-{n}", *(f"{result['distinct'][k][n]:.3f}" for k in ("generated", "true")))
            for n in ("1", "2", "3")
        ),
        (
            "repeated 4-grams",
            *(f"{100 * result['repetition'][k]:.1f} %" for k in ("generated", "true")),
        ),
        ("<unk> rate", *(f"{100 * result['unk_rate'][k]:.2f} %" for k in ("generated", "true"))),
        ("BLEU, corpus", f"{bleu['corpus']:.2f}", ""),
        ("BLEU, mean of sentences", f"{bleu['sentence_mean']:.2f}", ""),
    ]
    for row in rows:
        table.add_row(*row)
    terminal.print(table)
    if targets is not None:
        _print_targets(targets, terminal)
    whole = result["validation"]
    what = "tokens" if targets is None else "tokens of targets given their sources"
    terminal.print(
        f"whole validation split: {whole['tokens']:,} {what}, loss {whole['loss']:.4f}, "
        f"perplexity {perplexity_text(whole['perplexity'])}, "
        f"{whole['bits_per_byte']:.3f} bits per byte"
    )
    terminal.print(f"BLEU signature: {bleu['signature']}", soft_wrap=True)


def _print_targets(targets: dict[str, Any], terminal: Terminal) -> None:
    bleu = targets["bleu"]
    terminal.print(
        f"greedy targets: {100 * targets['exact_match']:.1f} % of {targets['pairs']:,} pairs are "
        f"the true one, to the end; BLEU of {len(targets['texts'])}: corpus {bleu['corpus']:.2f}, "
        f"mean of sentences {bleu['sentence_mean']:.2f}"
    )
