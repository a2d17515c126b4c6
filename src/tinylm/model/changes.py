"""What was done to a model after it was built, recorded so that it can be repeated.

A function that changes a model's parts, or which of them act, notes its name in the registry
``CHANGES`` and its settings in ``Model.changes``: adapters attached, switched, merged and folded, a
longer context, a classifier's head. A checkpoint keeps that list. Made again on a model fresh from
its configuration, the changes give parts of the same names and shapes for the saved tensors.

A change is a mapping of JSON values: its name under ``change``, its settings beside it. The
functions that make changes again check the settings, which a file may have got wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from tinylm.errors import TinylmError, shown
from tinylm.model.base import Change, Model
from tinylm.registry import CHANGES

NAME = "change"
"""The key of a change's name."""
MOST_CHANGES = 1000
"""Changes that are made again; a file that lists more is refused."""


def change(name: str, /, **settings: Any) -> Change:
    """Return a change as it is recorded.

    Raises:
        ConfigError: if it is not in the registry.
    """
    return {NAME: CHANGES.check(name), **settings}


def note(model: nn.Module, name: str, /, **settings: Any) -> None:
    """Write down what has just been done to a model; of another module nothing is kept."""
    if isinstance(model, Model):
        model.write_changes([*model.changes, change(name, **settings)])


def made_again(
    model: Model, changes: Sequence[Mapping[str, Any]], refuse: Callable[[str], TinylmError]
) -> Model:
    """Make changes again, in order, on a model fresh from its configuration.

    New parameters are drawn from torch's global random state.

    Args:
        model: changed in place, unless a change wraps it whole.
        changes: as ``Model.changes`` lists them.
        refuse: makes the error of a problem.

    Returns:
        The model to use from now on.

    Raises:
        TinylmError: ``refuse``'s, for a change that is not known or cannot be made.
    """
    if len(changes) > MOST_CHANGES:
        raise refuse(f"lists {len(changes):,} changes, {MOST_CHANGES:,} can be made at most")
    for number, each in enumerate(changes):
        settings = dict(each)
        name = settings.pop(NAME, None)
        place = f"changes.{number}"
        if not isinstance(name, str):
            raise refuse(f"{place}.{NAME} = {shown(name)}: expected the name of a change")
        try:
            model = CHANGES.load(name)(model, settings)
        except TinylmError as error:
            raise refuse(f"{place}: {error}") from error
    return model
