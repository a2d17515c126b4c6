"""The changes of a model, made again: the entries of the registry ``CHANGES``.

Each takes a model and the settings that ``model.changes`` tells of, checks them, and does what was
done. A file that lists changes is not trusted: names are those of registries, numbers have bounds,
and an order that cannot be is refused by the functions that make the changes in the first place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tinylm.config import from_dict
from tinylm.config.finetuning import ClassificationConfig
from tinylm.errors import AdapterError
from tinylm.finetuning import adapters
from tinylm.finetuning.classification import Classifier
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.longlora import extended
from tinylm.finetuning.record import Attached, Fingerprint
from tinylm.model.base import GenerativeModel, Model
from tinylm.reading import checked, refusal
from tinylm.registry import METHODS

Settings = Mapping[str, Any]
Kind = TypeVar("Kind")
Whole = Annotated[int, Field(ge=0)]


@with_config(extra="forbid")
class _Extended(TypedDict):
    context_length: Annotated[int, Field(ge=2)]


@with_config(extra="forbid")
class _Named(TypedDict):
    name: str


@with_config(extra="forbid")
class _Ranked(TypedDict):
    name: str
    rank: Whole


@with_config(extra="forbid")
class _Active(TypedDict):
    names: list[str]


@with_config(extra="forbid")
class _Nothing(TypedDict):
    pass


@with_config(extra="forbid")
class _Headed(TypedDict):
    num_labels: Whole
    settings: dict[str, Any]
    start_id: Whole
    base: Fingerprint


def extend(model: Model, settings: Settings) -> Model:
    """Let the model read a longer context."""
    return extended(_generative(model, "extend"), _checked(_Extended, settings)["context_length"])


def attach(model: Model, settings: Settings) -> Model:
    """Add an adapter, which alone is active then; its parameters start anew."""
    about = _checked(Attached, settings)
    method = about["method"]
    chosen = from_dict(METHODS.load(method).Settings, about["settings"], "settings")
    body = _generative(model, "attach")
    return adapters.attach(body, method, chosen, about["name"], about["base"])


def rank(model: Model, settings: Settings) -> Model:
    """Use an adapter at one of its ranks."""
    about = _checked(_Ranked, settings)
    set_rank(model, about["rank"], about["name"])
    return model


def activate(model: Model, settings: Settings) -> Model:
    """Let some of the adapters act."""
    adapters.activate(model, _checked(_Active, settings)["names"])
    return model


def detach(model: Model, settings: Settings) -> Model:
    """Remove an adapter that left a trace in the base."""
    name = _checked(_Named, settings)["name"]
    return adapters.detach(_generative(model, "detach"), name)


def merge(model: Model, settings: Settings) -> Model:
    """Let the adapters that act do so through the weights."""
    _checked(_Nothing, settings)
    adapters.merge(model)
    return model


def fold(model: Model, settings: Settings) -> Model:
    """Move the adapters that act into the weights for good."""
    _checked(_Nothing, settings)
    return adapters.fold(_generative(model, "fold"))


def classify(model: Model, settings: Settings) -> Model:
    """Put a classifier's head on the model, whose adapter is attached."""
    about = _checked(_Headed, settings)
    body = _generative(model, "classify")
    vocab_size = body.config.resolved_vocab_size
    if about["start_id"] >= vocab_size:
        raise AdapterError(
            f"start_id = {about['start_id']}, the model has {vocab_size - 1} at most"
        )
    chosen = from_dict(ClassificationConfig, about["settings"], "settings")
    return Classifier(body, about["num_labels"], chosen, about["start_id"], about["base"])


def _checked(kind: type[Kind], settings: Settings) -> Kind:
    return checked(kind, dict(settings), refusal("settings", AdapterError))


def _generative(model: Model, name: str) -> GenerativeModel:
    """Return a model that texts can be made with.

    Raises:
        AdapterError: if it is another.
    """
    if not isinstance(model, GenerativeModel):
        raise AdapterError(f"a {type(model).__name__} comes last: nothing is done to it afterwards")
    return model
