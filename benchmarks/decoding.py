"""Decoding tokens a second beside transformers' `generate` and CTranslate2: greedy and beam search.

tinylm also with all linear maps quantized: to 8 bits by row, and to 4 bits in groups of 60 to 76
inputs, symmetric, with scales in bfloat16.

All models have the same sizes and random weights and a cache; every text is made exactly as long as
asked, so that all do the same number of steps. Each runs with one thread and with all.

    python benchmarks/decoding.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import copy
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import SHAPES, ctranslate2, gpt2
from tables import hardware_line, print_table, table

from tinylm.config import GenerationConfig
from tinylm.evaluation.speed import run_interleaved
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.formats import WeightFormat
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedLinear
from tinylm.training.allocator import keep_freed_memory

PROMPT, NEW = 5, 59
_REST = 0.1  # seconds before each call, in which the threads of the one before fall asleep
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)


def with_threads(work: Callable[[], Any], count: int) -> Callable[[], Any]:
    def run() -> Any:
        torch.set_num_threads(count)
        return work()

    return run


def quantized(model: DecoderLM, form: Callable[[torch.nn.Linear], WeightFormat]) -> DecoderLM:
    """Return a copy whose linear maps are kept in the formats that a function gives for them."""
    other = copy.deepcopy(model)
    for parent in list(other.modules()):
        for name, part in parent.named_children():
            if isinstance(part, torch.nn.Linear):
                setattr(parent, name, QuantizedLinear(part, form(part)))
    return other


def four_bits(linear: torch.nn.Linear) -> WeightFormat:
    size = min(n for n in range(60, 128, 2) if linear.in_features % n == 0)
    return IntegerFormat(4, granularity="group", group_size=size, scale_format="bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    shape = SHAPES["first"]
    ours = DecoderLM(shape.config).eval()
    in_8_bits, in_4_bits = quantized(ours, lambda _: IntegerFormat(8)), quantized(ours, four_bits)
    peer = gpt2(shape).model.eval()
    print(
        f"{hardware_line()}, torch {torch.__version__}; {PROMPT} + {NEW} tokens; "
        "float32 if not said"
    )

    try:
        folder = tempfile.TemporaryDirectory()
        converted = ctranslate2(peer, Path(folder.name))
    except ImportError as error:
        print(f"CTranslate2: {error}; left out (pip install -e .[bench])")
        translators = {}
    else:
        translators = {
            (numbers, count): converted(numbers, count)
            for numbers in ("float32", "int8")
            for count in (1, 2)
        }
    results = {}
    plain = GenerationConfig(strategy="greedy", max_new_tokens=NEW, min_new_tokens=NEW)
    for title, batch, beams in (
        ("greedy, batch 20", 20, 1),
        ("greedy, batch 1", 1, 1),
        ("beam 5, batch 20", 20, 5),
        ("beam 5, batch 1", 1, 5),
    ):
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(4, shape.vocab_size, (batch, PROMPT), generator=generator)
        settings = plain if beams == 1 else replace(plain, strategy="beam", num_beams=beams)

        def tinylm(
            linear: str,
            model: DecoderLM = ours,
            ids: torch.Tensor = ids,
            settings: GenerationConfig = settings,
        ) -> Callable[[], Any]:
            changed = replace(settings, linear=linear)  # type: ignore[arg-type]
            return lambda: generate(model, ids.tolist(), changed, SPECIAL)

        def transformers(ids: torch.Tensor = ids, beams: int = beams) -> Any:
            with torch.no_grad():
                return peer.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    num_beams=beams,
                    max_new_tokens=NEW,
                    min_new_tokens=NEW,
                    pad_token_id=0,
                    eos_token_id=3,
                )

        prompts = [[str(token) for token in row] for row in ids.tolist()]

        competitors = {
            f"{name}, {count} thread{'s' * (count > 1)}": with_threads(work, count)
            for name, work in (
                ("tinylm", tinylm("packed")),
                ("tinylm bf16", tinylm("packed-bf16")),
                ("tinylm int8", tinylm("packed-int8")),
                ("tinylm quantized, 8 bits", tinylm("packed", in_8_bits)),
                ("tinylm quantized, 4 bits", tinylm("packed", in_4_bits)),
                ("tinylm plain", tinylm("plain")),
                ("transformers", transformers),
            )
            for count in (1, 2)
        }
        for (name, count), generator in translators.items():
            full = f"CTranslate2 {name}, {count} thread{'s' * (count > 1)}"
            competitors[full] = partial(generator, prompts, beams, NEW)
        times = run_interleaved(competitors, arguments.rounds, rest=_REST)
        best = min(
            (name for name in times if name.startswith("transformers")),
            key=lambda name: times[name].median,
        )
        print(f"\n{title}")
        results[title] = table(times, best, amount=batch * NEW, unit="tokens")
        print_table(results[title], best)
    if arguments.json:
        result = {"benchmark": "decoding", "hardware": hardware_line(), "results": results}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
