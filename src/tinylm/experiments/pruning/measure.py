"""The experiment on pruning: each method by the share that goes, and what that saves."""

from __future__ import annotations

import copy
import shlex
import signal
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from tinylm.checkpoint import TrainingState
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.pruner import Pruner
from tinylm.config import to_dict
from tinylm.config.pruning import Calibrated
from tinylm.data.windows import Batch, windows_of
from tinylm.errors import CompressionError
from tinylm.evaluation.perplexity import split_loss
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.block_losses import losses_of
from tinylm.experiments.compressing import calibration_windows, count_weights
from tinylm.experiments.context import Context, SilentListener, threads
from tinylm.experiments.decoded_text import DecodedText
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.pruning.heads import heads_that_go
from tinylm.experiments.pruning.settings import PruningExperiment
from tinylm.experiments.pruning.sparse import sparse_products
from tinylm.experiments.retraining import retraining
from tinylm.experiments.step_costs import first_batches
from tinylm.language_model import LanguageModel
from tinylm.measurement import Measurement
from tinylm.model.base import GenerativeModel
from tinylm.registry import PRUNERS
from tinylm.tasks.language_modelling import LanguageModelling, next_token_loss
from tinylm.training.commands import Commands, lower
from tinylm.training.loop import Trainer
from tinylm.training.precision import resolve_device
from tinylm.training.step import TrainingStep


def run(context: Context) -> dict[str, Any]:
    """Prune the run's best checkpoint by every method and share, train it on, and time it.

    Returns:
        ``whole``: the model as it is, a row as those of ``methods``: the loss of each block of
        validation windows (summed nats, whose targets are ``tokens``) as it came out and after
        ``steps``, the numbers that it has and those that are not 0, its bytes on disk and those
        compressed, and of the methods in ``timed`` what decoding and a training step take;
        ``refused``: shares that a method cannot take; ``sparse``: a map's product in a sparse
        format beside the dense one; ``heads``: which went first, and what each is worth.

    Raises:
        CheckpointError: if there is no checkpoint.
        CompressionError: if no method can prune the model.
        ConfigError: for too few texts.
        TrainingError: if the loss is not finite.
    """
    config = context.config
    settings: PruningExperiment = config.experiments.pruning
    with threads(config.training.threads):
        work = _Work(context, settings, LanguageModel.load(context.folder))
        whole, models = work.row(work.lm.model), {"whole": copy.deepcopy(work.lm.model)}
        methods: list[dict[str, Any]] = []
        shares = sorted(set(settings.shares))
        with context.console.task("Pruning", len(PRUNERS) * len(shares)) as done:
            for number, name in enumerate(PRUNERS):
                rows: list[dict[str, Any]] = []
                refused: list[dict[str, Any]] = []
                for place, share in enumerate(shares, 1):
                    row, model = work.pruned(name, share, refused)
                    if row is not None and model is not None:
                        rows.append(row | {"share": share})
                        models[f"{name} {share}"] = model
                    done(number * len(shares) + place)
                method: type[Pruner] = PRUNERS.load(name)
                methods.append(
                    {
                        "name": name,
                        "label": method.label,
                        "noun": method.noun,
                        "explanation": method.explanation.format(
                            **to_dict(work.settings_of(method))
                        ),
                        "removes": method.removes,
                        "rows": rows,
                        "refused": refused,
                    }
                )
        if not any(method["rows"] for method in methods):
            raise CompressionError(methods[0]["refused"][0]["why"])
        timed = _timed(methods)
        wanted = {"whole": whole} | {
            f"{method['name']} {row['share']}": row
            for method in methods
            if method["name"] in timed
            for row in method["rows"]
        }
        for what, times in work.times({key: models[key] for key in wanted}).items():
            for key, measurement in times.items():
                wanted[key][what] = measurement.as_result()
        return {
            "steps": settings.retrain_steps,
            "rate": settings.retrain_rate,
            "calibration": settings.windows,
            "tokens": work.tokens,
            "decoded": work.text.tokens,
            "batch_tokens": config.training.batch_size * config.model.context_length,
            "whole": whole,
            "methods": methods,
            "timed": timed,
            "sparse": sparse_products(context, work.lm.model, work.device),
            "heads": heads_that_go(context, work.lm, work.ids, work.losses),
        }


def _timed(methods: list[dict[str, Any]]) -> list[str]:
    """Return the methods that are timed: all that remove, and the first that masks.

    What a masked weight costs does not depend on why it was chosen.
    """
    able = [method for method in methods if method["rows"]]
    masking = [method["name"] for method in able if not method["removes"]]
    return [*masking[:1], *(method["name"] for method in able if method["removes"])]


