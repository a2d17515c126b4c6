"""Learning from the rewards of own samples: the rollouts that every policy gradient needs.

A phase draws responses to some prompts, once, and the steps that follow learn from these: the loop
goes through them ``passes`` times, in batches of its size and in an order of its own. Which prompts
are drawn follows from the seed and the number of the phase; what was drawn is kept with every
checkpoint, so that a training that was stopped in the middle of a phase goes on bit for bit.

A response that is cut off at the longest length has ended: no later token is part of what is
rewarded, so that nothing is predicted for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.alignment.log_probabilities import of_labels, response_rows, sample_responses
from tinylm.alignment.measuring import Measured
from tinylm.alignment.policy_losses import NORMALISATIONS
from tinylm.alignment.rollouts import Rollouts, restored
from tinylm.alignment.samples import Sample
from tinylm.alignment.value_head import ValueHead
from tinylm.config import TrainingConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import AlignmentError, ConfigError
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.tasks.alignment.base import Aim, Alignment

_SEEDS = 2**31
_WARMUP = 8
"""Steps: Adam's first ones move every weight as far, whatever the gradient says of it, and cost as
much divergence as later ones for less reward."""
_READ_AT_ONCE = 16
"""Responses; more are drawn at once, for a step of decoding is short."""


@dataclass(frozen=True)
class Drawn:
    """The responses of a phase, before it is said what is learned from them."""

    scores: Tensor
    """What each is worth, the penalty of no end taken off, (responses,)."""
    mask: Tensor
    """(responses, seq), True at tokens of a response."""
    old: Tensor
    """Log-probabilities under the policy, (responses, seq)."""
    start: Tensor
    """Under the start."""
    values: Tensor
    """Predicted, (responses, seq); 0 without a value head."""
    group: int
    """Responses to a prompt; they stand side by side."""


@dataclass(frozen=True)
class Signal:
    """What is learned from the responses of a phase, token by token, (responses, seq) each."""

    advantages: Tensor
    returns: Tensor


class PolicyAlignment(Alignment[Rollouts]):
    """What the policy gradients share: prompts in, rewards of the policy's own responses out."""

    learns_from = "rewards"
    learning_rate = 1e-4
    steps = 40
    batch_size = 64

    # What a method says:

    def signal(self, drawn: Drawn) -> Signal:
        """Return advantages and what a value head is to predict."""
        raise NotImplementedError

    def token_losses(self, new: Tensor, old: Tensor, batch: Rollouts) -> Tensor:
        """Return the loss of every token, (rows, seq), and write down what is measured of it.

        Args:
            new: log-probabilities with a gradient, (rows, seq).
            old: under the policy that drew them, (rows, seq).
            batch: the responses.
        """
        raise NotImplementedError

    @property
    def normalise(self) -> str:
        """Over what a loss is a mean: a key of ``NORMALISATIONS``."""
        return "sum"

    @property
    def needs_old(self) -> bool:
        """Whether the policy reads its responses before the first step of a phase, too."""
        return True

    @property
    def has_values(self) -> bool:
        """Whether a value head is trained beside the policy."""
        return False

    def value_losses(self, values: Tensor, batch: Rollouts) -> Tensor:
        """Return the loss of every prediction, (rows, seq), where there are any."""
        raise NotImplementedError

    def after_phase(self, kl: float) -> None:
        """Change what depends on how far the policy is, ``kl`` nats a response."""

    # What they share:

    @classmethod
    def with_budget(
        cls, settings: Any, training: TrainingConfig, tokens: int, length: float
    ) -> tuple[Any, TrainingConfig]:
        """Return the steps of so many phases; see ``Alignment.with_budget``."""
        responses = settings.prompts * settings.samples
        phases = max(1, round(tokens / (responses * length)))
        of_a_step = training.batch_size * training.accumulation_steps
        steps = phases * settings.passes * math.ceil(responses / of_a_step)
        return settings, replace(training, max_steps=steps)

    @staticmethod
    def suited(training: TrainingConfig, settings: Any) -> TrainingConfig:
        """Return the settings of a training whose passes are ``minibatches`` steps each.

        Raises:
            ConfigError: if there are more of these than responses.
        """
        responses = settings.prompts * settings.samples
        if settings.minibatches > responses:
            raise ConfigError(
                f"-o minibatches={settings.minibatches}: a phase has {responses:,} responses "
                f"({settings.prompts:,} prompts, {settings.samples:,} samples each): give so many "
                "at most"
            )
        of_a_step = math.ceil(responses / settings.minibatches)
        batch = min(training.batch_size, of_a_step)
        parts = math.ceil(of_a_step / batch)
        warmup = min(_WARMUP, (training.max_steps or 0) // 4)
        return replace(training, batch_size=batch, accumulation_steps=parts, warmup_steps=warmup)

    def begin(self, aim: Aim) -> None:
        """Begin with nothing drawn.

        Raises:
            AlignmentError: if there is nothing to be rewarded by.
        """
        if aim.reward is None:
            raise AlignmentError(f"{self.noun} learns from rewards, and none is given")
        self.temperature = self.settings.temperature
        self.beta: float = self.settings.beta
        self.longest = max(map(len, aim.prompts)) + aim.most - 1
        self.taken = 0
        """Responses that were trained on, each as often as it was."""
        self.updated = False
        """Whether the policy has moved since the phase began."""
        self.phase: Rollouts | None = None
        self._of_phase: dict[str, float] = {}
        self._of_steps: list[dict[str, float]] = []
        if self.has_values:
            dtype = aim.start.embedding.weight.dtype
            self.beside = ValueHead(
                aim.start.config.hidden_size, torch.promote_types(dtype, torch.float32)
            )

    def __len__(self) -> int:
        """Return the responses of a phase."""
        return int(self.settings.prompts * self.settings.samples)

    @property
    def _of_a_phase(self) -> int:
        return len(self) * int(self.settings.passes)

    def batch(self, indices: npt.NDArray[np.int64]) -> Rollouts:
        """Return places in a phase, whose responses may not be drawn yet."""
        places = torch.from_numpy(indices)[:, None]  # (rows, 1)
        no = torch.zeros(len(indices), 0)  # (rows, 0)
        return Rollouts(places, no, no, no, no, no, no, no, no)

    def prepare(self, model: GenerativeModel, batch: Rollouts) -> Rollouts:
        """Return the responses of these places; the first batch of a phase draws them."""
        if self.taken % self._of_a_phase == 0:
            self.phase = self._draw(model, self.taken // self._of_a_phase)
            self.updated = False
        assert self.phase is not None
        self.taken += len(batch.ids)
        self._of_steps = []
        return self.phase.take(batch.ids[:, 0], fresh=not self.updated)

    def after_step(self, model: GenerativeModel, step: int) -> None:
        """Note that the policy has moved."""
        self.updated = True

    def _draw(self, model: GenerativeModel, phase: int) -> Rollouts:
        aim, settings = self.aim, self.settings
        draw = np.random.default_rng((aim.seed, phase))
        again = settings.prompts > len(aim.prompts)
        chosen = draw.choice(len(aim.prompts), settings.prompts, replace=again)
        prompts = [aim.prompts[i] for i in chosen for _ in range(settings.samples)]
        seed = int(draw.integers(_SEEDS))
        samples = sample_responses(model, prompts, aim.most, seed, self.temperature)
        self.generated += sum(len(sample.response) for sample in samples)
        rewards = self._rewards(samples)
        device = model.embedding.weight.device
        rows = response_rows(samples).to(device)
        before = self.start_on(device)
        with torch.no_grad(), evaluating(model), evaluating(before):
            start, _ = self._read(before, rows, False)
            old, values = torch.zeros_like(start), torch.zeros_like(start)
            if self.needs_old:
                old, values = self._read(model, rows, self.has_values)
        mask = rows.labels != IGNORED
        ended = torch.tensor([sample.finished for sample in samples], device=device)
        scores = torch.tensor(rewards, dtype=old.dtype, device=device)
        drawn = Drawn(
            scores - settings.no_end_penalty * ~ended,
            *(mask, old, start, values, settings.samples),
        )
        self._of_phase = {
            "reward": sum(rewards) / len(rewards),
            "length": float(mask.sum(1).double().mean()),
        }
        signal = self.signal(drawn)
        if self.needs_old:
            self._of_phase["KL"] = float((old - start).sum(1).mean())
            self.after_phase(self._of_phase["KL"])
        normalisation = NORMALISATIONS[self.normalise]
        assert rows.real is not None
        return Rollouts(
            *(rows.ids, rows.labels, rows.real),
            weights=normalisation.weights(mask, settings.samples, aim.most).to(old.dtype),
            **{"old": old, "start": start, "values": values, **vars(signal)},
            by_tokens=normalisation.by_tokens,
        )

    def _rewards(self, samples: Sequence[Sample]) -> list[float]:
        """Return the reward of each response.

        Raises:
            AlignmentError: if one is not finite.
        """
        assert self.aim.reward is not None
        rewards = self.aim.reward(samples)
        for sample, reward in zip(samples, rewards, strict=True):
            if not math.isfinite(reward):
                text = self.tokenizer.decode(list(sample.ids))[:60]
                raise AlignmentError(
                    f"the reward {self.aim.reward.label} gives {reward:g} to the response "
                    f"{text!r}: rewards must be finite; the last checkpoint is kept"
                )
        return rewards

    def _read(
        self, model: GenerativeModel, rows: Batch, with_values: bool
    ) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and values of the labels, (rows, seq) each.

        Texts of a length are read together, so that little padding is.
        """
        assert rows.real is not None
        lengths = rows.real.sum(1)
        residuals, labels, places = [], [], []
        for chosen in torch.split(lengths.argsort(stable=True), _READ_AT_ONCE):
            length = int(lengths[chosen[-1]])
            wanted = rows.labels[chosen, :length]
            row, column = (wanted != IGNORED).nonzero(as_tuple=True)
            x = model.residual(
                rows.ids[chosen, :length],
                real=rows.real[chosen, :length],
                given=None if rows.given is None else rows.given[chosen],
            )
            residuals.append(x.flatten(0, 1).index_select(0, row * length + column))
            labels.append(wanted[row, column])
            places.append(chosen[row] * rows.labels.shape[1] + column)
        x, place = torch.cat(residuals), torch.cat(places)
        logs = of_labels(model, x, torch.cat(labels), self.temperature)  # (targets,)
        flat = logs.new_zeros(rows.labels.numel())
        values = flat
        if with_values:
            assert self.beside is not None
            values = flat.scatter(0, place, self.beside(x).to(logs.dtype))
        return flat.scatter(0, place, logs).view_as(rows.labels), values.view_as(rows.labels)

    def loss(self, model: GenerativeModel, batch: Rollouts) -> tuple[Tensor, int]:
        """Return the summed loss of responses or tokens; see ``Task.loss``.

        The first step of a phase takes its own log-probabilities for the old ones, so that the
        ratio is 1 to the last bit.
        """
        new, values = self._read(model, batch.rows, self.has_values)
        if not (batch.fresh or self.needs_old):
            raise AlignmentError(
                "a phase of one step was cut into several: let training.accumulation_steps be as "
                "the method's `suited` makes it"
            )
        old = new.detach() if batch.fresh else batch.old
        losses = self.token_losses(new, old, batch)
        if not self.needs_old:
            self._of_steps[-1]["KL"] = float((old - batch.start).sum(1).mean())
        if self.has_values:
            losses = losses + self.value_losses(values, batch)
        return (losses * batch.weights).sum(), batch.num_targets

    def note(self, **measured: float) -> None:
        """Write down what was measured of a batch, under names whose ``_`` are spaces."""
        self._of_steps.append({name.replace("_", " "): each for name, each in measured.items()})

    def held_out_loss(self, model: GenerativeModel, measured: Measured) -> float:
        """Return what the objective lacks: beta KL less the reward."""
        assert measured.mean_reward is not None
        return float(self.settings.beta * measured.mean_kl - measured.mean_reward)

    def measures(self) -> Mapping[str, float]:
        """Return reward, KL and length of the phase, and what the method notes, of the step."""
        of_steps = {
            name: sum(each[name] for each in self._of_steps) / len(self._of_steps)
            for name in (self._of_steps[0] if self._of_steps else ())
        }
        return self._of_phase | of_steps

    def state(self) -> dict[str, Any]:
        """Return how far it is in the phase, too."""
        return super().state() | {
            "taken": self.taken,
            "updated": self.updated,
            "beta": self.beta,
            "measured": self._of_phase,
        }

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what was drawn and is still to be learned from."""
        if self.phase is None or self.taken % self._of_a_phase == 0:
            return {}
        return self.phase.tensors()

    def restore(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Go on in the middle of a phase."""
        super().restore(state, tensors)
        self.taken = state["taken"]
        self.updated = state["updated"]
        self.beta = state["beta"]
        self._of_phase = dict(state["measured"])
        if tensors:
            self.phase = restored(tensors, NORMALISATIONS[self.normalise].by_tokens)
