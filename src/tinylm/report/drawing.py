"""Every figure of a result: experiment -> the figures that its numbers allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from tinylm.config import RunConfig
from tinylm.report.attention import draw_attention
from tinylm.report.figures import save_figure
from tinylm.report.figures.architecture import architecture_figure
from tinylm.report.figures.curves import loss_figure, perplexity_figure, schedule_figure
from tinylm.report.figures.data import data_figure
from tinylm.report.figures.decoding import decoding_figure
from tinylm.report.figures.efficiency import (
    accumulation_figure,
    checkpointing_figure,
    growth_figure,
)
from tinylm.report.figures.finetuning import finetuning_figure, ranks_figure
from tinylm.report.figures.growth import cost_figure
from tinylm.report.figures.hyperparameters import hyperparameters_figure
from tinylm.report.figures.lab_mnist import confusion_figure, examples_figure, methods_figure
from tinylm.report.figures.lab_svd import cut_figure, spectra_figure, update_figure
from tinylm.report.inputs import ReportInputs

Result = Mapping[str, Any]
Drawn = Iterator[tuple[str, Figure]]
"""Names of files, without their form, and what they show."""


def draw_figures(inputs: ReportInputs) -> None:
    """Write the figures that the results allow into the run's folder ``figures``."""
    for experiment, draw in FIGURES.items():
        result = inputs.results.get(experiment)
        if result is not None:
            for name, figure in draw(result, inputs.config):
                save_figure(figure, inputs.figures, name)
    attention = inputs.results.get("attention")
    if attention is not None:
        draw_attention(attention, inputs.figures)


def _data(found: Result, _: RunConfig) -> Drawn:
    yield "data", data_figure(found)


def _training(found: Result, config: RunConfig) -> Drawn:
    model, counts = config.model, found["parameters"]
    vocab_size = model.vocab_size or counts["embedding"] // model.hidden_size
    yield "architecture", architecture_figure(model, vocab_size, counts)
    if found["curve"]:
        yield "loss", loss_figure(found)
        yield "schedule", schedule_figure(found)
    if found["validations"]:
        yield "perplexity", perplexity_figure(found)


def _hyperparameters(found: Result, _: RunConfig) -> Drawn:
    yield "hyperparameters", hyperparameters_figure(found)


def _kv_cache(found: Result, _: RunConfig) -> Drawn:
    yield "kv-cache", growth_figure(found["growth"])


def _beam_search(found: Result, _: RunConfig) -> Drawn:
    if found["comparisons"]:
        largest = max(found["comparisons"], key=lambda one: one["num_prompts"])
        yield "beam-search", decoding_figure(largest)


def _accumulation(found: Result, _: RunConfig) -> Drawn:
    if any(run["curve"] for run in found["runs"]):
        yield "accumulation", accumulation_figure(found["runs"])


def _checkpointing(found: Result, _: RunConfig) -> Drawn:
    if found["depth"]:
        yield "gradient-checkpointing", checkpointing_figure(found["depth"], found["context"])


def _efficiency(found: Result, _: RunConfig) -> Drawn:
    if found["growth"]:
        yield "efficiency", cost_figure(found["growth"])


def _finetuning(found: Result, _: RunConfig) -> Drawn:
    yield "finetuning", finetuning_figure(found)
    yield "finetuning-ranks", ranks_figure(found)


def _lab_svd(found: Result, _: RunConfig) -> Drawn:
    yield "lab-svd-spectra", spectra_figure(found["matrices"])
    yield "lab-svd-cut", cut_figure(found["cut"])
    yield "lab-svd-update", update_figure(found["update"])


def _lab_mnist(found: Result, _: RunConfig) -> Drawn:
    yield "lab-mnist-methods", methods_figure(found)
    yield "lab-mnist-confusion", confusion_figure(found)
    if found["examples"]:
        yield "lab-mnist-examples", examples_figure(found["examples"])


FIGURES: dict[str, Callable[[Result, RunConfig], Drawn]] = {
    "data": _data,
    "training": _training,
    "hyperparameters": _hyperparameters,
    "kv-cache": _kv_cache,
    "beam-search": _beam_search,
    "accumulation": _accumulation,
    "gradient-checkpointing": _checkpointing,
    "efficiency": _efficiency,
    "finetuning": _finetuning,
    "lab-svd": _lab_svd,
    "lab-mnist": _lab_mnist,
}
"""Experiment -> its figures; attention's, one a sentence, are drawn by ``draw_attention``."""
