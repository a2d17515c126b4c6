"""The fine-tuning experiment: a model of one kind of story, adapted to another by every method.

The stories of the run's corpus are ranked by how much dialogue they hold. A base model with the
run's sizes is trained on those with least, from its start, and then adapted to those with most: by
training everything and by every method of the registry METHODS, for as many steps and on the same
batches. Both kinds of validation stories are measured before and after, so that what is forgotten
shows beside what is learned.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tinylm.config import GenerationConfig, RunConfig, TrainingConfig, to_dict
from tinylm.config.finetuning import LoraConfig, PromptConfig
from tinylm.data.windows import IGNORED, Batch, ShuffledOrder, story_rows
from tinylm.errors import AdapterError
from tinylm.evaluation.memory import peak_bytes, resting_bytes, tensor_bytes
from tinylm.evaluation.speed import Timing, run_interleaved
from tinylm.experiments.adapting import FULL, RATES
from tinylm.experiments.context import Context, threads
from tinylm.experiments.lab_texts import Kinds, Story, rows_loss, train_on, two_kinds
from tinylm.experiments.preparation import prepare_data, start_model
from tinylm.finetuning.adapters import attach, merge, trained_parameters, unmerge
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.intrinsic import d90
from tinylm.finetuning.longlora import extended
from tinylm.finetuning.storage import save_adapter
from tinylm.generation.engine import generate
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.decoder import DecoderLM, evaluating
from tinylm.model.loss import token_losses
from tinylm.registry import METHODS
from tinylm.training.step import TrainingStep

_PROMPTS, _PROMPT_TOKENS = 8, 5


@dataclass(frozen=True)
class _Setting:
    """What every adaptation shares."""

    base: DecoderLM
    kinds: Kinds
    training: TrainingConfig
    steps: int
    step_done: Callable[[], None]

    def adapt(self, model: DecoderLM, method: str, stories: Sequence[Story] | None = None) -> None:
        """Train what requires a gradient, at the method's rate."""
        training = replace(self.training, learning_rate=RATES[method])
        train_on(model, stories or self.kinds.train, training, self.steps, lambda _: None)
        model.eval()
        self.step_done()

    def losses(self, model: DecoderLM) -> dict[str, float]:
        """Return the validation loss on either kind, in nats a token."""
        size = self.training.batch_size
        return {
            "target_loss": rows_loss(model, self.kinds.chosen, size),
            "base_loss": rows_loss(model, self.kinds.others, size),
        }


def run(context: Context) -> dict[str, Any]:
    """Train the base, adapt it by every method, and measure.

    Raises:
        DataError: if the corpus cannot be used, or has too few stories for two kinds.
    """
    config = context.config
    settings = config.experiments.finetuning
    data = prepare_data(config, context.console)
    room = config.model.context_length - PromptConfig().length
    kinds = two_kinds(
        data.train, data.validation, data.tokenizer, settings.share, settings.stories, room
    )
    training = replace(
        config.training,
        batch_size=settings.batch_size,
        accumulation_steps=1,
        warmup_steps=0,
        schedule="constant",
        compile=False,
    )
    trainings = 1 + len(METHODS) + 1 + len(settings.ranks) + len(settings.dimensions) + 2
    with (
        threads(config.training.threads),
        context.console.task("Training the base and its adapters", trainings) as done,
    ):
        count = 0

        def step_done() -> None:
            nonlocal count
            count += 1
            done(count)

        base = start_model(config, data, context.console).requires_grad_()
        base = train_on(
            base,
            kinds.rest,
            replace(training, learning_rate=config.training.learning_rate),
            settings.base_steps,
            lambda _: None,
        ).eval()
        step_done()
        setting = _Setting(base, kinds, training, settings.steps, step_done)
        before = setting.losses(base)
        models, rows = _methods(setting, config)
        ranks = _ranks(setting, settings.ranks)
        full = next(row for row in rows if row["method"] == FULL)
        dimensions = _dimensions(setting, settings.dimensions, before, full)
        long = _longer(setting, config, settings.context_factor, settings.context_steps)
    with threads(config.training.threads):
        _measure_speed(rows, models, setting, config)
    return {
        "kind": kinds.name,
        "description": kinds.description,
        "shares": kinds.shares,
        "train_stories": len(kinds.train),
        "validation_stories": len(kinds.chosen),
        "base_steps": settings.base_steps,
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "precision": training.precision,
        "before": before,
        "methods": rows,
        "ranks": ranks,
        "dylora": _dylora(setting, models["dylora"]),
        "dimensions": dimensions,
        "long": long,
    }


