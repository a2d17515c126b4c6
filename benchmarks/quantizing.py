"""What a run loses by quantization: methods, widths, calibration texts, beside plain rounding.

Perplexity over windows of the validation split, as a change of the run's own, with a 95 % interval
that pairs the same text under both models. Plain rounding to the nearest (`rtn`) is what the other
methods are measured against. Seconds are of quantizing, calibration included, on a machine that may
be shared; sizes are of all weights, those that are not quantized included.

    python benchmarks/quantizing.py runs/NAME [--other runs/OTHER] [--windows 120] [--json FILE]

`--other` names a run whose text is another kind: GPTQ is calibrated by it too.
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tables import hardware_line
from torch import Tensor

from tinylm.compression.quantizing import quantize
from tinylm.config import load_config
from tinylm.data.windows import TokenWindows
from tinylm.evaluation.perplexity import SplitLoss, split_loss
from tinylm.experiments.compressing import calibration_windows
from tinylm.experiments.context import Context, SilentConsole, open_run
from tinylm.experiments.preparation import encoded_split
from tinylm.fast import install
from tinylm.language_model import LanguageModel
from tinylm.measurement import paired
from tinylm.registry import QUANTIZERS

MAPS = ("layers.*", ".unembedding")
"""Targets without the embedding, which no calibration text can help."""
RANGES = ("min-max", "percentile", "mse", "entropy")


class Bench:
    """A run, its validation windows and its own loss on them."""

    def __init__(self, context: Context, windows: int) -> None:
        self.context = context
        config = context.config
        lm = LanguageModel.load(context.folder)
        self.tokenizer = lm.tokenizer
        split = encoded_split(config.data, lm.tokenizer, "validation", context.console)
        self.validation = TokenWindows(split, config.model.context_length)
        self.indices = self.validation.fixed_subset(windows)
        self.base = self._loss(lm)
        self.bytes = num_bytes(lm)

    def _loss(self, lm: LanguageModel) -> SplitLoss:
        install(lm.model)
        return split_loss(lm.model, self.validation, 8, self.indices)

    def texts(self, count: int = 128, data: Any = None) -> Tensor:
        """Return windows to calibrate by."""
        return calibration_windows(self.context, count, 0, tokenizer=self.tokenizer, data=data)

    def row(self, name: str, method: str, ids: Tensor | None, **settings: Any) -> dict[str, Any]:
        """Quantize the run by a method and return what it has lost."""
        lm, chosen = LanguageModel.load(self.context.folder), QUANTIZERS.load(method)
        start = time.perf_counter()
        quantize(lm.model, chosen, chosen.Settings(**settings), ids)
        seconds = time.perf_counter() - start
        difference = paired(self._loss(lm).replicates(), self.base.replicates())
        more, low, high = (100 * math.expm1(d) for d in (difference.value, *difference.ends))
        smaller = self.bytes / num_bytes(lm)
        row = {"name": name, "method": method, **settings, "more": more, "low": low, "high": high}
        print(
            f"{name:44} {more:+8.2f} %  ({low:+.2f} to {high:+.2f})  {smaller:4.1f} x smaller  "
            f"{seconds:5.1f} s",
            flush=True,
        )
        return {**row, "smaller": smaller, "seconds": seconds}


def num_bytes(lm: LanguageModel) -> int:
    """Return the bytes of all that a model keeps."""
    return sum(each.numel() * each.element_size() for each in lm.model.state_dict().values())


def methods(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield each method of whole numbers at each width."""
    texts = bench.texts()
    for bits in (8, 4, 3, 2):
        for method, settings in (
            ("rtn", {}),
            ("gptq", {}),
            ("gptq", {"after_quantized": True}),
            ("awq", {}),
            ("awq", {"clip": False}),
        ):
            given = [f"{key}={str(value).lower()}" for key, value in settings.items()]
            name = ", ".join([f"{bits} bits, {method}", *given])
            yield bench.row(name, method, texts, bits=bits, **settings)


def rounded_inputs(bench: Bench) -> Iterator[dict[str, Any]]:
    """Yield 8 bits for weights, by row, and for inputs."""
    texts = bench.texts()
    rows: dict[str, Any] = {"bits": 8, "granularity": "row"}
    for method in ("rtn", "smoothquant"):
        name = f"8-bit inputs, {method}"
        yield bench.row(f"{name}, dynamic", method, texts, **rows, activations="dynamic")
        for way in RANGES:
            static = {**rows, "activations": "static", "activation_range": way}
            yield bench.row(f"{name}, static, {way}", method, texts, **static)


def amounts(bench: Bench, bits: int, counts: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield GPTQ by fewer and more texts, of all but the embedding."""
    settings: dict[str, Any] = {"bits": bits, "targets": MAPS}
    yield bench.row(f"maps, {bits} bits, rtn", "rtn", None, **settings)
    for count in counts:
        name = f"maps, {bits} bits, gptq, {count} windows"
        yield bench.row(name, "gptq", bench.texts(count), **settings)


def kinds_of_text(bench: Bench, bits: int, other: Path | None) -> Iterator[dict[str, Any]]:
    """Yield GPTQ by its own text, by another kind, and by words in no order."""
    own = bench.texts()
    generator = torch.Generator().manual_seed(0)
    shuffled = own.flatten()[torch.randperm(own.numel(), generator=generator)].view_as(own)
    drawn = torch.randint(4, bench.context.config.model.vocab_size, own.shape, generator=generator)
    texts = {"its own words in no order": shuffled, "words drawn evenly": drawn}
    if other is not None:
        texts = {
            f"the text of {other.name}": bench.texts(data=load_config(other / "config.yaml").data),
            **texts,
        }
    for name, ids in texts.items():
        yield bench.row(f"maps, {bits} bits, gptq by {name}", "gptq", ids, bits=bits, targets=MAPS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--windows", type=int, default=120)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bench = Bench(open_run(arguments.run, SilentConsole()), arguments.windows)
    print(hardware_line())
    print(f"{arguments.run.name}: perplexity {bench.base.perplexity:.3f}, {bench.bytes:,} bytes")
    rows = [*methods(bench), *rounded_inputs(bench)]
    rows += amounts(bench, 3, (1, 2, 4, 8, 16, 32, 64, 128, 256))
    rows += kinds_of_text(bench, 3, arguments.other)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": hardware_line(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
