"""Byte-level BPE against Hugging Face ``tokenizers`` and ``tiktoken``; see ``tokenizing.py``.

All encode with the same vocabulary, which Hugging Face's trainer and ours make alike from the same
texts (that is checked), and give the same ids (so is that). ``tiktoken`` takes part where it is
installed; it has no trainer. Memory is the peak of a process of its own above what it held before.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tables import print_table, table
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tinylm.evaluation.speed import run_interleaved
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.bpe import BPESettings, BPETokenizer
from tinylm.tokenizers.hugging_face import byte_level
from tinylm.tokenizers.splitting import PATTERNS

BASELINE = "Hugging Face"


def hugging_face(texts: Sequence[str], size: int, split: str) -> Tokenizer:
    """Train by Hugging Face's trainer."""
    frame = json.loads(Tokenizer(models.BPE()).to_str()) | {"pre_tokenizer": byte_level(split)}
    theirs = Tokenizer.from_str(json.dumps(frame))
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator(iter(texts), trainer, length=len(texts))
    theirs.encode_special_tokens = True
    return theirs


def tiktoken_encoding(ours: BPETokenizer, split: str) -> Any:
    """Return the same vocabulary in tiktoken, or None where it is not installed."""
    if importlib.util.find_spec("tiktoken") is None:
        return None
    import tiktoken

    first = len(ours.special_tokens)
    ranks = {ours._bytes[i]: i for i in range(first, ours.vocab_size)}
    return tiktoken.Encoding(
        "same", pat_str=PATTERNS[split], mergeable_ranks=ranks, special_tokens={}
    )


def peak_megabytes(work: Callable[[], object]) -> float:
    """Return by how much a process grows at most while it works."""

    def status(name: str) -> float:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1e3

    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak starts anew
        before = status("VmRSS")
        work()
        os.write(writing, f"{status('VmHWM') - before:.1f}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    return float(os.read(reading, 100))


def run(texts: list[str], rounds: int, size: int, split: str) -> dict[str, Any]:
    """Measure encoding and training, print tables, and return their numbers."""
    megabytes = sum(len(text.encode("utf-8")) for text in texts) / 1e6
    settings = BPESettings(vocab_size=size, split=split)  # type: ignore[arg-type]
    training: dict[str, Callable[[], Any]] = {
        "tinylm": lambda: BPETokenizer.train(texts, settings),
        BASELINE: lambda: hugging_face(texts, size, split),
    }
    # Memory first: what a process has freed it takes again without growing.
    BPETokenizer.train(texts[:2], settings).encode_flat(texts[:2])
    hugging_face(texts[:2], 300, split)
    memory = {f"training, {name}": peak_megabytes(work) for name, work in training.items()}
    ours = BPETokenizer.train(texts, settings)
    theirs = Tokenizer.from_str(json.dumps(ours.to_hugging_face()))
    theirs.encode_special_tokens = True
    competitors: dict[str, Callable[[], Any]] = {
        "tinylm flat": lambda: ours.encode_flat(texts),
        "tinylm": lambda: ours.encode_batch(texts),
        BASELINE: lambda: [row.ids for row in theirs.encode_batch_fast(texts)],
    }
    encoding = tiktoken_encoding(ours, split)
    if encoding is None:
        print("tiktoken is not installed")
    else:
        competitors["tiktoken"] = lambda: [encoding.encode_ordinary(text) for text in texts]
    memory |= {f"encoding, {name}": peak_megabytes(work) for name, work in competitors.items()}
    if hugging_face(texts, size, split).get_vocab() != theirs.get_vocab():
        raise SystemExit("the two trainers give other vocabularies")
    expected = ours.encode_batch(texts)
    for name, encode in competitors.items():
        encoded = encode()
        if name == "tinylm flat":
            ids, bounds = encoded
            encoded = [ids[a:b].tolist() for a, b in itertools.pairwise(bounds.tolist())]
        if encoded != expected:
            raise SystemExit(f"{name} gives other ids")
    tokens = sum(map(len, expected))
    del expected
    print(
        f"{len(texts)} texts, {megabytes:.2f} MB, {tokens} tokens of {ours.vocab_size} types, rule "
        f"{split}; vocabulary and ids identical in all; tokenizers {tokenizers.__version__}"
    )
    encoded_table = table(
        run_interleaved(competitors, rounds), BASELINE, amount=megabytes, unit="MB"
    )
    print_table(encoded_table, BASELINE)

    print("\ntraining")
    training_table = table(
        run_interleaved(training, min(rounds, 3)), BASELINE, amount=megabytes, unit="MB"
    )
    print_table(training_table, BASELINE)
    for name, peak in memory.items():
        print(f"peak memory of {name}: {peak:.0f} MB")
    return {
        "megabytes": megabytes,
        "tokens": tokens,
        "vocab_size": ours.vocab_size,
        "split": split,
        "encoding": encoded_table,
        "training": training_table,
        "peak_megabytes": memory,
    }
