"""The fine-tuning experiment: a model of one kind of story, adapted to another by every method.

The stories of the run's corpus are ranked by how much dialogue they hold. A base model with the
run's sizes is trained on those with least, from its start, and then adapted to those with most: by
training everything and by every method of the registry METHODS, for as many steps and on the same
batches. Both kinds of validation stories are measured before and after, so that what is forgotten
shows beside what is learned. Stories longer than the context are cut into pieces that fill it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from tinylm.config import RunConfig, TrainingConfig, to_dict
from tinylm.config.finetuning import PromptConfig
from tinylm.experiments.adapting import FULL, RATES
from tinylm.experiments.context import Context, threads
from tinylm.experiments.finetuning_costs import (
    measure_speeds,
    quantized,
    size,
    step_memory,
    step_tokens,
)
from tinylm.experiments.lab_texts import Kinds, Story, rows_loss, train_on, two_kinds
from tinylm.experiments.longer_context import EXTENSIONS, extend_context
from tinylm.experiments.preparation import PreparedData, prepare_data, start_model
from tinylm.finetuning.adapters import attach, trained_parameters
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.intrinsic import d90
from tinylm.model.decoder import DecoderLM
from tinylm.registry import METHODS

LORA_PLUS = "lora+"
"""LoRA whose B learns faster; a method of its own in the comparison."""
PLUS_RATIO = 16.0
"""B's learning rate as a multiple of A's (Hayou, Ghosh and Yu 2024, section 5)."""
PLUS_RATE = RATES["lora"] / 4
"""A's, so that A learns more slowly than in LoRA, and B faster."""


@dataclass(frozen=True)
class Way:
    """One way to adapt the base."""

    name: str
    method: str
    """In the registry METHODS, or FULL."""
    settings: Any
    """Of the method; None for FULL."""
    learning_rate: float

    def start(self, base: DecoderLM, seed: int) -> DecoderLM:
        """Return a copy of the base with what is to be trained, drawn from the seed."""
        torch.manual_seed(seed)
        model = copy.deepcopy(base)
        if self.method == FULL:
            return model.requires_grad_()
        return attach(model, self.method, self.settings)  # type: ignore[return-value]


@dataclass(frozen=True)
class _Setting:
    """What every adaptation shares."""

    base: DecoderLM
    kinds: Kinds
    training: TrainingConfig
    steps: int
    step_done: Callable[[], None]

    def adapted(self, way: Way) -> DecoderLM:
        """Return the base adapted to the new kind."""
        training = replace(self.training, learning_rate=way.learning_rate)
        model = way.start(self.base, training.seed)
        model = train_on(model, self.kinds.train, training, self.steps, lambda _: None)
        self.step_done()
        return model

    def losses(self, model: DecoderLM) -> dict[str, float]:
        """Return the validation loss on either kind, in nats a token."""
        rows = self.training.batch_size
        return {
            "target_loss": rows_loss(model, self.kinds.chosen, rows),
            "base_loss": rows_loss(model, self.kinds.others, rows),
        }


