"""An experiment: the one object that its folder exports.

Whoever lists, runs, draws or writes up experiments asks these objects and knows none by name.
Functions are given as ``module:name`` and imported when they are called, so that a list of the
experiments loads neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinylm.registry import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tinylm.config import RunConfig
    from tinylm.experiments.context import Context
    from tinylm.experiments.document.inputs import ReportInputs
    from tinylm.report.blocks import Block

DATA, VECTORS, IMAGES = "data", "vectors", "images"
WEIGHTS = "weights"
"""The checkpoint that is measured."""
CHECKPOINTS = "checkpoints"
"""Those that training leaves."""
TEXT = (DATA, "tokenizer", VECTORS, "model")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is measured, drawn and written, and what that depends on."""

    name: str
    """As in the registry and on the command line."""
    summary: str
    """What it is about, in a line of ``tinylm experiment --list``."""
    chapter: str
    """What it is listed under."""
    depends_on: tuple[str, ...]
    """Parts of the configuration, such as ``training`` or ``report.prompts``, and the text,
    weights or images that its result comes from."""
    package: str
    """Its folder as a package, in which ``measure`` and ``section`` stand."""
    figures: str | None = None
    """Result and configuration -> names and figures."""
    pages: str | None = None
    """Result -> names and texts of files that stand beside the figures."""
    sentence: str | None = None
    """Inputs of the report -> what its abstract says of the result; empty without one."""
    abstract: str | None = None
    """Result -> the abstract of the experiment's own document; None: the sentence."""
    settings: str | None = None
    """The dataclass of its settings, which stand in the configuration below ``experiments``."""
    places: tuple[str, ...] = ()
    """Those of its settings that say where something lies."""
    fingerprint: str | None = None
    """Configuration -> what the images are that it depends on."""
    trains_run: bool = False
    """Whether it trains the run itself, and does not belong to one that was made of another."""
    needs_run: bool = True
    """Whether it works on a run; one that does not makes a folder of its own."""
    of_attention: bool = False
    """Whether it is about heads, keys and values or the residual stream, which not every kind of
    model has."""
    form: int = 1
    """Counted up when a result holds other values, so that those kept before are measured again."""

    @property
    def key(self) -> str:
        """The name of its settings below ``experiments``."""
        return self.name.replace("-", "_")

    @property
    def measure(self) -> str:
        """Context -> result, a dict of JSON values."""
        return f"{self.package}.measure:run"

    @property
    def section(self) -> str:
        """Inputs of the report -> blocks; none without a result."""
        return f"{self.package}.section:blocks"

    def suits(self, config: RunConfig) -> bool:
        """Whether a run's kind of model has what it is about."""
        return not self.of_attention or bool(MODELS.load(config.model.kind).attends)

    def images(self, config: RunConfig) -> Any:
        """Return what names the images that it depends on, as a JSON value."""
        return None if self.fingerprint is None else _load(self.fingerprint)(config)

    def run(self, context: Context) -> dict[str, Any]:
        """Measure, and return the result."""
        result: dict[str, Any] = _load(self.measure)(context)
        return result

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the section of the report, which is empty without a result."""
        blocks: list[Block] = _load(self.section)(inputs)
        return blocks

    def draw(self, result: Mapping[str, Any], config: RunConfig) -> Iterator[tuple[str, Figure]]:
        """Yield the figures that a result allows: names of files without their form, and what."""
        if self.figures is not None:
            yield from _load(self.figures)(result, config)

    def write(self, result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield names and texts of the files beside the figures."""
        if self.pages is not None:
            yield from _load(self.pages)(result)

    def said(self, inputs: ReportInputs) -> str:
        """Return what the report's abstract says of it, which is empty without a result."""
        if self.sentence is None or self.name not in inputs.results:
            return ""
        return str(_load(self.sentence)(inputs))

    def own_abstract(self, inputs: ReportInputs) -> str:
        """Return the abstract of the experiment's own document."""
        if self.abstract is None:
            return self.said(inputs)
        return str(_load(self.abstract)(inputs.results[self.name]))


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
