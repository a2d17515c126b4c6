"""Speed of unigram and WordPiece against Hugging Face ``tokenizers``, on one core.

    python benchmarks/pieces.py [PATH] [--kind unigram|wordpiece] [--vocab-size 4096] [--rounds 7]

PATH is what ``tokenizing.py`` takes. Encoding: the same vocabulary, exported to the library, and
the same ids, which is checked before anything is timed; both end with one Python list of ids a
text. Training: the library's trainer of the same kind on the same words and size. WordPiece makes
the same vocabulary there; unigram does not, so the log-likelihood of the texts under both is told.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tables import hardware_line, print_table, table
from tokenizing import read_texts

from tinylm.evaluation.speed import run_interleaved
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.splitting import RULES, split
from tinylm.tokenizers.unigram_training import cuts, expected_counts

BASELINE = "Hugging Face"


def trained_there(ours: Any, kind: str, texts: list[str], size: int) -> tokenizers.Tokenizer:
    """Train in the library, with the steps before the model that ours has there."""
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    special = {"special_tokens": list(SPECIAL_TOKENS), "show_progress": False}
    if kind == "unigram":
        trainer: Any = tokenizers.trainers.UnigramTrainer(
            vocab_size=size, unk_token="<unk>", **special
        )
    else:
        trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, **special)
    theirs.train_from_iterator(iter(texts), trainer, length=len(texts))
    return theirs


def log_likelihood(scores: dict[str, float], texts: list[str]) -> float:
    """Return that of texts, by pieces whose probabilities are made to sum to 1."""
    table = WordTable(RULES["gpt2"])
    table.add(texts)
    counts = Words.of_table(table).counts()
    counts = {word: uses for word, uses in counts.items() if set(word) <= scores.keys()}
    values = np.array(list(scores.values())) - math.log(sum(map(math.exp, scores.values())))
    return Cuts.of(Words.of_counts(counts), Pieces.of(list(scores))).expected_counts(values)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--kind", choices=("unigram", "wordpiece"), default="unigram")
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stories", type=int, default=5000, help="of the embedded corpus")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()

    kind, size = TOKENIZERS.load(arguments.kind), arguments.vocab_size
    texts = read_texts(arguments.path, arguments.stories)
    megabytes = sum(len(text.encode("utf-8")) for text in texts) / 1e6
    settings = kind.Settings(vocab_size=size)
    ours = kind.train(texts, settings)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    theirs.encode_special_tokens = True
    competitors = {
        "tinylm flat": lambda: ours.encode_flat(texts),
        "tinylm": lambda: ours.encode_batch(texts),
        BASELINE: lambda: [row.ids for row in theirs.encode_batch_fast(texts)],
    }
    if competitors["tinylm"]() != competitors[BASELINE]():
        raise SystemExit("the two give other ids")
    print(f"{hardware_line()}, tokenizers {tokenizers.__version__}; 1 core; {ours.label}")
    print(f"{len(texts)} texts, {megabytes:.2f} MB, {ours.vocab_size} types, ids identical")
    encoding = table(
        run_interleaved(competitors, arguments.rounds), BASELINE, amount=megabytes, unit="MB"
    )
    print_table(encoding, BASELINE)

    print("\ntraining")
    training = table(
        run_interleaved(
            {
                "tinylm": lambda: kind.train(texts, settings),
                BASELINE: lambda: trained_there(ours, arguments.kind, texts, size),
            },
            min(arguments.rounds, 3),
        ),
        BASELINE,
        amount=megabytes,
        unit="MB",
    )
    print_table(training, BASELINE)
    result: dict[str, Any] = {"megabytes": megabytes, "encoding": encoding, "training": training}
    if arguments.kind == "unigram":
        there = trained_there(ours, arguments.kind, texts, len(SPECIAL_TOKENS) + len(ours.scores))
        rows = json.loads(there.to_str())["model"]["vocab"]
        likelihoods = {
            "tinylm": log_likelihood(ours.scores, texts),
            BASELINE: log_likelihood(
                {piece: score for piece, score in rows if piece not in SPECIAL_TOKENS}, texts
            ),
        }
        for name, value in likelihoods.items():
            print(f"log-likelihood by {name}, {len(ours.scores)} pieces: {value:,.0f} nats")
        result["log_likelihood"] = likelihoods
    if arguments.json:
        result = {
            "benchmark": "pieces",
            "kind": arguments.kind,
            "hardware": hardware_line(),
            "versions": {"tokenizers": tokenizers.__version__},
            "vocab_size": ours.vocab_size,
            **result,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
