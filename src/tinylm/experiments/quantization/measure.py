"""The experiment on quantization: the run's model rounded by every method, and read again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinylm.compression.quantizer import Quantizer, layouts, widths
from tinylm.compression.quantizing import quantize, refuse_quantized
from tinylm.config import DataConfig
from tinylm.data.windows import windows_of
from tinylm.evaluation.perplexity import SplitLoss, split_loss
from tinylm.experiments.compressing import calibration_windows, count_weights
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.quantization.settings import QuantizationExperiment
from tinylm.experiments.recipes import MANY_UNKNOWN
from tinylm.fast import install
from tinylm.language_model import LanguageModel
from tinylm.measurement import paired
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import model_weights
from tinylm.registry import QUANTIZERS
from tinylm.tokenizers.base import SPECIAL_TOKENS, Tokenizer

_LAYOUTS = ("row", "group")
"""What shares a scale, of what is tried."""
_INPUTS = ("dynamic", "static")
_WRONG = ("shuffled", "even")
"""Kinds of text that nobody wrote: the right words in no order, and words drawn evenly."""
_OTHER = "other"
"""Text of another corpus."""

Row = dict[str, Any]
_Form = tuple[str, int, str | None]
"""Method, bits, and what shares a scale; None: the method has one form."""


@dataclass(frozen=True)
class _Reading:
    """A quantized model's loss, and the bytes of what is kept of it."""

    loss: SplitLoss
    bytes: int

    def beside(self, other: _Reading) -> list[float | None]:
        """Return how much its loss exceeds another's on the same windows, in nats a token."""
        return paired(self.loss.replicates(), other.loss.replicates()).as_result()


def run(context: Context) -> dict[str, Any]:
    """Quantize the run's best checkpoint by every method and measure perplexity each time.

    Nothing is written to the run. Differences are in nats a token, with their intervals, on the
    same validation windows.

    Returns:
        ``rows``: every method at each of its widths, with scales by row and by group; ``inputs``:
        every method at its greatest width with inputs in 8 bits, beside the same without;
        ``calibration``: methods that read texts, by more and fewer of them, and by wrong ones.

    Raises:
        CheckpointError: if there is no checkpoint.
        CompressionError: if the model is quantized already.
        ConfigError: if the training split has fewer windows than calibration asks for.
    """
    settings: QuantizationExperiment = context.config.experiments.quantization
    lm = LanguageModel.load(context.folder)
    refuse_quantized(lm.model)
    split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
    windows = windows_of(split, lm.model.config)
    tell_fewer(context.console, "experiments.quantization.windows", settings.windows, len(windows))
    indices = windows.fixed_subset(settings.windows)
    amounts = sorted(set(settings.amounts))
    texts = {
        amount: calibration_windows(context, amount, settings.seed, tokenizer=lm.tokenizer)
        for amount in amounts
    }
    most = texts[amounts[-1]]
    wrong = wrong_texts(most, lm.tokenizer.vocab_size, settings.seed)
    other, ids = _other_text(context, settings, lm.tokenizer, amounts[-1])
    if ids is not None:
        wrong[_OTHER] = ids
    methods: dict[str, type[Quantizer]] = {name: QUANTIZERS.load(name) for name in QUANTIZERS}
    batch_size = context.config.evaluation.batch_size

    def read(model: GenerativeModel) -> _Reading:
        num_bytes = sum(weight.nbytes for weight in model_weights(model).values())
        install(model)
        return _Reading(split_loss(model, windows, batch_size, indices), num_bytes)

    with (
        threads(context.config.training.threads),
        context.console.task(
            "Quantizing the model", _how_many(methods, settings, len(wrong))
        ) as done,
    ):
        count = 0

        def measure(name: str, ids: Tensor, **given: Any) -> _Reading:
            nonlocal count
            model, method = copy.deepcopy(lm.model), methods[name]
            quantize(model, method, method.Settings(**given), ids)
            reading = read(model)
            count += 1
            done(count)
            return reading

        whole = read(copy.deepcopy(lm.model))
        kept = {
            (name, bits, layout): measure(name, most, **_form(bits, layout), activations="float")
            for name, method in methods.items()
            for bits in widths(method)
            for layout in _layouts(method)
        }
        return {
            "windows": len(windows) if indices is None else len(indices),
            "tokens": whole.loss.num_tokens,
            "context_length": lm.model.config.context_length,
            "perplexity": whole.loss.perplexity,
            "bytes": whole.bytes,
            "weights": count_weights(lm.model)[0],
            "most": amounts[-1],
            "methods": {
                name: {
                    "label": method.label,
                    "bits": list(widths(method)),
                    "reads_texts": _reads_texts(method),
                }
                for name, method in methods.items()
            },
            "rows": _rows(whole, kept, methods),
            "inputs": _inputs(kept, methods, most, measure),
            "bits": settings.bits,
            "other": other,
            "calibration": _calibration(whole, kept, methods, settings, texts, wrong, measure),
        }


def _reads_texts(method: type[Quantizer]) -> bool:
    """Return whether a method calibrates by texts although it leaves inputs as they are."""
    return bool(method.Settings(activations="float").reads_texts)


def _layouts(method: type[Quantizer]) -> list[str | None]:
    """Return what shares a scale in the forms that are tried; None: the method has one form."""
    return [each for each in _LAYOUTS if each in layouts(method)] or [None]


def _form(bits: int, layout: str | None) -> dict[str, Any]:
    return {"bits": bits} if layout is None else {"bits": bits, "granularity": layout}


