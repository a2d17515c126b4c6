"""Pruning by masks: a score of every weight, and the lowest ones are held at 0.

The matrices keep their shapes, so that products take as long as before and the same bytes on disk
(``model.masks``); what is gained is what compressing the zeros can gain. Weights that a mask holds
already go first, so that a mask only grows.

Gradual pruning (Zhu and Gupta 2017, equation 1) raises the share while the model is trained on:
``s_t = s_f + (s_i - s_f) (1 - t / n)^3``, most of it in the first steps, when what is left can
still make up for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tinylm.compression.pruner import Pruned, Pruner, refuse_share
from tinylm.compression.selection import kept_by_pattern, kept_of, num_pruned, refuse_width
from tinylm.config.pruning import MagnitudeConfig
from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel
from tinylm.model.layers import LayerNorm
from tinylm.model.masks import hold, masks_of
from tinylm.model.paths import chosen_by, matches
from tinylm.numbers.linear import LinearLike


class Masking(Pruner):
    """A method that scores weights."""

    removes = False
    kinds: ClassVar[tuple[type[nn.Module], ...]] = (nn.Linear, nn.Embedding, LayerNorm)
    """Of modules whose weights it can score."""

    @staticmethod
    def scores(
        model: GenerativeModel, modules: Mapping[str, nn.Module], settings: Any, ids: Tensor | None
    ) -> dict[str, Tensor]:
        """Return path -> what each number of a weight is worth, its shape.

        Args:
            model: left as it is.
            modules: path -> module whose ``weight`` is scored.
            settings: of the type ``Settings``.
            ids: texts, (texts, seq); None: none were asked for.
        """
        raise NotImplementedError

    @classmethod
    def refuse(cls, model: GenerativeModel, share: float | None, settings: Any) -> None:
        """Refuse what cannot go (``Pruner.refuse``), and a share that is pruned already."""
        if share is None:
            raise CompressionError("say how much goes: give --share, such as 0.5")
        refuse_share(share)
        modules = targets(model, settings.targets, cls.kinds)
        if settings.pattern:
            _refuse_pattern(settings.pattern, share, modules)
        _refuse_done(modules, model, share)

    @classmethod
    def prune(
        cls, model: GenerativeModel, share: float | None, settings: Any, ids: Tensor | None
    ) -> Pruned:
        """Hold the lowest scores at 0 (``Pruner.prune``).

        Raises:
            CompressionError: also if so many are 0 already.
        """
        cls.refuse(model, share, settings)
        assert share is not None
        modules = targets(model, settings.targets, cls.kinds)
        hold(model, cls.kept(model, modules, share, settings, ids))
        return Pruned(model)

    @classmethod
    def kept(
        cls,
        model: GenerativeModel,
        modules: Mapping[str, nn.Module],
        share: float,
        settings: MagnitudeConfig,
        ids: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return path -> which numbers of a weight stay, bool, its shape."""
        scores = cls.scores(model, modules, settings, ids)
        for path, mask in masks_of(model).items():
            if path in scores:
                scores[path] = scores[path].masked_fill(~mask, -torch.inf)
        if not settings.pattern:
            return kept_of(scores, share, settings.scope)
        return kept_by_pattern(scores, *_parts(settings.pattern))


def targets(
    model: nn.Module, patterns: tuple[str, ...], kinds: tuple[type[nn.Module], ...]
) -> dict[str, Any]:
    """Return path -> module whose weight is pruned, in order; one weight of two modules once.

    Args:
        model: without adapters.
        patterns: see ``model.paths.matches``.
        kinds: of modules.

    Raises:
        CompressionError: if a pattern matches none, or one that is quantized.
    """
    known = {path: each for path, each in model.named_modules() if path and isinstance(each, kinds)}
    for path, module in model.named_modules():
        if isinstance(module, LinearLike) and any(matches(path, pattern) for pattern in patterns):
            raise CompressionError(
                f"{path} is quantized already: prune the run that it was made of, then quantize"
            )
    chosen = chosen_by(patterns, known, "nothing that this method prunes", CompressionError)
    seen: set[int] = set()
    unique = {}
    for path, module in chosen.items():
        weight = module._parameters["weight"]
        if id(weight) not in seen:
            seen.add(id(weight))
            unique[path] = module
    return unique


def held_share(model: nn.Module, modules: Mapping[str, nn.Module]) -> float:
    """Return the share of the modules' weights that masks hold at 0."""
    held = sum(int((~mask).sum()) for path, mask in masks_of(model).items() if path in modules)
    return held / _numbers(modules)


def cubic_share(step: int, steps: int, final: float, initial: float = 0.0) -> float:
    """Return the share that is pruned after a step of gradual pruning.

    Args:
        step: from 0.
        steps: after which the final share is reached, and stays.
        final: share.
        initial: share at step 0.
    """
    left = max(0.0, 1 - step / steps) if steps else 0.0
    return final + (initial - final) * left**3


def _parts(pattern: str) -> tuple[int, int]:
    """Return how many weights a pattern keeps, and of how many."""
    kept, of = map(int, pattern.split(":"))
    return kept, of


def _refuse_pattern(pattern: str, share: float, modules: Mapping[str, Any]) -> None:
    """Refuse a share or modules that do not go with a pattern.

    Raises:
        CompressionError: naming the first.
    """
    kept, of = _parts(pattern)
    if abs(share - (1 - kept / of)) > 1e-9:
        raise CompressionError(
            f"share = {share:g}: pattern {pattern} leaves out {1 - kept / of:g}: give that, or no "
            "pattern"
        )
    for path, module in modules.items():
        refuse_width(path, module.weight.shape[-1], kept, of)


def _refuse_done(modules: Mapping[str, nn.Module], model: GenerativeModel, share: float) -> None:
    """Refuse a share that is pruned already.

    Raises:
        CompressionError: with what is.
    """
    before = held_share(model, modules)
    total = _numbers(modules)
    if not num_pruned(share, total):
        raise CompressionError(f"share = {share:g}: that is none of {total:,} weights")
    if num_pruned(share, total) <= num_pruned(before, total):
        raise CompressionError(
            f"share = {share:g}: {before:.1%} of these weights are pruned already: give more"
        )


def _numbers(modules: Mapping[str, Any]) -> int:
    return sum(module.weight.numel() for module in modules.values())
