"""Adapters named on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinylm.language_model import LanguageModel


def with_adapter(
    lm: LanguageModel, run: Path, adapter: str, rank: int | None = None
) -> LanguageModel:
    """Return a run's language model with an adapter.

    Args:
        lm: the base.
        run: its run's folder, or a checkpoint's.
        adapter: name below ``RUN/adapters``, or a folder.
        rank: of a DyLoRA adapter; empty: its largest.

    Raises:
        AdapterError: if there is none, or it is another base's.
    """
    from tinylm.errors import AdapterError
    from tinylm.experiments.adapting import adapted
    from tinylm.experiments.context import run_of
    from tinylm.finetuning.adapters import adapters
    from tinylm.finetuning.dylora import set_rank

    below = (run_of(run) or run) / "adapters"
    folder = below / adapter if (below / adapter).is_dir() else Path(adapter)
    if not folder.is_dir():
        known = sorted(path.name for path in below.iterdir()) if below.is_dir() else []
        raise AdapterError(
            f"no adapter {adapter!r} in {below} and no such folder; there are: "
            + (", ".join(known) or "none, `tinylm finetune` makes one")
        )
    found = adapted(lm, folder)
    if rank is not None:
        set_rank(found.model, rank, *adapters(found.model))  # it was loaded alone
    return found
