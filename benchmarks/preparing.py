"""How much faster several processes prepare a long text than one (``tinylm data --workers``).

    python benchmarks/preparing.py PATH [--kind word bpe] [--repeat 600] [--workers 1 2]

PATH is a text file with ``<|endoftext|>`` between its stories, which is repeated to make a long
one. Timed are the whole preparation (fingerprint of the file, vocabulary, token files of both
splits, what is held out being a tenth), and of it the encoding of the train split, by processes
that read their parts themselves and by processes to which the text is sent; the start of processes
included. All take turns. Beside the times stand the processor's seconds: of the process that leads,
and of those that it starts. The former and the latter's share of one process are the time that is
taken where as many processors are free, whatever else the machine does while it is measured.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tables import hardware_line

from tinylm.config import DataConfig, RunConfig
from tinylm.data.corpora import DivisibleCorpus, open_corpus
from tinylm.data.token_parts import PART_BYTES, write_parts
from tinylm.data.token_shards import Split, write_split
from tinylm.data.token_workers import Pool
from tinylm.experiments.context import SilentConsole
from tinylm.experiments.preparation import prepare_data
from tinylm.registry import TOKENIZERS

WAYS = ("all", "encoding, read in parts", "encoding, text sent")


def processor_seconds() -> NDArray[np.float64]:
    """Of this process, and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return np.array([each.ru_utime + each.ru_stime for each in used])


def encode(
    way: str, tokenizer: Any, config: DataConfig, folder: Path
) -> tuple[float, NDArray[np.float64]]:
    """Encode a train split, and return the seconds and the processor's."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if way == WAYS[0]:
        data = replace(config, cache_folder=str(folder))
        settings = replace(RunConfig(), data=data, tokenizer=type(tokenizer).Settings())
        began, used = time.perf_counter(), processor_seconds()
        prepare_data(settings, SilentConsole())
        return time.perf_counter() - began, processor_seconds() - used
    corpus = open_corpus(config)
    assert isinstance(corpus, DivisibleCorpus)
    split = Split(folder / "train.tokens", 1, tokenizer, "text", "train")
    began, used = time.perf_counter(), processor_seconds()
    if way == WAYS[1]:
        parts = corpus.parts("train", PART_BYTES)
        assert parts is not None
        with Pool(config.workers) as pool:
            write_parts(split, corpus, config, list, parts, pool, lambda done: None)
    else:
        with Pool(config.workers) as pool:
            write_split(split, ((text,) for text in corpus.train()), pool)
    return time.perf_counter() - began, processor_seconds() - used


def medians(
    taken: Sequence[tuple[float, NDArray[np.float64]]],
) -> tuple[float, NDArray[np.float64]]:
    """Return the medians of rounds: seconds, and the processor's of both."""
    return float(np.median([wall for wall, _ in taken])), np.median([used for _, used in taken], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--kind", nargs="+", default=["word", "bpe"])
    parser.add_argument("--repeat", type=int, default=600)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = folder / "text.txt"
        content = arguments.path.read_bytes()
        with text.open("wb") as file:
            for _ in range(arguments.repeat):
                file.write(content)
        config = DataConfig(corpus="files", path=str(text), text_format="endoftext")
        print(hardware_line())
        print(f"{text.stat().st_size / 1e6:,.0f} MB of text")
        for kind in arguments.kind:
            made = TOKENIZERS.load(kind)
            few = itertools.islice(open_corpus(config).train(), 3000)
            tokenizer = made.train(few, made.Settings())
            times: dict[tuple[str, int], list[tuple[float, NDArray[np.float64]]]] = {}
            for _ in range(arguments.rounds):
                for way, workers in itertools.product(arguments.ways, arguments.workers):
                    set_to = replace(config, workers=workers)
                    taken = encode(way, tokenizer, set_to, folder / "made")
                    times.setdefault((way, workers), []).append(taken)
            for (way, workers), taken in times.items():
                wall, (own, others) = medians(taken)
                alone, alone_used = medians(times[way, arguments.workers[0]])
                row = {
                    "kind": kind,
                    "way": way,
                    "workers": workers,
                    "seconds": wall,
                    "times as fast": alone / wall,
                    "processor seconds": own,
                    "of the others": others,
                    "times as fast on free processors": alone_used.sum() / (own + others / workers),
                }
                rows.append(row)
                print(
                    json.dumps(
                        {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
                    )
                )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1), "utf-8")


if __name__ == "__main__":
    main()
