"""Distillation of a run into a smaller one: a folder that is a run, with a teacher.

What the student learns from is written in ``distillation.json``: the method, its settings, the
teacher's weights, and how the teacher's own texts were made, if it learns from these. They stand
in ``corpus``, a folder that the corpus `files` reads. The experiment ``training`` of such a run
trains by the method, so that it goes on by `tinylm train --resume` as any other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tinylm.atomic import write_text
from tinylm.config import (
    ModelConfig,
    RunConfig,
    from_dict,
    load_config,
    method_settings,
    to_dict,
)
from tinylm.config.places import MOVABLE, with_absolute_paths
from tinylm.data.corpora import open_corpus
from tinylm.data.windows import Windows, windows_of
from tinylm.errors import CompressionError, ConfigError, DataError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.compressing import new_run
from tinylm.experiments.context import (
    Console,
    Context,
    SilentConsole,
    create_run,
    open_run,
    run_experiment,
    threads,
)
from tinylm.experiments.courses import Course
from tinylm.experiments.preparation import (
    PreparedData,
    check_same_tokenizer,
    encoded_split,
    prepare_data,
    resolve,
)
from tinylm.experiments.records import (
    DISTILLATION,
    Distilled,
    Source,
    checkpoint_of,
    history,
    read_distillation,
    source_of,
    still_holds,
)
from tinylm.experiments.starts import START, write_start
from tinylm.experiments.teacher_corpus import corpus_of, make_corpus
from tinylm.fast import PLAIN, WHOLE, install
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.changes import NAME
from tinylm.model.masks import CHANGE as MASK
from tinylm.planning.parameters import parameter_counts
from tinylm.reading import signed
from tinylm.registry import DISTILLATIONS
from tinylm.tasks.carried import carried
from tinylm.tasks.distillation.base import Distillation, Lesson
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tokenizers.base import Tokenizer

_CONFIG = "config.yaml"
_FIXED = ("data", "tokenizer")


def student_config(
    run: Path, options: Sequence[str], start: LanguageModel | None = None
) -> tuple[RunConfig, list[str]]:
    """Return a student's configuration, the teacher's with what is changed, and other settings.

    Where the width of a head or of the feed-forward part is what follows from the teacher's sizes,
    it follows from the student's.

    Args:
        run: of the teacher.
        options: ``key=value``; those whose key begins with a section of a configuration change it.
        start: what the student begins as; None: a model with drawn weights.

    Returns:
        The configuration, not resolved, and the options of the method.

    Raises:
        ConfigError: for a key or a value that cannot be, and for one that would give the student
            another vocabulary or text, or another model than its start.
    """
    sections = {field.name for field in fields(RunConfig)}
    keys = [option.partition("=")[0].strip() for option in options]
    changed: list[str] = []
    own: list[str] = []
    for key, option in zip(keys, options, strict=True):
        section, dot, _ = key.partition(".")
        of_run = bool(dot) and section in sections
        (changed if of_run else own).append(option)
        fixed = section in _FIXED and key not in MOVABLE
        if of_run and (fixed or key == "model.vocab_size"):
            raise ConfigError(
                f"-o {option}: a student has its teacher's text and vocabulary: leave it out"
            )
        if start is not None and section == "model":
            raise ConfigError(
                f"-o {option}: the student is the model of --start {start.source}: leave it out"
            )
    teacher = load_config(run / _CONFIG).model
    config = load_config(run / _CONFIG, overrides=changed)
    if start is not None:
        return with_absolute_paths(replace(config, model=start.model.config)), own
    followed = replace(teacher, head_dim=None, ffn_size=None)
    model = to_dict(config.model)
    for name in ("head_dim", "ffn_size"):
        usual = getattr(teacher, name) == getattr(followed, f"resolved_{name}")
        if usual and f"model.{name}" not in keys:
            model[name] = None
    return with_absolute_paths(replace(config, model=from_dict(ModelConfig, model, "model"))), own


def distill(
    run: Path,
    out: Path,
    method: str,
    options: Sequence[str],
    console: Console | None = None,
    start: Path | None = None,
) -> dict[str, Any]:
    """Train a student of a run's model; ``out`` becomes a run.

    Args:
        run: of the teacher.
        out: a new folder.
        method: name in the registry DISTILLATIONS.
        options: ``key=value``, of the student's configuration and of the method
            (``student_config``).
        console: who watches; empty: nobody.
        start: a run whose model, weights and masks the student begins with, such as the teacher's
            pruned; None: drawn weights.

    Returns:
        The result of the experiment ``training``.

    Raises:
        ConfigError: for what cannot be (``student_config``, ``new_run``, ``begin``).
        CompressionError: if the model of ``start`` cannot be trained.
        DataError: if the text is another than the teacher's, or the teacher ends no text.
        StoppedBySignalError: if a signal stopped it; its state is saved.
    """
    console = console or SilentConsole()
    open_run(run, console)
    first = None if start is None else _start_of(open_run(start, console).folder)
    config, own = student_config(run, options, first)
    settings = method_settings(DISTILLATIONS, method, own, beside_run=True)
    lm = LanguageModel.load(run)
    if first is not None and first.tokenizer.fingerprint() != lm.tokenizer.fingerprint():
        raise ConfigError(
            f"--start {start}: its tokenizer is another than that of {run}: give a run that was "
            "made of this one"
        )
    with new_run(out, console):
        context = begin(out, lm, run, method, settings, config, console, first)
        return run_experiment("training", context)


def begin(
    out: Path,
    lm: LanguageModel,
    teacher_run: Path,
    method: str,
    settings: Any,
    config: RunConfig,
    console: Console,
    start: LanguageModel | None = None,
) -> Context:
    """Write down what a student will learn, and return its run, ready to be trained.

    The teacher's own texts are made, if the method asks for them.

    Args:
        out: the student's folder, in which this process alone writes (``new_run``).
        lm: the teacher, read from a checkpoint.
        teacher_run: its folder.
        method: name in the registry DISTILLATIONS.
        settings: of the method.
        config: of the student (``student_config``).
        console: who watches.
        start: the model that the student begins as, read from a checkpoint, of the teacher's
            tokenizer; None: drawn weights.

    Raises:
        ConfigError: if the student is larger than its teacher, has a longer context, or cannot be
            trained by the method.
        CompressionError: if the teacher's loss is not finite.
        DataError: if the text is another than the teacher's, or the teacher ends no text.
    """
    kind: type[Distillation] = DISTILLATIONS.load(method)
    config = replace(config, training=kind.suited(config.training))
    data = prepare_data(config, console)
    if kind.from_teacher and data.train.header.pairs:
        raise ConfigError(
            f"--method {method}: in {kind.noun} a teacher goes on with the beginnings of stories, "
            f"and data.corpus = {config.data.corpus} holds pairs: take another --method"
        )
    source = _source(lm)
    check_same_tokenizer(lm.tokenizer, data, source)
    config = resolve(config, data)
    of_teacher = lm.model.parameter_counts()["total"]
    of_student = _refuse_larger(config.model, lm.model, of_teacher)
    teacher = _quick(lm.model, config)
    with threads(config.training.threads):
        windows = windows_of(data.validation, config.model)
        subset = windows.fixed_subset(config.training.validation_windows)
        loss = split_loss(teacher, windows, config.evaluation.batch_size, subset)
        if not math.isfinite(loss.mean):
            raise CompressionError(
                f"the validation loss of the teacher {source} is {loss.mean:g}: its model is "
                "broken, train it again"
            )
        written = Distilled(
            method=method,
            settings=to_dict(settings),
            teacher=source_of(teacher_run, source),
            teacher_loss=loss.mean,
            teacher_weights=of_teacher,
            student_weights=of_student,
            texts=None,
            start=None if start is None else source_of(_run_of(start), _source(start)),
            earlier=[] if start is None else history(_run_of(start)),
        )
        _write(out, written)
        if start is not None:
            write_start(out / START, start.model, start.tokenizer)
        if kind.from_teacher:
            texts = make_corpus(out, teacher, data, settings, config.data.cache_folder, console)
            written = {**written, "texts": texts}
            _write(out, written)
    return create_run(out, config, console, "--out")


@dataclass(frozen=True, kw_only=True)
class Lessons(Course):
    """What a student is trained on: its method, its lesson, and the texts."""

    kind: type[Distillation]
    lesson: Lesson
    source: str
    """Fingerprint of the run's text, from which all of these follow."""

    def task(
        self,
        tokenizer: Tokenizer,
        windows: Windows,
        validation: Windows,
        batch_size: int,
        subset: Sequence[int] | None,
    ) -> LanguageModelling:
        """Return the task; arguments as of ``Distillation``."""
        kind = carried(self.kind) if self.carry_state else self.kind
        task = kind(
            self.lesson, tokenizer, windows, validation, batch_size, subset, measure_training=True
        )
        task.source = self.source
        return task


