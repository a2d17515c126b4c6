"""What the commands that make and use adapters and classifiers share."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylm.names import checked_name

if TYPE_CHECKING:
    from tinylm.config import TrainingConfig
    from tinylm.language_model import LanguageModel
    from tinylm.training.commands import Commands


@dataclass(frozen=True)
class Chosen:
    """The options of ``tinylm finetune`` that every method has."""

    name: str | None
    steps: int | None
    learning_rate: float | None
    batch_size: int | None
    context_length: int | None
    seed: int

    def training(
        self, own: TrainingConfig, learning_rate: float, changed: Mapping[str, Any]
    ) -> TrainingConfig:
        """Return the run's training settings with what was chosen.

        Args:
            own: the run's.
            learning_rate: if none was given.
            changed: what the method sets.

        Raises:
            ConfigError: for a value that cannot be.
        """
        from tinylm.config import TrainingConfig, from_dict, to_dict
        from tinylm.training.precision import resolve_device, resolve_precision

        chosen = {
            "precision": resolve_precision(own.precision, resolve_device(own.device)),
            "learning_rate": learning_rate if self.learning_rate is None else self.learning_rate,
            "batch_size": self.batch_size or own.batch_size,
            "seed": self.seed,
            "max_steps": self.steps,
            "validation_interval": 0,
            "validations": 0,
            "tensorboard": False,
            "wandb": False,
        }
        return from_dict(TrainingConfig, to_dict(own) | chosen | dict(changed), "options")

    def folder(self, run: Path, method: str) -> Path:
        """Return the folder of what is made.

        Raises:
            ConfigError: for a name that no folder below ``adapters`` can have.
        """
        return run / "adapters" / checked_name(self.name or method, "--name")

    def commands(
        self, run: Path, method: str, data: str | None, option: Sequence[str], rate: float
    ) -> Commands:
        """Return what to type when the training stops before its end.

        Args:
            run: the run's folder.
            method: and its ``option``.
            data: as given.
            option: ``KEY=VALUE`` settings.
            rate: the learning rate that it is trained with.
        """
        from tinylm.config import as_options
        from tinylm.training.commands import Commands, lower

        def command(**changed: object) -> str:
            words = ["tinylm", "finetune", str(run), "--method", method]
            words += ["--data", data] if data else []
            words += as_options(option)
            given = vars(self) | changed
            for field, value in given.items():
                if value is not None and (field, value) != ("seed", 0):
                    words += [f"--{field.replace('_', '-')}", str(value)]
            return shlex.join(words)

        name = self.name or method
        beside = run / "adapters"
        other = next(
            f"{name}-{i}" for i in itertools.count(2) if not (beside / f"{name}-{i}").exists()
        )
        retry = command(name=other, learning_rate=lower(rate))
        return Commands(command(), f"try a lower rate beside it: {retry}")


def folder_of(run: Path, name: str, kind: str, holds: str) -> Path:
    """Return the folder of what ``tinylm finetune`` made of a run.

    Args:
        run: the run's folder, or a checkpoint's.
        name: below ``RUN/adapters``, or a folder.
        kind: adapter or classifier, for the message.
        holds: pattern of a file in every such folder, for the list of those that there are.

    Raises:
        AdapterError: if there is none.
    """
    from tinylm.errors import AdapterError, shown
    from tinylm.experiments.context import run_of

    below = (run_of(run) or run) / "adapters"
    folder = below / name if (below / name).is_dir() else Path(name)
    if not folder.is_dir():
        known = sorted({path.parent.name for path in below.glob(f"*/{holds}")})
        words = ["tinylm", "finetune", str(below.parent)]
        if kind == "classifier":
            words += ["--method", "sequence-classification", "--data", "FILE"]
        raise AdapterError(
            f"no {kind} {shown(name)} in {below} and no such folder; there are: "
            + (", ".join(known) or f"none, make one: {shlex.join(words)}")
        )
    return folder


def loaded(run: Path, adapter: str | None, rank: int | None) -> LanguageModel:
    """Return a run's language model, with an adapter if one is named.

    Args:
        run: its folder, or a checkpoint's.
        adapter: name below ``RUN/adapters``, or a folder.
        rank: of a DyLoRA adapter; None: its largest.

    Raises:
        AdapterError: if there is no such adapter, or it is another base's.
        ConfigError: for a rank of no adapter.
    """
    from tinylm.experiments.adapting import adapted
    from tinylm.finetuning.adapters import adapters
    from tinylm.finetuning.dylora import set_rank
    from tinylm.language_model import LanguageModel

    refuse_rank_alone(adapter, rank)
    lm = LanguageModel.load(run)
    if adapter is None:
        return lm
    adapted_lm = adapted(lm, folder_of(run, adapter, "adapter", "*"))
    if rank is not None:
        set_rank(adapted_lm.model, rank, *adapters(adapted_lm.model))  # no adapters but its
    return adapted_lm


def refuse_rank_alone(adapter: str | None, rank: int | None) -> None:
    """Refuse a rank of no adapter.

    Raises:
        ConfigError: if there is a rank and no adapter.
    """
    from tinylm.errors import ConfigError

    if rank is not None and adapter is None:
        raise ConfigError("--rank chooses that of a DyLoRA adapter: name it with --adapter")
