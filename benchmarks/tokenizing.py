"""Speed of the tokenizers against Hugging Face ``tokenizers`` on the same rule, on one core.

    python benchmarks/tokenizing.py [PATH] [--kind word|bpe] [--rounds 7] [--json OUT.json]

PATH is a text file (stories separated by ``<|endoftext|>``, or the whole file as one text) or a
folder of such files; without it the embedded story grammar writes the text. Ids are checked to be
identical before anything is timed. Every competitor ends with one Python list of ids a text, but
for ``tinylm flat``, which ends with one NumPy array. Hugging Face runs twice: with the whole rule,
and with its first steps taken out (texts come to it normalised and with their marks distinguished);
ratios are to the latter, the faster one. ``--kind bpe`` measures byte-level BPE (``subwords.py``);
``--repeat 20`` has every text 20 times, for a larger corpus.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from pathlib import Path

# Both libraries read these when they are imported: one core each.
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import pyarrow as pa
import subwords
import tokenizers
from tables import hardware_line, print_table, table
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from tinylm.config import DataConfig
from tinylm.data.corpora import open_corpus
from tinylm.evaluation.speed import run_interleaved
from tinylm.tokenizers import word_counts
from tinylm.tokenizers.splitting import RULES
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.tokenizers.word_rule import AFTER_SPACE, NAMED, OPENING, normalise

BASELINE = "Hugging Face, pre-normalised"
SPLIT = r"\p{L}[\p{L}\p{M}]*(?:'\p{L}[\p{L}\p{M}]*)*|\p{Nd}+|[\n\v]|\S"


def read_texts(path: Path | None, stories: int) -> list[str]:
    if path is None:
        return list(open_corpus(DataConfig(corpus="stories", train_stories=stories)).train())
    files = sorted(path.glob("*.txt")) if path.is_dir() else [path]
    parts = [part for file in files for part in file.read_text("utf-8").split("<|endoftext|>")]
    return [part.strip() for part in parts if part.strip()]


def hugging_face(ours: WordTokenizer, *, typographic: bool) -> Tokenizer:
    ids = {ours.token(index): index for index in range(ours.vocab_size)}
    # Before they are split, quotes that close and line breaks after a space have other names.
    ids |= {written: ids[name] for written, name in NAMED.items() if name in ids}
    theirs = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    steps: list[normalizers.Normalizer] = []
    if typographic:
        steps += [
            normalizers.Replace(Regex("â€[œ\u009d]|â\u0080[\u009c\u009d]"), '"'),
            normalizers.Replace(Regex("â€[™˜]|â\u0080[\u0098\u0099]"), "'"),
            normalizers.Replace(Regex("â€“|â\u0080\u0093"), "-"),
            normalizers.Replace(Regex("â€”|â\u0080\u0094"), "--"),
            normalizers.Replace(Regex("â€¦|â\u0080¦|…"), "..."),
            normalizers.Replace(Regex("â€|[“”„‟″«»]"), '"'),
            normalizers.Replace(Regex("[‘’‚‛′´]"), "'"),
            normalizers.Replace(Regex("[‐‑‒–−]"), "-"),
            normalizers.Replace(Regex("[—―]"), "--"),
            normalizers.Replace(Regex(r"(?<=[^\S\n])\n"), AFTER_SPACE),
            # In a row of quotes each is classified by the one before it, for rows of two.
            *(
                normalizers.Replace(Regex(rf"{before}{mark}{after}"), opening)
                for mark, opening in OPENING.items()
                for before, after in (
                    (r"(?<![^\s(\[{])", ""),
                    (r"(?:(?<=[\s(\[{][\"'“‘])|(?<=\A[\"'“‘]))", ""),
                    (r"(?<![\p{L}\p{M}\p{N}\"'])", r"(?=[\p{L}\p{N}])"),
                )
            ),
            normalizers.Replace(Regex(r"(?<!\S)--(?!\S)"), "––"),
            normalizers.Replace(Regex(r"(?<!\S)-(?!\S)"), "–"),
        ]
    theirs.normalizer = normalizers.Sequence([*steps, normalizers.Lowercase()])
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), behavior="removed", invert=True)
    return theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--stories", type=int, default=5000, help="of the embedded corpus")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--kind", choices=("word", "bpe"), default="word")
    parser.add_argument("--vocab-size", type=int, default=10_000, help="of --kind bpe")
    parser.add_argument("--split", choices=tuple(RULES), default="gpt2", help="of --kind bpe")
    parser.add_argument("--repeat", type=int, default=1, help="how often every text is there")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)

    texts = read_texts(arguments.path, arguments.stories) * arguments.repeat
    if arguments.kind == "bpe":
        print(f"{hardware_line()}; 1 core")
        size, split = arguments.vocab_size, arguments.split
        result = {"benchmark": "tokenizing", "hardware": hardware_line(), "kind": "bpe"}
        result |= subwords.run(texts, arguments.rounds, size, split)
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        return
    megabytes = sum(len(text.encode("utf-8")) for text in texts) / 1e6
    ours = WordTokenizer.train(texts, WordSettings())
    normal = [ours.rule.marked(normalise(text)) for text in texts]
    whole = hugging_face(ours, typographic=True)
    bare = hugging_face(ours, typographic=False)

    competitors = {
        "tinylm flat": lambda: ours.encode_flat(texts),
        "tinylm": lambda: ours.encode_batch(texts),
        "tinylm reference": lambda: [ours._encode_reference(text) for text in texts],
        "Hugging Face": lambda: [row.ids for row in whole.encode_batch_fast(texts)],
        BASELINE: lambda: [row.ids for row in bare.encode_batch_fast(normal)],
    }
    expected = competitors["tinylm reference"]()
    for name, encode in competitors.items():
        encoded = encode()
        if name == "tinylm flat":
            ids, bounds = encoded
            places = bounds.tolist()
            encoded = [ids[a:b].tolist() for a, b in itertools.pairwise(places)]
        if encoded != expected:
            rows = zip(expected, encoded, texts, strict=True)
            text = next(text for a, b, text in rows if a != b)
            sys.exit(f"{name} gives other ids than the reference path, first on {text[:80]!r}")
    tokens = sum(map(len, expected))
    print(f"{len(texts)} texts, {megabytes:.2f} MB, {tokens} tokens, ids identical in all")
    print(
        f"{hardware_line()}, tokenizers {tokenizers.__version__}, pyarrow {pa.__version__}; 1 core"
    )

    encoding = table(
        run_interleaved(competitors, arguments.rounds), BASELINE, amount=megabytes, unit="MB"
    )
    print_table(encoding, BASELINE)

    def reference_counts() -> word_counts.WordCounts:
        counts = word_counts.WordCounts()
        for text in texts:
            counts.add_reference(text)
        return counts

    print("\nvocabulary training")
    training = table(
        run_interleaved(
            {
                "tinylm": lambda: WordTokenizer.train(texts, WordSettings()),
                "tinylm reference": reference_counts,
            },
            min(arguments.rounds, 5),
        ),
        "tinylm reference",
        amount=megabytes,
        unit="MB",
    )
    print_table(training, "tinylm reference")
    if arguments.json:
        result = {
            "benchmark": "tokenizing",
            "hardware": hardware_line(),
            "versions": {"tokenizers": tokenizers.__version__, "pyarrow": pa.__version__},
            "texts": len(texts),
            "megabytes": megabytes,
            "tokens": tokens,
            "encoding": encoding,
            "training": training,
        }
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
