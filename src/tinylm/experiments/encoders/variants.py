"""What is compared: kinds of models of equal size, and what each is trained to predict.

A kind says itself, by its class in ``MODELS``, which settings it has, what it sees and predicts of
a window, and what it costs; its name decides nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.experiments.encoders.readings import REST
from tinylm.experiments.encoders.settings import EncodersExperiment
from tinylm.model.base import GenerativeModel
from tinylm.planning.flops import step_flops
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import MODELS

TOLERANCE: Final = 0.02
"""How far the parameters of two kinds may lie apart, as a share."""
_WIDEST: Final = 1 << 14
_CONTINUING: Final = ("whole", "rest")
"""Views in which what follows is predicted."""


@dataclass(frozen=True)
class Variant:
    """A kind of model, and what its trainings predict of a window."""

    kind: str
    view: Literal["rest"] | None = None

    @property
    def name(self) -> str:
        """Of its folder and in results."""
        return self.kind if self.view is None else f"{self.kind}{REST}"

    @property
    def model(self) -> type[GenerativeModel]:
        """The class of its models."""
        loaded: type[GenerativeModel] = MODELS.load(self.kind)
        return loaded

    @property
    def predicts(self) -> str:
        """What it sees and predicts of a window, a name in ``VIEWS``."""
        return self.view or self.model.view


def variants(settings: EncodersExperiment) -> list[Variant]:
    """Return what is trained: every kind in its own way, the first on the rests of windows too.

    The last tells what of a difference is the architecture's, and what comes of how many tokens of
    a window are predicted. It is left out where the first kind predicts nothing else.

    Raises:
        ConfigError: for a kind that stands there twice, or sizes that contradict each other.
    """
    for kind in settings.kinds:
        if settings.kinds.count(kind) > 1:
            raise ConfigError(
                f"experiments.encoders.kinds: {kind} stands there twice: give it once"
            )
        if (view := Variant(kind).predicts) not in _CONTINUING:
            raise ConfigError(
                f"experiments.encoders.kinds: {kind} does not learn to continue a text (it reads "
                f"windows by the view {view!r}): leave it out"
            )
    longest = max(settings.context_length, settings.item_context)
    if settings.tokens_per_step < longest:
        raise ConfigError(
            f"experiments.encoders.tokens_per_step = {settings.tokens_per_step} is less than a "
            f"window of {longest} tokens: give more tokens, or a shorter context"
        )
    if settings.questions % 4:
        raise ConfigError(
            f"experiments.encoders.questions = {settings.questions}: each is asked in four ways, "
            f"so that guessing gets one half: give a multiple of 4"
        )
    first = Variant(settings.kinds[0])
    others = [Variant(kind) for kind in settings.kinds[1:]]
    if first.predicts == "rest":
        return [first, *others]
    return [first, Variant(first.kind, "rest"), *others]


def reference(settings: EncodersExperiment, vocab_size: int, context_length: int) -> ModelConfig:
    """Return the model of the first kind, whose size the others get."""
    kind = settings.kinds[0]
    return _config(kind, settings, vocab_size, context_length, settings.hidden_size)


def matched(
    kind: str, settings: EncodersExperiment, vocab_size: int, context_length: int
) -> ModelConfig:
    """Return the model of a kind whose parameters are nearest to those of the first kind.

    The width decides; where the kind has one, the feed-forward width then closes what is left.

    Raises:
        ConfigError: if no width comes near enough.
    """
    wanted = reference(settings, vocab_size, context_length)
    if kind == wanted.kind:
        return wanted
    target = parameter_counts(wanted)["total"]

    def of(width: int) -> ModelConfig:
        return _config(kind, settings, vocab_size, context_length, width)

    model = of(_nearest(lambda width: parameter_counts(of(width))["total"], target))
    if "ffn_size" in MODELS.load(kind).settings:
        width = model.hidden_size

        def with_inner(inner: int) -> ModelConfig:
            return _config(kind, settings, vocab_size, context_length, width, inner)

        inner = _nearest(lambda size: parameter_counts(with_inner(size))["total"], target)
        model = with_inner(inner)
    total = parameter_counts(model)["total"]
    if abs(total / target - 1) > TOLERANCE:
        raise ConfigError(
            f"experiments.encoders.hidden_size = {settings.hidden_size}: the nearest {kind} has "
            f"{total:,} parameters and the {wanted.kind} {target:,}, more than {TOLERANCE:.0%} "
            "apart: choose a larger width"
        )
    return model


def _nearest(size: Callable[[int], int], target: int) -> int:
    """Return the argument from 1 on whose size is nearest; sizes rise with it."""
    low, high = 1, 2
    while size(high) < target and high < _WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return min((low, high), key=lambda each: abs(size(each) - target))


def _config(
    kind: str,
    settings: EncodersExperiment,
    vocab_size: int,
    context_length: int,
    hidden_size: int,
    ffn_size: int | None = None,
) -> ModelConfig:
    """Return a configuration with those of these settings that the kind has.

    Biases of the scores by distance stand for the positions: they have no table, so that a model
    can be given more tokens than it was trained on (Press et al. 2022).
    """
    has = MODELS.load(kind).settings
    wanted: dict[str, Any] = {
        "vocab_size": vocab_size,
        "context_length": context_length,
        "num_layers": settings.num_layers,
        "num_heads": settings.num_heads,
        "hidden_size": hidden_size,
        "ffn_size": ffn_size,
        "dropout": 0.0,
        "norm_placement": "pre",
        "positions": "alibi",
    }
    known = {field.name for field in fields(ModelConfig)}
    assert set(wanted) <= known
    return ModelConfig(kind=kind, **{name: wanted[name] for name in wanted if name in has})


def flops_per_token(model: ModelConfig) -> float:
    """Return the operations of a training step for each token that is read."""
    return step_flops(model, model.context_length) / model.context_length