def settings_of(method: str, rank: int, model: DecoderLM) -> Any:
    """Return a method's settings: the defaults, with a rank that the model's matrices have."""
    kind = METHODS.load(method).Settings
    if not any(field.name == "rank" for field in fields(kind)):
        return kind()
    most = min(model.config.hidden_size, model.config.num_heads * model.config.resolved_head_dim)
    return kind(rank=min(rank, most))


def _methods(
    setting: _Setting, config: RunConfig
) -> tuple[dict[str, DecoderLM], list[dict[str, Any]]]:
    """Adapt by training everything and by every method."""
    models: dict[str, DecoderLM] = {}
    rows = []
    for method in (FULL, *METHODS):
        torch.manual_seed(config.training.seed)
        model = copy.deepcopy(setting.base)
        settings = None
        if method == FULL:
            model.requires_grad_()
        else:
            settings = settings_of(method, config.experiments.finetuning.rank, model)
            model = attach(model, method, settings)  # type: ignore[assignment]
        setting.adapt(model, method)
        rows.append(
            {
                "method": method,
                "settings": None if settings is None else to_dict(settings),
                "learning_rate": RATES[method],
                **_size(model, method),
                **_step_memory(model, setting),
                **setting.losses(model),
            }
        )
        models[method] = model
    return models, rows


def _size(model: DecoderLM, method: str) -> dict[str, int]:
    """Return how much is trained, and its bytes on disk."""
    if method == FULL:
        parameters = list(model.parameters())
        return {
            "trained": sum(parameter.numel() for parameter in parameters),
            "bytes": tensor_bytes(parameters),
        }
    with tempfile.TemporaryDirectory() as folder:
        size = save_adapter(model, "default", folder)
    parts = trained_parameters(model, "default").values()
    return {"trained": sum(part.numel() for part in parts), "bytes": size}


def _step_memory(model: DecoderLM, setting: _Setting) -> dict[str, int]:
    """Return the most bytes alive in a training step, weights and optimizer state included."""
    work, take = _step(model, setting)
    take()  # the optimizer makes its state at its first step
    work.optimizer.zero_grad(set_to_none=True)
    resting = resting_bytes(model, work.optimizer)
    peak = resting + peak_bytes(take, work.device)
    model.eval()
    return {"peak_bytes": peak}


def _step(model: DecoderLM, setting: _Setting) -> tuple[TrainingStep, Callable[[], None]]:
    """Return a training step on one batch, at a rate that moves nothing."""
    work = TrainingStep(model, replace(setting.training, learning_rate=1e-30))
    order = ShuffledOrder(len(setting.kinds.train), setting.training.batch_size, 0)
    batch = story_rows([setting.kinds.train[i].tolist() for i in order.next()])

    def take() -> None:
        work.backward([batch])
        work.update()

    return work, take


def _measure_speed(
    rows: list[dict[str, Any]], models: dict[str, DecoderLM], setting: _Setting, config: RunConfig
) -> None:
    """Add to each row the seconds of a step and the tokens a second of generation."""
    settings = config.experiments.finetuning
    steps = {method: _step(model, setting)[1] for method, model in models.items()}
    for method, times in run_interleaved(steps, settings.repeats, warmup=1).items():
        _row(rows, method)["step"] = Timing.of(times).as_result()
    for model in models.values():
        model.eval()
    prompts = [story[:_PROMPT_TOKENS].tolist() for story in setting.kinds.chosen[:_PROMPTS]]
    wanted = GenerationConfig(
        strategy="greedy", max_new_tokens=settings.new_tokens, min_new_tokens=settings.new_tokens
    )
    amount = len(prompts) * settings.new_tokens

    def speed(merged: bool) -> dict[str, float]:
        works = {}
        for method, model in models.items():
            if merged:
                if method == FULL:
                    continue
                try:
                    merge(model)
                except AdapterError:  # of a method that is no update of the weights
                    continue
            works[method] = _generation(model, prompts, wanted)
        times = run_interleaved(works, settings.repeats, warmup=1)
        for method in works:
            if merged:
                unmerge(models[method])
        return {method: amount / Timing.of(found).median_s for method, found in times.items()}

    for key, merged in (("generation", False), ("generation_merged", True)):
        for method, found in speed(merged).items():
            _row(rows, method)[key] = found


