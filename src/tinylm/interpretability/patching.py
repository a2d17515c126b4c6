"""Activation patching: a run with some activations replaced by those of another run.

``patched`` is the one function; what is put in place, and where, makes the methods: zeros, means or
another text's activations (``ablation``), the other prompt's of a pair (``sweep``), or a receiver's
as a sender alone would change it (``path_patching``). Sources: Vig et al. 2020, "Investigating
Gender Bias in Language Models Using Causal Mediation Analysis"; Meng et al. 2022, "Locating and
Editing Factual Associations in GPT".

Many patches are the rows of one batch, and none computes what it cannot change. A patch in layer l
at position p leaves the layers below l and the positions before p as they were, so a batch starts
from the stream that layer l read and the keys and values of the positions before p. A patch that
puts in place what is there already, bit for bit, is not run: its result is the run's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import Tensor

from tinylm.errors import ConfigError, nearest, shown
from tinylm.interpretability.pair_runs import Direction, PairRuns
from tinylm.interpretability.trace import Trace, axes_of
from tinylm.interpretability.weights import maps_of
from tinylm.model.decoder import evaluating
from tinylm.model.hooks import as_patterns
from tinylm.model.reading import Reading

_TOKENS = 2048
"""Tokens of a forward pass, about: larger ones leave the processor's cache."""


class Source(Protocol):
    """Where activations are taken from: a trace, or a mapping from names."""

    def __getitem__(self, name: str, /) -> Tensor:
        """Return an activation, (1 or rows, …), of the length of the run that is patched."""
        ...


@dataclass(frozen=True)
class Site:
    """Where a run is patched."""

    activation: str
    """Its name."""
    position: int | None = None
    """None: all positions."""
    head: int | None = None
    """Of an activation that has heads; None: all of them."""


