"""Tuning a run's model on instructions, and a run of what came of it.

What is learned are responses alone (``tasks.responses``). The instructions are those of a file, or
such as the story grammar makes, together with what a writer of instructions must know. Words that
the model does not know, such as ``dialogue``, are added to its vocabulary, and the new run's
configuration names them (``tokenizer.more_words``): special tokens, whose ids come before all
words, would renumber it.

While it is trained, ``OUT/instructing`` holds checkpoints, from which the same command goes on bit
for bit, and ``OUT/instruct.json`` what it follows from; OUT is a run in the end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.self_instruct.lessons import following, writing
from tinylm.alignment.self_instruct.prompts import Exchange, followed, worked_out
from tinylm.alignment.self_instruct.records import Instance
from tinylm.alignment.self_instruct.story_tasks import story_tasks
from tinylm.config import TrainingConfig, to_dict
from tinylm.errors import AlignmentError, ConfigError
from tinylm.experiments.compressing import (
    Compression,
    before,
    new_run,
    refuse_adapted,
    write_compressed,
)
from tinylm.experiments.context import Console, Context, threads
from tinylm.experiments.own_training import Place, train_to_best, training_settings
from tinylm.experiments.records import WEIGHTS, Compressed, read_compression
from tinylm.finetuning.linear import refuse_quantized
from tinylm.finetuning.vocabulary import with_vocabulary
from tinylm.fingerprints import file_sha256, fingerprint_of
from tinylm.language_model import LanguageModel
from tinylm.model.dropout import leave_out
from tinylm.tasks.responses import ResponseModelling, Row, row_of
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.commands import Commands

RECIPE = "instruct.json"
CHECKPOINTS = "instructing"
OWN = (RECIPE, CHECKPOINTS, "metrics.jsonl", "tensorboard")
"""What stands in a folder while its model is tuned."""
NUMBER = 8000
"""Tasks of the story grammar."""
EPOCHS = 3
"""Passes over a file of tasks."""
BATCH_SIZE = 16
RATE = 0.5
"""Of the run's own peak learning rate."""
HELD_OUT = 0.1
"""Share of the instructions of a file that is held out."""
_MOST_HELD_OUT = 256
LEAST_USES = 2
MOST_NEW_WORDS = 1000
"""Words that are added to a vocabulary: no more, and none that is used less often."""


