"""Quantized weights: what packed bytes stand for, and what is computed with them.

The plain side knows nothing of packing and formats' code: it writes the bytes out as strings of
bits, reads a number from each, and multiplies it by its scale. The weights must agree to the last
bit, and so must the bytes that the format promises. The logits, of whole texts and of decoding
steps with the quick parts, are those of plain maps with these weights.

A run that is quantized is checked as it is, another one in copies of several widths.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tinylm.compression.normal_float import NF4
from tinylm.compression.quantizer import Quantizer
from tinylm.compression.quantizing import quantize
from tinylm.compression.rounding import Rounding
from tinylm.config.quantization import Inputs, NormalFloatConfig, RoundingConfig
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import relative, stream, worst
from tinylm.fast import for_decoding
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.numbers.formats import WeightFormat
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.nf4 import CODE_BOOK, CONSTANTS_BLOCK, NormalFloat
from tinylm.numbers.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tinylm.tokenizers.base import PAD_ID

_TRIED: tuple[tuple[type[Quantizer], Inputs], ...] = (
    (Rounding, RoundingConfig(bits=8, symmetric=True, granularity="row")),
    (Rounding, RoundingConfig(bits=4)),
    (Rounding, RoundingConfig(bits=3, symmetric=True)),
    (Rounding, RoundingConfig(bits=2, granularity="tensor", scale_format="float32")),
    (NF4, NormalFloatConfig()),
)
_TEXTS, _LONGEST, _STEPS = 3, 24, 4


def run(subject: Subject) -> Finding:
    """Compare weights, bytes and logits of quantized maps with those of plain ones."""
    differences, cases, forms = [], 0, []
    for model in _quantized(subject.lm.model):
        weights = [m for m in model.modules() if isinstance(m, QuantizedWeight)]
        forms += [_briefly(each.form) for each in weights]
        for each in weights:
            promised = each.num_bytes == each.form.num_bytes(each.shape)
            same = promised and torch.equal(each(), _written_out(each))
            differences.append(0.0 if same else math.inf)
            cases += each.num_weights
        ours, plain = _logits(model, subject), _logits(_with_plain_maps(model), subject)
        differences += [relative(a, b) for a, b in zip(ours, plain, strict=True)]
        cases += sum(each.numel() for each in plain)
    return Finding(
        compared="weights, bytes and logits of maps kept in few bits "
        f"({', '.join(dict.fromkeys(forms))}), against their codes read bit by bit and plain maps "
        "(relative to the largest)",
        cases=cases,
        unit="weights and logits",
        difference=worst(differences),
        bound=1e-5,
    )


def _quantized(given: GenerativeModel) -> Iterator[GenerativeModel]:
    """Yield the model itself, its inputs not rounded, or copies of it that are quantized."""
    given = copy.deepcopy(given).to("cpu", torch.float32).eval()
    if any(isinstance(module, QuantizedWeight) for module in given.modules()):
        for module in given.modules():
            if isinstance(module, QuantizedLinear):
                module.rounding, module.input_range = None, None
        yield given
        return
    for method, settings in _TRIED:
        model = copy.deepcopy(given)
        quantize(model, method, settings)
        yield model


def _briefly(form: WeightFormat) -> str:
    return f"int{form.bits}" if isinstance(form, IntegerFormat) else "NF4"


def _written_out(kept: QuantizedWeight) -> Tensor:
    """Return the weight that bytes stand for, (out, in), read bit by bit."""
    stored = {name: each.float().numpy() if each.is_floating_point() else each.numpy()
              for name, each in kept.stored.items()}  # fmt: skip
    if isinstance(kept.form, NormalFloat):
        return torch.from_numpy(_normal_floats(kept.form, stored, kept.shape))
    assert isinstance(kept.form, IntegerFormat)
    form, scale = kept.form, stored["scale"]
    codes = _whole_numbers(stored["codes"], form.bits, kept.shape[1])
    codes -= (codes >> (form.bits - 1) << form.bits) if form.symmetric else 0
    zero = np.zeros((), np.int64)
    if "zero" in stored:
        zeros = _whole_numbers(stored["zero"], form.bits, scale.shape[1])
        zero = np.repeat(zeros, kept.shape[1] // scale.shape[1], 1)
    scales = np.repeat(scale, kept.shape[1] // scale.shape[1], 1)
    return torch.from_numpy(((codes - zero) * scales.astype(np.float64)).astype(np.float32))


def _whole_numbers(packed: npt.NDArray[np.uint8], bits: int, count: int) -> npt.NDArray[np.int64]:
    """Return ``count`` numbers a row, (rows, count), each of so many bits in turn."""
    string = np.unpackbits(packed, axis=1)[:, : count * bits].reshape(len(packed), count, bits)
    return string.astype(np.int64) @ (2 ** np.arange(bits - 1, -1, -1))


def _normal_floats(
    form: NormalFloat, stored: dict[str, npt.NDArray[np.float32]], shape: torch.Size
) -> npt.NDArray[np.float32]:
    place = np.arange(shape.numel())
    codes = _whole_numbers(stored["codes"][None].view(np.uint8), 4, shape.numel())[0]
    block = place // form.block_size
    constants = stored["constants"].astype(np.float32)
    if form.double:
        group = np.arange(len(constants)) // CONSTANTS_BLOCK
        constants = constants * stored["scales"][group] + stored["mean"]
    weight: npt.NDArray[np.float32] = CODE_BOOK.numpy()[codes] * constants[block]
    return weight.reshape(shape)


def _with_plain_maps(model: GenerativeModel) -> GenerativeModel:
    """Return a copy whose quantized modules are plain ones with the weights written out."""
    model = copy.deepcopy(model)
    for path, module in list(model.named_modules()):
        if isinstance(module, QuantizedEmbedding):
            table = _written_out(module.quantized)
            model.set_submodule(path, nn.Embedding(len(table), table.shape[1], _weight=table))
        elif isinstance(module, QuantizedLinear):
            weight = _written_out(module.quantized)
            if module.input_scale is not None:
                weight /= module.input_scale
            # Without drawing from torch's random numbers.
            linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
            linear.weight = nn.Parameter(weight)
            linear.register_parameter("bias", module.bias)
            model.set_submodule(path, linear)
    return model


@torch.no_grad()
def _logits(model: GenerativeModel, subject: Subject) -> list[Tensor]:
    """Return logits of real texts, and of decoding steps that go on with them."""
    length = max(1, min(_LONGEST, model.config.context_length - _STEPS))
    rows = [stream(subject.validation, i * length, length + _STEPS) for i in range(_TEXTS)]
    ids = torch.tensor(rows)
    logits = [model.unembed(model.residual(ids[:, :length]))]
    stepper = Stepper(for_decoding(model), ids[:, :length].tolist(), PAD_ID)
    for step in range(_STEPS):
        stepper.append(ids[:, length + step].tolist())
        logits.append(stepper.logits())
    return logits
