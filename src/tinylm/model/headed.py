"""A model that is a decoder's body with a head of its own in place of the last map."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from tinylm.config import ModelConfig
from tinylm.model.base import Change, GenerativeModel, LayerRunner, Model


class Headed(Model):
    """What is true of the body is true of it, and the head is its last change."""

    body: GenerativeModel
    head_change: Change
    """How it is written down that the body got its head."""

    @property
    def config(self) -> ModelConfig:
        """The body's."""
        return self.body.config

    @property
    def built(self) -> ModelConfig:
        """What the body was built from."""
        return self.body.built

    @property
    def changes(self) -> tuple[Change, ...]:
        """The body's, and the head."""
        return (*self.body.changes, self.head_change)

    @property
    def stepwise(self) -> frozenset[str]:
        """The body's, by their paths here."""
        return frozenset(f"body.{path}" for path in self.body.stepwise)

    @property
    def compiles(self) -> bool:
        """Whether the body's layers can be compiled."""
        return self.body.compiles

    @property
    def aside(self) -> Mapping[str, nn.Parameter]:
        """What the body keeps aside."""
        return self.body.aside

    @property
    def layer_runner(self) -> LayerRunner | None:
        """How the body's layers are run."""
        return self.body.layer_runner

    @layer_runner.setter
    def layer_runner(self, runner: LayerRunner | None) -> None:
        self.body.layer_runner = runner
