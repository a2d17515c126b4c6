"""Training a classifier on a run's model (``tinylm finetune --method sequence-classification``).

The loop of language models trains it (``finetuning.classification`` says how), so stopping and
going on bit for bit are the same, and ``RUN/adapters/NAME`` is kept as an adapter's is
(``experiments.adapting``): ``finetuning.json`` says what it follows from, ``metrics.jsonl`` holds
the measurements of every epoch, ``checkpoints`` stands there while it is trained, and the best
classifier takes their place. The best has the lowest validation loss: accuracy moves in steps of
one text, and says nothing of how sure the answers are.

Where the body is frozen and no [CLS] is learned, what the head reads never changes: it is computed
once, and an epoch then costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tinylm import folders
from tinylm.checkpoint import load_checkpoint
from tinylm.config import TrainingConfig, to_dict
from tinylm.config.finetuning import ClassificationConfig
from tinylm.data.labelled import LabelledData, LabelledRow
from tinylm.errors import AdapterError, ConfigError, DataError, nearest, shown
from tinylm.evaluation.classification import (
    ClassificationScores,
    class_log_probabilities,
    classification_scores,
)
from tinylm.experiments.context import Console, SilentListener, threads
from tinylm.experiments.recipes import begun, unfinished, write_recipe
from tinylm.experiments.training.measure import StoppedBySignalError, go_back, resume_point
from tinylm.finetuning.adapters import fingerprint
from tinylm.finetuning.classification import Classifier, trained
from tinylm.finetuning.classification_files import (
    ABOUT,
    load_classifier,
    read_classifier,
    save_classifier,
)
from tinylm.language_model import LanguageModel
from tinylm.locks import locked
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import load_weights
from tinylm.tasks.classification import SequenceClassification
from tinylm.tokenizers.base import SOS_ID
from tinylm.training.commands import Commands
from tinylm.training.events import ValidationRecord
from tinylm.training.loop import Trainer
from tinylm.training.tracking import Tracker

METHOD = "sequence-classification"
RATES = {"frozen": 3e-3, "lora": 2e-3, "full": 3e-4}
"""Learning rate of each body where none is given: the fewer the parameters, the higher."""


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that a classifier follows from, beside its base."""

    settings: ClassificationConfig
    training: TrainingConfig
    data: str
    """Where the labelled texts are."""
    fingerprint: str
    """Of the labelled texts."""
    max_tokens: int
    """Tokens of a text that are read, <sos> or [CLS] included; the rest is cut off."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "method": METHOD,
            "settings": to_dict(self.settings),
            "training": to_dict(self.training),
            "data": self.data,
            "fingerprint": self.fingerprint,
            "context_length": self.max_tokens,
        }


@dataclass(frozen=True)
class Classified:
    """What came of the training."""

    model: TextClassifier
    scores: ClassificationScores
    """Of the best classifier, on the validation texts."""
    steps: int
    trained: int
    """Parameters trained."""
    num_bytes: int
    """Of the tensors on disk."""


class TextClassifier:
    """A classifier with its tokenizer and labels: text in, probabilities out."""

    def __init__(
        self, lm: LanguageModel, classifier: Classifier, labels: Sequence[str], max_tokens: int
    ) -> None:
        self.lm = lm
        self.classifier = classifier
        self.labels = tuple(labels)
        self.max_tokens = max_tokens

    @classmethod
    def load(cls, lm: LanguageModel, folder: Path) -> TextClassifier:
        """Read a classifier; the model of ``lm`` is changed.

        Raises:
            AdapterError: if there is none, it is unfinished, or it is another base's.
        """
        problem = unfinished(folder)
        if problem is not None:
            raise AdapterError(problem)
        classifier, stored = load_classifier(lm.model, folder)
        return cls(lm, classifier, stored.labels, stored.max_tokens)

    def rows(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """Return the ids that are read of each text, and how many texts are cut."""
        first = [] if self.classifier.settings.bidirectional else [SOS_ID]
        most = self.max_tokens - self.classifier.settings.bidirectional  # [CLS] takes one place
        whole = [[*first, *ids] for ids in self.lm.tokenizer.encode_batch(list(texts))]
        return [row[:most] for row in whole], sum(len(row) > most for row in whole)

    def probabilities(self, texts: Sequence[str], batch_size: int = 32) -> torch.Tensor:
        """Return the probability of every label for every text, (texts, labels)."""
        if not texts:
            raise DataError("give at least one text")
        log_probabilities = class_log_probabilities(
            self.classifier, self.rows(texts)[0], batch_size
        )
        return log_probabilities.exp()

    def scores(self, rows: Sequence[LabelledRow], batch_size: int = 32) -> ClassificationScores:
        """Measure the answers to labelled texts.

        Raises:
            DataError: if there is none, or a label is not one of the classifier's.
        """
        answers = self.probabilities([row.text for row in rows], batch_size).argmax(1)
        return classification_scores(self.indices(rows), answers.tolist(), self.labels)

    def indices(self, rows: Sequence[LabelledRow]) -> list[int]:
        """Return the index of each row's label.

        Raises:
            DataError: if a label is not one of the classifier's.
        """
        places = {label: i for i, label in enumerate(self.labels)}
        for row in rows:
            if row.label not in places:
                raise DataError(
                    f"the label {shown(row.label)} is none of the classifier's"
                    f"{nearest(row.label, self.labels)}"
                )
        return [places[row.label] for row in rows]


class _Progress(SilentListener):
    """Shows the steps on a bar, and writes down and shows what every validation found."""

    def __init__(
        self,
        console: Console,
        done: Callable[[float], None],
        tracker: Tracker,
        task: SequenceClassification,
    ) -> None:
        self.console = console
        self.done = done
        self.tracker = tracker
        self.task = task

    def on_start(self, step: int, total_steps: int) -> None:
        if step:
            self.console.note(f"Going on after step {step:,} of {total_steps:,}")

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        self.done(step)

    def on_saving(self, step: int) -> None:
        self.tracker.sync()

    def on_validation(self, record: ValidationRecord, best: bool) -> None:
        scores = self.task.scores
        assert scores is not None  # the validation that this tells of
        numbers = {"accuracy": scores.accuracy, "macro_f1": scores.macro_f1}
        kept = {k: v for k, v in asdict(record).items() if k in ("step", "epoch", "loss")}
        self.tracker.write("validation", kept | numbers)
        self.console.note(
            f"step {record.step:,}  epoch {record.epoch:.2f}  validation loss {record.loss:.4f}  "
            f"accuracy {scores.accuracy:.4f}  macro F1 {scores.macro_f1:.4f}"
            f"{'  (best)' if best else ''}"
        )


def start_classifier(
    body: GenerativeModel, num_labels: int, recipe: ClassifierRecipe
) -> Classifier:
    """Return an untrained classifier, drawn from the recipe's seed; ``body`` is changed.

    Raises:
        AdapterError: for settings that the model cannot have.
    """
    torch.manual_seed(recipe.training.seed)
    return Classifier(body, num_labels, recipe.settings, SOS_ID)


def classify(
    lm: LanguageModel,
    data: LabelledData,
    recipe: ClassifierRecipe,
    folder: Path,
    console: Console,
    commands: Commands,
) -> Classified:
    """Train a classifier and write it, or go on where an interrupted training stopped.

    Args:
        lm: the base; its model is changed.
        data: labelled texts.
        recipe: how.
        folder: of the classifier.
        console: who watches.
        commands: what to do when it stops before its end.

    Raises:
        ConfigError: if the folder holds something of another recipe, or this classifier, finished.
        LockedError: if another process writes to the folder.
        AdapterError: for settings that the model cannot have.
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
    """
    context = lm.model.config.context_length
    if not 1 < recipe.max_tokens <= context:
        raise ConfigError(
            f"--context-length {recipe.max_tokens}: a classifier reads 2 to the model's {context}"
        )
    with locked(folder, console.warn):
        return _classify(lm, data, recipe, folder, console, commands)


def _classify(
    lm: LanguageModel,
    data: LabelledData,
    recipe: ClassifierRecipe,
    folder: Path,
    console: Console,
    commands: Commands,
) -> Classified:
    written = recipe.as_dict() | {"base": fingerprint(lm.model), "command": commands.go_on}
    usual = replace(recipe, settings=ClassificationConfig(), training=TrainingConfig())
    before = begun(folder, written, usual.as_dict(), lambda: _finished(folder), console.warn)
    training, checkpoints = recipe.training, folder / "checkpoints"
    with threads(training.threads):
        classifier = start_classifier(lm.model, len(data.labels), recipe)
        model = TextClassifier(lm, classifier, data.labels, recipe.max_tokens)
        rows, cut = model.rows([row.text for row in data.train])
        held_out, cut_held_out = model.rows([row.text for row in data.validation])
        _describe(console, data, cut + cut_held_out, recipe.max_tokens)
        task = SequenceClassification(
            lm.tokenizer,
            (rows, model.indices(data.train)),
            (held_out, model.indices(data.validation)),
            data.labels,
            recipe.fingerprint,
            training.batch_size,
        )
        path, state = (None, None) if before is None else resume_point(checkpoints, console)
        trainer = Trainer(
            classifier, task, training, checkpoints, SilentListener(), commands=commands
        )
        if path is not None and state is not None:
            load_weights(classifier, load_checkpoint(path).weights, path)
            trainer.restore(state)
        write_recipe(folder, written)
        go_back(checkpoints, state)
        if classifier.has_fixed_features:
            with console.task("Reading the texts with the frozen body"):
                task.read_once(classifier)
        tracker = Tracker(folder, training, trainer.step, commands.go_on)
        try:
            with console.task("Training the classifier", trainer.total_steps) as done:
                trainer.listener = _Progress(console, done, tracker, task)
                outcome = trainer.run()
        finally:
            tracker.close()
        if outcome.reason.startswith("SIG"):
            raise StoppedBySignalError(outcome, commands.go_on)
        best = load_checkpoint(checkpoints / "best")
        load_weights(classifier, best.weights, best.path)
        classifier.eval()
        scores = model.scores(data.validation, training.batch_size)
    num_bytes = save_classifier(classifier, data.labels, recipe.max_tokens, SOS_ID, folder)
    folders.remove(checkpoints)
    count = sum(parameter.numel() for parameter in trained(classifier).values())
    return Classified(model, scores, outcome.step, count, num_bytes)


def _describe(console: Console, data: LabelledData, cut: int, max_tokens: int) -> None:
    counts = dict.fromkeys(data.labels, 0)
    for row in data.train:
        counts[row.label] += 1
    console.note(
        f"{len(data.train):,} training texts ("
        + ", ".join(f"{label} {count:,}" for label, count in counts.items())
        + f"), {len(data.validation):,} validation texts"
    )
    if cut:
        console.note(f"{cut:,} texts are cut to their first {max_tokens} tokens")
    if data.shared:
        console.warn(f"{data.shared:,} validation texts are training texts too")


def _finished(folder: Path) -> bool:
    """Whether a classifier is there, and nothing to go on from.

    Raises:
        AdapterError: if it is damaged.
    """
    if (folder / "checkpoints").exists() or not (folder / ABOUT).exists():
        return False
    read_classifier(folder)
    return True
