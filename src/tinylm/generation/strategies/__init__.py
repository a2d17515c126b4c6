"""Decoding strategies, one a file.

A chooser maps the logits of the next token to the next ids; the engine owns the loop. A searcher
owns the loop over the one step function; a strategy with a method ``search`` is one.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.generation.results import Generated, SpecialIds
from tinylm.generation.stepper import Stepper


class Strategy(Protocol):
    """What every strategy declares."""

    @staticmethod
    def uses(config: GenerationConfig) -> tuple[str, ...]:
        """Return the settings that have an effect here, beside those that every strategy has."""
        ...

    @staticmethod
    def where_unused(config: GenerationConfig, name: str) -> str:
        """Return where a setting has no effect: what follows "has no effect" in the message.

        Args:
            config: all settings.
            name: of one that ``uses`` does not name.
        """
        return f"with generation.strategy = {config.strategy}"


class Chooser(Strategy, Protocol):
    """Made from the settings; chooses the next token of each text, once a step."""

    def __init__(self, config: GenerationConfig) -> None:
        """Prepare for the texts of one call of ``generate``."""
        ...

    @property
    def temperature_alone(self) -> float | None:
        """The temperature, where nothing else decides; 0: the likeliest token is taken.

        Tokens are then drawn from the softmax over it of the logits as they are, by ``uniform``,
        and compiled loops may be used in place of ``choose``.
        """
        ...

    def uniform(self, streams: Tensor) -> Tensor:
        """Return the next number of each text, (growing,), in [0, 1), where any is drawn."""
        raise NotImplementedError

    def choose(self, logits: Tensor, seen: Tensor | None, streams: Tensor) -> Tensor:
        """Return the next ids.

        Args:
            logits: (growing, vocab), float32 or float64; forbidden tokens are -inf.
            seen: (growing, vocab), bool, True where the row's text so far holds the token; kept
                only if ``repetition_penalty`` is not 1, else None.
            streams: (growing,), int64, each text's own stream of random numbers, whichever texts
                grow beside it.

        Returns:
            (growing,), int64.
        """
        ...


class Searcher(Strategy, Protocol):
    """Made from the settings; searches for the whole texts in one call."""

    def __init__(self, config: GenerationConfig) -> None:
        """Prepare for the texts of one call of ``generate``.

        Raises:
            ConfigError: if settings contradict each other.
        """
        ...

    def search(self, stepper: Stepper, special: SpecialIds) -> list[Generated]:
        """Return the best continuation of each prompt, with its score and the next best.

        Args:
            stepper: its rows are the prompts; no step has been made.
            special: what must not be generated (``forbid``), and what ends a text.

        Returns:
            One result a prompt, in order.

        Raises:
            GenerationError: if no token may be generated.
        """
        ...
