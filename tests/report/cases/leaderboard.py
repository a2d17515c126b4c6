"""What is said of all models and tokenizers at one budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def board(**bits: list[float]) -> Callable[[Result], None]:
    """Two models with two tokenizers, by the bits a byte of each seed: ``rnn_word=[…]``."""

    def change(result: Result) -> None:
        some = result["rows"][0]
        result["rows"] = [
            some | {"model": model, "tokenizer": tokenizer, "bits_per_byte": values}
            for name, values in bits.items()
            for model, tokenizer in [name.split("_")]
        ]

    return change


def flat(value: float) -> list[float]:
    return [value] * 3


APART = board(lstm_word=flat(1.0), lstm_bytes=flat(2.0), rnn_word=flat(1.5), rnn_bytes=flat(3.0))
NEAR = board(
    lstm_word=flat(1.0), lstm_bytes=flat(1.6), rnn_word=[0.8, 1.1, 1.4], rnn_bytes=[1.5, 1.6, 1.9]
)
CROSSED = board(lstm_word=flat(1.0), lstm_bytes=flat(2.0), rnn_word=flat(3.0), rnn_bytes=flat(2.9))

CASES = [
    *table_of(
        "leaderboard",
        (None, "fig:leaderboard shows all of them."),
        (APART, "The fewest bits a byte are those of lstm with word, 1.000 (1.000–1.000). The most "
         "are those of rnn with bytes, 3.000 (3.000–3.000).", "no difference from it"),
        (NEAR, "The fewest bits a byte are those of lstm with word, 1.000 (1.000–1.000); no "
         "difference from it can be told for rnn with word. The most"),
        (APART, "On average over all tokenizers lstm needs the fewest, 1.500 (1.500–1.500); "
         "measurably more rnn (2.25). On average over all models word needs the fewest, 1.250 "
         "(1.250–1.250); measurably more bytes (2.50).", "no difference can be told for"),
        (NEAR, "On average over all tokenizers lstm needs the fewest, 1.300 (1.300–1.300); no "
         "difference can be told for rnn (1.38)."),
        (APART, "That tokenizer, word, has the lowest mean with 2 of 2 kinds of models."),
        (CROSSED, "That tokenizer, word, has the lowest mean with 1 of 2 kinds of models."),
    ),
    *table_of("leaderboard", (None, "The fewest bits a byte", "fig:"), drawn=False),
    *table_of(
        "leaderboard",
        (None, "Every kind of model is trained with every tokenizer for as many floating-point"),
        alone=True,
    ),
]  # fmt: skip
