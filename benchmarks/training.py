"""Training tokens a second beside other packages' decoders: same sizes, tokens, batch, precision.

A step is what a training loop does: forward, cross-entropy, backward, clipping to norm 1, Adam.
LitGPT's model has no dropout. It runs as it is, beside tinylm without, and with dropout put behind
its embeddings and branches. Each competitor takes its own way: tinylm `TrainingStep`, the others
autocast, `F.cross_entropy` and torch's fused Adam, eager or through `torch.compile`. All take turns
in one process.

    python benchmarks/training.py [--shape first] [--rounds 7] [--compile] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peers import SHAPES, Shape, available
from tables import hardware_line, print_table, table
from torch import nn

from tinylm.config import TrainingConfig
from tinylm.data.windows import Batch
from tinylm.evaluation.memory import peak_bytes, resting_bytes, tensor_bytes
from tinylm.evaluation.speed import run_interleaved
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.allocator import keep_freed_memory
from tinylm.training.step import TrainingStep

Step = Callable[[], None]
_SECONDS = 1.0  # a timed call takes about so long, whatever the step


def batch_of(shape: Shape) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(
        4, shape.vocab_size, (shape.batch_size, shape.context_length + 1), generator=generator
    )
    return Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())


def ours(
    shape: Shape, precision: str, compiled: bool, dropout: bool = True
) -> tuple[Step, nn.Module, Any]:
    torch.manual_seed(0)
    settings = TrainingConfig(precision=precision, compile=compiled)  # type: ignore[arg-type]
    model = shape.config if dropout else replace(shape.config, dropout=0.0)
    work = TrainingStep(DecoderLM(model), next_token_loss, settings)
    batch = batch_of(shape)

    def step() -> None:
        work.backward([batch])
        work.update()

    return step, work.model, work.optimizer


def theirs(
    build: Callable[[Shape], nn.Module], shape: Shape, precision: str, compiled: bool
) -> tuple[Step, nn.Module, Any]:
    torch.manual_seed(0)
    model = build(shape).train()
    forward: Callable[..., Any] = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4, fused=True)
    batch = batch_of(shape)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = forward(batch.ids)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch.labels.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step, model, optimizer


def memory(step: Step, model: nn.Module, optimizer: Any) -> int:
    """Return the most bytes alive in a step, weights, buffers and optimizer state included."""
    optimizer.zero_grad(set_to_none=True)
    resting = resting_bytes(model, optimizer) + tensor_bytes(model.buffers())
    return resting + peak_bytes(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true", help="torch.compile beside eager")
    parser.add_argument("--only", help="only competitors whose name holds this")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # for all of them
    shape = SHAPES[arguments.shape]
    peers, missing = available()
    print(f"{hardware_line()}, torch {torch.__version__}, {arguments.threads} threads")
    print(shape)
    print(*missing, sep="\n")

    steps: dict[str, Step] = {}
    bytes_of: dict[str, int] = {}
    start_up: dict[str, float] = {}
    for compiled in (False, True) if arguments.compile else (False,):
        for precision in ("fp32", "bf16"):
            own = dict.fromkeys(("tinylm", "tinylm (no dropout)"))
            for name, build in {**own, **peers}.items():
                full = f"{name}, {precision}{', compiled' if compiled else ''}"
                if arguments.only and arguments.only not in full:
                    continue
                started = time.perf_counter()
                made = (
                    ours(shape, precision, compiled, name == "tinylm")
                    if build is None
                    else theirs(build, shape, precision, compiled)
                )
                made[0]()
                start_up[full] = time.perf_counter() - started
                if not compiled:  # a compiled step hides its tensors
                    bytes_of[full] = memory(*made)
                steps[full] = made[0]
                print(f"prepared {full} in {start_up[full]:.1f} s", flush=True)

    tokens = shape.batch_size * shape.context_length
    started = time.perf_counter()
    next(iter(steps.values()))()
    repeat = max(1, round(_SECONDS / (time.perf_counter() - started)))

    def repeated(step: Step) -> Step:
        def work() -> None:
            for _ in range(repeat):
                step()

        return work

    baseline = next((n for n in steps if n == "transformers GPT-2, fp32"), next(iter(steps)))
    rows = table(
        run_interleaved({n: repeated(s) for n, s in steps.items()}, arguments.rounds, warmup=1),
        baseline,
        amount=tokens * repeat,
        unit="tokens",
    )
    for row in rows:
        row["start_s"] = start_up[row["name"]]
        row["peak MiB"] = f"{bytes_of[row['name']] / 2**20:.0f}" if row["name"] in bytes_of else "-"
    print_table(rows, baseline)
    if arguments.json:
        result = {"shape": arguments.shape, "hardware": hardware_line(), "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
