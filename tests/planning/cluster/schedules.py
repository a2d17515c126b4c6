"""Pipeline schedules run event by event: the reference of bubbles and of what a stage keeps."""

from __future__ import annotations

from dataclasses import dataclass

Work = tuple[str, int, int]
"""Forward or backward, micro-batch, part of a stage's layers."""


def order(stage: int, stages: int, parts: int, count: int) -> list[Work]:
    """Return what a stage does in turn: one forward, one backward, after a warm-up.

    With several parts as in Narayanan et al. 2021, section 2.2: micro-batches in groups of as many
    as there are stages, each group through all parts.
    """
    if parts == 1:
        forward = [("forward", i, 0) for i in range(count)]
        backward = [("backward", i, 0) for i in range(count)]
        warm = min(stages - stage - 1, count)
    else:
        group = stages * parts
        places = [
            (k // group * stages + k % stages, k % group // stages) for k in range(count * parts)
        ]
        forward = [("forward", i, part) for i, part in places]
        backward = [("backward", i, parts - 1 - part) for i, part in places]
        warm = min(2 * (stages - stage - 1) + (parts - 1) * stages, count * parts)
    turns = forward[:warm]
    for next_forward, next_backward in zip(forward[warm:], backward, strict=False):
        turns += [next_forward, next_backward]
    return turns + backward[len(forward) - warm :]


@dataclass(frozen=True)
class Run:
    """What came of it."""

    seconds: float
    kept: list[int]
    """The most parts of micro-batches whose backward pass was to come, by stage."""


def simulate(stages: int, parts: int, count: int, forward: float, backward: float) -> Run:
    """Run a schedule; ``forward`` and ``backward`` are a stage's seconds of a micro-batch."""
    queues = [order(stage, stages, parts, count) for stage in range(stages)]
    clocks, ends = [0.0] * stages, {}
    places = [0] * stages
    while any(place < len(queue) for place, queue in zip(places, queues, strict=True)):
        moved = False
        for stage in range(stages):
            if places[stage] == len(queues[stage]):
                continue
            kind, index, part = queues[stage][places[stage]]
            needed = before(kind, index, part, stage, stages, parts)
            if needed is not None and needed not in ends:
                continue
            start = max(clocks[stage], ends[needed] if needed else 0.0)
            clocks[stage] = start + (forward if kind == "forward" else backward) / parts
            ends[kind, index, part, stage] = clocks[stage]
            places[stage] += 1
            moved = True
        assert moved, "the schedule waits for itself"
    kept = []
    for queue in queues:
        held, most = 0, 0
        for kind, _, _ in queue:
            held += 1 if kind == "forward" else -1
            most = max(most, held)
        kept.append(most)
    return Run(max(clocks), kept)


def before(
    kind: str, index: int, part: int, stage: int, stages: int, parts: int
) -> tuple[str, int, int, int] | None:
    """Return what must be done first, or None."""
    if kind == "forward":
        if stage:
            return "forward", index, part, stage - 1
        return ("forward", index, part - 1, stages - 1) if part else None
    if stage < stages - 1:
        return "backward", index, part, stage + 1
    if part < parts - 1:
        return "backward", index, part + 1, 0
    return "forward", index, part, stage
