"""Linear probes: whether something can be read off activations by a linear map, and what it means.

A probe is a multinomial logistic regression from activations to labels, fitted on some texts and
judged on others. That it succeeds does not show that the model knows the label: a probe can learn
by itself what its input only identifies. The *control task* of Hewitt and Liang 2019 ("Designing
and Interpreting Probes with Control Tasks") measures that: every kind of input is given one label
at random, the same on both sides of the split, and the accuracy at the true labels less that at
these is the probe's *selectivity*. The same probe on a model with random weights shows what is
owed to the architecture and the text alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError

_ITERATIONS = 200
_SMALLEST_STD = 1e-6


@dataclass(frozen=True, eq=False)
class Probe:
    """A linear map from activations to the logits of labels, in float64."""

    mean: Tensor
    """Of the activations that it was fitted on, (dimensions,)."""
    scale: Tensor
    """Their standard deviation, (dimensions,)."""
    weight: Tensor
    """(dimensions, labels), of standardised activations."""
    bias: Tensor
    """(labels,)"""

    def logits(self, activations: Tensor) -> Tensor:
        """Return logits, (texts, labels), of activations, (texts, dimensions)."""
        return (activations.double() - self.mean) / self.scale @ self.weight + self.bias

    def right(self, activations: Tensor, labels: Tensor) -> Tensor:
        """Return which labels, (texts,), are the likeliest, (texts,) of bool."""
        return self.logits(activations).argmax(1) == labels


def fit_probe(activations: Tensor, labels: Tensor, num_labels: int, decay: float = 1e-3) -> Probe:
    """Return the probe of the least mean cross-entropy and ``decay / 2`` times its squared weights.

    The objective is convex, so that the result follows from the data; L-BFGS finds it.

    Args:
        activations: (texts, dimensions).
        labels: (texts,), each below ``num_labels``.
        num_labels: two or more.
        decay: of the weights of standardised activations; the bias is free.

    Raises:
        ConfigError: without texts or with fewer than two labels.
    """
    if not len(activations) or num_labels < 2:
        raise ConfigError(
            f"a probe of {num_labels} labels cannot be fitted on {len(activations)} activations: "
            "give some, and two labels at least"
        )
    x = activations.detach().double().cpu()
    mean, scale = x.mean(0), x.std(0, correction=0).clamp(min=_SMALLEST_STD)
    x, y = (x - mean) / scale, labels.cpu()
    weight = torch.zeros(x.shape[1], num_labels, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_labels, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12,
        history_size=20, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x @ weight + bias, y)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(objective)  # type: ignore[no-untyped-call]
    return Probe(mean, scale, weight.detach(), bias.detach())


def control_labels(kinds: Sequence[Hashable], num_labels: int, seed: int) -> Tensor:
    """Return a label at random for every kind of input, the same wherever the kind stands.

    Args:
        kinds: of each input, such as its word or its sentence.
        num_labels: from which is drawn, all alike likely.
        seed: of the draws, which go to the kinds in their order of appearance.

    Returns:
        (inputs,)
    """
    once = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_labels, (len(once),), generator=generator)
    return drawn[torch.tensor([once[kind] for kind in kinds], dtype=torch.long)]
