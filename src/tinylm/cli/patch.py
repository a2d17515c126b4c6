"""``tinylm patch``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import Adapter, Rank, Run
from tinylm.cli.output import say, say_json

if TYPE_CHECKING:
    from tinylm.interpretability.pair_runs import PairRuns
    from tinylm.language_model import LanguageModel


def patch(
    run: Run,
    clean: Annotated[
        str, typer.Option(metavar="TEXT", help="The prompt after which the answer is right.")
    ],
    corrupted: Annotated[
        str, typer.Option(metavar="TEXT", help="The same prompt with a word exchanged.")
    ],
    answer: Annotated[
        str, typer.Option(metavar="WORD", help="What follows the clean prompt; one token.")
    ],
    wrong: Annotated[
        str, typer.Option(metavar="WORD", help="What follows the corrupted prompt; one token.")
    ],
    adapter: Adapter = None,
    rank: Rank = None,
    json: Annotated[bool, typer.Option("--json", help="Print all effects as JSON.")] = False,
) -> None:
    """Say which places and heads carry an answer, by patches.

    An effect is how far a patch moves the difference of both answers' logits from the run that is
    patched, 0, to the other prompt's, 100. Clean activations in the corrupted run show what
    suffices, corrupted ones in the clean run what is needed.
    """
    from tinylm.cli.adapters import loaded
    from tinylm.data.pairs import PromptPair, encode_pair
    from tinylm.interpretability.pair_runs import TokenPair, run_pair
    from tinylm.model.base import refuse_without_attention

    lm = loaded(run, adapter, rank)
    refuse_without_attention(lm.model.config, "the command patch")
    pair = encode_pair(PromptPair(clean, corrupted, answer, wrong), lm.tokenizer)
    runs = run_pair(lm.model, TokenPair(pair.clean, pair.corrupted, pair.answer, pair.wrong))
    result = _measured(lm, runs)
    if json:
        say_json(result)
        return
    for prompt in ("clean", "corrupted"):
        say(f"Logit of the answer less that of the wrong one, {prompt}: {result[prompt]:+.2f}")
    for way, title in (
        ("denoising", "Clean into corrupted: what suffices in the stream before each layer, %"),
        ("noising", "Corrupted into clean: what is needed in the stream before each layer, %"),
    ):
        _print_stream(title, result, result["stream"][way])
    _print_heads(result)


def _measured(lm: LanguageModel, runs: PairRuns) -> dict[str, Any]:
    import torch

    from tinylm.interpretability.attribution_patching import attributions
    from tinylm.interpretability.pair_runs import Direction, effect
    from tinylm.interpretability.patching import sweep
    from tinylm.printable import in_line

    layers = lm.model.config.num_layers
    places = [*(f"layers.{i}.input" for i in range(layers)), f"layers.{layers - 1}.residual"]
    mixed = "layers.*.attention.mixed"
    ways: tuple[Direction, ...] = ("denoising", "noising")
    stream, heads, estimates = {}, {}, {}
    for way in ways:
        each = sweep(runs, way, places)
        stream[way] = effect(torch.stack([each[place] for place in places]), way).tolist()
        together = sweep(runs, way, [mixed], by_position=False)
        heads[way] = effect(torch.stack(list(together.values())), way).tolist()
        estimated = attributions(runs, way, [mixed])
        start = 0.0 if way == "denoising" else 1.0
        summed = torch.stack([(values - start).sum(-1) for values in estimated.values()])
        estimates[way] = effect(start + summed, way).tolist()
    return {
        "tokens": {
            name: [in_line(lm.tokenizer.token(i)) for i in ids]
            for name, ids in (("clean", runs.pair.clean), ("corrupted", runs.pair.corrupted))
        },
        "clean": runs.clean_difference,
        "corrupted": runs.corrupted_difference,
        "places": places,
        "stream": stream,
        "heads": heads,
        "estimates": estimates,
    }


def _percent(value: float) -> str:
    return f"{round(100 * value)}"


def _print_stream(title: str, result: dict[str, Any], values: list[list[float]]) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal

    table = Table(title=title)
    table.add_column("token")
    for i in range(len(values) - 1):
        table.add_column(f"{i + 1}", justify="right")
    table.add_column("end", justify="right")
    tokens = zip(result["tokens"]["clean"], result["tokens"]["corrupted"], strict=True)
    for position, (clean, corrupted) in enumerate(tokens):
        word = clean if clean == corrupted else f"{clean} / {corrupted}"
        table.add_row(word, *(_percent(place[position]) for place in values))
    Terminal().print(table)


def _print_heads(result: dict[str, Any]) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal
    from tinylm.report.formatting import head_name

    table = Table(title="Each head at all positions, %; estimated by its gradient")
    for column in ("head", "suffices", "estimated", "needed", "estimated"):
        table.add_column(column, justify="right")
    for layer, row in enumerate(result["heads"]["denoising"]):
        for head in range(len(row)):
            table.add_row(
                head_name(layer, head),
                *(
                    _percent(result[key][way][layer][head])
                    for way in ("denoising", "noising")
                    for key in ("heads", "estimates")
                ),
            )
    Terminal().print(table)
