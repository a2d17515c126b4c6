"""What a pruning method is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from torch import Tensor

from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel


@dataclass(frozen=True)
class Pruned:
    """What came of a pruning."""

    model: GenerativeModel
    """The model to use from now on."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a reader should know of it, as JSON values: which parts went, and their importance."""


class Pruner(Protocol):
    """One way to choose what goes: an entry of the registry PRUNERS.

    Either it sets weights to 0 under a mask (``masking.Masking``), or it removes parts of every
    layer, after which the model is smaller (``removal``).
    """

    Settings: ClassVar[type]
    """The frozen dataclass of its settings. One that derives from ``Calibrated`` reads texts."""
    removes: ClassVar[bool]
    """Whether the model becomes smaller; else the weights that go are held at 0."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """Its name in a sentence, such as ``pruning by magnitude``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: what goes, with the source."""

    @classmethod
    def refuse(cls, model: GenerativeModel, share: float | None, settings: Any) -> None:
        """Refuse what cannot go by the parts that a model has; no text is needed for that.

        Args:
            model: left as it is.
            share: as of ``prune``.
            settings: of the type ``Settings``.

        Raises:
            CompressionError: for targets that match nothing, and what cannot go.
        """
        ...

    @classmethod
    def prune(
        cls, model: GenerativeModel, share: float | None, settings: Any, ids: Tensor | None
    ) -> Pruned:
        """Prune a model.

        Everything is looked up and checked before anything is changed.

        Args:
            model: changed in place by masks; left alone where parts are removed.
            share: of the weights, or of the parts, that go, above 0, at most 1; None: the settings
                say how many.
            settings: of the type ``Settings``.
            ids: texts to calibrate by, (texts, seq), without padding; None: none are needed.

        Raises:
            CompressionError: for targets that match nothing, and what cannot go.
        """
        ...


def refuse_share(share: float) -> None:
    """Refuse a share that is none, or more than there is.

    Raises:
        CompressionError: saying what is allowed.
    """
    if not 0 < share <= 1:
        raise CompressionError(
            f"share = {share:g}: it must be above 0 and at most 1, of what there is; 0.5 is half"
        )


def calibration_ids(ids: Tensor | None) -> Tensor:
    """Return the texts that a method asks for.

    Raises:
        CompressionError: if there are none, or they are too short to predict a token in.
    """
    if ids is None or len(ids) == 0 or ids.shape[1] < 2:
        raise CompressionError("give texts of two tokens at least to calibrate by")
    return ids
