"""What a run is trained on, and what is done when its training has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinylm.data.token_files import TokenFile
from tinylm.data.windows import Windows
from tinylm.tasks.carried import carried
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.base import Tokenizer


@dataclass(frozen=True, kw_only=True)
class Course:
    """A run's own text, learned from drawn weights on."""

    train: TokenFile
    """What is read: the training split, or other text."""
    has_start: bool = False
    """Whether it begins with weights of the run's own (``experiments.starts``)."""
    carry_state: bool = False
    """Whether a window goes on from the state that the one before it left."""

    def task(
        self,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None,
    ) -> LanguageModelling:
        """Return the task; arguments as of ``LanguageModelling``.

        Raises:
            ConfigError: if it cannot be trained as the run's configuration says.
        """
        kind = carried(LanguageModelling) if self.carry_state else LanguageModelling
        return kind(tokenizer, windows, validation, batch_size, subset, measure_training=True)

    def finish(self, task: LanguageModelling, steps: int) -> None:
        """Write down what came of it, once training has ended by itself.

        Args:
            task: as ``task`` returned it.
            steps: of the optimizer that were taken in all.
        """