def lessons_of(context: Context, data: PreparedData) -> Lessons | None:
    """Return what the student of a run is trained on, or None if the run has no teacher.

    Raises:
        ConfigError: if the teacher is gone or has other weights now, or settings do not suit.
        DataError: if the teacher's own texts are gone or others now.
        CompressionError: if distillation.json cannot be read.
    """
    written = read_distillation(context.folder)
    if written is None:
        return None
    config = context.config
    kind: type[Distillation] = DISTILLATIONS.load(written["method"])
    kind.suited(config.training)
    lm = _teacher(written["teacher"])
    check_same_tokenizer(lm.tokenizer, data, _source(lm))
    place = str(context.folder / DISTILLATION)
    settings: Any = from_dict(kind.Settings, written["settings"], place)
    lesson = Lesson(_quick(lm.model, config), settings, config.model, config.training.seed)
    texts, train = written["texts"], data.train
    if texts is not None:
        corpus = corpus_of(context.folder, config.data.cache_folder)
        now = open_corpus(corpus).fingerprint()
        if now != texts["fingerprint"]:
            raise DataError(
                f"{corpus.path} holds other texts than the teacher wrote ({now}, not "
                f"{texts['fingerprint']}): put them back, or distill again"
            )
        train = encoded_split(corpus, lm.tokenizer, "train", context.console)
    return Lessons(
        train=train,
        has_start=written.get("start") is not None,
        carry_state=config.training.carry_state,
        kind=kind,
        lesson=lesson,
        source=data.train.header.corpus,
    )