class _Work:
    """What all of the measurements read."""

    def __init__(self, context: Context, settings: PruningExperiment, lm: LanguageModel) -> None:
        config = context.config
        self.context = context
        self.settings = settings
        self.lm = lm
        self.device = resolve_device(config.training.device)
        self.ids = calibration_windows(context, settings.windows, 0, tokenizer=lm.tokenizer)
        self.train, self.validation = (
            windows_of(
                encoded_split(config.data, lm.tokenizer, split, context.console),
                config.model,
            )
            for split in ("train", "validation")
        )
        self.chosen = self.validation.fixed_subset(config.training.validation_windows)
        self.tokens: list[int] = []
        self.text = DecodedText(context, lm.tokenizer, settings.tokens)

    def losses(self, model: GenerativeModel) -> list[float]:
        """Return the loss of each block of validation windows, in summed nats."""
        size = self.context.config.evaluation.batch_size
        losses, self.tokens = losses_of(split_loss(model, self.validation, size, self.chosen))
        return losses

    def row(self, model: GenerativeModel) -> dict[str, Any]:
        """Measure a model as it is, then train a copy of it and measure that."""
        losses = self.losses(model)
        after = None
        if steps := self.settings.retrain_steps:
            model = copy.deepcopy(model)
            self.train_on(model, steps)
            after = self.losses(model)
        weights, nonzero = count_weights(model)
        return {
            "losses": losses,
            "after": after,
            "weights": weights,
            "nonzero": nonzero,
            **self.bytes_of(model),
        }

    def train_on(self, model: GenerativeModel, steps: int) -> None:
        """Train what is left of a model, in place; nothing of it is kept."""
        rate = self.context.config.training.learning_rate * self.settings.retrain_rate
        config = replace(
            retraining(self.context, steps, rate),
            validation_interval=steps,  # once, of one window: what counts is measured afterwards
            checkpoint_interval=0,
        )
        task = LanguageModelling(self.lm.tokenizer, self.train, self.validation, 1, [0])
        again = f"tinylm experiment pruning --run {shlex.quote(str(self.context.folder))}"
        less = f"experiments.pruning.retrain_rate={lower(self.settings.retrain_rate)}"
        commands = Commands(again, f"train at a lower rate: {again} -o {less}")
        with TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            place, listener = Path(folder), SilentListener()
            outcome = Trainer(model, task, config, place, listener, commands=commands).run()
        if outcome.reason != "finished":  # a signal, which is let do now what it does elsewhere
            signal.raise_signal(signal.Signals[outcome.reason])

    def settings_of(self, method: type[Pruner]) -> Any:
        """Return a method's settings, which say how many texts it reads."""
        settings = method.Settings()
        if isinstance(settings, Calibrated):
            return replace(settings, windows=self.settings.windows)
        return settings

    def pruned(
        self, name: str, share: float, refused: list[dict[str, Any]]
    ) -> tuple[dict[str, Any] | None, GenerativeModel | None]:
        """Prune a copy and return its row and itself, or note why it cannot be."""
        method: type[Pruner] = PRUNERS.load(name)
        settings = self.settings_of(method)
        try:
            model = method.prune(copy.deepcopy(self.lm.model), share, settings, self.ids).model
        except CompressionError as error:
            refused.append({"share": share, "why": str(error)})
            return None, None
        return self.row(model.to(self.device)), model

    def bytes_of(self, model: GenerativeModel) -> dict[str, int]:
        """Return the bytes of its checkpoint's weights, and those after zlib's deflate."""
        with TemporaryDirectory() as folder:
            path = save_checkpoint(Path(folder), model, self.lm.tokenizer, TrainingState(0, {}))
            content = (path / "model.safetensors").read_bytes()
        return {"bytes": len(content), "compressed": len(zlib.compress(content))}

    def times(self, models: Mapping[str, GenerativeModel]) -> dict[str, dict[str, Measurement]]:
        """Time decoding of a text and a training step, the models in turns."""
        config, repeats = self.context.config, self.settings.repeats
        batches = first_batches(
            self.train, config.training.batch_size, config.training.accumulation_steps
        )
        training = replace(config.training, compile=False)
        with self.context.console.task("Timing pruned models", 2) as done:
            decoded = run_interleaved(
                {name: self.text.by(model) for name, model in models.items()},
                repeats,
                progress=done,
            )
            steps = {
                name: _step(TrainingStep(copy.deepcopy(model), next_token_loss, training), batches)
                for name, model in models.items()
            }
            trained = run_interleaved(steps, repeats, progress=lambda share: done(1 + share))
        return {"decoding": decoded, "step": trained}


def _step(step: TrainingStep[Any], batches: list[Batch]) -> Callable[[], object]:
    def take() -> Tensor | None:
        step.backward(batches)
        step.update()
        return None

    return take
