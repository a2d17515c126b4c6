"""What a model without half of its heads and neurons gains: decoding and training, by its size.

The smaller model of each pair is what `tinylm prune --method heads` and `--method neurons` make of
the larger one: as wide, with half of the heads, of the same size each, and half of the neurons of
the feed-forward parts. Its embedding and unembedding are those of the whole one, and so is all that
a step does beside its products. Random weights; all take turns.

    python benchmarks/removing.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tables import hardware_line, print_table, table

from tinylm.config import GenerationConfig, ModelConfig, TrainingConfig
from tinylm.data.windows import Batch
from tinylm.evaluation.speed import run_interleaved
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.allocator import keep_freed_memory
from tinylm.training.step import TrainingStep

SIZES = ((128, 3, 4), (300, 3, 8), (256, 4, 8), (512, 6, 16))
"""Hidden size, layers and heads; those of the presets `quick` and `baseline` first."""
VOCABULARY, CONTEXT, BATCH = 2000, 256, 8
PROMPT, NEW = 5, 123
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)


def configuration(hidden: int, layers: int, heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_heads=heads,
        ffn_size=4 * hidden,
        num_layers=layers,
        context_length=CONTEXT,
    )


def halved(whole: ModelConfig) -> ModelConfig:
    return replace(
        whole,
        num_heads=whole.num_heads // 2,
        head_dim=whole.resolved_head_dim,
        ffn_size=whole.resolved_ffn_size // 2,
    )


def decoding(config: ModelConfig, linear: Any) -> Callable[[], Any]:
    torch.manual_seed(0)
    model = DecoderLM(config).eval().requires_grad_(False)
    prompt = torch.randint(4, VOCABULARY, (1, PROMPT)).tolist()
    settings = GenerationConfig(
        strategy="greedy", max_new_tokens=NEW, min_new_tokens=NEW, linear=linear
    )
    return lambda: generate(model, prompt, settings, SPECIAL)


def training(config: ModelConfig, _: Any) -> Callable[[], Any]:
    torch.manual_seed(0)
    step = TrainingStep(DecoderLM(config), next_token_loss, TrainingConfig(device="cpu"))
    ids = torch.randint(4, VOCABULARY, (BATCH, CONTEXT + 1))

    def run() -> None:
        step.backward([Batch(ids[:, :-1], ids[:, 1:])])
        step.update()

    return run


WORK: tuple[tuple[str, Callable[[ModelConfig, Any], Callable[[], Any]], Any, int], ...] = (
    ("greedy decoding of one text", decoding, "packed", NEW),
    ("greedy decoding of one text, packed-int8", decoding, "packed-int8", NEW),
    (f"training, {BATCH} windows of {CONTEXT} tokens", training, None, BATCH * CONTEXT),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    keep_freed_memory()
    print(f"{hardware_line()}, torch {torch.__version__}; vocabulary {VOCABULARY}")
    results = {}
    for hidden, layers, heads in SIZES:
        whole = configuration(hidden, layers, heads)
        for title, work, setting, tokens in WORK:
            both = {
                "whole": work(whole, setting),
                "half of the heads and neurons": work(halved(whole), setting),
            }
            times = run_interleaved(both, arguments.rounds)
            name = f"{title}: hidden {hidden}, {layers} layers"
            print(f"\n{name}")
            results[name] = table(times, "whole", amount=tokens, unit="tokens")
            print_table(results[name], "whole")
    if arguments.json:
        result = {"benchmark": "removing", "hardware": hardware_line(), "results": results}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