def _refuse_larger(student: ModelConfig, teacher: GenerativeModel, most: int) -> int:
    """Return the numbers of a student that its teacher can teach.

    Raises:
        ConfigError: if it is larger, or reads more than its teacher can.
    """
    size = parameter_counts(student)["total"]
    if size > most:
        raise ConfigError(
            f"the student has {size:,} numbers and its teacher {most:,}: make it smaller, such as "
            "by -o model.num_layers=1 or -o model.hidden_size=64"
        )
    longest = teacher.config.context_length
    if student.context_length > longest:
        raise ConfigError(
            f"model.context_length = {student.context_length}: the teacher reads {longest} tokens "
            "at most; give no more"
        )
    return size


def _start_of(run: Path) -> LanguageModel:
    """Return the model of a run whose weights can be trained on.

    Raises:
        CompressionError: if it was changed by more than masks.
    """
    lm = LanguageModel.load(run)
    others = [change[NAME] for change in lm.model.changes if change[NAME] != MASK]
    if others:
        raise CompressionError(
            f"--start {run}: its model was changed ({', '.join(others)}), and a student begins "
            "with plain weights, or masked ones: give the run that it was made of"
        )
    return lm


def _source(lm: LanguageModel) -> Path:
    assert lm.source is not None
    return lm.source.resolve()


def _run_of(lm: LanguageModel) -> Path:
    return _source(lm).parents[1]


def _quick(teacher: GenerativeModel, config: RunConfig) -> GenerativeModel:
    """Give a teacher the form in which its student is trained."""
    install(teacher, PLAIN if config.training.speed == "plain" else WHOLE)
    return teacher


def _teacher(source: Source) -> LanguageModel:
    path = checkpoint_of(source)
    if not path.exists():
        raise ConfigError(f"the teacher {path} is gone: put it back, or distill again")
    if not still_holds(source):
        raise ConfigError(f"the teacher {path} has other weights now: distill again")
    return LanguageModel.load(path)


def _write(out: Path, written: Distilled) -> None:
    write_text(out / DISTILLATION, json.dumps(signed(written), indent=1))
