"""What a lens reads in one text, as plain values that a table, a page or a result shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from tinylm.interpretability.lens import NO_NEXT, Lens, place_label


class Cell(TypedDict):
    """One place at one position."""

    top: list[tuple[str, float]]
    """The likeliest next words and their probabilities, likeliest first."""
    next: tuple[float, int] | None
    """Probability and rank of the word that follows; None after the last."""
    divergence: float
    """KL(end || here) in nats."""
    agrees: bool
    """Whether the likeliest word is that of the end."""


class Reading(TypedDict):
    """A text, read at every place."""

    places: list[str]
    words: list[str]
    next: list[str | None]
    """The word that follows each."""
    cells: list[list[Cell]]
    """[place][position]."""


def as_reading(lens: Lens, spell: Callable[[int], str], text: int = 0) -> Reading:
    """Return what a lens read in one text.

    Args:
        lens: of one text or several.
        spell: token id -> the word as it is shown.
        text: which of them, from 0.
    """
    words = list(lens.words[text])
    following = lens.next_ids[text].tolist()[: len(words)]
    return {
        "places": [place_label(place) for place in lens.places],
        "words": words,
        "next": [None if i == NO_NEXT else spell(i) for i in following],
        "cells": [
            [_cell(lens, spell, place, text, position) for position in range(len(words))]
            for place in range(len(lens.places))
        ],
    }


def _cell(lens: Lens, spell: Callable[[int], str], place: int, text: int, position: int) -> Cell:
    where = place, text, position
    ids, probabilities = lens.top_ids[where].tolist(), lens.top_probabilities[where].tolist()
    rank = int(lens.ranks[where])
    return {
        "top": [(spell(i), p) for i, p in zip(ids, probabilities, strict=True)],
        "next": (float(lens.probabilities[where]), rank) if rank else None,
        "divergence": float(lens.divergences[where]),
        "agrees": bool(lens.agrees[where]),
    }


def share(probability: float) -> str:
    """Return a probability for a narrow cell: ``34%``, ``<1%``, ``>99%``."""
    percent = f"{probability:.0%}"
    if percent == "0%":
        return "<1%" if probability > 0 else percent
    return ">99%" if percent == "100%" and probability < 1 else percent
