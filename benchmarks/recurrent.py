"""Recurrent layers: forward and backward pass beside torch's nn.RNN, nn.GRU and nn.LSTM.

Same sizes, in turns, in processor time: the loops of torch run in C++, and its LSTM on a kernel of
oneDNN that does a whole step.

    python benchmarks/recurrent.py [--rounds 9] [--threads 1] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tables import hardware_line
from torch import nn

from tinylm.config import ModelConfig
from tinylm.fast import install
from tinylm.model.base import build
from tinylm.model.decoder import in_turn
from tinylm.model.reading import Reading

PEERS: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
SHAPES = ((64, 32, 300), (256, 32, 128))
"""Steps, texts and hidden size."""


def seconds(function: Callable[[], None]) -> float:
    """Return the processor time of a call."""
    started = time.process_time()
    function()
    return time.process_time() - started


def layers_of(kind: str, hidden: int, texts: int, steps: int) -> Callable[[], None]:
    """Return a forward and backward pass through a layer of ours."""
    config = ModelConfig(kind=kind, vocab_size=9, num_layers=1, hidden_size=hidden, dropout=0.0)
    model: Any = build(config)
    install(model)
    x = torch.randn(steps, texts, hidden, requires_grad=True)
    reading = Reading(model.positions, torch.empty(1, 0, dtype=torch.long))

    def run() -> None:
        in_turn(model.layers, x.transpose(0, 1), reading).sum().backward()

    return run


def module_of(kind: str, hidden: int, texts: int, steps: int) -> Callable[[], None]:
    """Return a forward and backward pass through torch's module."""
    module = PEERS[kind](hidden, hidden)
    x = torch.randn(steps, texts, hidden, requires_grad=True)

    def run() -> None:
        module(x)[0].sum().backward()

    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(hardware_line())
    results = []
    for steps, texts, hidden in SHAPES:
        for kind in PEERS:
            ways = [make(kind, hidden, texts, steps) for make in (layers_of, module_of)]
            for way in ways:
                way()
            rounds = [[seconds(way) for way in ways] for _ in range(options.rounds)]
            ours, theirs = (statistics.median(each) for each in zip(*rounds, strict=True))
            ratio = statistics.geometric_mean(theirs / ours for ours, theirs in rounds)
            shape = f"{steps} steps, {texts} texts, hidden {hidden}"
            print(
                f"{kind:5} {shape}: ours {1000 * ours:.1f} ms, torch's {1000 * theirs:.1f} ms, "
                f"{ratio:.2f} times as fast as torch's"
            )
            results.append({"kind": kind, "shape": shape, "ours": ours, "torch": theirs,
                            "ratio": ratio})  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=2), "utf-8")


if __name__ == "__main__":
    main()
