"""``tinylm tokenizer probability``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinylm.cli.options import Run
from tinylm.cli.output import say, say_json

if TYPE_CHECKING:
    from tinylm.evaluation.segmentations import TextProbability
    from tinylm.tokenizers.base import Tokenizer


def probability(
    run: Run,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="A short text.")],
    begins: Annotated[
        bool,
        typer.Option("--begins", help="The text is a beginning; else it ends where it ends."),
    ] = False,
    most: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Beginnings of token sequences that may be read, one by one."
        ),
    ] = 20_000,
    show: Annotated[
        int, typer.Option(min=1, metavar="N", help="Segmentations to list, the likeliest.")
    ] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Sum a text's probability over all its segmentations, beside the usual one."""
    from tinylm.evaluation.segmentations import text_probability
    from tinylm.language_model import LanguageModel

    lm = LanguageModel.load(run)
    result = text_probability(lm.model, lm.tokenizer, text, not begins, most)
    if as_json:
        say_json(_as_json(result, lm.tokenizer, show))
    else:
        _print(result, lm.tokenizer, show)


def _tokens(tokenizer: Tokenizer, ids: tuple[int, ...]) -> list[str]:
    return [tokenizer.token(token) for token in ids]


def _as_json(result: TextProbability, tokenizer: Tokenizer, show: int) -> dict[str, Any]:
    return {
        "bytes": result.num_bytes,
        "segmentations": len(result.paths),
        "prefixes": result.prefixes,
        "log_probability": result.total,
        "canonical": {
            "tokens": _tokens(tokenizer, result.canonical),
            "log_probability": result.usual,
            "share": result.share,
        },
        "missed_bits": result.missed_bits,
        "likeliest": [
            {"tokens": _tokens(tokenizer, ids), "log_probability": value}
            for ids, value in result.paths[:show]
        ],
    }


def _print(result: TextProbability, tokenizer: Tokenizer, show: int) -> None:
    from math import exp, log

    from tinylm.printable import in_line

    def bits(value: float) -> str:
        return f"{-value / log(2):.4f} bits"

    say(f"all {len(result.paths):,} segmentations  {bits(result.total)}")
    say(f"the canonical one  {bits(result.usual)}, {100 * result.share:.2f} % of the probability")
    say(f"missed by it  {result.missed_bits:.4f} bits")
    for ids, value in result.paths[:show]:
        tokens = " ".join(in_line(token) for token in _tokens(tokenizer, ids))
        mark = "  (canonical)" if ids == result.canonical else ""
        say(f"  {100 * exp(value - result.total):6.2f} %  {tokens}{mark}")