def run(context: Context) -> dict[str, Any]:
    """Train the base, adapt it by every method, and measure.

    Returns:
        ``before`` (losses of the base), ``methods`` (a row a way: losses, sizes, memory, times),
        ``ranks`` (LoRA), ``dylora`` (one training, a row a rank), ``dimensions`` (SAID, and d90),
        ``long`` (extension of the context). Losses are in nats a token, ``target`` the new kind.

    Raises:
        DataError: if the corpus cannot be used, or has too few stories for two kinds.
    """
    config = context.config
    settings = config.experiments.finetuning
    data = prepare_data(config, context.console)
    short = config.model.context_length
    room = short - PromptConfig().length  # what prompt tuning leaves of the context
    whole = _whole_stories(config, data)
    kinds = in_pieces(whole, room)
    training = replace(
        config.training,
        batch_size=settings.batch_size,
        accumulation_steps=1,
        warmup_steps=0,
        schedule="constant",
        compile=False,
    )
    base = start_model(config, data, context.console).requires_grad_()
    compared = ways(settings.rank, base, config.training.learning_rate)
    lora = next(way for way in compared if way.name == "lora")
    ranks = {min(rank, _largest_rank(base)) for rank in settings.ranks} - {lora.settings.rank}
    trainings = 1 + len(compared) + len(ranks) + len(settings.dimensions) + len(EXTENSIONS)
    with (
        threads(config.training.threads),
        context.console.task("Training the base and its adapters", trainings) as done,
    ):
        count = 0

        def step_done() -> None:
            nonlocal count
            count += 1
            done(count)

        own = replace(training, learning_rate=config.training.learning_rate)
        base = train_on(base, kinds.rest, own, settings.base_steps, lambda _: None)
        step_done()
        setting = _Setting(base, kinds, training, settings.steps, step_done)
        before = setting.losses(base)
        models, rows = _methods(setting, compared)
        by_name = {row["name"]: row for row in rows}
        by_rank = _ranks(setting, ranks, lora, by_name["lora"])
        dimensions = _dimensions(setting, settings.dimensions, before, by_name[FULL])
        long = extend_context(
            base,
            whole,
            settings.context_factor * short,
            replace(training, batch_size=max(1, settings.batch_size // settings.context_factor)),
            settings.context_steps,
            lambda method, model: settings_of(method, settings.rank, model),
            settings.repeats,
            step_done,
        )
    prompts = [story.tolist() for story in whole.chosen]
    with threads(config.training.threads):
        speeds = measure_speeds(models, training, kinds.train, prompts, settings, context.console)
    return {
        "kind": kinds.name,
        "description": kinds.description,
        "shares": kinds.shares,
        "train_stories": len(whole.train),
        "validation_stories": len(whole.chosen),
        "base_steps": settings.base_steps,
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "step_tokens": step_tokens(training, kinds.train),
        "new_tokens": settings.new_tokens,
        "precision": training.precision,
        "before": before,
        "methods": [{**row, **speeds[row["name"]]} for row in rows],
        "ranks": by_rank,
        "dylora": _dylora(setting, models["dylora"]),
        "dimensions": dimensions,
        "long": long,
    }


def ways(rank: int, model: DecoderLM, full_rate: float) -> list[Way]:
    """Return what is compared: training everything, every method, and LoRA+.

    Args:
        rank: of the methods that have one.
        model: the base, whose matrices may be too small for it.
        full_rate: learning rate of training everything, which depends on the model.
    """
    found = [Way(FULL, FULL, None, full_rate)]
    for method in METHODS:
        settings = settings_of(method, rank, model)
        found.append(Way(method, method, settings, RATES[method]))
        if method == "lora":
            plus = replace(settings, learning_rate_ratio=PLUS_RATIO)
            found.append(Way(LORA_PLUS, method, plus, PLUS_RATE))
    return found


def settings_of(method: str, rank: int, model: DecoderLM) -> Any:
    """Return a method's settings: the defaults, with a rank that the model's matrices have.

    Alpha is twice the rank, so that the scale of the update is the same at every rank.
    """
    kind = METHODS.load(method).Settings
    if not any(field.name == "rank" for field in fields(kind)):
        return kind()
    rank = min(rank, _largest_rank(model))
    return kind(rank=rank, alpha=2.0 * rank)


def in_pieces(kinds: Kinds, length: int) -> Kinds:
    """Return the same stories, each cut into rows of ``length`` inputs and the last label.

    The first token of a row is the last label of the row before, so that every token of a story but
    its first is predicted once.
    """

    def cut(stories: Sequence[Story]) -> list[Story]:
        pieces = (s[i : i + length + 1] for s in stories for i in range(0, len(s) - 1, length))
        return list(pieces)

    return replace(
        kinds,
        train=cut(kinds.train),
        rest=cut(kinds.rest),
        chosen=cut(kinds.chosen),
        others=cut(kinds.others),
    )


def _whole_stories(config: RunConfig, data: PreparedData) -> Kinds:
    """Return both kinds, whole stories."""
    settings = config.experiments.finetuning
    longest = max(data.train.header.num_tokens, data.validation.header.num_tokens)
    return two_kinds(
        data.train, data.validation, data.tokenizer, settings.share, settings.stories, longest
    )


def _largest_rank(model: DecoderLM) -> int:
    """Return the largest rank that every projection has."""
    config = model.config
    inner = config.num_heads * config.resolved_head_dim
    return min(config.hidden_size, inner, config.resolved_ffn_size)


def _methods(
    setting: _Setting, compared: Sequence[Way]
) -> tuple[dict[str, DecoderLM], list[dict[str, Any]]]:
    """Adapt in every way."""
    models: dict[str, DecoderLM] = {}
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
                "peak_bytes": step_memory(model, setting.training, setting.kinds.train),
                **setting.losses(model),
            }
        )
        models[way.name] = model
    return models, rows


def _ranks(
    setting: _Setting, ranks: Iterable[int], lora: Way, row: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Adapt by LoRA at every rank but that of the row which is there already."""
    kept = ("trained", "target_loss", "base_loss")
    rows = [{"rank": lora.settings.rank, **{key: row[key] for key in kept}}]
    for rank in ranks:
        settings = replace(lora.settings, rank=rank, alpha=2.0 * rank)
        model = setting.adapted(replace(lora, settings=settings))
        trained = sum(p.numel() for p in trained_parameters(model, "default").values())
        rows.append({"rank": rank, "trained": trained, **setting.losses(model)})
    return sorted(rows, key=lambda found: int(found["rank"]))


def _dylora(setting: _Setting, model: DecoderLM) -> list[dict[str, Any]]:
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
    found = None
    start, end = before["target_loss"], full["target_loss"]
    if end < start:
        losses = {int(row["dimension"]): float(row["target_loss"]) for row in rows}
        found = d90(losses, start, end)
    return {"rows": rows, "d90": found}
