"""The search for a smaller model of a run: what was tried, and the run that the best becomes.

What each candidate cost stands in ``search.json`` while the search goes on, beside the trainings of
the candidates, so that the same command, also with another goal, goes on where it stopped. At the
end all of it moves into ``compression.json``.

One half of the validation windows decides; the other, which decided nothing, tells what the chosen
model loses.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.compression.search import Candidate, Goal, search
from tinylm.config import to_dict
from tinylm.config.searching import SearchConfig
from tinylm.data.windows import windows_of
from tinylm.errors import CompressionError, ConfigError, DataError
from tinylm.evaluation.perplexity import SplitLoss, split_loss
from tinylm.experiments.compressing import (
    Compression,
    new_run,
    write_compressed,
)
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.records import Compressed, Source
from tinylm.experiments.smaller import Smaller, num_bytes
from tinylm.fast import install, remove
from tinylm.language_model import LanguageModel
from tinylm.locks import locked
from tinylm.measurement import Difference, paired
from tinylm.model.base import GenerativeModel
from tinylm.perplexity import perplexity, perplexity_text
from tinylm.planning.limits import shown_bytes
from tinylm.reading import read_signed, signed
from tinylm.training.commands import Commands

SEARCH = "search.json"
TRAININGS = "trainings"
_OWN = (SEARCH, TRAININGS)


@with_config(extra="forbid")
class Tried(TypedDict):
    """A candidate that was made and measured."""

    share: float
    """Of the parts, that went."""
    width: list[int] | None
    """Bits of a weight, and of one of the embedding; None: float weights."""
    bytes: int
    """Of its weights."""
    loss: float
    """On the windows that decide, in nats a token."""
    more: list[float | None]
    """How much that is more than the run's model's, with the interval of the difference."""


@with_config(extra="forbid")
class _Search(TypedDict):
    source: Source
    settings: dict[str, Any]
    tried: list[Tried]


def compress_run(
    context: Context,
    out: Path,
    settings: SearchConfig,
    commands: Commands,
    target_bytes: int | None = None,
    max_loss: float | None = None,
) -> Compressed:
    """Search for a smaller model of a run and write the run that it becomes.

    Args:
        context: the run.
        out: a new folder, or one in which a search of the same settings stopped.
        settings: what is tried.
        commands: what to type when a training stops before its end.
        target_bytes: the model of the lowest perplexity that is no larger.
        max_loss: the smallest model whose perplexity is at most this share higher. One of both.

    Returns:
        What compression.json holds; ``details`` are what was asked for, ``tried``, the ``chosen``
        one, and what it loses on windows that decided nothing, ``more``.

    Raises:
        CompressionError: if nothing that is tried reaches the goal, and for a run that is
            quantized or has adapters.
        ConfigError: if the folder is not empty, or holds a search of other settings.
        StoppedBySignalError: if a signal stopped it; what was measured is kept.
    """
    if (out / "config.yaml").exists():
        with locked(out, context.console.warn):
            _tidy(out)
    with (
        new_run(out, context.console, _OWN),
        threads(context.config.training.threads),
    ):
        work = _Work(context, out, settings, commands)
        if target_bytes is not None and target_bytes >= (whole := work.sizes[Candidate()]):
            raise CompressionError(
                f"--target-bytes {target_bytes}: the run's model has {whole} bytes already"
            )
        goal = Goal(
            target_bytes, None if max_loss is None else work.whole.mean + math.log1p(max_loss)
        )
        best = search(
            goal,
            sorted({each.share for each in work.sizes} - {0.0}),
            settings.widths,
            work.sizes.__getitem__,
            work.loss,
        )
        tried = list(work.tried.values())
        if best is None or best == Candidate():
            raise CompressionError(_unreached(work, target_bytes, max_loss))
        model = work.made(best)
        lm = work.smaller.lm
        more = _beside(work.read(model, work.others), work.read(lm.model, work.others))
        record = Compression(
            "compress",
            settings.method,
            to_dict(settings),
            work.smaller.before,
            {"windows": settings.calibration, "seed": settings.seed},
            {
                "target_bytes": target_bytes,
                "max_loss": max_loss,
                "tried": tried,
                "chosen": work.tried[best],
                "more": more.as_result(),
            },
        )
        made = LanguageModel(model, lm.tokenizer, lm.source)
        written = write_compressed(out, context, made, record, _OWN)
        _tidy(out)
        return written


def _tidy(out: Path) -> None:
    """Delete what a search needs no more, once its folder is a run."""
    for name in _OWN:
        if (out / name).is_dir():
            folders.remove(out / name)
        (out / name).unlink(missing_ok=True)


class _Work:
    """What was measured, and how more is."""

    def __init__(
        self, context: Context, out: Path, settings: SearchConfig, commands: Commands
    ) -> None:
        self.context, self.path = context, out / SEARCH
        self.smaller = Smaller(context, settings, out / TRAININGS, commands)
        lm = self.smaller.lm
        source = self.smaller.before.source
        self.state = _Search(source=source, settings=to_dict(settings), tried=[])
        begun = _read(self.path)
        if begun is not None:
            if begun["source"] != source or begun["settings"] != self.state["settings"]:
                raise ConfigError(
                    f"{out} holds a search of another run or of other settings: give --out a new "
                    "folder, or the same settings"
                )
            self.state = begun
        self.tried = {_candidate(each): each for each in self.state["tried"]}
        split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
        self.windows = windows_of(split, lm.model.config)
        wanted = 2 * settings.windows
        tell_fewer(context.console, "windows", wanted, len(self.windows))
        if len(self.windows) < 4:
            raise DataError(
                f"the validation split has {len(self.windows)} windows of "
                f"{self.windows.context_length} tokens: a search needs 4 at least"
            )
        subset = self.windows.fixed_subset(wanted) or list(range(len(self.windows)))
        self.deciding, self.others = subset[::2], subset[1::2]
        self.sizes = self.smaller.sizes()
        self.whole = self.read(lm.model, self.deciding)
        self._shape: tuple[float, GenerativeModel] | None = None

    def read(self, model: GenerativeModel, indices: list[int]) -> SplitLoss:
        """Return the loss of a model on windows."""
        install(model)
        loss = split_loss(model, self.windows, self.context.config.evaluation.batch_size, indices)
        remove(model)
        return loss

    def made(self, candidate: Candidate) -> GenerativeModel:
        """Return the model of a candidate."""
        if self._shape is None or self._shape[0] != candidate.share:
            self._shape = candidate.share, self.smaller.trained(candidate.share)
        return self.smaller.rounded(self._shape[1], candidate.width)

    def loss(self, candidate: Candidate) -> float:
        """Return the loss of a candidate, measured if it was not yet, and say it."""
        if candidate not in self.tried:
            model = self.made(candidate)
            loss = self.read(model, self.deciding)
            tried = Tried(
                share=candidate.share,
                width=None if candidate.width is None else list(candidate.width),
                bytes=num_bytes(model),
                loss=loss.mean,
                more=_beside(loss, self.whole).as_result(),
            )
            self.tried[candidate] = tried
            self.state["tried"].append(tried)
            write_text(self.path, json.dumps(signed(self.state), indent=1))
        tried = self.tried[candidate]
        self.context.console.note(
            f"{self.smaller.words(candidate)}: {shown_bytes(tried['bytes'])}, perplexity "
            f"{perplexity_text(perplexity(tried['loss']))} ({shown_more(tried['more'])})"
        )
        return tried["loss"]


def shown_more(more: list[float | None]) -> str:
    """Return an increase of the loss as one of perplexity, with its interval."""
    difference = Difference.from_result(more)
    value, low, high = (100 * math.expm1(each) for each in (difference.value, *difference.ends))
    if math.isnan(low):
        return f"{value:+.2f} %"
    return f"{value:+.2f} %, {low:+.2f} to {high:+.2f}"


def _beside(loss: SplitLoss, whole: SplitLoss) -> Difference:
    return paired(loss.replicates(), whole.replicates())


def _candidate(tried: Tried) -> Candidate:
    width = tried["width"]
    return Candidate(tried["share"], None if width is None else (width[0], width[1]))


def _read(path: Path) -> _Search | None:
    if not path.exists():
        return None
    return read_signed(path, _Search, DataError, "delete it, and the search begins anew")


def _unreached(work: _Work, target_bytes: int | None, max_loss: float | None) -> str:
    """Return why no candidate will do, and what would."""
    if target_bytes is not None:
        return (
            f"--target-bytes {target_bytes}: the smallest that is tried has "
            f"{min(work.sizes.values())} bytes; give as many at least, or try smaller ones by -o "
            "shares, parts or widths"
        )
    assert max_loss is not None
    nearest = min((t for t in work.state["tried"] if t["width"]), key=lambda tried: tried["loss"])
    return (
        f"--max-loss {100 * max_loss:g}%: nothing smaller that is tried loses so little; "
        f"{work.smaller.words(_candidate(nearest))} loses {shown_more(nearest['more'])}"
    )
