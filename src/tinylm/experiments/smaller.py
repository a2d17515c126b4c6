"""Smaller forms of a run's model: parts removed, what is left taught by the model, and rounded.

What is trained is a run of its own in a folder that is given, so that an interrupted training goes
on and a finished one is not made again.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch

from tinylm import folders
from tinylm.compression.pruner import Pruner
from tinylm.compression.quantizer import Quantizer, layouts
from tinylm.compression.quantizing import quantize, refuse_quantized
from tinylm.compression.rounding import Rounding
from tinylm.compression.search import Candidate
from tinylm.config import to_dict
from tinylm.config.pruning import Calibrated, PartsConfig
from tinylm.config.quantization import RoundingConfig
from tinylm.config.searching import SearchConfig
from tinylm.errors import CompressionError, ConfigError
from tinylm.experiments.compressing import before, calibration_windows, refuse_adapted
from tinylm.experiments.context import Context, WithoutNotes, open_run, run_experiment
from tinylm.experiments.distilling import begin, student_config
from tinylm.experiments.preparation import digest
from tinylm.experiments.retraining import retraining
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import model_weights
from tinylm.registry import DISTILLATIONS, PRUNERS, QUANTIZERS
from tinylm.training.commands import Commands


class Smaller:
    """Makes the smaller forms of a run's model."""

    def __init__(
        self, context: Context, settings: SearchConfig, folder: Path, commands: Commands
    ) -> None:
        """Read the model and the texts to calibrate by.

        Args:
            context: the run.
            settings: what is tried.
            folder: for trainings.
            commands: what to type when one of them stops before its end.

        Raises:
            CompressionError: for a run that is quantized, or whose model has adapters.
            ConfigError: for methods that do not suit, and too few texts.
        """
        self.context, self.settings = context, settings
        self.folder, self.commands = folder, commands
        self.pruners: dict[str, type[Pruner]] = {
            name: PRUNERS.load(name) for name in settings.parts
        }
        self.rounding: type[Quantizer] = QUANTIZERS.load(settings.method)
        for name, pruner in self.pruners.items():
            if not pruner.removes:
                able = [each for each in PRUNERS if PRUNERS.load(each).removes]
                raise ConfigError(
                    f"parts: {name} removes nothing, it holds weights at 0, which saves no byte: "
                    f"give some of {', '.join(able)}"
                )
        if len(self.pruners) < len(settings.parts):
            raise ConfigError(f"parts: {' and '.join(settings.parts)}: give each of them once")
        if DISTILLATIONS.load(settings.distillation).from_teacher:
            able = [each for each in DISTILLATIONS if not DISTILLATIONS.load(each).from_teacher]
            raise ConfigError(
                f"distillation = {settings.distillation}: its teacher would have to write texts "
                f"first: give one of {', '.join(able)}"
            )
        if not layouts(self.rounding):
            able = [each for each in QUANTIZERS if layouts(QUANTIZERS.load(each))]
            raise ConfigError(
                f"method = {settings.method}: it has one width: give one of {', '.join(able)}"
            )
        self.lm = LanguageModel.load(context.folder)
        refuse_adapted(context, self.lm)
        refuse_quantized(self.lm.model)
        self.before = before(context, self.lm)
        self.ids = calibration_windows(
            context, settings.calibration, settings.seed, tokenizer=self.lm.tokenizer
        )

    def cut(self, share: float, by_lot: bool = False) -> GenerativeModel:
        """Return the model without a share of the parts; nothing is trained.

        Args:
            share: of each kind of them; 0: none, and the model is the run's own.
            by_lot: whether it does not matter which.

        Raises:
            CompressionError: if nothing can be removed.
        """
        model, refused = self.lm.model, []
        for name, pruner in self.pruners.items() if share else ():
            try:
                model = pruner.prune(model, share, self._of_parts(pruner, by_lot), self.ids).model
            except CompressionError as error:
                refused.append(f"{name}: {error}")
        if share and len(refused) == len(self.pruners):
            raise CompressionError("; ".join(refused))
        return model

    def _of_parts(self, pruner: type[Pruner], by_lot: bool) -> Any:
        settings = pruner.Settings()
        assert isinstance(settings, PartsConfig)
        if by_lot:
            return replace(settings, importance="random")
        return replace(settings, windows=self.settings.calibration)

    def trained(self, share: float) -> GenerativeModel:
        """Return the model without a share of the parts, taught by the whole one.

        Raises:
            CompressionError: if nothing can be removed.
            StoppedBySignalError: if a signal stopped the training; its state is saved.
            TrainingError: if it diverged.
        """
        if not share or not self.settings.steps:
            return copy.deepcopy(self.cut(share))
        key = json.dumps(
            [
                to_dict(self.settings),
                to_dict(self.context.config.training),
                self.before.source,
            ]
        )
        student = self.folder / f"{'-'.join(self.settings.parts)}-{share:g}-{digest(key)}"
        if not (student / "results/training.json").exists():
            self.context.console.note(
                f"without {100 * share:g}% of the {self.parts}: what is left is taught for "
                f"{self.settings.steps} steps"
            )
        console = WithoutNotes(self.context.console)
        if (student / "config.yaml").exists():
            inner = open_run(student, console)
        else:
            if student.exists():
                folders.remove(student)
            inner = self._begun(student, share, console)
        inner = replace(inner, commands=self.commands, within=self.context)
        run_experiment("training", inner)
        return LanguageModel.load(student).model

    def _begun(self, student: Path, share: float, console: WithoutNotes) -> Context:
        settings, run = self.settings, self.context.folder
        start = LanguageModel(self.cut(share), self.lm.tokenizer, self.lm.source)
        config, _ = student_config(run, [], start)
        rate = self.context.config.training.learning_rate * settings.rate
        training = replace(
            retraining(self.context, settings.steps, rate),
            validation_interval=settings.steps,
            tensorboard=False,
            seed=settings.seed,
        )
        kind = DISTILLATIONS.load(settings.distillation)
        folders.make(student)
        return begin(
            student,
            LanguageModel.load(run),  # begin gives it a quick form
            run,
            settings.distillation,
            kind.Settings(),
            replace(config, training=training),
            console,
            start,
        )

    def rounded(self, model: GenerativeModel, width: tuple[int, int] | None) -> GenerativeModel:
        """Return a copy of a model whose weights have so many bits.

        Args:
            model: left alone.
            width: bits of a weight, and of one of the embedding; None: float weights.
        """
        if width is None:
            return copy.deepcopy(model)
        return self.quantized(model, self.rounding, bits=width[0], embedding_bits=width[1])

    def quantized(
        self, model: GenerativeModel, method: type[Quantizer], **settings: Any
    ) -> GenerativeModel:
        """Return a copy of a model, quantized by a method; inputs stay as they are.

        Args:
            model: left alone.
            method: reads the texts to calibrate by, if it reads any.
            settings: of the method.
        """
        model = copy.deepcopy(model)
        chosen = method.Settings(activations="float", **settings)
        if isinstance(chosen, Calibrated):
            chosen = replace(chosen, windows=self.settings.calibration)
        quantize(model, method, chosen, self.ids)
        return model

    def shapes(self) -> dict[float, GenerativeModel]:
        """Return share -> a model of the size that is left, of the shares that are tried, 0 first.

        A share of which nothing can go is told, and left out.
        """
        shapes = {0.0: self.lm.model}
        for share in sorted(set(self.settings.shares)):
            try:
                shapes[share] = self.cut(share, by_lot=True)
            except CompressionError as error:
                self.context.console.note(f"nothing is removed at {100 * share:g}%: {error}")
        return shapes

    def sizes(self) -> Mapping[Candidate, int]:
        """Return the bytes of the weights of every candidate, without making any."""
        sizes: dict[Candidate, int] = {}
        for share, model in self.shapes().items():
            sizes[Candidate(share)] = num_bytes(model)
            for width in dict.fromkeys(self.settings.widths):
                form = copy.deepcopy(model)
                quantize(form, Rounding, RoundingConfig(bits=width[0], embedding_bits=width[1]))
                sizes[Candidate(share, width)] = num_bytes(form)
        return sizes

    @property
    def parts(self) -> str:
        """What is removed, in words."""
        return " and ".join(self.settings.parts)

    def words(self, candidate: Candidate) -> str:
        """Return a candidate in words."""
        shape = "the whole model"
        if candidate.share:
            shape = f"{100 * candidate.share:g}% of the {self.parts} removed"
        if candidate.width is None:
            return f"{shape}, float weights"
        bits, embedding = candidate.width
        own = f", embedding {embedding}" if embedding != bits else ""
        return f"{shape}, {bits} bits{own}"


def num_bytes(model: GenerativeModel) -> int:
    """Return the bytes of a model's weights in a checkpoint."""
    weights = {name: weight.contiguous() for name, weight in model_weights(model).items()}
    return len(safetensors.torch.save(weights))
