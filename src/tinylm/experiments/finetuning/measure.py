"""The fine-tuning experiment: the run's model, adapted to text of another kind by every method.

The run's best checkpoint is adapted to text of another kind, the target (letters, unless a setting
names other text), by full fine-tuning and by every method of the registry METHODS, for the same
number of steps and on the same batches. Losses on validation texts of the target and of the run's
own kind, the source, are measured before and after, and show what is learned and what is forgotten.
LoRA is trained with several seeds; the spread of the results decides which differences are
measurable. Texts longer than the context are cut into pieces of its length.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from tinylm.config import DataConfig, RunConfig, TrainingConfig, to_dict
from tinylm.config.finetuning import PromptConfig
from tinylm.data.corpora import open_corpus
from tinylm.data.token_files import TokenFile
from tinylm.experiments.adapting import FULL, RATES
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.finetuning.longer_context import EXTENSIONS, extend_context
from tinylm.experiments.finetuning.measure_costs import (
    measure_speeds,
    quantized,
    size,
    step_memory,
    step_tokens,
)
from tinylm.experiments.finetuning.settings import FinetuningExperiment
from tinylm.experiments.lab_texts import Story, rows_loss, train_on
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.recipes import MANY_UNKNOWN
from tinylm.finetuning.adapters import attach, trained_parameters
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.intrinsic import d90
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.registry import CORPORA, METHODS
from tinylm.training.allocator import give_back_freed_memory

LORA_PLUS = "lora+"
"""LoRA whose B learns faster; a method of its own in the comparison."""
PLUS_RATIO = 16.0
"""B's learning rate as a multiple of A's (Hayou, Ghosh and Yu 2024, section 5)."""
PLUS_RATE = RATES["lora"] / 4
"""A's, so that A learns more slowly than in LoRA, and B faster."""
_SAMPLED = (FULL, "lora")
"""Methods whose models continue prompts, besides the base."""
_PROMPT_TOKENS = 4
"""Tokens of a target text that are continued."""


@dataclass(frozen=True)
class Way:
    """One way to adapt the base."""

    name: str
    method: str
    """In the registry METHODS, or FULL."""
    settings: Any
    """Of the method; None for FULL."""
    learning_rate: float

    def start(self, base: GenerativeModel, seed: int) -> GenerativeModel:
        """Return a copy of the base with what is to be trained, drawn from the seed."""
        torch.manual_seed(seed)
        model = copy.deepcopy(base)
        if self.method == FULL:
            return model.requires_grad_()
        return attach(model, self.method, self.settings)


@dataclass(frozen=True)
class Texts:
    """Sequences to train on, and validation sequences of target and source."""

    train: list[Story]
    target: list[Story]
    """Validation texts of the target."""
    own: list[Story]
    """Validation texts of the run's own kind, the source."""


@dataclass(frozen=True)
class _Setting:
    """What all adaptations have in common."""

    base: GenerativeModel
    texts: Texts
    training: TrainingConfig
    steps: int
    step_done: Callable[[], None]

    def adapted(self, way: Way, seed: int | None = None) -> GenerativeModel:
        """Return the base adapted to the target; the order of the sequences is always the same."""
        give_back_freed_memory()  # of the training before
        training = replace(self.training, learning_rate=way.learning_rate)
        model = way.start(self.base, training.seed if seed is None else seed)
        model = train_on(model, self.texts.train, training, self.steps, lambda _: None)
        self.step_done()
        return model

    def losses(self, model: GenerativeModel) -> dict[str, float]:
        """Return the validation loss on target and source, in nats per token."""
        rows = self.training.batch_size
        return {
            "target_loss": rows_loss(model, self.texts.target, rows),
            "base_loss": rows_loss(model, self.texts.own, rows),
        }