def _generation(
    model: DecoderLM, prompts: list[list[int]], config: GenerationConfig
) -> Callable[[], object]:
    return lambda: generate(model, prompts, config, SPECIAL_IDS)


def _row(rows: list[dict[str, Any]], method: str) -> dict[str, Any]:
    return next(row for row in rows if row["method"] == method)


def _ranks(setting: _Setting, ranks: Sequence[int]) -> list[dict[str, Any]]:
    """Adapt by LoRA at every rank."""
    rows = []
    for rank in ranks:
        torch.manual_seed(setting.training.seed)
        settings = LoraConfig(rank=rank, alpha=2.0 * rank)
        model: DecoderLM = attach(copy.deepcopy(setting.base), "lora", settings)  # type: ignore[assignment]
        setting.adapt(model, "lora")
        trained = sum(p.numel() for p in trained_parameters(model, "default").values())
        rows.append({"rank": rank, "trained": trained, **setting.losses(model)})
    return rows


def _dylora(setting: _Setting, model: DecoderLM) -> list[dict[str, Any]]:
    """Measure the one DyLoRA adapter at each of its ranks."""
    largest = next(iter(trained_parameters(model, "default").values())).shape[0]
    rows = []
    for rank in range(1, largest + 1):
        set_rank(model, rank)
        rows.append({"rank": rank, **setting.losses(model)})
    return rows


def _dimensions(
    setting: _Setting, dimensions: Sequence[int], before: dict[str, float], full: dict[str, Any]
) -> dict[str, Any]:
    """Adapt in random subspaces of several dimensions, and find the intrinsic one."""
    rows = []
    for dimension in dimensions:
        torch.manual_seed(setting.training.seed)
        settings = METHODS.load("intrinsic").Settings(dimension=dimension)
        model: DecoderLM = attach(copy.deepcopy(setting.base), "intrinsic", settings)  # type: ignore[assignment]
        setting.adapt(model, "intrinsic")
        rows.append({"dimension": dimension, **setting.losses(model)})
    found = None
    start, end = before["target_loss"], full["target_loss"]
    if end < start:
        losses = {int(row["dimension"]): float(row["target_loss"]) for row in rows}
        found = d90(losses, start, end)
    return {"rows": rows, "d90": found}


def _longer(setting: _Setting, config: RunConfig, factor: int, steps: int) -> dict[str, Any]:
    """Extend the context: as it is, with LoRA and full attention, and with LongLoRA."""
    short = config.model.context_length
    length = factor * short
    windows = _long_windows(setting.kinds.train, length)
    held_out = _long_windows(setting.kinds.chosen, length)
    rank = config.experiments.finetuning.rank
    longer = extended(setting.base, length)
    few = max(1, setting.training.batch_size // factor)
    same = replace(setting, training=replace(setting.training, batch_size=few), steps=steps)
    rows = [{"method": "none", **_by_place(longer, held_out, short)}]
    for method in ("lora", "longlora"):
        torch.manual_seed(setting.training.seed)
        settings = settings_of(method, rank, longer)
        if method == "longlora":
            settings = replace(settings, group_size=short)
        model: DecoderLM = attach(copy.deepcopy(longer), method, settings)  # type: ignore[assignment]
        same.adapt(model, method, windows)
        rows.append(
            {
                "method": method,
                **_by_place(model, held_out, short),
                **_step_memory(model, replace(same, kinds=replace(same.kinds, train=windows))),
            }
        )
    return {"context_length": short, "extended": length, "steps": steps, "rows": rows}


def _long_windows(stories: Sequence[Story], length: int) -> list[Story]:
    """Join stories and cut them into windows of ``length`` inputs and one label more."""
    joined = torch.cat([torch.from_numpy(story) for story in stories])
    return [part.numpy() for part in torch.split(joined, length + 1) if len(part) == length + 1]


@torch.no_grad()
def _by_place(model: DecoderLM, windows: Sequence[Story], short: int) -> dict[str, float | None]:
    """Return the loss within the context that was trained and beyond it, in nats a token."""
    found: list[Tensor] = []
    with evaluating(model):
        for window in windows:
            batch: Batch = story_rows([window.tolist()])
            found.append(token_losses(model(batch.ids), batch.labels, IGNORED))
    if not found:
        return {"within": None, "beyond": None}
    losses = torch.stack(found).double()
    return {"within": float(losses[:, :short].mean()), "beyond": float(losses[:, short:].mean())}
