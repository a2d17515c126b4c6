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
    """Train a classifier on labelled texts and print what it is worth.

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
    found = classify(lm, labelled, recipe, folder, console, commands)
    console.note(
        f"{folder}: {found.trained:,} parameters, {found.num_bytes / 2**20:.2f} MiB, "
        f"{found.steps:,} steps"
    )
    print_scores(found.scores)
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
    for one, row in zip(scores.labels, scores.confusion, strict=True):
        shares = (f"{share:.4f}" for share in (one.precision, one.recall, one.f1))
        table.add_row(one.label, f"{one.support:,}", *shares, *(f"{count:,}" for count in row))
    terminal.print(table)
