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

from tinylm.tokenizers.base import PAD_ID

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


def hidden(batch: Batch, indices: Sequence[int]) -> Batch:
    """Some tokens are hidden and predicted, from all others; and the token after the last is.

    Of the inputs but the first 15 % are hidden (Devlin et al. 2019, section 3.1), as many in the
    mean: each is drawn by itself. The label before a hidden input counts, since it is that input;
    so does the last one, which is no input.

    Half of the windows are cut short, to a length drawn evenly from 1 to their own, and filled with
    padding. Of whole windows alone a model would learn to tell what follows a text only where as
    much text stands before it as a window holds, and would know little of what follows a prompt.
    The price is a quarter of what is read. Of a row with a source it is the target that is hidden
    in part or cut.
    """
    labels = batch.labels.clone()
    unseen = torch.zeros_like(labels, dtype=torch.bool)
    real = torch.ones_like(unseen) if batch.real is None else batch.real.clone()
    for row, index in enumerate(indices):
        draws = np.random.default_rng((_HIDDEN, int(index)))
        given = 1 if batch.given is None else int(batch.given[row])
        length = given - 1 + int((batch.labels[row] != IGNORED).sum())
        if draws.random() < _SHARE_CUT:
            length = given + int(draws.integers(max(1, length + 1 - given)))
        chosen = torch.from_numpy(draws.random(labels.shape[1]) < _SHARE_HIDDEN)
        chosen[:given], chosen[length:] = False, False
        unseen[row], real[row, length:] = chosen, False
        counted = chosen.roll(-1)
        counted[length - 1] = True
        labels[row].masked_fill_(~counted, IGNORED)
    return replace(
        batch,
        ids=batch.ids.masked_fill(~real, PAD_ID),
        labels=labels,
        real=None if real.all() else real,
        hidden=unseen,
    )


_REST: Final = 1
_HIDDEN: Final = 2
"""Told apart from the draws of other views."""
_SHARE_HIDDEN: Final = 0.15
_SHARE_CUT: Final = 0.5
VIEWS: Mapping[str, View] = {"whole": whole, "rest": rest, "hidden": hidden}
"""By the name that a kind of model gives as its ``view``."""
