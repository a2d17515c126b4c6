"""What the options of ``tinylm self-instruct`` mean, and its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinylm.alignment.self_instruct.writer import Writer
    from tinylm.experiments.context import Console
    from tinylm.language_model import LanguageModel


@dataclass(frozen=True)
class Given:
    """The options, as given."""

    run: Path
    out: Path
    seeds: Path | None
    number: int
    writer: Path | None
    endpoint: str | None
    model: str | None
    key_variable: str | None
    completions: bool | None
    """None: it is asked as a chat."""
    steps: int | None
    learning_rate: float | None
    seed: int
    option: tuple[str, ...]


RATE = 0.125
"""Of the run's own peak learning rate: the set is small."""


def self_instruct_run(given: Given, console: Console) -> Iterator[str]:
    """Take all steps, and yield the lines of the result.

    Raises:
        ConfigError: for options that cannot be, or a folder that holds something else.
        AlignmentError: if the seeds or what is in the folder cannot be used, or the writer cannot
            be asked.
        StoppedBySignalError: if a signal stopped the tuning; its state is saved.
    """
    from tinylm.alignment.self_instruct.records import read_tasks
    from tinylm.alignment.self_instruct.seeds import seed_tasks
    from tinylm.cli.own_training import commands_of
    from tinylm.config import from_overrides
    from tinylm.config.self_instruct import SelfInstructConfig
    from tinylm.errors import ConfigError
    from tinylm.experiments import instructing, self_instructing
    from tinylm.experiments.context import open_run
    from tinylm.experiments.instruction_following import (
        held_out_tasks,
        lines_of,
        measure_following,
    )
    from tinylm.language_model import LanguageModel

    settings = from_overrides(SelfInstructConfig, given.option)
    if settings.least_words > settings.most_words:
        raise ConfigError(
            f"-o least_words={settings.least_words}: no instruction has so many words and at most "
            f"{settings.most_words} (most_words): give fewer, or raise most_words"
        )
    tasks = seed_tasks() if given.seeds is None else read_tasks(given.seeds)
    context = open_run(given.run, console)
    before = LanguageModel.load(given.run)
    writer = _writer(given, before)
    asked = self_instructing.Asked(tuple(tasks), given.number, settings, given.seed)
    with self_instructing.folder_of(given.out, console):
        if settings.held_out:  # what cannot be is refused before the work begins
            held_out_tasks([before], 1, given.seed + 1)
        made = self_instructing.make_set(given.out, writer, asked, console)
        for line in told(made.counts):
            console.note(line)
        if not made.counts["set"]["made"]:
            console.warn("nothing that was made is kept: the run is tuned on the seed tasks alone")
        folder = given.out / self_instructing.RUN
        examples = instructing.of_tasks(made.tasks, given.seed, self_instructing.SET)
        rate = given.learning_rate or RATE * context.config.training.learning_rate
        training = instructing.training_of(
            *(context, examples, given.steps, rate, None, given.seed, instructing.EPOCHS)
        )
        if not instructing.is_tuned(folder, before, training):
            commands = commands_of("self-instruct", given, training.learning_rate)
            instructing.instruct(context, folder, examples, training, commands)
        if settings.held_out:
            after = LanguageModel.load(folder)
            held_out = held_out_tasks(
                [before, after], settings.held_out, given.seed + 1, made.tasks
            )
            rows = measure_following(
                given.out / self_instructing.FOLLOWING,
                *(before, after, held_out, settings.following_temperature, given.seed, console),
            )
            yield from lines_of(rows)
    yield str(folder)


def _writer(given: Given, lm: LanguageModel) -> Writer:
    """Return who writes.

    Raises:
        ConfigError: for options of an endpoint without one, and the other way round.
    """
    from tinylm.alignment.self_instruct.endpoint import Endpoint, EndpointWriter, key_of
    from tinylm.alignment.self_instruct.model_writer import ModelWriter
    from tinylm.errors import ConfigError
    from tinylm.experiments.records import WEIGHTS
    from tinylm.fingerprints import file_sha256
    from tinylm.language_model import LanguageModel

    if given.endpoint is None:
        for name, value in (
            ("--model", given.model),
            ("--key-variable", given.key_variable),
            ("--completions", given.completions),
        ):
            if value is not None:
                raise ConfigError(f"{name} is about --endpoint: give one, or leave it out")
        if given.writer is not None:
            lm = LanguageModel.load(given.writer)
        assert lm.source is not None
        return ModelWriter(lm.model, lm.tokenizer, file_sha256(lm.source / WEIGHTS))
    if given.writer is not None:
        raise ConfigError("--writer beside --endpoint: leave one of them out")
    if given.model is None:
        raise ConfigError("--endpoint: give --model as well, the name that it knows")
    endpoint = Endpoint(given.endpoint, given.model, given.key_variable, not given.completions)
    return EndpointWriter(endpoint, key_of(endpoint))


def told(counts: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that say how many came through every step."""
    for name in ("instructions", "instances"):
        part = counts[name]
        refused = [f"{number:,} {why}" for why, number in part["refused"].items() if number]
        share = f" ({100 * part['kept'] / part['written']:.0f} %)" if part["written"] else ""
        yield (
            f"{name}: {part['written']:,} written, {part['kept']:,} kept{share}"
            + (f"; refused: {', '.join(refused)}" if refused else "")
        )
    judged = counts["classification"]
    yield (
        f"classification: {judged['yes']:,} yes, {judged['no']:,} no, of which "
        f"{judged['neither yes nor no']:,} were answered otherwise"
    )
    whole = counts["set"]
    yield f"resulting set: {whole['seed']:,} seed tasks and {whole['made']:,} made instances"
