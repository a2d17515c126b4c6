"""The policies of the experiment, each aligned as a run of its own below the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.config import to_dict
from tinylm.errors import CompressionError, ConfigError
from tinylm.experiments.aligning import Asked, align, training_of
from tinylm.experiments.alignment.settings import AlignmentExperiment
from tinylm.experiments.context import Context, WithoutNotes
from tinylm.experiments.records import read_compression, still_holds
from tinylm.experiments.rewards import RewardChoice, RuleChoice
from tinylm.experiments.trials import Remedy, commands_of
from tinylm.registry import ALIGNMENTS, RULES
from tinylm.tasks.alignment.base import Alignment
from tinylm.training.tracking import read_metrics

FOLDER = "alignment"
"""Below the run's folder."""


@dataclass(frozen=True)
class Policy:
    """One that is aligned."""

    folder: Path
    details: Mapping[str, Any]
    """What its record says."""
    validations: list[dict[str, Any]]
    """Step, reward, KL and the rest, from the start on; both rewards of each text, if judged."""
    seconds: float
    """Of its optimizer steps, its responses included."""


def rule_of(settings: AlignmentExperiment) -> RuleChoice:
    """Return what is good."""
    return RuleChoice(settings.rule, RULES.load(settings.rule).Settings())


def remedy(settings: AlignmentExperiment) -> Remedy:
    """Return how the experiment is run again without a training that diverges."""
    fewer = max(1, settings.tokens // 2)
    return Remedy("take fewer tokens", f"experiments.alignment.tokens={fewer}")


def asked(
    context: Context,
    method: str,
    seed: int,
    tokens: int,
    length: float,
    rewards: RewardChoice,
    judge: RewardChoice | None = None,
    **own: Any,
) -> Asked:
    """Return how a policy is aligned.

    Args:
        context: the run.
        method: name in the registry ALIGNMENTS.
        seed: of all that is drawn.
        tokens: that it generates to learn from.
        length: mean tokens of a response of the start.
        rewards: what it learns from.
        judge: the true reward, if that is another.
        own: settings of the method.
    """
    settings: AlignmentExperiment = context.config.experiments.alignment
    kind: type[Alignment[Any]] = ALIGNMENTS.load(method)
    of_method = replace(
        kind.Settings(),
        prompt_tokens=settings.prompt_tokens,
        held_out_prompts=settings.prompts,
        **own,
    )
    training = training_of(
        context.config.training,
        *(method, of_method),
        seed=seed,
        validations=settings.validations,
    )
    of_method, training = kind.with_budget(of_method, training, tokens, length)
    return Asked(method, of_method, training, rewards, None, None, None, judge)


def aligned(context: Context, name: str, wanted: Asked) -> Policy:
    """Align a policy, or go on with one that was interrupted; a finished one is kept.

    Args:
        context: of the run whose experiment it is.
        name: of its folder.
        wanted: how.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        TrainingError: if it diverged.
        AlignmentError: if the start's responses are all as good as each other.
    """
    folder = context.folder / FOLDER / name
    quiet = replace(context, console=WithoutNotes(context.console))
    commands = commands_of(context, "alignment", remedy(context.config.experiments.alignment))
    if not _finished(folder, wanted):
        or_anew(folder, lambda: align(quiet, folder, wanted, commands, context.folder))
    record = read_compression(folder)
    assert record is not None
    records = read_metrics(folder)
    return Policy(
        folder,
        record["details"],
        [
            {"step": each["step"], **each["measures"], "texts": each.get("texts", {})}
            for each in records
            if each["kind"] == "validation"
        ],
        sum(each["seconds"] for each in records[-1:]),
    )


def or_anew(folder: Path, make: Callable[[], object]) -> None:
    """Go on with what is made in a folder; what was begun there with other settings is deleted.

    Args:
        folder: of one training of the experiment.
        make: raises a ConfigError where the settings are others.
    """
    try:
        make()
    except ConfigError:
        if not folder.exists():
            raise
        folders.remove(folder)
        make()


def _finished(folder: Path, wanted: Asked) -> bool:
    """Whether a policy is there that was aligned as is wanted."""
    if not (folder / "config.yaml").exists():
        return False
    try:
        record = read_compression(folder)
    except CompressionError:
        record = None
    same = (
        record is not None
        and record["method"] == wanted.method
        and record["settings"] == to_dict(wanted.settings)
        and record["details"]["training"] == to_dict(wanted.training)
        and still_holds(record["source"])
    )
    if not same:
        folders.remove(folder)
    return same
