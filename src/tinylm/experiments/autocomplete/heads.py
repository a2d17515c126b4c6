"""The same question put to a model with a head for it: who has the thing, of ten people.

A body of the main model's sizes begins with random weights and learns stories and holders alone,
for as many tokens as the other trainings have read.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tinylm.config.finetuning import ClassificationConfig
from tinylm.data.corpora.skill_grammar.holders import PEOPLE
from tinylm.data.corpora.skill_grammar.items import Item
from tinylm.evaluation.classification import class_log_probabilities
from tinylm.experiments.autocomplete.trainings import Trained
from tinylm.experiments.context import Context, SilentListener
from tinylm.finetuning.classification import Classifier
from tinylm.model.base import build
from tinylm.tasks.classification import Labelled, SequenceClassification
from tinylm.tokenizers.base import SOS_ID
from tinylm.training.commands import Commands
from tinylm.training.loop import Trainer

_TEXTS_AT_ONCE = 128


def with_head(
    context: Context,
    beside: Trained,
    asked: dict[str, Sequence[Item]],
    commands: Commands,
) -> dict[str, Any]:
    """Train a classifier of holders, and return how many it gets right.

    Args:
        context: of the experiment.
        beside: a training on the same stories as text, of whose tokenizer, sizes, steps and tokens
            a step it takes as many.
        asked: kind of item -> stories.
        commands: what to type when it stops before its end.

    Returns:
        ``accuracy``, kind of item -> share; ``parameters`` that are trained; ``stories`` that were
        trained on, counted each time.

    Raises:
        TrainingError: if it diverged.
    """
    lm, config = beside.model(), beside.config
    train = list(beside.corpus.items("train"))

    def labelled(items: Sequence[Item]) -> Labelled:
        rows = lm.tokenizer.encode_batch([item.prompt for item in items])
        names = [PEOPLE.index(item.answer.removesuffix(".")) for item in items]
        return [[SOS_ID, *row] for row in rows], names

    rows, _ = known = labelled(train)
    read = config.training.batch_size * config.model.context_length
    settings = replace(
        config.training, batch_size=max(1, round(read * len(rows) / sum(map(len, rows))))
    )
    settings = replace(settings, checkpoint_interval=0, keep_checkpoints=1)
    task = SequenceClassification(
        lm.tokenizer,
        known,
        labelled(asked["new"]),
        PEOPLE,
        beside.corpus.fingerprint(),
        _TEXTS_AT_ONCE,
    )
    with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        classifier = Classifier(
            build(config.model), len(PEOPLE), ClassificationConfig(body="full", dropout=0.0), SOS_ID
        )
        trainer = Trainer(
            classifier, task, settings, Path(folder), SilentListener(), commands=commands
        )
        outcome = trainer.run()
    if outcome.reason != "finished":  # a signal, which is let do now what it does elsewhere
        signal.raise_signal(signal.Signals[outcome.reason])
    shares = {}
    for kind, items in asked.items():
        texts, names = labelled(items)
        answers = class_log_probabilities(classifier, texts, _TEXTS_AT_ONCE).argmax(1)
        shares[kind] = float((answers == torch.tensor(names)).double().mean())
    return {
        "accuracy": shares,
        "parameters": sum(p.numel() for p in classifier.parameters() if p.requires_grad),
        "stories": outcome.tokens,
    }
