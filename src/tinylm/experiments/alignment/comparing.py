"""What the figure and the section read out of a result of alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.measurement import Difference, Verdict, mean

Row = Mapping[str, Any]


def values(method: Row, key: str) -> list[float]:
    """Return one value a seed."""
    return [float(policy[key]) for policy in method["policies"]]


def average(method: Row, key: str) -> float:
    """Return the mean over the seeds."""
    return fmean(values(method, key))


def gained(method: Row) -> Difference:
    """Return how much more true reward a method's policies earn than the start, seed by seed.

    Both answered the same prompts with the same random numbers.
    """
    return mean(
        [
            own - before
            for own, before in zip(
                values(method, "reward"), values(method, "start_reward"), strict=True
            )
        ]
    )


def beside(first: Row, second: Row, key: str) -> Difference:
    """Return how much a method's policies exceed another's, seed by seed."""
    return mean([a - b for a, b in zip(values(first, key), values(second, key), strict=True)])


def attainable(result: Row, kl: float) -> float:
    """Return the most reward at a divergence, in nats a response, by the frontier."""
    curve = np.array(result["frontier"])
    return float(np.interp(kl, curve[:, 0], curve[:, 1]))


def share_of_attainable(result: Row, method: Row) -> float:
    """Return what a method gains, as a share of what its divergence allows."""
    start = result["start"]["reward"]
    most = attainable(result, average(method, "kl")) - start
    return (average(method, "reward") - start) / most if most > 0 else 0.0


def path(method: Row) -> list[tuple[float, float]]:
    """Return KL and reward on the way, the mean of the seeds, for as long as all go on."""
    curves = [policy["curve"] for policy in method["policies"]]
    return [
        (fmean(each["KL"] for each in points), fmean(each["reward"] for each in points))
        for points in zip(*curves, strict=False)
    ]


def on_the_way(result: Row, key: str) -> list[list[float]]:
    """Return what policies by the learned reward had at each validation, (seeds, validations)."""
    curves = [policy["curve"] for policy in result["learned"]["policies"]]
    shortest = min(map(len, curves))
    return [[float(point[key]) for point in curve[:shortest]] for curve in curves]


def best_place(true: Sequence[Sequence[float]]) -> int:
    """Return the validation at which the true reward is highest, by the mean of the seeds."""
    return int(np.argmax(np.mean(true, axis=0)))


@dataclass(frozen=True)
class TooFar:
    """What became of a policy by the learned reward from where its true reward was best."""

    place: int
    """The validation at which it was."""
    true: Difference
    """How much the true reward changed from there to the end, text by text."""
    learned: Difference

    @property
    def over_optimised(self) -> bool:
        """Whether the true reward fell measurably while the learned one rose."""
        return self.true.verdict is Verdict.LESS and self.learned.verdict is Verdict.MORE


def too_far(policy: Row) -> TooFar:
    """Return how a policy's rewards changed from its best true reward to the end.

    Where the best place is, the other half of the texts says; see ``after_the_best``.
    """
    true, learned = (
        np.array([point["texts"][key] for point in policy["curve"]]) for key in ("true", "learned")
    )  # (validations, texts)
    halves = [slice(0, None, 2), slice(1, None, 2)]
    places = [int(true[:, other].mean(1).argmax()) for other in reversed(halves)]

    def change(values: npt.NDArray[np.float64]) -> Difference:
        parts = [
            values[-1, half] - values[place, half]
            for half, place in zip(halves, places, strict=True)
        ]
        return mean(np.concatenate(parts))

    return TooFar(int(true.mean(1).argmax()), change(true), change(learned))


def after_the_best(result: Row, key: str) -> Difference:
    """Return how much a reward changes from the best true reward to the end, seed by seed.

    Where the best place is, the other seeds say: chosen and measured by the same numbers, the best
    would always be too good.
    """
    true, wanted = on_the_way(result, "true"), on_the_way(result, key)
    changes = []
    for place, own in enumerate(wanted):
        others = [curve for i, curve in enumerate(true) if i != place] or [true[place]]
        changes.append(own[-1] - own[best_place(others)])
    return mean(changes)
