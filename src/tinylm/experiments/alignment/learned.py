"""Rewards that are learned, and policies that go too far by them.

Few rankings, some of them wrong, make a reward model that is right where it has seen texts and
wrong elsewhere. A policy that is held to nothing finds where it is wrong: the learned reward goes
on rising and the true one falls (Gao et al. 2023).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.config import from_dict, to_dict
from tinylm.config.reward import RewardConfig
from tinylm.errors import AlignmentError
from tinylm.experiments.alignment.policies import FOLDER, aligned, asked, or_anew, remedy, rule_of
from tinylm.experiments.alignment.settings import AlignmentExperiment
from tinylm.experiments.context import Context, WithoutNotes
from tinylm.experiments.reward_models import ABOUT, read_about
from tinylm.experiments.rewarding import Asked, reward_training, train_reward_model
from tinylm.experiments.rewards import ModelChoice
from tinylm.experiments.trials import commands_of

Row = dict[str, Any]


def reward_model(context: Context, seed: int) -> Path:
    """Train a reward model on rankings by the rule, or go on with one; a finished one is kept.

    Raises:
        StoppedBySignalError: if a signal stopped it; its state is saved.
        AlignmentError: if the start's responses are all as good as each other.
    """
    settings: AlignmentExperiment = context.config.experiments.alignment
    folder = context.folder / FOLDER / f"reward-{seed}"
    of_model = from_dict(
        RewardConfig,
        {
            "prompt_tokens": settings.prompt_tokens,
            "ranked_prompts": settings.rankings,
            "wrong": settings.wrong,
        },
        "experiments.alignment",
    )
    training = reward_training(
        *(context.config.training, of_model),
        max_steps=settings.reward_steps,
        seed=seed,
        validations=4,
    )
    rule = rule_of(settings)
    wanted = Asked(of_model, training, None, rule, rule, None, None)
    if _finished(folder, wanted):
        return folder
    quiet = replace(context, console=WithoutNotes(context.console))
    commands = commands_of(context, "alignment", remedy(settings))
    or_anew(folder, lambda: train_reward_model(quiet, folder, wanted, commands, context.folder))
    return folder


def too_far(context: Context, folder: Path, seed: int, length: float, most: int) -> Row:
    """Align a policy by a learned reward, and return what it and the true one became on the way.

    Args:
        context: the run.
        folder: of the reward model.
        seed: of all that is drawn.
        length: mean tokens of a response of the start.
        most: tokens of a response.
    """
    settings: AlignmentExperiment = context.config.experiments.alignment
    wanted = asked(
        *(context, settings.learned_method, seed, settings.learned_tokens, length),
        ModelChoice(folder),
        rule_of(settings),
        beta=settings.learned_beta,
        max_new_tokens=most,
        # It shall go too far.
        kl_limit=1e6,
        least_variety=0.0,
    )
    policy = aligned(context, f"learned-{seed}", wanted)
    return {
        "seed": seed,
        "generated": policy.details["generated"],
        "stopped": policy.details["stopped"],
        "curve": [
            {
                "step": each["step"],
                "kl": each["KL"],
                "learned": each["reward"],
                "true": each["true reward"],
                "variety": each["variety"],
                "texts": {
                    "learned": each["texts"]["reward"],
                    "true": each["texts"]["true reward"],
                },
            }
            for each in policy.validations
        ],
    }


def _finished(folder: Path, wanted: Asked) -> bool:
    """Whether a reward model is there that was made as is wanted."""
    if not (folder / ABOUT).exists():
        return False
    try:
        recipe = read_about(folder)["recipe"]
    except AlignmentError:
        recipe = {}
    same = (recipe.get("settings"), recipe.get("training")) == (
        to_dict(wanted.settings),
        to_dict(wanted.training),
    )
    if not same:
        folders.remove(folder)
    return same
