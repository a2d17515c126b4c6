"""A longer context for a trained model: as it is, by LoRA with full attention, and by LongLoRA."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tinylm.config import TrainingConfig
from tinylm.data.windows import IGNORED, story_rows
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.adapting import RATES
from tinylm.experiments.finetuning.measure_costs import size, step_memory, timed_step
from tinylm.experiments.lab_texts import Story, train_on
from tinylm.finetuning.adapters import attach
from tinylm.finetuning.longlora import extended
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.loss import token_losses

EXTENSIONS = ("lora", "longlora")
"""Methods that are compared."""


def extend_context(
    base: GenerativeModel,
    stories: Sequence[Story],
    held_out: Sequence[Story],
    length: int,
    training: TrainingConfig,
    steps: int,
    settings_of: Callable[[str, GenerativeModel], Any],
    repeats: int,
    step_done: Callable[[], None],
) -> dict[str, Any]:
    """Read a longer context with a model as it is, and after training on windows of that length.

    Whole stories, joined, are cut into windows, so that a window holds several.

    Args:
        base: left alone.
        stories: whole ones to train on, of the kind that the base knows.
        held_out: whole ones to measure on.
        length: of the longer context, in tokens.
        training: with the batch size of the longer windows.
        steps: optimizer steps of each method.
        settings_of: method and model -> its settings; LongLoRA's groups become the base's context.
        repeats: timed rounds of a step.
        step_done: called after each training.

    Returns:
        Both lengths and, by method, the validation loss ``within`` the base's context and
        ``beyond`` it, in nats per token, and what a step of training takes.
    """
    short = base.config.context_length
    windows, measured = _windows(stories, length), _windows(held_out, length)
    longer = extended(base, length)
    rows: list[dict[str, Any]] = [{"method": "none", **_by_place(longer, measured, short)}]
    models: dict[str, GenerativeModel] = {}
    for method in EXTENSIONS if windows else ():
        torch.manual_seed(training.seed)
        settings = settings_of(method, longer)
        if hasattr(settings, "group_size"):
            settings = replace(settings, group_size=short)
        model = attach(copy.deepcopy(longer), method, settings)
        own = replace(training, learning_rate=RATES[method])
        models[method] = train_on(model, windows, own, steps, lambda _: None)
        step_done()
        rows.append(
            {
                "method": method,
                **_by_place(model, measured, short),
                "trained": size(model)["trained"],
                "peak_bytes": step_memory(model, training, windows),
            }
        )
    works = {name: timed_step(model, training, windows)[1] for name, model in models.items()}
    times = run_interleaved(works, repeats) if works else {}
    for row in rows:
        if row["method"] in times:
            row["step"] = times[row["method"]].as_result()
    return {
        "context_length": short,
        "extended": length,
        "steps": steps,
        "batch_size": training.batch_size,
        "windows": len(measured),
        "rows": rows,
    }


def _windows(stories: Sequence[Story], length: int) -> list[Story]:
    """Join stories and cut them into windows of ``length`` inputs and one label more."""
    joined = torch.cat([torch.from_numpy(story) for story in stories])
    return [part.numpy() for part in torch.split(joined, length + 1) if len(part) == length + 1]


@torch.no_grad()
def _by_place(model: GenerativeModel, windows: Sequence[Story], short: int) -> dict[str, Any]:
    """Return the loss ``within`` the context that was trained and ``beyond`` it, in nats per token.

    ``windows`` holds both of every window; without a window the losses are None.
    """
    by_window: list[Tensor] = []
    with evaluating(model):
        for window in windows:
            batch = story_rows([window.tolist()])
            by_window.append(token_losses(model(batch.ids), batch.labels, IGNORED))
    if not by_window:
        return {"within": None, "beyond": None, "windows": {"within": [], "beyond": []}}
    losses = torch.stack(by_window).double()  # (windows, length)
    means = {"within": losses[:, :short].mean(1), "beyond": losses[:, short:].mean(1)}
    return {
        **{place: float(each.mean()) for place, each in means.items()},
        "windows": {place: each.tolist() for place, each in means.items()},
    }
