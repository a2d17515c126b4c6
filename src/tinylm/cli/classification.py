"""What ``tinylm finetune --method sequence-classification`` and ``tinylm classify`` share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinylm.cli.output import say

if TYPE_CHECKING:
    from tinylm.cli.adapters import Chosen
    from tinylm.evaluation.classification import ClassificationScores


def finetune_classifier(
    run: Path,
    data: str | None,
    option: Sequence[str],
    chosen: Chosen,
) -> None:
    """Train a classifier on labelled texts and print its scores.

    Args:
        run: the run's folder.
        data: a labelled ``.jsonl`` or ``.csv`` file, or a folder of them.
        option: ``KEY=VALUE`` settings of ``ClassificationConfig``.
        chosen: the other options. Steps, if empty, are the epochs of the settings; the context
            length is the tokens of a text that are read; the seed is also that of the hold-out.

    Raises:
        ConfigError: without data, or for a setting that cannot be used.
    """
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import absolute, from_overrides
    from tinylm.config.finetuning import ClassificationConfig
    from tinylm.data.labelled import read_labelled
    from tinylm.errors import ConfigError
    from tinylm.experiments.classifying import METHOD, RATES, ClassifierRecipe, classify
    from tinylm.experiments.context import open_run
    from tinylm.language_model import LanguageModel

    settings = from_overrides(ClassificationConfig, option)
    if data is None:
        raise ConfigError(f"{METHOD} needs labelled texts: --data FILE (.jsonl or .csv)")
    console = TerminalConsole()
    own = open_run(run, console).config.training
    labelled = read_labelled(
        data, settings.text_field, settings.label_field, settings.validation_fraction, chosen.seed
    )
    # Batches have the lengths of their texts: each would be compiled anew.
    changed = {"epochs": settings.epochs, "compile": False}
    training = chosen.training(own, RATES[settings.body], changed)
    lm = LanguageModel.load(run)
    length = chosen.context_length or lm.model.config.context_length
    recipe = ClassifierRecipe(
        settings, training, str(absolute(data)), labelled.fingerprint(), length
    )
    folder = chosen.folder(run, METHOD)
    commands = chosen.commands(run, METHOD, data, option, training.learning_rate)
    result = classify(lm, labelled, recipe, folder, console, commands)
    console.note(
        f"{folder}: {result.trained:,} parameters, {result.num_bytes / 2**20:.2f} MiB, "
        f"{result.steps:,} steps"
    )
    print_scores(result.scores)
    say(str(folder))


def print_scores(scores: ClassificationScores) -> None:
    """Print accuracy and F1, every label's scores and the confusion matrix."""
    from rich.table import Table

    from tinylm.cli.console import Terminal

    terminal = Terminal()
    terminal.print(
        f"{scores.num_texts:,} texts: accuracy {scores.accuracy:.4f}, macro F1 "
        f"{scores.macro_f1:.4f} (always the commonest label: accuracy {scores.majority:.4f})",
        soft_wrap=True,
    )
    table = Table()
    table.add_column("label")
    for column in ("texts", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for answer in scores.labels:
        table.add_column(f"answered {answer.label}", justify="right")
    for label_scores, row in zip(scores.labels, scores.confusion, strict=True):
        shares = (
            f"{share:.4f}"
            for share in (label_scores.precision, label_scores.recall, label_scores.f1)
        )
        table.add_row(
            label_scores.label,
            f"{label_scores.support:,}",
            *shares,
            *(f"{count:,}" for count in row),
        )
    terminal.print(table)
