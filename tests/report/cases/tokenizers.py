"""What is said of tokenizers at one budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]


def rows(*chosen: tuple[str, float, float, dict[str, Any]]) -> Callable[[Result], None]:
    """Tokenizers by name, bits a byte, and how far they differ between the seeds."""

    def change(result: Result) -> None:
        made = []
        for name, bits, spread, more in chosen:
            row = next(row for row in result["tokenizers"] if row["name"] == name)
            values = [bits - spread, bits, bits + spread]
            made.append(row | {"bits_per_byte": values, "token_bits_per_byte": values} | more)
        result["tokenizers"] = made

    return change


WORD, BYTES, BPE = "word 512", "bytes", "bpe 2048"


def lossy(own: float) -> dict[str, Any]:
    return {"restored": 0.0, "unknown": 0.12, "token_bits_per_byte": [own] * 3}


def sums(texts: list[float], words: list[float]) -> Callable[[Result], None]:
    """What one tokenizer's usual number misses."""

    def change(result: Result) -> None:
        result["sums"] = result["sums"][:1]
        result["sums"][0]["texts"]["missed_bits"] = texts
        result["sums"][0]["words"]["missed_bits"] = words

    return change


EXACT = {"restored": 1.0, "bytes_per_token": 2.0, "perplexity": [4.0] * 3}

CASES = [
    *table_of(
        "tokenizers",
        (None, "fig:tokenizers-bits has bits and perplexities beside each other."),
        # Bits.
        (rows((BYTES, 2.0, 0.0, {}), (BPE, 1.0, 0.0, {})),
         "A byte of held-out text costs the fewest bits with bpe 2048: 1.000 (1.000–1.000). It "
         "costs measurably more with bytes (2.00).", "No difference from it"),
        (rows((BYTES, 1.5, 0.5, {}), (BPE, 1.4, 0.0, {})),
         "No difference from it can be told for bytes (1.50).", "measurably more with"),
        # Perplexity.
        (rows((BYTES, 2.0, 0.0, {"perplexity": [4.0] * 3, "bytes_per_token": 1.0}),
              (BPE, 1.0, 0.0, {"perplexity": [16.0] * 3, "bytes_per_token": 4.0})),
         "The lowest perplexity is that with bytes, 4.00; by bits per byte it is number 2 of 2. "
         "Two models that both need 1.00 bits a byte, as the best does here, would have a "
         "perplexity of 2.00 with bytes, of 1.00 bytes a token, and of 16.0 with bpe 2048, of "
         "4.00."),
        # What is left out.
        (rows((BYTES, 2.0, 0.0, EXACT), (BPE, 1.0, 0.0, EXACT)),
         "give every text back as it was, and nothing is charged.", "The charge"),
        (rows((WORD, 2.0, 0.0, lossy(0.5)), (BPE, 1.0, 0.0, EXACT)),
         "The charge in bits a byte is 1.500 for word 512 (12.0\u202f% <unk>). Without it word 512 "
         "would look best, with 0.50 bits a byte; with it, it needs 2.00."),
        (rows((WORD, 2.0, 0.0, lossy(1.5)), (BPE, 1.0, 0.0, EXACT)),
         "The charge in bits a byte is 0.500 for word 512 (12.0\u202f% <unk>).", "would look best"),
        # Words.
        (None, "No text of the training split has the words in tab:tokenizers-unseen."),
        (lambda f: f.update(unseen=[]), "Every word that was to be shown stands in the training"),
        # Costs.
        (rows((BYTES, 2.0, 0.0, {"parameters": 100, "of_vocabulary": 20, "tokens": 1000,
                                 "bytes_per_token": 1.0, "decoding": {"seconds": [1.0] * 5}}),
              (BPE, 1.0, 0.0, {"parameters": 100, "of_vocabulary": 70, "tokens": 2000,
                               "bytes_per_token": 4.0, "decoding": {"seconds": [2.0] * 5}})),
         "Embedding and unembedding are 20\u202f% of the parameters with bytes and 70\u202f% with "
         "bpe 2048. For the same FLOPs the model read 8 kB of text with bpe 2048 and 1 kB with "
         "bytes. A byte takes the least time to write with bpe 2048 and the most with bytes, 2.00 "
         "times as much (slower)."),
        # All segmentations.
        (lambda f: f.update(sums=[]), "Costs", "All segmentations of a text"),
        (sums([0.5, 0.5, 0.5], [2.0, 2.0, 2.0]),
         "With bpe 512 the usual number misses 2.00 (2.00–2.00) bits of a word that nobody has "
         "seen, and 0.5000 (0.5000–0.5000) bits of the beginning of a text. It misses measurably "
         "more of such words than of beginnings with bpe 512.", "No difference between the two"),
        (sums([0.5, 0.5, 0.5], [0.1, 0.4, 2.0]),
         "No difference between the two can be told with bpe 512.", "It misses measurably more"),
        (None, "Most is missed of "),
    ),
    *table_of("tokenizers", (None, "A byte of held-out text", "fig:"), drawn=False),
    *table_of(
        "tokenizers",
        (None, "One decoder is trained with each tokenizer for as many floating-point operations"),
        alone=True,
    ),
]  # fmt: skip