def _calibrated(methods: Mapping[str, type[Quantizer]], bits: int) -> dict[str, _Form]:
    """Return the methods that read texts and have a width, with their form of most scales."""
    return {
        name: (name, bits, _layouts(method)[-1])
        for name, method in methods.items()
        if bits in widths(method) and _reads_texts(method)
    }


def _how_many(
    methods: Mapping[str, type[Quantizer]], settings: QuantizationExperiment, kinds: int
) -> int:
    """Return how many models are made."""
    forms = sum(len(widths(method)) * len(_layouts(method)) for method in methods.values())
    each = len(set(settings.amounts)) - 1 + kinds
    return forms + len(_INPUTS) * len(methods) + each * len(_calibrated(methods, settings.bits))


def _rows(
    whole: _Reading,
    kept: Mapping[_Form, _Reading],
    methods: Mapping[str, type[Quantizer]],
) -> list[Row]:
    rows = []
    for form, reading in kept.items():
        name, bits, layout = form
        plain = _plain(kept, methods, form)
        by_row = kept.get((name, bits, _LAYOUTS[0]), reading)
        rows.append(
            {
                "method": name,
                "bits": bits,
                "granularity": layout,
                "bytes": reading.bytes,
                "perplexity": reading.loss.perplexity,
                "more": reading.beside(whole),
                "beside_plain": None if plain is None else reading.beside(plain),
                "beside_rows": None if by_row is reading else reading.beside(by_row),
            }
        )
    return rows


def _inputs(
    kept: Mapping[_Form, _Reading],
    methods: Mapping[str, type[Quantizer]],
    ids: Tensor,
    measure: Callable[..., _Reading],
) -> list[Row]:
    rows = []
    for name, method in methods.items():
        bits, layout = widths(method)[0], _layouts(method)[0]
        for rounding in _INPUTS:
            reading = measure(name, ids, **_form(bits, layout), activations=rounding)
            rows.append(
                {
                    "method": name,
                    "bits": bits,
                    "granularity": layout,
                    "activations": rounding,
                    "perplexity": reading.loss.perplexity,
                    "more": reading.beside(kept[name, bits, layout]),
                }
            )
    return rows


def _calibration(
    whole: _Reading,
    kept: Mapping[_Form, _Reading],
    methods: Mapping[str, type[Quantizer]],
    settings: QuantizationExperiment,
    texts: Mapping[int, Tensor],
    wrong: Mapping[str, Tensor],
    measure: Callable[..., _Reading],
) -> list[Row]:
    most = max(texts)
    rows = []
    for name, form in _calibrated(methods, settings.bits).items():
        given = {**_form(*form[1:]), "activations": "float"}
        readings = {
            ("own", amount): kept[form] if amount == most else measure(name, ids, **given)
            for amount, ids in texts.items()
        }
        readings |= {(kind, most): measure(name, ids, **given) for kind, ids in wrong.items()}
        plain = _plain(kept, methods, form)
        for (kind, amount), reading in readings.items():
            right = reading is kept[form]
            rows.append(
                {
                    "method": name,
                    "text": kind,
                    "windows": amount,
                    "perplexity": reading.loss.perplexity,
                    "more": reading.beside(whole),
                    "beside_most": None if right else reading.beside(kept[form]),
                    "beside_plain": None if plain is None else reading.beside(plain),
                }
            )
    return rows


def _plain(
    kept: Mapping[_Form, _Reading], methods: Mapping[str, type[Quantizer]], form: _Form
) -> _Reading | None:
    """Return the first method's without texts in the same form, which others are measured against.

    None: there is none, or the form is that method's own.
    """
    name, bits, layout = form
    for other, method in methods.items():
        plain = (other, bits, layout or _LAYOUTS[-1])
        if not _reads_texts(method) and plain in kept:
            return None if other == name else kept[plain]
    return None


def _other_text(
    context: Context, settings: QuantizationExperiment, tokenizer: Tokenizer, count: int
) -> tuple[dict[str, Any], Tensor | None]:
    """Return what is said of another corpus, and windows of it; None: the model reads it too badly.

    It is no other where the run's text is of that corpus.
    """
    said: dict[str, Any] = {"corpus": settings.other, "unknown_rate": None, "read": False}
    if settings.other == context.config.data.corpus:
        return said, None
    own = context.config.data
    data = DataConfig(
        corpus=settings.other, train_stories=own.train_stories, cache_folder=own.cache_folder
    )
    rate = encoded_split(data, tokenizer, "train", context.console).header.unknown_rate
    said |= {"unknown_rate": rate, "read": rate <= MANY_UNKNOWN}
    if not said["read"]:
        return said, None
    return said, calibration_windows(context, count, settings.seed, tokenizer=tokenizer, data=data)


def wrong_texts(ids: Tensor, vocab_size: int, seed: int) -> dict[str, Tensor]:
    """Return texts as long as given ones that nobody wrote.

    Args:
        ids: texts, (texts, seq).
        vocab_size: ids that there are.
        seed: of what is drawn.

    Returns:
        ``shuffled``: the tokens of all texts in no order; ``even``: tokens drawn evenly, but for
        the special ones. Each (texts, seq), int64.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(ids.numel(), generator=generator)
    drawn = torch.randint(len(SPECIAL_TOKENS), vocab_size, ids.shape, generator=generator)
    return dict(zip(_WRONG, (ids.flatten()[order].view_as(ids), drawn), strict=True))
