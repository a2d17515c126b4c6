"""A run whose weights are kept in fewer bits, made of another run."""

from __future__ import annotations

from pathlib import Path

from tinylm.compression.quantizing import quantize, refuse_quantized
from tinylm.config import DataConfig, to_dict
from tinylm.config.quantization import Inputs
from tinylm.errors import CompressionError, ConfigError
from tinylm.experiments.compressing import (
    Compression,
    before,
    calibration_windows,
    new_run,
    refuse_adapted,
    write_compressed,
)
from tinylm.experiments.context import Context
from tinylm.experiments.records import Compressed
from tinylm.language_model import LanguageModel
from tinylm.model.outputs import not_finite
from tinylm.registry import QUANTIZERS


def quantize_run(
    context: Context, out: Path, method: str, settings: Inputs, data: DataConfig | None = None
) -> Compressed:
    """Quantize a run's model and write the run that it becomes.

    Args:
        context: the run.
        out: folder of the new one.
        method: name in the registry QUANTIZERS.
        settings: of the method's type.
        data: text to calibrate by; None: the run's.

    Returns:
        What compression.json holds.

    Raises:
        CompressionError: if the run is quantized already, or its model gives numbers that are not
            finite, and what the method refuses.
        ConfigError: if the folder is not empty, the text has too few windows, or there is a text
            and nothing that would read it.
        DataError: for a text that cannot be used.
    """
    if data is not None and not settings.reads_texts:
        raise ConfigError(
            "--data is text to calibrate by, and this method reads none: leave it out"
        )
    with new_run(out, context.console):
        lm = LanguageModel.load(context.folder)
        refuse_adapted(context, lm)
        refuse_quantized(lm.model)  # before texts are read
        place = not_finite(lm.model)
        if place is not None:
            raise CompressionError(
                f"the weights of {lm.source} are broken: {place} is not finite; train the run again"
            )
        of = before(context, lm)
        ids = None
        calibration = None
        if settings.reads_texts:
            ids = calibration_windows(
                context,
                settings.windows,
                settings.calibration_seed,
                tokenizer=lm.tokenizer,
                data=data,
            )
            calibration = {
                "corpus": to_dict(data or context.config.data),
                "windows": settings.windows,
                "seed": settings.calibration_seed,
                "tokens": ids.numel(),
            }
        details = quantize(lm.model, QUANTIZERS.load(method), settings, ids)
        record = Compression("quantize", method, to_dict(settings), of, calibration, details)
        return write_compressed(out, context, lm, record)
