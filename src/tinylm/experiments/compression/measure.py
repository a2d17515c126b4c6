"""The experiment on all ways of compression: every form of the run's model, read and timed."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from tinylm import folders
from tinylm.compression.pruner import Pruner
from tinylm.compression.quantizer import Quantizer, layouts, widths
from tinylm.data.windows import windows_of
from tinylm.errors import CompressionError, ConfigError
from tinylm.evaluation.perplexity import split_loss
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.block_losses import losses_of
from tinylm.experiments.compression.comparing import MASKED, MIXED, REMOVED, ROUNDED, WHOLE
from tinylm.experiments.compression.settings import CompressionExperiment
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.decoded_text import DecodedText
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.smaller import Smaller, num_bytes
from tinylm.experiments.trials import Remedy, commands_of
from tinylm.fast import install, remove
from tinylm.model.base import GenerativeModel
from tinylm.registry import DISTILLATIONS, PRUNERS, QUANTIZERS
from tinylm.training.commands import lower

NAME = "compression"
_Form = tuple[dict[str, Any], Callable[[], GenerativeModel]]


def run(context: Context) -> dict[str, Any]:
    """Make every form of the run's best checkpoint, measure its perplexity, and time its decoding.

    Nothing is written to the run but trainings, which are deleted at the end.

    Returns:
        ``rows``, the whole model first: of each form its ``kind`` (``comparing``), ``method``,
        ``width`` (bits of a weight, and of one of the embedding; None: float32), the ``share`` that
        went, ``bytes`` of its weights, ``losses`` of blocks of windows (``block_losses``; their
        targets are ``tokens``) and ``decoding``, the seconds of a text; forms of one layout share
        a timing.

    Raises:
        CheckpointError: if there is no checkpoint.
        CompressionError: if the model is quantized already or has adapters, or nothing can go.
        ConfigError: for too few texts, and methods that do not suit.
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if a training diverged.
    """
    settings: CompressionExperiment = context.config.experiments.compression
    folder = context.folder / NAME
    rate = f"experiments.compression.rate={lower(settings.rate)}"
    remedy = Remedy("train at a lower rate", rate)
    with threads(context.config.training.threads):
        smaller = Smaller(context, settings, folder, commands_of(context, NAME, remedy))
        work = _Work(context, smaller, settings)
        forms = [*work.forms()]
        with context.console.task("Making the model smaller", len(forms)) as done:
            for number, (about, make) in enumerate(forms, 1):
                work.measure(about, make())
                done(number)
        rows = work.timed()
    if folder.exists():
        folders.remove(folder)
    quantizers = {name: QUANTIZERS.load(name) for name in QUANTIZERS}
    return {
        "rows": rows,
        "windows": work.num_windows,
        "tokens": work.tokens,
        "decoded": work.text.tokens,
        "parts": list(settings.parts),
        "masked": settings.masked,
        "steps": settings.steps,
        "taught": DISTILLATIONS.load(settings.distillation).noun,
        "method": settings.method,
        "labels": {name: method.label for name, method in quantizers.items()}
        | {name: PRUNERS.load(name).label for name in PRUNERS},
    }


class _Work:
    """What all of the measurements read, and what they gave."""

    def __init__(self, context: Context, smaller: Smaller, settings: CompressionExperiment) -> None:
        self.context, self.smaller, self.settings = context, smaller, settings
        lm = smaller.lm
        for name in settings.masks:
            if PRUNERS.load(name).removes:
                able = [each for each in PRUNERS if not PRUNERS.load(each).removes]
                raise ConfigError(
                    f"experiments.compression.masks: {name} removes parts: give some of "
                    f"{', '.join(able)}"
                )
        self.shares = [share for share in smaller.shapes() if share]
        if not self.shares:
            raise CompressionError(
                f"of the {smaller.parts} nothing can go: give other experiments.compression.parts"
            )
        split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
        self.windows = windows_of(split, lm.model.config)
        key = "experiments.compression.windows"
        tell_fewer(context.console, key, settings.windows, len(self.windows))
        self.indices = self.windows.fixed_subset(settings.windows)
        self.num_windows = len(self.windows) if self.indices is None else len(self.indices)
        self.tokens: list[int] = []
        self.text = DecodedText(context, lm.tokenizer, settings.tokens)
        self.rows: list[dict[str, Any]] = []
        self.models: dict[str, GenerativeModel] = {}

    def forms(self) -> Iterator[_Form]:
        """Yield what is said of each form, and what makes it; the whole model first."""
        smaller, settings = self.smaller, self.settings
        model = smaller.lm.model
        yield _about(WHOLE), partial(copy.deepcopy, model)
        for name in QUANTIZERS:
            method: type[Quantizer] = QUANTIZERS.load(name)
            for bits in widths(method):
                about = _about(ROUNDED, name, (bits, bits), layout=not layouts(method))
                yield about, partial(smaller.quantized, model, method, bits=bits)
        for width in settings.widths:
            about = _about(MIXED, settings.method, width)
            yield about, partial(smaller.rounded, model, width)
        for name in settings.masks:
            about = _about(MASKED, name, share=settings.masked)
            yield about, partial(self._masked, name)
        for share in self.shares:
            shape = functools.cache(partial(smaller.trained, share))
            for form in (None, *settings.combined):
                about = _about(REMOVED, settings.method if form else None, form, share)
                yield about, partial(self._taught, shape, form)

    def _taught(
        self, shape: Callable[[], GenerativeModel], width: tuple[int, int] | None
    ) -> GenerativeModel:
        return self.smaller.rounded(shape(), width)

    def _masked(self, name: str) -> GenerativeModel:
        method: type[Pruner] = PRUNERS.load(name)
        model = copy.deepcopy(self.smaller.lm.model)
        return method.prune(model, self.settings.masked, method.Settings(), self.smaller.ids).model

    def measure(self, about: dict[str, Any], model: GenerativeModel) -> None:
        """Note the loss and the bytes of a form; the first of its layout is timed later."""
        install(model)
        size = self.context.config.evaluation.batch_size
        loss = split_loss(model, self.windows, size, self.indices)
        remove(model)
        losses, self.tokens = losses_of(loss)
        self.rows.append({**about, "bytes": num_bytes(model), "losses": losses})
        self.models.setdefault(_layout(about), model)

    def timed(self) -> list[dict[str, Any]]:
        """Return the rows with the time of decoding, one model of each layout in turns."""
        with self.context.console.task("Timing what was made", 1) as done:
            times = run_interleaved(
                {name: self.text.by(model) for name, model in self.models.items()},
                self.settings.repeats,
                progress=done,
            )
        return [
            {key: value for key, value in row.items() if key != "layout"}
            | {"decoding": times[_layout(row)].as_result()}
            for row in self.rows
        ]


def _about(
    kind: str,
    method: str | None = None,
    width: tuple[int, int] | None = None,
    share: float = 0.0,
    layout: bool = False,
) -> dict[str, Any]:
    """Return what is said of a form.

    Args:
        kind: of ``comparing``.
        method: name in a registry.
        width: bits of a weight, and of one of the embedding.
        share: that went.
        layout: whether the method's codes are stored in a way of its own.
    """
    return {
        "kind": kind,
        "method": method,
        "width": None if width is None else list(width),
        "share": share,
        "layout": method if layout or kind == MASKED else None,
    }


def _layout(row: dict[str, Any]) -> str:
    """Return what decides the time of decoding."""
    return f"{row['share']} {row['width']} {row['layout']}"
