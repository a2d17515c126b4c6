"""``tinylm classify``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tinylm.cli.options import Run
from tinylm.cli.output import say_json

if TYPE_CHECKING:
    from tinylm.experiments.classifying import TextClassifier


def classify(
    run: Run,
    classifier: Annotated[
        str, typer.Argument(metavar="NAME", help="A name below RUN/adapters, or a folder.")
    ],
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts to classify.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Labelled texts (.jsonl, .csv) to measure it on."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts in one forward pass.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Give texts the labels of a classifier that finetune has trained, or measure it."""
    from tinylm.cli.adapters import folder_of
    from tinylm.cli.classification import print_scores
    from tinylm.cli.input import piped_text
    from tinylm.data.labelled import read_rows
    from tinylm.errors import ConfigError
    from tinylm.experiments.classifying import TextClassifier
    from tinylm.finetuning.classification_files import ABOUT
    from tinylm.language_model import LanguageModel

    if not texts and data is None and (piped := piped_text()) is not None:
        texts = [piped]
    if bool(texts) == (data is not None):
        raise ConfigError("give either texts to classify or --data FILE to measure the classifier")
    model = TextClassifier.load(
        LanguageModel.load(run), folder_of(run, classifier, "classifier", ABOUT)
    )
    if data is None:
        _answer(model, texts or [], batch_size, as_json)
        return
    settings = model.classifier.settings
    scores = model.scores(read_rows(data, settings.text_field, settings.label_field), batch_size)
    if as_json:
        say_json(scores.as_dict())
    else:
        print_scores(scores)


def _answer(model: TextClassifier, texts: Sequence[str], batch_size: int, as_json: bool) -> None:
    from rich.table import Table

    from tinylm.cli.console import Terminal, TerminalConsole

    cut = model.rows(texts)[1]
    if cut:
        TerminalConsole().warn(f"{cut} of the texts are cut to {model.max_tokens} tokens")
    probabilities = model.probabilities(texts, batch_size).tolist()
    answers = [
        {
            "text": text,
            "label": max(zip(row, model.labels, strict=True), key=lambda pair: pair[0])[1],
            "probabilities": dict(zip(model.labels, row, strict=True)),
        }
        for text, row in zip(texts, probabilities, strict=True)
    ]
    if as_json:
        say_json(answers)
        return
    table = Table()
    table.add_column("label")
    for label in model.labels:
        table.add_column(f"p({label})", justify="right")
    table.add_column("text")
    for answer, row in zip(answers, probabilities, strict=True):
        table.add_row(str(answer["label"]), *(f"{p:.4f}" for p in row), str(answer["text"]))
    Terminal().print(table)
