"""Exact Shapley values, interactions and best subsets of a game whose every coalition is known.

``values[s]`` is what the players of subset ``s`` reach, where bit i of ``s`` says whether player i
is among them. With n players that is an array of 2^n numbers, and every question of the theory has
an exact answer: a player's value (Shapley 1953), how much two of them do together beyond what they
do apart (the Shapley interaction index of Grabisch and Roubens 1999), the best subset of each size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def players_of(values: Tensor) -> int:
    """Return the number of players, n, of (..., 2^n) values.

    Raises:
        ValueError: if their number is no power of 2.
    """
    count = values.shape[-1]
    if count < 1 or count & (count - 1):
        raise ValueError(f"{count} values are not those of all subsets")
    return count.bit_length() - 1


def sizes_of(players: int) -> Tensor:
    """Return the number of players in each subset, (2^n,), int64."""
    subsets = torch.arange(2**players)
    return sum(((subsets >> i) & 1 for i in range(players)), torch.zeros_like(subsets))


def shapley_values(values: Tensor) -> Tensor:
    """Return each player's Shapley value, (..., n).

    ``sum over S without i of |S|! (n - |S| - 1)! / n! * (v(S with i) - v(S))``. They sum to
    ``v(all) - v(none)``.

    Args:
        values: of every subset, (..., 2^n).
    """
    n = players_of(values)
    sizes, subsets = sizes_of(n), torch.arange(2**n)
    weights = torch.tensor([1 / (n * math.comb(n - 1, s)) for s in range(n)], dtype=torch.float64)
    result = []
    for player in range(n):
        without = subsets[(subsets >> player) & 1 == 0]
        gain = values[..., without | 1 << player] - values[..., without]
        result.append((gain * weights[sizes[without]].to(values.dtype)).sum(-1))
    return torch.stack(result, -1) if result else values.new_zeros(*values.shape[:-1], 0)


def interactions(values: Tensor) -> Tensor:
    """Return the Shapley interaction index of each pair, (..., n, n), 0 on the diagonal.

    Above 0 where two players reach more together than apart, below 0 where one can stand in for
    the other.

    Args:
        values: of every subset, (..., 2^n).
    """
    n = players_of(values)
    sizes, subsets = sizes_of(n), torch.arange(2**n)
    weights = torch.tensor(
        [1 / ((n - 1) * math.comb(n - 2, s)) for s in range(n - 1)], dtype=torch.float64
    )
    result = values.new_zeros(*values.shape[:-1], n, n)
    for i in range(n):
        for j in range(i):
            both = 1 << i | 1 << j
            without = subsets[subsets & both == 0]
            gain = (
                values[..., without | both]
                - values[..., without | 1 << i]
                - values[..., without | 1 << j]
                + values[..., without]
            )
            index = (gain * weights[sizes[without]].to(values.dtype)).sum(-1)
            result[..., i, j] = result[..., j, i] = index
    return result


def best_subsets(values: Tensor) -> list[int]:
    """Return the subset of each size, 0 to n, that reaches most; of equal ones the first.

    Args:
        values: of every subset, (2^n,).
    """
    sizes, subsets = sizes_of(players_of(values)), torch.arange(len(values))
    best = []
    for size in range(players_of(values) + 1):
        of_size = subsets[sizes == size]
        best.append(int(of_size[values[of_size].argmax()]))
    return best


def greedy_subsets(values: Tensor) -> list[int]:
    """Return a subset of each size, 0 to n, made by leaving out one player after another.

    Each time the one without whom the rest reaches most. This is what can be afforded where all
    subsets cannot.

    Args:
        values: of every subset, (2^n,).
    """
    n = players_of(values)
    subset = 2**n - 1
    chosen = [subset]
    for _ in range(n):
        rests = [subset & ~(1 << i) for i in range(n) if subset >> i & 1]
        subset = max(rests, key=lambda rest: float(values[rest]))
        chosen.append(subset)
    return chosen[::-1]


def ranked_subsets(scores: Sequence[float]) -> list[int]:
    """Return the subset of each size, 0 to n, of the players with the highest scores."""
    order = sorted(range(len(scores)), key=lambda player: -scores[player])
    return [sum(1 << player for player in order[:size]) for size in range(len(scores) + 1)]


def members(subset: int) -> list[int]:
    """Return the players of a subset, in order."""
    return [i for i in range(subset.bit_length()) if subset >> i & 1]
