"""What a model sees of a window, and what of it it must predict: one function a view.

A decoder sees every token before the one that it predicts. A model that reads a source first and
writes after it gets the first tokens of a window as its source, and only the rest counts.

A view depends on the window alone, not on when it is read: losses of two models on the same windows
are of the same tokens, and a run that goes on needs to remember nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from tinylm.data.windows import Batch

View = Callable[["Batch", Sequence[int]], "Batch"]
"""Gets windows as a batch in which every label counts, and their indices.

Rows of pairs come with their sources as ``given`` and the labels of these ignored: a view leaves
both."""
IGNORED = -100
"""Label of a position that is not predicted: padding, or a token given as prompt."""


def whole(batch: Batch, indices: Sequence[int]) -> Batch:
    """Every token is predicted from those before it."""
    return batch


def rest(batch: Batch, indices: Sequence[int]) -> Batch:
    """The first tokens are given, one at least, and those after them are predicted.

    How many are given is drawn evenly from all that leave a token to predict (the prefix language
    modelling of Raffel et al. 2020, section 3.2.3), so that a model learns to go on after sources
    of any length.
    """
    if batch.given is not None:
        return batch
    targets = (batch.labels != IGNORED).sum(1).tolist()
    drawn = [
        1 + int(np.random.default_rng((_REST, int(i))).integers(max(1, count)))
        for i, count in zip(indices, targets, strict=True)
    ]
    given = torch.tensor(drawn)
    places = torch.arange(batch.labels.shape[1])
    labels = batch.labels.masked_fill(places < given[:, None] - 1, IGNORED)
    return replace(batch, labels=labels, given=given)


_REST: Final = 1
"""Told apart from the draws of other views."""
VIEWS: Mapping[str, View] = {"whole": whole, "rest": rest}
"""By the name that a kind of model gives as its ``view``."""
