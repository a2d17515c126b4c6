"""Language modelling while weights are pruned: the share under masks rises (Zhu and Gupta 2017).

It rises after some of the first steps along a cubic curve (``masking.cubic_share``) and depends on
the step's number alone; the masks are kept with every checkpoint, so that training goes on as if it
had not stopped. What is measured while it rises is of denser models: none of these is the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tinylm.compression.masking import Masking, cubic_share, targets
from tinylm.data.windows import Windows
from tinylm.evaluation.perplexity import split_loss
from tinylm.model.base import GenerativeModel
from tinylm.model.masks import hold
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.base import Tokenizer

_RISES = 20
"""Times that it is pruned, at most."""


@dataclass(frozen=True)
class Curve:
    """What is pruned, and when."""

    method: type[Masking]
    settings: Any
    """Of the method."""
    ids: Tensor | None
    """Texts to calibrate by, (texts, seq); None: the method reads none."""
    first: float
    """Share that is pruned before the first step."""
    share: float
    """Share that is pruned after the last rise."""
    last: int
    """The step after which that is."""

    @property
    def rises(self) -> frozenset[int]:
        """The steps after which the share rises."""
        return frozenset(max(1, round(self.last * i / _RISES)) for i in range(1, _RISES + 1))


class GradualPruning(LanguageModelling):
    """Windows of a split, learned while masks grow."""

    def __init__(
        self,
        curve: Curve,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None,
    ) -> None:
        """Train on one split and validate on another; arguments as of ``LanguageModelling``."""
        super().__init__(tokenizer, windows, validation, batch_size, subset, measure_training=True)
        self.curve = curve
        self.pruned_loss: float | None = None
        """Validation loss as it came out of the last rise, in nats a token; None: not yet."""

    def after_step(self, model: GenerativeModel, step: int) -> None:
        """Prune further where the share rises (``Task.after_step``)."""
        curve = self.curve
        if step not in curve.rises:
            return
        modules = targets(model, curve.settings.targets, curve.method.kinds)
        share = cubic_share(step, curve.last, curve.share, curve.first)
        hold(model, curve.method.kept(model, modules, share, curve.settings, curve.ids))
        if step == curve.last:
            loss = split_loss(model, self.validation, self.batch_size, self.subset)
            self.pruned_loss = loss.mean

    def settled(self, step: int) -> bool:
        """Whether all is pruned that should be (``Task.settled``)."""
        return step >= self.curve.last

    def state(self) -> dict[str, Any]:
        """Return the loss that is measured once."""
        return {"pruned_loss": self.pruned_loss}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` returned."""
        super().restore(state, tensors)
        self.pruned_loss = state["pruned_loss"]