@dataclass(frozen=True)
class Examples:
    """What a model is tuned on."""

    train: tuple[Exchange, ...]
    held_out: tuple[Exchange, ...]
    of: str
    """What they are, for a reader."""

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that name all of them, in their order."""
        rows = [
            [[each.prompt, each.response] for each in part] for part in (self.train, self.held_out)
        ]
        return fingerprint_of(rows)

    def texts(self) -> list[str]:
        """Return every text that is trained on."""
        return [each.prompt + each.response for each in self.train]


@with_config(extra="forbid")
class Recipe(TypedDict):
    """What instruct.json holds."""

    examples: str
    """Their fingerprint."""
    training: dict[str, Any]
    base: str
    """SHA-256 of the weights that it begins with."""


def training_of(
    context: Context,
    examples: Examples,
    steps: int | None,
    learning_rate: float | None,
    batch_size: int | None,
    seed: int,
    epochs: int,
) -> TrainingConfig:
    """Return how a run's model is tuned; what is None has its usual value.

    Raises:
        ConfigError: for a value that cannot be.
    """
    run = context.config.training
    rows = batch_size or BATCH_SIZE
    most = steps or math.ceil(len(examples.train) / rows) * epochs
    usual = {
        "learning_rate": RATE * run.learning_rate,
        "schedule": "cosine",
        "warmup_steps": most // 20,
        "min_learning_rate_ratio": 0.05,
        "validations": min(10, most),
        "checkpoint_interval": 50,
        "log_interval": run.log_interval,
    }
    given = {
        "learning_rate": learning_rate or None,
        "max_steps": most,
        "batch_size": rows,
        "seed": seed,
    }
    return training_settings(run, usual, given)


def of_grammar(tokenizer: Tokenizer, context_length: int, number: int, seed: int) -> Examples:
    """Return tasks of the story grammar as examples, and what a writer of tasks must know.

    Raises:
        ConfigError: if no story fits in the context with its instruction.
    """

    def fits(exchange: Exchange) -> bool:
        return len(row_of(tokenizer, exchange.prompt, exchange.response).ids) <= context_length

    def usable(task: Instance) -> bool:
        return fits(followed(task)) and fits(worked_out(task))

    held_out = min(_MOST_HELD_OUT, max(8, number // 10))
    train = [each.instance for each in story_tasks(seed, "train", number, usable)]
    validation = [each.instance for each in story_tasks(seed, "validation", held_out, usable)]
    taught, asked = (
        (*following(tasks), *writing(tasks, seed, fits)) for tasks in (train, validation)
    )
    return Examples(taught, asked, f"{number:,} tasks of the story grammar, seed {seed}")


def of_tasks(tasks: Sequence[Instance], seed: int, of: str) -> Examples:
    """Return tasks as examples; a share of the instructions, with all their inputs, is held out.

    Raises:
        AlignmentError: if there are fewer than two instructions.
    """
    instructions = list(dict.fromkeys(each.instruction for each in tasks))
    if len(instructions) < 2:
        raise AlignmentError(f"{of}: one instruction alone: give two, of which one is held out")
    count = min(_MOST_HELD_OUT, max(1, round(HELD_OUT * len(instructions))))
    order = np.random.default_rng(seed).permutation(len(instructions))
    chosen = {instructions[i] for i in order[:count]}
    return Examples(
        tuple(following([each for each in tasks if each.instruction not in chosen])),
        tuple(following([each for each in tasks if each.instruction in chosen])),
        of,
    )


def tuned_start(lm: LanguageModel, texts: Sequence[str]) -> tuple[LanguageModel, list[str]]:
    """Return a model that knows the words of texts, and those that it did not know before.

    Raises:
        AdapterError: if its vocabulary must grow and cannot, since it was changed.
    """
    counts = lm.tokenizer.unknown_words(texts)
    often = sorted(word for word, count in counts.items() if count >= LEAST_USES)
    words = sorted(often, key=lambda word: -counts[word])[:MOST_NEW_WORDS]
    tokenizer = lm.tokenizer.with_words(words)
    return LanguageModel(
        with_vocabulary(lm.model, tokenizer.vocab_size), tokenizer, lm.source
    ), words


def instruct(
    context: Context,
    out: Path,
    examples: Examples,
    training: TrainingConfig,
    commands: Commands,
) -> Compressed:
    """Tune a run's model on instructions, or go on where an interrupted tuning stopped.

    Args:
        context: the run.
        out: a new folder, or that of an interrupted tuning; it becomes a run.
        examples: what is learned.
        training: how.
        commands: what to do when it stops before its end.

    Returns:
        What compression.json holds.

    Raises:
        ConfigError: for a folder that holds something else.
        AlignmentError: if an example does not fit in the model's context.
        AdapterError: if its vocabulary must grow and cannot.
        CompressionError: if it has adapters.
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if the loss is not finite.
    """
    lm = LanguageModel.load(context.folder)
    refuse_adapted(context, lm)
    refuse_quantized(lm.model)
    of = before(context, lm)
    recipe = Recipe(
        examples=examples.fingerprint(), training=to_dict(training), base=of.source["sha256"]
    )
    place = Place(out, RECIPE, CHECKPOINTS)
    place.clear_finished(context.console)
    with new_run(out, context.console, OWN), threads(training.threads):
        goes_on = place.has_begun(Recipe, recipe)
        start, words = tuned_start(lm, examples.texts())
        model = start.model.requires_grad_()
        leave_out(model)
        task = ResponseModelling(
            start.tokenizer,
            _rows(start, examples.train, context.console),
            _rows(start, examples.held_out, context.console),
            recipe["examples"],
            training.batch_size,
        )
        outcome = train_to_best(
            place, model, task, training, recipe, goes_on, context.console, commands
        )
        details = {
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "held_out_loss": outcome.best_loss,
            "examples": {"of": examples.of, "train": len(task), "held_out": len(task.held_out)},
            "new_words": words,
            "training": recipe["training"],
        }
        record = Compression("instruct", "responses", {}, of, details=details)
        done = LanguageModel(model, start.tokenizer, lm.source)
        written = write_compressed(out, _with_words(context, words), done, record, OWN)
        place.clear()
    return written


def is_tuned(out: Path, lm: LanguageModel, training: TrainingConfig) -> bool:
    """Whether a folder holds the run that was made of a model by a training.

    Args:
        out: the folder.
        lm: the model, as it was loaded.
        training: all settings.

    Raises:
        ConfigError: if it holds one that was made otherwise.
        CompressionError: if its record is damaged.
    """
    if not (out / "config.yaml").exists():
        return False
    record = read_compression(out)
    assert lm.source is not None
    if (
        record is None
        or record["details"].get("training") != json.loads(json.dumps(to_dict(training)))
        or record["source"]["sha256"] != file_sha256(lm.source / WEIGHTS)
    ):
        raise ConfigError(
            f"{out} holds a run that was tuned with other settings or from other weights: delete "
            "it, and it is tuned anew, or give --out another folder"
        )
    return True


def _rows(lm: LanguageModel, examples: Sequence[Exchange], console: Console) -> list[Row]:
    """Return examples as ids, those left out that are longer than the context.

    Raises:
        AlignmentError: if none is left.
    """
    longest = lm.model.config.context_length
    rows = [row_of(lm.tokenizer, each.prompt, each.response) for each in examples]
    kept = [row for row in rows if len(row.ids) <= longest + 1]  # the last id is not read
    if not kept:
        raise AlignmentError(
            f"none of {len(rows):,} instructions fits with its response in the model's context of "
            f"{longest} tokens: give a run with a longer one, such as 256"
        )
    if len(kept) < len(rows):
        console.warn(
            f"{len(rows) - len(kept):,} of {len(rows):,} instructions with their responses are "
            f"longer than the context of {longest} tokens and left out"
        )
    return kept


def _with_words(context: Context, words: Sequence[str]) -> Context:
    """Return a run whose configuration names more words."""
    if not words:
        return context
    tokenizer: Any = context.config.tokenizer
    named = replace(tokenizer, more_words=(*tokenizer.more_words, *words))
    return replace(context, config=replace(context.config, tokenizer=named))


def read_examples(
    lm: LanguageModel, tasks: Sequence[Instance] | None, of: str, number: int, seed: int
) -> Examples:
    """Return the examples of a file's tasks, or of the story grammar where there is none.

    Raises:
        ConfigError: if no story of the grammar fits in the model's context.
        AlignmentError: if there are too few tasks.
    """
    if tasks is not None:
        return of_tasks(tasks, seed, of)
    if number < 1:
        raise ConfigError(f"--number {number}: give 1 at least")
    return of_grammar(lm.tokenizer, lm.model.config.context_length, number, seed)
