"""Start-up times: of `tinylm --help`, and until the first word of `tinylm generate`.

Both are started as processes, in turns with transformers loading a GPT-2 of the same sizes and
generating one token. Weights are random; what counts is importing, reading and the first step.

    python benchmarks/startup.py [--rounds 5] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from peers import SHAPES, gpt2
from tables import hardware_line, print_table, table

from tinylm.language_model import LanguageModel
from tinylm.measurement import Measurement
from tinylm.model.decoder import DecoderLM
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.word import WordTokenizer

THEIRS = """
import sys, torch
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained(sys.argv[1]).eval()
made = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=1, do_sample=False, pad_token_id=0)
print(made.tolist(), flush=True)
"""


def seconds_to_first_byte(command: Sequence[str]) -> float:
    """Return the seconds from starting a process to the first byte that it prints."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if not first or process.returncode:
        raise SystemExit(f"{' '.join(command)} failed: exit status {process.returncode}")
    return seconds


def save_models(folder: Path) -> tuple[Path, Path]:
    """Write tinylm's model and transformers' of the first shape; return their folders."""
    torch.manual_seed(0)
    shape = SHAPES["first"]
    words = [f"word{number}" for number in range(shape.vocab_size - len(SPECIAL_TOKENS))]
    tokenizer = WordTokenizer(words)
    ours, theirs = folder / "ours", folder / "theirs"
    LanguageModel(DecoderLM(shape.config).eval(), tokenizer).save(ours / "checkpoints")
    gpt2(shape).model.save_pretrained(theirs)
    return ours, theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    tinylm = str(Path(sys.executable).with_name("tinylm"))
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = save_models(Path(folder))
        commands = {
            "tinylm --help": [tinylm, "--help"],
            "tinylm generate, first token": [tinylm, "generate", str(ours), "word1 word2 word3"],
            "transformers, first token": [sys.executable, "-c", THEIRS, str(theirs)],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(arguments.rounds + 1):
            for name, command in commands.items():
                seconds = seconds_to_first_byte(command)
                if number:  # the first round brings files into memory
                    times[name].append(seconds)
    rows = table({n: Measurement.of(t) for n, t in times.items()}, "transformers, first token")
    print(f"{hardware_line()}, torch {torch.__version__}")
    print_table(rows, "transformers, first token")
    if arguments.json:
        result = {"benchmark": "startup", "hardware": hardware_line(), "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
