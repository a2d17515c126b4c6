"""4-bit NormalFloat: each weight takes the nearest of 16 quantiles of a normal distribution.

Dettmers et al. 2023, section 3; ``numbers.nf4`` has the format. Needs no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from tinylm.compression.quantizer import Quantizer
from tinylm.compression.quantizing import put, targets
from tinylm.config.quantization import NormalFloatConfig
from tinylm.model.base import GenerativeModel
from tinylm.numbers.nf4 import NormalFloat


class NF4(Quantizer):
    """Codes that are as likely as each other where weights are normal."""

    Settings = NormalFloatConfig
    label = "NF4"
    noun = "4-bit NormalFloat"
    explanation = (
        "*NF4* [[dettmers2023]] gives every weight the nearest of 16 quantiles of a normal "
        "distribution, times a scale for every block of {block_size}."
    )

    @staticmethod
    def quantize(
        model: GenerativeModel, settings: NormalFloatConfig, ids: Tensor | None
    ) -> Mapping[str, Any]:
        """Round the targets (``Quantizer.quantize``)."""
        form = NormalFloat(settings.block_size, settings.double_quantization)
        put(model, dict.fromkeys(targets(model, settings.targets), form))
        return {}
