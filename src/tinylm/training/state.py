"""The part of a trainer's state that is no tensor, as it is read back."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

_Count = Annotated[int, Field(ge=0)]


class _Order(TypedDict):
    epoch: _Count
    next_window: _Count


class _Pending(TypedDict):
    loss: float
    targets: _Count
    norm: float
    steps: _Count
    seconds: float


class StateNumbers(TypedDict):
    """What ``Trainer.state`` keeps beside tensors."""

    corpus: str
    optimizer: str
    order: _Order
    tokens: _Count
    seconds: Annotated[float, Field(ge=0)]
    session_seconds: NotRequired[Annotated[float, Field(ge=0)]]
    best_loss: float | None
    best_step: int
    worse_validations: _Count
    last_validated: int
    pending: _Pending
    task: NotRequired[dict[str, Any]]