@torch.no_grad()
def patched(base: Trace, source: Source, rows: Sequence[Sequence[Site]]) -> Tensor:
    """Run a text once a row, each time with other activations replaced.

    Args:
        base: of one text, all activations: the run that is patched.
        source: what is put in place; where its first axis is not 1, it counts the rows.
        rows: the sites that are replaced together.

    Returns:
        Logits after the last token, (rows, vocab). A row that replaces nothing, or everything by
        what is there, has exactly those of ``base``.

    Raises:
        ConfigError: for a site that the model has not, or an adapter inside its attention.
    """
    refuse(base, rows)
    last = base.logits[0, -1]
    results = last.expand(len(rows), -1).clone()
    length = base.ids.shape[1]
    starts = [_start(base, source, i, sites) for i, sites in enumerate(rows)]
    waiting = sorted((start, i) for i, start in enumerate(starts) if start is not None)
    with evaluating(base.model):
        while waiting:
            (stage, first), _ = waiting[0]
            most = max(_TOKENS // (length - first), 1)
            same = [i for (other, _), i in waiting[:most] if other == stage]
            sites = [(row, i, site) for row, i in enumerate(same) for site in rows[i]]
            results[same] = _finish(base, source, stage, first, len(same), sites)
            waiting = waiting[len(same) :]
    return results


def _finish(
    base: Trace,
    source: Source,
    stage: int,
    first: int,
    count: int,
    sites: Sequence[tuple[int, int, Site]],
) -> Tensor:
    """Run the layers from ``stage`` on, the positions from ``first`` on; return logits.

    Args:
        base: the run.
        source: what is put in place.
        stage: the first layer that is run; -1: the embedding, too.
        first: position.
        count: rows.
        sites: row here, row of all, site.
    """
    model: Any = base.model  # a decoder: its layers are run one by one
    length, layers = base.ids.shape[1], base.num_layers
    hooks = base.model.hooks(replacing(source, length, sites))
    places = torch.arange(length, device=base.ids.device)[None]
    if stage < 0:
        x = hooks("embedding", base["embedding"][:, first:].expand(count, -1, -1))
        x = model.positions.add(x, places[:, first:])
    else:
        name = f"layers.{stage}.input" if stage < layers else f"layers.{layers - 1}.residual"
        x = base[name][:, first:].expand(count, -1, -1)
        if stage:
            x = hooks(f"layers.{stage - 1}.residual", x)
    reading = Reading(
        encoding=model.positions,
        positions=places[:, first:],
        blocked=(places > places[:, first:].mT)[None],  # (1, 1, new, keys)
        cache=_Before(base, first),
        hooks=hooks,
    )
    for layer in model.layers[max(stage, 0) :]:
        x = layer(x, reading)
    x = hooks("final", model.final_norm(x))
    logits: Tensor = base.model.unembed(x[:, -1:], hooks)[:, 0]
    return logits


@dataclass(frozen=True)
class _Before:
    """Keys and values of the positions before the first that is run, the same for all rows."""

    base: Trace
    first: int

    @property
    def positions(self) -> Tensor:
        return torch.arange(self.base.ids.shape[1], device=self.base.ids.device)[None]

    def store(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        def whole(name: str, new: Tensor) -> Tensor:
            before = self.base[f"layers.{layer}.attention.{name}"][:, :, : self.first]
            return torch.cat([before.expand(len(new), -1, -1, -1), new], 2) if self.first else new

        return whole("key", keys), whole("value", values)


def replacing(
    source: Source, length: int, sites: Iterable[tuple[int, int, Site]]
) -> dict[str, Callable[[str, Tensor], Tensor]]:
    """Return hooks that put a source's activations in place.

    Args:
        source: what is put in place.
        length: tokens of the text, of which the last ones may be run alone.
        sites: row of the batch, row of the source, and where.
    """
    by_name: dict[str, list[tuple[int, int, Site]]] = {}
    for row, index, site in sites:
        by_name.setdefault(site.activation, []).append((row, index, site))

    def hook(
        wanted: Sequence[tuple[int, int, Site]], value: Tensor
    ) -> Callable[[str, Tensor], Tensor]:
        def replace(_: str, x: Tensor) -> Tensor:
            x = x.clone()
            left_out = length - x.shape[-2]  # positions that are not run
            for row, index, site in wanted:
                place = _place(site, left_out)
                if place is not None:
                    here, there = place
                    x[row][here] = value[index if len(value) > 1 else 0][there].to(x)
            return x

        return replace

    return {name: hook(wanted, source[name]) for name, wanted in by_name.items()}


def _place(site: Site, left_out: int = 0) -> tuple[tuple[Any, ...], tuple[Any, ...]] | None:
    """Return the indices of a site in a row without the first positions, and in a whole one."""
    heads = () if site.head is None else (site.head,)
    if site.position is None:
        here: Any = slice(None)
        there: Any = slice(left_out, None)
    elif site.position < left_out:
        return None
    else:
        here, there = site.position - left_out, site.position
    # The position is the last axis but one, whether or not there are heads before it.
    end = () if heads else (Ellipsis,)
    return (*heads, *end, here, slice(None)), (*heads, *end, there, slice(None))


def _start(
    base: Trace, source: Source, index: int, sites: Sequence[Site]
) -> tuple[int, int] | None:
    """Return the first layer and position that a row changes; None: it changes nothing."""
    stages, firsts = [], []
    length = base.ids.shape[1]
    for site in sites:
        value, own = source[site.activation], base[site.activation]
        place = _place(site)
        assert place is not None
        other = value[index if len(value) > 1 else 0][place[1]]
        differs = own[0][place[1]] != other.to(own)
        if site.activation.endswith(".scores"):
            differs = differs & _seen(length, site.position, own.device)
        differs = differs.any(-1)
        if not bool(differs.any()):
            continue
        if site.position is None:
            first = int(differs.reshape(-1, length).any(0).nonzero()[0])
        else:
            first = site.position
        if site.activation in ("final", "logits"):
            if site.position not in (None, length - 1):
                continue  # nothing is read of it
            first = length - 1
        stages.append(_stage(base, site.activation))
        firsts.append(first)
    return (min(stages), min(firsts)) if stages else None


def _seen(length: int, query: int | None, device: torch.device) -> Tensor:
    """Return which keys a query sees, (keys), or each query, (queries, keys); bool."""
    places = torch.arange(length, device=device)
    return places <= (places[:, None] if query is None else query)


def _stage(base: Trace, name: str) -> int:
    """Return the layer from which a run has to be computed anew; -1: from the embedding on."""
    if name == "embedding":
        return -1
    if name in ("final", "logits"):
        return base.num_layers
    _, layer, part = name.split(".", 2)
    return int(layer) + (part == "residual")


def refuse(base: Trace, rows: Sequence[Sequence[Site]]) -> None:
    """Refuse sites that are not there, and models whose layers cannot be run one by one."""
    if len(base.ids) != 1:
        raise ConfigError(f"a run of one text is patched, not of {len(base.ids)}: take trace.of(i)")
    model, length = base.model, base.ids.shape[1]
    for layer in range(base.num_layers):
        maps_of(model, layer)
    shapes = model.activation_shapes(1, length)
    for site in {site for sites in rows for site in sites}:
        name = site.activation
        if name not in shapes:
            raise ConfigError(f"no activation is named {shown(name)}{nearest(name, shapes)}")
        if site.position is not None and not 0 <= site.position < length:
            raise ConfigError(
                f"there is no position {site.position}: the text has {length}, from 0"
            )
        if site.head is None:
            continue
        if "head" not in axes_of(name, len(shapes[name])):
            raise ConfigError(f"{name} has no heads: patch it without one")
        if not 0 <= site.head < shapes[name][1]:
            raise ConfigError(
                f"there is no head {site.head}: a layer has {shapes[name][1]}, from 0"
            )


def sweep(
    runs: PairRuns,
    direction: Direction,
    patterns: str | Iterable[str] = "*",
    by_position: bool = True,
    by_head: bool = True,
) -> dict[str, Tensor]:
    """Patch activations of one prompt's run into the other's, each head and position alone.

    Args:
        runs: of the pair.
        direction: what is patched into what.
        patterns: names of activations, or patterns with ``*``.
        by_position: each position alone; else all of them together.
        by_head: each head alone, where there are heads; else all of them together.

    Returns:
        Name -> normalised logit differences, 0 as after the corrupted prompt and 1 as after the
        clean one, (heads, positions) in float64, without an axis where all are patched together.

    Raises:
        ConfigError: if a pattern matches no activation, or ``patched`` refuses the model.
    """
    base, source = runs.base_and_source(direction)
    shapes = base.model.activation_shapes(1, runs.length)
    sites: list[Site] = []
    sizes: dict[str, tuple[int, ...]] = {}
    for name in matching(shapes, patterns):
        heads = [None, *shapes[name][1:2]][len(shapes[name]) == 4 and by_head]
        positions = runs.length if by_position else None
        sizes[name] = tuple(size for size in (heads, positions) if size is not None)
        sites += [
            Site(name, position, head) for head in _each(heads) for position in _each(positions)
        ]
    values = runs.normalised(patched(base, source, [(site,) for site in sites]))
    parts = torch.split(values, [math.prod(size) for size in sizes.values()])
    return {name: part.view(size) for (name, size), part in zip(sizes.items(), parts, strict=True)}


def _each(size: int | None) -> Iterable[int | None]:
    return [None] if size is None else range(size)


def matching(names: Iterable[str], patterns: str | Iterable[str]) -> list[str]:
    """Return the names that match a pattern, in their order.

    Raises:
        ConfigError: if a pattern matches none, naming the nearest.
    """
    known, wanted = list(names), as_patterns(patterns)
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ConfigError(f"no activation is named {shown(pattern)}{nearest(pattern, known)}")
    return [name for name in known if any(fnmatchcase(name, pattern) for pattern in wanted)]