def run(context: Context) -> dict[str, Any]:
    """Adapt the run's best checkpoint by every method, and measure.

    Returns:
        ``target`` (the text), ``before`` (losses of the base), ``methods`` (a row per method:
        losses, sizes, memory, times), ``repeats`` (LoRA's losses by seed), ``samples``, ``ranks``
        (LoRA), ``dylora`` (one training, a row per rank), ``dimensions`` (SAID, and d90), ``long``
        (extension of the context; None without it). Losses are in nats per token: ``target_loss``
        on the target, ``base_loss`` on the source.

    Raises:
        CheckpointError: if the run has no checkpoint.
        DataError: if a corpus cannot be used.
    """
    config, console = context.config, context.console
    settings: FinetuningExperiment = config.experiments.finetuning
    lm = LanguageModel.load(context.folder)
    base = lm.model.requires_grad_()
    target = target_data(config)
    files = {split: encoded_split(target, lm.tokenizer, split, console)
             for split in ("train", "validation")}  # fmt: skip
    own = encoded_split(config.data, lm.tokenizer, "validation", console)
    fewest = min(len(own), len(files["validation"]))
    tell_fewer(console, "experiments.finetuning.stories", settings.stories, fewest)
    tell_fewer(console, "experiments.finetuning.texts", settings.texts, len(files["train"]))
    unknown = files["train"].header.unknown_rate
    if unknown > MANY_UNKNOWN:
        console.warn(
            f"{unknown:.0%} of the words of {target.path or target.corpus} are unknown to the "
            "model, so that adapting it teaches little: name text in its own words with "
            "-o experiments.finetuning.target=PATH"
        )
    short = base.config.context_length
    room = short - PromptConfig().length  # what prompt tuning leaves of the context
    texts = Texts(
        in_pieces(_spread(files["train"], settings.texts), room),
        in_pieces(_spread(files["validation"], settings.stories), room),
        in_pieces(_spread(own, settings.stories), room),
    )
    training = replace(
        config.training,
        batch_size=settings.batch_size,
        accumulation_steps=1,
        warmup_steps=0,
        schedule="constant",
        compile=False,
    )
    compared = ways(settings.rank, base)
    lora = next(way for way in compared if way.name == "lora")
    ranks = {min(rank, _largest_rank(base)) for rank in settings.ranks} - {lora.settings.rank}
    extensions = len(EXTENSIONS) if settings.context_steps else 0
    trainings = len(compared) + settings.seeds - 1 + len(ranks) + len(settings.dimensions)
    with (
        threads(config.training.threads),
        console.task("Adapting the model", trainings + extensions) as done,
    ):
        count = 0

        def step_done() -> None:
            nonlocal count
            count += 1
            done(count)

        setting = _Setting(base, texts, training, settings.steps, step_done)
        before = setting.losses(base)
        models, rows = _methods(setting, compared)
        by_name = {row["name"]: row for row in rows}
        repeats = _repeats(setting, lora, by_name["lora"], settings.seeds)
        by_rank = _ranks(setting, ranks, lora, by_name["lora"])
        dimensions = _dimensions(setting, settings.dimensions, before, by_name[FULL])
        long = None
        if settings.context_steps:
            long = extend_context(
                base,
                _spread(encoded_split(config.data, lm.tokenizer, "train", console), settings.texts),
                _spread(own, settings.stories),
                settings.context_factor * short,
                replace(
                    training, batch_size=max(1, settings.batch_size // settings.context_factor)
                ),
                settings.context_steps,
                lambda method, model: settings_of(method, settings.rank, model),
                settings.repeats,
                step_done,
            )
        samples = _samples(lm, models, files["validation"], config)
    prompts = [story.tolist() for story in _spread(files["validation"], settings.stories)]
    with threads(config.training.threads):
        speeds = measure_speeds(models, training, texts.train, prompts, settings, console)
    return {
        "target": {
            "name": target.path or target.corpus,
            "description": open_corpus(target).describe(),
            "train_texts": min(len(files["train"]), settings.texts),
            "validation_texts": min(len(files["validation"]), settings.stories),
            "unknown_rate": unknown,
        },
        "own_texts": min(len(own), settings.stories),
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "step_tokens": step_tokens(training, texts.train),
        "new_tokens": settings.new_tokens,
        "precision": training.precision,
        "before": before,
        "methods": [{**row, **speeds[row["name"]]} for row in rows],
        "repeats": repeats,
        "samples": samples,
        "ranks": by_rank,
        "dylora": _dylora(setting, models["dylora"]),
        "dimensions": dimensions,
        "long": long,
    }


def target_data(config: RunConfig) -> DataConfig:
    """Return where the text comes from that the run's model is adapted to."""
    settings: FinetuningExperiment = config.experiments.finetuning
    own = config.data
    name = settings.target or ("stories" if own.corpus == "letters" else "letters")
    if name in CORPORA and name != "files":
        data = replace(own, corpus=name, path=None)
    else:
        data = replace(own, corpus="files", path=name)
    return replace(data, train_stories=settings.texts, validation_stories=settings.stories)


def ways(rank: int, model: GenerativeModel) -> list[Way]:
    """Return what is compared: full fine-tuning, every method, and LoRA+.

    Args:
        rank: of the methods that have one.
        model: the base, whose matrices may be too small for it.
    """
    compared = [Way(FULL, FULL, None, RATES[FULL])]
    for method in METHODS:
        compared.append(Way(method, method, settings_of(method, rank, model), RATES[method]))
    (lora,) = (way for way in compared if way.method == "lora")
    plus = replace(lora.settings, learning_rate_ratio=PLUS_RATIO)
    compared.insert(compared.index(lora) + 1, Way(LORA_PLUS, lora.method, plus, PLUS_RATE))
    return compared


def settings_of(method: str, rank: int, model: GenerativeModel) -> Any:
    """Return a method's settings: the defaults, with a rank that the model's matrices have.

    Alpha is twice the rank, so that the scale of the update is the same at every rank.
    """
    kind = METHODS.load(method).Settings
    if not any(field.name == "rank" for field in fields(kind)):
        return kind()
    rank = min(rank, _largest_rank(model))
    return kind(rank=rank, alpha=2.0 * rank)


def in_pieces(stories: Sequence[Story], length: int) -> list[Story]:
    """Return the same texts, each cut into rows of ``length`` inputs and the last label.

    The first token of a row is the last label of the row before, so that every token of a text but
    its first is predicted once.
    """
    return [s[i : i + length + 1] for s in stories for i in range(0, len(s) - 1, length)]


def _spread(file: TokenFile, number: int) -> list[Story]:
    """Return whole texts, spread evenly over a split."""
    chosen = np.linspace(0, len(file) - 1, min(number, len(file))).round().astype(int)
    return [file.story(int(i)) for i in chosen]


def _largest_rank(model: GenerativeModel) -> int:
    """Return the largest rank that every projection has."""
    config = model.config
    inner = config.num_heads * config.resolved_head_dim
    return min(config.hidden_size, inner, config.resolved_ffn_size)


def _methods(
    setting: _Setting, compared: Sequence[Way]
) -> tuple[dict[str, GenerativeModel], list[dict[str, Any]]]:
    """Adapt the base by every method."""
    models: dict[str, GenerativeModel] = {}
    rows = []
    for way in compared:
        model = setting.adapted(way)
        rows.append(
            {
                "name": way.name,
                "method": way.method,
                "settings": None if way.settings is None else to_dict(way.settings),
                "learning_rate": way.learning_rate,
                **size(model),
                "quantized": quantized(model),
                "peak_bytes": step_memory(model, setting.training, setting.texts.train),
                **setting.losses(model),
            }
        )
        models[way.name] = model
    return models, rows


def _repeats(
    setting: _Setting, lora: Way, row: Mapping[str, Any], seeds: int
) -> dict[str, list[float]]:
    """Train LoRA with further seeds; the first result is that of ``row``.

    Returns:
        ``target_loss`` and ``base_loss`` of every training.
    """
    first = setting.training.seed
    again = [setting.losses(setting.adapted(lora, first + i)) for i in range(1, seeds)]
    return {
        key: [float(losses[key]) for losses in (row, *again)]
        for key in ("target_loss", "base_loss")
    }


def _samples(
    lm: LanguageModel, models: Mapping[str, GenerativeModel], target: TokenFile, config: RunConfig
) -> list[dict[str, Any]]:
    """Continue prompts of target and source with the base, after LoRA and full fine-tuning.

    Returns:
        A row per prompt: ``prompt``, its ``kind`` (``target`` or ``own``), and ``texts`` by way.
    """
    number = config.experiments.finetuning.sample_tokens
    wanted = replace(config.generation, strategy="sampling", max_new_tokens=number, num_return=1)
    places = [0, len(target) - 1]
    begun = [target.story(i)[1 : 1 + _PROMPT_TOKENS].tolist() for i in places]
    prompts = [("target", lm.tokenizer.decode(ids)) for ids in begun]
    prompts += [("own", prompt) for prompt in config.report.prompts[:1]]
    prompt_texts = [prompt for _, prompt in prompts]

    def texts(model: GenerativeModel) -> list[str]:
        speaker = LanguageModel(model.eval(), lm.tokenizer)
        return [text.text for text in speaker.generate(prompt_texts, wanted)]

    by_way = {"base": texts(lm.model), **{name: texts(models[name]) for name in _SAMPLED}}
    return [
        {"prompt": prompt, "kind": kind, "texts": {way: by_way[way][i] for way in by_way}}
        for i, (kind, prompt) in enumerate(prompts)
    ]


def _ranks(
    setting: _Setting, ranks: Iterable[int], lora: Way, row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Adapt by LoRA at every rank except that of ``row``, which is trained already."""
    kept = ("trained", "target_loss", "base_loss")
    rows = [{"rank": lora.settings.rank, **{key: row[key] for key in kept}}]
    for rank in ranks:
        settings = replace(lora.settings, rank=rank, alpha=2.0 * rank)
        model = setting.adapted(replace(lora, settings=settings))
        trained = sum(p.numel() for p in trained_parameters(model, "default").values())
        rows.append({"rank": rank, "trained": trained, **setting.losses(model)})
    return sorted(rows, key=lambda ranked: int(ranked["rank"]))


def _dylora(setting: _Setting, model: GenerativeModel) -> list[dict[str, Any]]:
    """Measure the one DyLoRA adapter at each of its ranks; the last is the largest."""
    largest = next(iter(trained_parameters(model, "default").values())).shape[0]
    rows = []
    for rank in range(1, largest + 1):
        set_rank(model, rank)
        rows.append({"rank": rank, **setting.losses(model)})
    return rows


def _dimensions(
    setting: _Setting,
    dimensions: Sequence[int],
    before: Mapping[str, float],
    full: Mapping[str, Any],
) -> dict[str, Any]:
    """Adapt in random subspaces of several dimensions, and find the intrinsic one."""
    rows = []
    for dimension in dimensions:
        settings = METHODS.load("intrinsic").Settings(dimension=dimension)
        model = setting.adapted(Way("intrinsic", "intrinsic", settings, RATES["intrinsic"]))
        rows.append({"dimension": dimension, **setting.losses(model)})
    reached = None
    start, end = before["target_loss"], full["target_loss"]
    if end < start:
        losses = {int(row["dimension"]): float(row["target_loss"]) for row in rows}
        reached = d90(losses, start, end)
    return {"rows": rows, "d90": reached}
