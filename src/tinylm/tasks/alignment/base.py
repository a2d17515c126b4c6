"""What every alignment has: a start that it is held to, prompts, and when it must stop.

The start reads what the policy reads, in eval mode and without gradients. At every validation
the policy answers prompts that are held out: reward, KL, length and variety are then known for
every method, whatever it learns from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tinylm.alignment.measuring import Measured, measure_policy
from tinylm.alignment.samples import Reward
from tinylm.alignment.start_sums import StartSums
from tinylm.config import TrainingConfig
from tinylm.data.preferences import Preferences
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.task import Batches, Task

_HELD_OUT_SEED = 1_000_003
"""Added to the seed of the responses that are held out, so that no training draws them."""


@dataclass(frozen=True)
class Aim:
    """What an alignment is made of."""

    start: GenerativeModel
    """The model as it is before; in eval mode, it is not trained."""
    settings: Any
    """Of the type ``Settings`` of the method."""
    tokenizer: Tokenizer
    prompts: Sequence[Sequence[int]]
    """To be answered while training, ``<sos>`` first."""
    held_out: Sequence[Sequence[int]]
    """To be answered at validations."""
    most: int
    """Tokens of a response."""
    reward: Reward | None
    """What is good; None: preferences alone say it."""
    preferences: Preferences | None
    """None: the method learns from rewards."""
    source: str
    """Fingerprint of all that it learns from."""
    seed: int
    """Of what is drawn."""
    batch_size: int
    """Texts in a forward pass that no gradient is computed of."""
    judge: Reward | None = None
    """The true reward, which is measured at validations and never learned from."""


class Alignment(Task[GenerativeModel, Batches]):
    """One way to align a model: what entries of the registry ALIGNMENTS derive from."""

    Settings: ClassVar[type]
    """The frozen dataclass of its settings."""
    label: ClassVar[str]
    """Its name in a table or a figure."""
    noun: ClassVar[str]
    """Its name in a sentence, such as ``direct preference optimisation``."""
    explanation: ClassVar[str]
    """A sentence of the report, as inline markup: what is learned, with the source."""
    learns_from: ClassVar[Literal["preferences", "rewards"]]
    """What it needs."""
    learning_rate: ClassVar[float]
    """Where none is given."""
    adapter_rate: ClassVar[float] = 10.0
    """Times that, where an adapter alone is trained."""
    steps: ClassVar[int]
    """Optimizer steps where none are given."""
    batch_size: ClassVar[int]
    """Examples of a forward pass where no number is given."""
    in_nats = False
    temperature: float = 1.0
    """At which the policy is measured."""
    start_sums: StartSums | None = None
    """What the start makes of responses that are known before all steps; None: it is not asked."""

    def __init__(self, aim: Aim) -> None:
        self.aim = aim
        self.settings = aim.settings
        self.tokenizer = aim.tokenizer
        self.source = aim.source
        self.start = aim.start.eval().requires_grad_(False)
        self.held = {"the start": self.start.config}
        self.measured: Measured | None = None
        """Of the last validation."""
        self.generated = 0 if aim.preferences is None else aim.preferences.generated
        """Tokens of responses that were drawn to learn from."""
        self._first_variety: float | None = None
        self._stopped: str | None = None
        self._measures: dict[str, float] = {}
        self._held_out_measures: dict[str, float] = {}
        self.begin(aim)

    def begin(self, aim: Aim) -> None:
        """Make what the method has beside the start.

        Raises:
            TinylmError: if it cannot align by these settings, prompts or preferences.
        """

    @property
    def texts_to_read(self) -> int:
        """Texts that are read once before all steps, which takes a while; 0: there are none."""
        return 0 if self.start_sums is None else len(self.start_sums)

    def read_texts(self, progress: Callable[[float], None]) -> None:
        """Read ``texts_to_read``, and tell how many are read.

        Where it is left out, they are read with the first step: a training that goes on has what
        was read of them in ``tensors``.
        """
        if self.start_sums is not None:
            self.start_sums.compute(progress)

    @staticmethod
    def suited(training: TrainingConfig, settings: Any) -> TrainingConfig:
        """Return the settings of a training by this method, its own where none were given.

        Args:
            training: with the defaults of every alignment, and what was asked for.
            settings: of the method.
        """
        return training

    @classmethod
    @abstractmethod
    def with_budget(
        cls, settings: Any, training: TrainingConfig, tokens: int, length: float
    ) -> tuple[Any, TrainingConfig]:
        """Return settings with which about so many tokens are generated to learn from.

        Args:
            settings: of the method.
            training: of the training.
            tokens: that are to be generated in all.
            length: mean tokens of a response.
        """

    def start_on(self, device: torch.device) -> GenerativeModel:
        """Return the start, on the policy's device."""
        if self.start.embedding.weight.device != device:
            self.start.to(device)
        return self.start

    @abstractmethod
    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return what is to be made small, on what is held out.

        Args:
            model: in eval mode.
            measured: its responses to the held-out prompts.
        """

    @torch.no_grad()
    def validate(self, model: GenerativeModel) -> float:
        """Answer the held-out prompts, and return ``held_out_loss``."""
        aim = self.aim
        device = model.embedding.weight.device
        measured = measure_policy(
            model,
            self.start_on(device),
            aim.held_out,
            aim.most,
            aim.seed + _HELD_OUT_SEED,
            aim.reward,
            self.temperature,
            aim.judge,
        )
        self.measured = measured
        if self._first_variety is None:  # of the start itself, which passes no limit
            self._first_variety = measured.variety
        else:
            self._stopped = self._passed(measured)
        return self.held_out_loss(model, measured)

    def _passed(self, measured: Measured) -> str | None:
        """Return which limit the responses pass, as ``stopped`` says it, or None."""
        assert self._first_variety is not None
        settings = self.settings
        if measured.mean_kl > settings.kl_limit:
            return (
                f"the KL from the start is {measured.mean_kl:.4g} nats a response, and kl_limit is "
                f"{settings.kl_limit:g}: the best checkpoint before is kept; give a higher beta, a "
                "lower learning rate, or a higher kl_limit"
            )
        if measured.variety < settings.least_variety * self._first_variety:
            return (
                f"the responses have collapsed: {measured.variety:.1%} of their pairs of words "
                f"differ, {self._first_variety:.1%} did at the start, and least_variety is "
                f"{settings.least_variety:g} of that: the best checkpoint before is kept; give a "
                "higher beta or a lower learning rate"
            )
        return None

    def measures(self) -> Mapping[str, float]:
        """Return what the method measured of its last batch."""
        return self._measures

    def held_out_measures(self) -> Mapping[str, float]:
        """Return reward, KL, length and variety of the last validation, and the method's own."""
        named = {} if self.measured is None else self.measured.named()
        return {**named, **self._held_out_measures}

    def held_out_texts(self) -> Mapping[str, Sequence[float]]:
        """Return both rewards of every response of the last validation, where a judge is given."""
        if self.measured is None or not self.measured.judged:
            return {}
        return {"reward": self.measured.rewards, "true reward": self.measured.judged}

    def stopped(self) -> str | None:
        """Return what limit was passed, or None."""
        return self._stopped

    def settled(self, step: int) -> bool:
        """Whether no limit was passed: what has passed one is never the best."""
        return self._stopped is None

    def state(self) -> dict[str, Any]:
        """Return what decides when it stops, and how much was generated."""
        return {
            "first_variety": self._first_variety,
            "stopped": self._stopped,
            "generated": self.generated,
        }

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what the start makes of texts, so that it is computed once."""
        sums = None if self.start_sums is None else self.start_sums.sums
        return {} if sums is None else {"start": sums}

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Resume from what ``state`` and ``tensors`` returned."""
        if self.start_sums is not None:
            self.start_sums.restore(tensors.get("start"))
        self._first_variety = state["first_variety"]
        self._stopped = state["stopped"]
        self.generated = state["generated"]
