"""What is known of a model's adapters beside their parts, and how a checkpoint is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, with_config
from torch import nn
from typing_extensions import TypedDict

from tinylm.config import to_dict
from tinylm.finetuning.sites import plain_parameters, unwrapped
from tinylm.model.base import Change, Model
from tinylm.model.changes import change

_RECORD = "_adapters"

Fingerprint = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256 over a model's tensors, as ``adapters.fingerprint`` gives it."""


@with_config(extra="forbid")
class Attached(TypedDict):
    """What a file says of an adapter: its name, its method and settings, and the base it is of."""

    name: str
    method: str
    """In the registry METHODS."""
    settings: dict[str, Any]
    base: Fingerprint


@dataclass
class Adapter:
    """What is known of one adapter besides its parts."""

    method: str
    """Name in the registry METHODS."""
    settings: Any
    own: dict[str, nn.Parameter] = field(default_factory=dict)
    """Base parameters that it trains: plain name -> its own copy."""
    rank: int | None = None
    """The rank in use, where one was chosen of several."""
    replaces: bool = False
    """Whether modules of the base were replaced for it, and stay so without it."""


@dataclass
class Record:
    """The adapters of a model; kept with its plain module."""

    fingerprint: str
    """Of the model before the first adapter."""
    required: dict[str, bool]
    """Plain parameter name -> whether it required a gradient before the first adapter."""
    before: list[Change] = field(default_factory=list)
    """The model's changes before the first adapter, and those that a removed adapter left."""
    adapters: dict[str, Adapter] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)
    base: dict[str, nn.Parameter] = field(default_factory=dict)
    """The base's own parameters of the names that an adapter has copies of."""
    merged: bool = False

    def attached(self, name: str) -> Change:
        """Return how it is written down that an adapter was attached."""
        adapter = self.adapters[name]
        return change(
            "attach",
            name=name,
            method=adapter.method,
            settings=to_dict(adapter.settings),
            base=self.fingerprint,
        )

    def changes(self) -> list[Change]:
        """Return the changes that make a model what it is with its adapters, short of merging."""
        changes = [*self.before]
        for name, adapter in self.adapters.items():
            changes.append(self.attached(name))
            if adapter.rank is not None:
                changes.append(change("rank", name=name, rank=adapter.rank))
        if self.active != list(self.adapters)[-1:]:  # attaching one activates it alone
            changes.append(change("activate", names=list(self.active)))
        return changes

    def write_down(self, model: nn.Module) -> None:
        """Let a model list the changes that its adapters are, and what it keeps aside for them."""
        plain = unwrapped(model)
        if not isinstance(plain, Model):
            return
        acting = {id(parameter) for parameter in plain_parameters(model).values()}
        kept = {f"base/{key}": parameter for key, parameter in self.base.items()}
        for name, adapter in self.adapters.items():
            kept |= {f"adapter/{name}/{key}": parameter for key, parameter in adapter.own.items()}
        aside = {key: p for key, p in kept.items() if id(p) not in acting}
        changes = [*self.changes(), *([change("merge")] if self.merged else [])]
        plain.write_changes(changes, aside)


def record_of(model: nn.Module) -> Record | None:
    """Return the record of a model's adapters, or None if it has none."""
    record: Record | None = unwrapped(model).__dict__.get(_RECORD)
    return record


def keep_record(model: nn.Module, record: Record | None) -> None:
    """Keep a record with a model; None: forget the one that it has."""
    if record is None:
        del unwrapped(model).__dict__[_RECORD]
    else:
        unwrapped(model).__dict__[_RECORD] = record
