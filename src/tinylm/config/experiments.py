"""The settings of the experiments: each keeps its own, and here they stand together."""

from __future__ import annotations

import dataclasses
import pkgutil
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.registry import EXPERIMENTS
from tinylm.value_types import FROZEN


def _together() -> Any:
    """Return a dataclass with a field for each experiment that has settings."""
    fields = []
    for name in EXPERIMENTS:
        experiment = EXPERIMENTS.load(name)
        if experiment.settings is not None:
            kind: Any = pkgutil.resolve_name(experiment.settings)
            described: Any = Annotated[kind, Field(description=experiment.summary)]
            fields.append((experiment.key, described, dataclasses.field(default=kind())))
    made = dataclasses.make_dataclass(
        "ExperimentsConfig",
        fields,
        frozen=True,
        namespace={"__module__": __name__},
    )
    together = dataclass(frozen=True, config=FROZEN)(made)
    together.__doc__ = "What the experiments try."
    return together


if TYPE_CHECKING:
    ExperimentsConfig = Any
else:
    ExperimentsConfig = _together()
