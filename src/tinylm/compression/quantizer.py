"""What a quantization method is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, get_args, get_type_hints

from torch import Tensor

from tinylm.model.base import GenerativeModel


class Quantizer(Protocol):
    """One way to round a model's weights: an entry of the registry QUANTIZERS.

    It puts quantized maps in the places of the plain ones (``quantizing.put``). What is common to
    all methods is done around it by ``quantizing.quantize``: the rounding of inputs, and writing
    down what the model has become.
    """

    Settings: ClassVar[type]
    """The frozen dataclass of its settings, which derives from ``config.quantization.Inputs``;
    ``bits`` is one of them."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """Its name in a sentence, such as ``rounding to the nearest``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: how it rounds, with the source."""

    @staticmethod
    def quantize(model: GenerativeModel, settings: Any, ids: Tensor | None) -> Mapping[str, Any]:
        """Quantize the targets of a model.

        Everything is looked up and checked before anything is changed.

        Args:
            model: changed in place; none of it is quantized yet.
            settings: of the type ``Settings``.
            ids: texts to calibrate by, (texts, seq), without padding; None: none are needed.

        Returns:
            What a reader should know of what came of it, as JSON values.

        Raises:
            CompressionError: for targets that match nothing, and weights that the format does not
                suit.
        """
        ...


def widths(method: type[Quantizer]) -> tuple[int, ...]:
    """Return the bits of a weight that a method can be asked for, most first."""
    return tuple(sorted(_values(method, "bits"), reverse=True))


def layouts(method: type[Quantizer]) -> tuple[str, ...]:
    """Return what can share a scale by a method, empty for one that has blocks of its own."""
    return _values(method, "granularity")


def _values(method: type[Quantizer], setting: str) -> tuple[Any, ...]:
    return get_args(get_type_hints(method.Settings).get(setting))
