"""The tuned lens of a run: trained on its train split, kept in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinylm.config import RunConfig
from tinylm.data.token_files import TokenFile
from tinylm.experiments.context import Console, threads, writing
from tinylm.experiments.lens.settings import LensExperiment
from tinylm.experiments.preparation import encoded_split
from tinylm.interpretability.tuned_lens import TunedLens, read_tuned_lens, train_tuned_lens
from tinylm.language_model import LanguageModel
from tinylm.locks import LockedError
from tinylm.model.weights import state_sha256

FILE = "tuned-lens.safetensors"
"""Name in a run's folder."""


def spread_stories(split: TokenFile, wanted: int, length: int) -> list[list[int]]:
    """Return stories spread evenly over a split, each cut to a number of tokens."""
    number = min(wanted, len(split))
    chosen: Sequence[int] = np.linspace(0, len(split) - 1, number).round().astype(int).tolist()
    return [split.story(i)[:length].tolist() for i in chosen]


def tune(lm: LanguageModel, config: RunConfig, console: Console) -> TunedLens:
    """Train a tuned lens on the train split, as ``experiments.lens`` says.

    Raises:
        DataError: if the corpus cannot be used.
    """
    settings: LensExperiment = config.experiments.lens
    split = encoded_split(config.data, lm.tokenizer, "train", console)
    texts = spread_stories(split, settings.tuned_stories, lm.model.config.context_length)
    with (
        threads(config.training.threads),
        console.task("Training the tuned lens", settings.steps) as done,
    ):
        return train_tuned_lens(
            lm.model, texts, settings.steps, settings.learning_rate, config.training.seed, done
        )


def kept_or_tuned(
    lm: LanguageModel, folder: Path | None, config: RunConfig, console: Console
) -> TunedLens:
    """Return the tuned lens that a run keeps, or train one and keep it.

    Args:
        lm: the model.
        folder: of its run; None: nothing is kept.
        config: of the run.
        console: is told what is done.

    Raises:
        DataError: if the kept file is damaged, or the corpus cannot be used.
    """
    path = None if folder is None else folder / FILE
    if path is not None and path.exists():
        kept = read_tuned_lens(path)
        if kept.model == state_sha256(lm.model):
            kept.refuse_other(lm.model, path)
            return kept
        console.note(f"{path} was trained for other weights than these: it is trained again")
    tuned = tune(lm, config, console)
    if folder is not None and path is not None:
        try:
            with writing(folder, console):
                tuned.save(path)
        except LockedError as error:
            console.note(f"{error.problem}: the tuned lens is used and not kept")
    return tuned
