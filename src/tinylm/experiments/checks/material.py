"""What the checks share: excerpts of real text, copies of the model, largest differences."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tinylm.compression.activations import quantized_maps
from tinylm.config import ModelConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import Windows, windows_of
from tinylm.errors import CheckpointError
from tinylm.experiments.checks import Subject
from tinylm.model.base import GenerativeModel, build
from tinylm.model.changes import made_again
from tinylm.reading import refusal
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

_LONGEST_WINDOW = 64


def device_of(model: GenerativeModel) -> torch.device:
    """Return where the model is."""
    return model.embedding.weight.device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random numbers inside the block; afterwards they are as they were before."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def with_dropout(model: GenerativeModel, p: float) -> GenerativeModel:
    """Return a copy of a model, in its mode and number format, whose dropout is ``p``.

    It draws from torch's random numbers.
    """
    plain = build(replace(model.built, dropout=p))
    other = made_again(plain, model.changes, refusal("the model", CheckpointError))
    assert isinstance(other, GenerativeModel)
    other.to(device_of(model), model.embedding.weight.dtype)
    other.load_state_dict(model.state_dict())
    for own, given in zip(other.parameters(), model.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)
    return other.train(model.training)


@torch.no_grad()
def dequantized(model: GenerativeModel) -> GenerativeModel:
    """Return a plain copy of a model, in its mode, with the weights that quantized maps stand for.

    Without masks. It draws from torch's random numbers.
    """
    plain = build(model.config)
    plain.to(device_of(model), model.embedding.weight.dtype)
    for name, parameter in plain.named_parameters():
        path, _, own = name.rpartition(".")
        parameter.copy_(getattr(model.get_submodule(path), own))
    return plain.train(model.training)


def without_rounded_inputs(model: GenerativeModel) -> GenerativeModel:
    """Return a copy of a model whose quantized maps take their inputs as they are.

    Where inputs are rounded to 8 bits, another order of a sum moves some by a whole step: a path
    that is right differs by more than any bound on rounding.
    """
    exact = copy.deepcopy(model)
    for module in quantized_maps(exact).values():
        module.rounding, module.input_range = None, None
    return exact


def in_float64(model: GenerativeModel) -> GenerativeModel:
    """Return a copy of a model in float64 and eval mode."""
    return copy.deepcopy(model).double().eval()


def double_step(subject: Subject, model: GenerativeModel) -> TrainingStep[GenerativeModel]:
    """Return a training step of the run on a float64 model, its gradients not clipped."""
    settings = replace(
        subject.config.training,
        device=str(device_of(model)),
        precision="fp32",  # no autocast
        compile=False,
        gradient_clip=0.0,
    )
    return TrainingStep(model, next_token_loss, settings)


def excerpt(tokens: TokenFile, num_tokens: int) -> TokenFile:
    """Return the first ``num_tokens`` ids (all, if there are fewer) as a token file of its own."""
    part = copy.copy(tokens)
    part.ids = tokens.ids[:num_tokens]
    part.starts = tokens.starts[: int(np.searchsorted(tokens.starts, len(part.ids)))]
    part.header = replace(
        tokens.header, num_tokens=len(part.ids), num_stories=len(part.starts), num_unknown=0
    )
    return part


def first_windows(
    tokens: TokenFile, model: ModelConfig, number: float, longest: int = _LONGEST_WINDOW
) -> Windows:
    """Return what a model is trained on of the beginning of a file: windows, or pairs.

    Args:
        tokens: the file.
        model: says of which context.
        number: of windows, the last a part of one; of pairs as many, rounded up, if there are.
        longest: most tokens of a window; pairs are some of those that are no longer either, or the
            shortest.

    Raises:
        DataError: if there is nothing to predict, or no pair fits into the context.
    """
    length = min(model.context_length, longest)
    if not tokens.header.pairs:
        return windows_of(excerpt(tokens, int(number * length)), model, length)
    lengths = tokens.lengths()
    short = np.flatnonzero(lengths - 1 <= max(length, lengths.min() - 1))
    return windows_of(_rows(tokens, short[: math.ceil(number)]), model)


def _rows(tokens: TokenFile, chosen: npt.NDArray[np.int64]) -> TokenFile:
    """Return some pairs as a token file of their own."""
    assert tokens.pairs is not None
    part = copy.copy(tokens)
    rows = [tokens.story(int(index)) for index in chosen]
    part.ids = np.concatenate(rows).astype(tokens.ids.dtype)
    part.starts = np.cumsum([0, *map(len, rows[:-1])])
    part.pairs = tokens.pairs[chosen]
    part.header = replace(
        tokens.header, num_tokens=len(part.ids), num_stories=len(rows), num_unknown=0
    )
    return part


def stream(tokens: TokenFile, start: int, length: int) -> list[int]:
    """Return ``length`` ids of the joined stories from ``start`` on, around the end if need be."""
    places = (start + np.arange(length)) % tokens.header.num_tokens
    ids: list[int] = tokens.ids[places].tolist()
    return ids


def spread(tokens: TokenFile, count: int) -> list[list[int]]:
    """Return up to ``count`` whole stories, framing included, evenly spread over a file."""
    chosen = np.unique(np.linspace(0, len(tokens) - 1, count).round().astype(int))
    return [tokens.story(int(index)).tolist() for index in chosen]


def spread_texts(tokens: TokenFile, count: int) -> list[list[int]]:
    """Return the texts of up to ``count`` whole stories, as they were encoded, without framing.

    Of pairs they are the source and the target of each.
    """
    chosen = np.unique(np.linspace(0, len(tokens) - 1, count).round().astype(int))
    texts = []
    for index in chosen.tolist():
        story = tokens.story(index).tolist()
        given = [] if tokens.pairs is None else [int(tokens.pairs[index, 0])]
        cuts = [1, *given, len(story) - 1]
        texts += [story[start:end] for start, end in pairwise(cuts)]
    return texts


def ragged_stories(tokens: TokenFile, count: int, longest: int) -> list[list[int]]:
    """Return ``count`` beginnings of stories of different lengths, from 3 ids to ``longest``.

    They are real text but for their ends, and there are ``count`` even if the file has fewer
    stories. A story shorter than its place in the ladder of lengths stays as it is.
    """
    stories = spread(tokens, count)
    lengths = np.linspace(min(3, longest), longest, count).round().astype(int).tolist()
    return [stories[i % len(stories)][:length] for i, length in enumerate(lengths)]


def largest(actual: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference; infinite for other shapes, NaN if one is in it.

    Equal infinities differ by 0; of nothing the largest difference is 0.
    """
    if actual.shape != expected.shape:
        return math.inf
    actual, expected = actual.detach().double().cpu(), expected.detach().double().cpu()
    difference = torch.where(actual == expected, 0.0, (actual - expected).abs())
    return float(difference.max()) if difference.numel() else 0.0


def relative(actual: Tensor, expected: Tensor) -> float:
    """Return the largest difference, as a share of the largest magnitude of ``expected``."""
    difference = largest(actual, expected)
    scale = float(expected.detach().abs().max()) if expected.numel() else 0.0
    return difference / scale if scale else difference


def worst(differences: Sequence[float]) -> float:
    """Return the largest of several differences; NaN if one of them is."""
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)


def largest_of_named(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Return the largest difference over tensors of the same names; infinite for other names."""
    if actual.keys() != expected.keys():
        return math.inf
    return worst([largest(actual[name], expected[name]) for name in expected])


def num_differing(actual: Sequence[int], expected: Sequence[int]) -> int:
    """Return at how many places two sequences differ; a missing item differs."""
    shared = sum(ours != theirs for ours, theirs in zip(actual, expected, strict=False))
    return shared + abs(len(actual) - len(expected))


def gradients(model: GenerativeModel) -> dict[str, Tensor]:
    """Return the gradient of every parameter that has one, by name."""
    return {
        name: parameter.grad.detach().clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
