"""Speed of unigram and WordPiece against Hugging Face ``tokenizers``, on one core.

    python benchmarks/pieces.py [PATH] [--kind unigram|wordpiece] [--vocab-size 10000] [--rounds 7]

PATH is what ``tokenizing.py`` takes. Encoding: the same vocabulary, exported to the library, and
the same ids, which is checked before anything is timed; both end with one Python list of ids a
text. Training: the library's trainer of the same kind on the same words and size, with every text
``--repeat`` times. WordPiece makes the same vocabulary there, which is checked; unigram does not,
so the log-likelihood of the texts under both is told. Memory is the peak of a process of its own
above what it held before. On a machine with other work, ``--processor-time``.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from subwords import BASELINE, peak_megabytes
from tables import hardware_line, print_table, table
from tokenizing import read_texts

from tinylm.evaluation.speed import run_interleaved
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.counted_words import Words
from tinylm.tokenizers.loops.counting import WordTable
from tinylm.tokenizers.splitting import RULES
from tinylm.tokenizers.unigram_seeds import Pieces
from tinylm.tokenizers.unigram_training import Cuts
from tinylm.tokenizers.wordpiece_training import CONTINUES


def trained_there(ours: Any, kind: str, texts: list[str]) -> tokenizers.Tokenizer:
    """Train as many pieces in the library, with the steps before the model that ours has there."""
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    special = list(SPECIAL_TOKENS)
    if kind == "unigram":
        trainer: Any = tokenizers.trainers.UnigramTrainer(
            vocab_size=len(special) + len(ours.scores),
            unk_token="<unk>",
            special_tokens=special,
            show_progress=False,
        )
    else:
        # The library numbers characters within words otherwise in each run, unless it is told.
        tokens = [ours.token(index) for index in range(len(special), ours.vocab_size)]
        special += [token for token in tokens if len(token.removeprefix(CONTINUES)) == 1]
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=ours.vocab_size,
            min_frequency=2,
            special_tokens=special,
            show_progress=False,
        )
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
    parser.add_argument("--vocab-size", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stories", type=int, default=5000, help="of the embedded corpus")
    parser.add_argument("--repeat", type=int, default=1, help="every text, for training")
    parser.add_argument("--processor-time", action="store_true", help="not that of the clock")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    arguments = parser.parse_args()

    kind = TOKENIZERS.load(arguments.kind)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    texts = read_texts(arguments.path, arguments.stories)
    many = texts * arguments.repeat
    megabytes = sum(len(text.encode("utf-8")) for text in texts) / 1e6
    settings = kind.Settings(vocab_size=arguments.vocab_size)
    # Memory first, and nothing large before it: what a process has freed it takes again without
    # growing. So the vocabulary comes by a file from the process that was measured.
    small = kind.train(texts[:50], kind.Settings(vocab_size=600))
    small.encode_flat(texts[:50])
    trained_there(small, arguments.kind, texts[:50])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trained.json"
        memory = {"training, tinylm": peak_megabytes(lambda: kind.train(many, settings).save(path))}
        ours = kind.load(path)
    training: dict[str, Callable[[], Any]] = {
        "tinylm": lambda: kind.train(many, settings),
        BASELINE: lambda: trained_there(ours, arguments.kind, many),
    }
    memory[f"training, {BASELINE}"] = peak_megabytes(training[BASELINE])
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    theirs.encode_special_tokens = True
    encoding: dict[str, Callable[[], Any]] = {
        "tinylm flat": lambda: ours.encode_flat(texts),
        "tinylm": lambda: ours.encode_batch(texts),
        BASELINE: lambda: [row.ids for row in theirs.encode_batch_fast(texts)],
    }
    memory |= {f"encoding, {name}": peak_megabytes(work) for name, work in encoding.items()}
    if encoding["tinylm"]() != encoding[BASELINE]():
        raise SystemExit("the two give other ids")
    seconds = "seconds of the processor" if arguments.processor_time else "seconds of the clock"
    print(f"{hardware_line()}, tokenizers {tokenizers.__version__}; 1 core, {seconds}")
    print(f"{ours.label}: {len(texts)} texts, {megabytes:.2f} MB, {ours.vocab_size} types")
    rounds = arguments.rounds
    encoded = table(
        run_interleaved(encoding, rounds, clock=clock), BASELINE, amount=megabytes, unit="MB"
    )
    print("\nencoding, ids identical")
    print_table(encoded, BASELINE)

    megabytes *= arguments.repeat
    trained = table(
        run_interleaved(training, min(rounds, 3), clock=clock),
        BASELINE,
        amount=megabytes,
        unit="MB",
    )
    print(f"\ntraining, {megabytes:.2f} MB")
    print_table(trained, BASELINE)
    for name, peak in memory.items():
        print(f"peak memory of {name}: {peak:.0f} MB")
    result: dict[str, Any] = {"megabytes": megabytes, "encoding": encoded, "training": trained}
    result |= {"peak_megabytes": memory, "seconds": seconds}
    there, again = trained_there(ours, arguments.kind, many), kind.train(many, settings)
    if arguments.kind == "unigram":
        rows = json.loads(there.to_str())["model"]["vocab"]
        likelihoods = {
            "tinylm": log_likelihood(again.scores, texts),
            BASELINE: log_likelihood(
                {piece: score for piece, score in rows if piece not in SPECIAL_TOKENS}, texts
            ),
        }
        for name, value in likelihoods.items():
            print(f"log-likelihood by {name}, {len(again.scores)} pieces: {value:,.0f} nats")
        result["log_likelihood"] = likelihoods
    elif there.get_vocab() != {again.token(i): i for i in range(again.vocab_size)}:
        raise SystemExit("the two trainers give other vocabularies")
    else:
        print("vocabularies identical")
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
