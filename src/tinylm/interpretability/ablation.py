"""Ablation: a run with some activations replaced by what says nothing of its text.

What they are replaced by decides what is asked. Zeros take away the usual size of an activation,
too, which no text ever does; a mean keeps that and takes away what depends on the text; another
text's activations (resampling) keep even the scatter (Chan et al. 2022, "Causal Scrubbing"; Wang et
al. 2023, section 2). Each is a source for ``patching.patched``. Whole heads are left out by
``leaving_out``: ``head_ablation`` measures the loss over texts without them, ``subsets`` runs every
subset of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.trace import Trace, axes_of
from tinylm.model.hooks import Hook


@dataclass(frozen=True, eq=False)
class Zeros:
    """Zeros in place of every activation."""

    base: Trace
    """The run that is ablated."""

    def __getitem__(self, name: str) -> Tensor:
        """Return zeros of an activation's shape."""
        return self.base[name].new_zeros(self.base[name].shape)


@dataclass(frozen=True, eq=False)
class Means:
    """The mean of an activation over all tokens of other texts, the same at every position."""

    base: Trace
    """The run that is ablated."""
    texts: Trace
    """What the means are taken over; its padding does not count."""

    def __getitem__(self, name: str) -> Tensor:
        """Return the mean at every position, (1, …).

        Raises:
            ConfigError: for scores and patterns, whose keys are other tokens in every text.
        """
        value, base = self.texts[name], self.base[name]
        if axes_of(name, value.dim())[-1] == "key":
            raise ConfigError(
                f"{name} has no mean over texts, since its keys are the tokens of each: ablate it "
                "by zeros or by another text"
            )
        mean = token_sum(value, self.texts.real) / self.texts.real.sum()
        return mean.unsqueeze(-2).to(base).expand(base.shape)


def token_sum(value: Tensor, counted: Tensor) -> Tensor:
    """Return the sum of an activation over tokens, (size) or (heads, size), float64.

    Args:
        value: (texts, seq, size) or (texts, heads, seq, size).
        counted: tokens that count, (texts, seq), bool.
    """
    counted = counted[..., None] if value.dim() == 3 else counted[:, None, :, None]
    return (value * counted).double().sum((0, -2))


def leaving_out(kept: Tensor, replacement: Tensor) -> Hook:
    """Return a hook of a layer's ``attention.mixed`` that replaces what some heads mix.

    Args:
        kept: heads that compute by themselves, (rows or 1, heads), bool.
        replacement: of those that are left out, (texts or 1, heads, seq or 1, head_dim); rows are
            the texts once or many times over, in order.
    """

    def replace(_: str, mixed: Tensor) -> Tensor:
        texts = len(replacement)
        by = replacement if texts == 1 else replacement.repeat(len(mixed) // texts, 1, 1, 1)
        return torch.where(kept[..., None, None].to(mixed.device), mixed, by.to(mixed))

    return replace


def resampled(base: Trace, texts: Trace, which: int) -> Trace:
    """Return the run of another text, as a source of activations in place of the run's own.

    Args:
        base: the run that is ablated.
        texts: runs of other texts.
        which: text that is taken.

    Raises:
        ConfigError: if there is no such text.
        GenerationError: if it is not as long as the run's.
    """
    other = texts.of(which)
    if other.ids.shape != base.ids.shape:
        raise GenerationError(
            f"text {which} has {other.ids.shape[1]} tokens and the run that is ablated "
            f"{base.ids.shape[1]}: resample from texts of the same length"
        )
    return other
