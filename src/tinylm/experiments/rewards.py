"""What a reward is made of: the name of a rule, or the folder of a reward model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tinylm.alignment.learned_reward import LearnedReward
from tinylm.alignment.rules import RuleReward
from tinylm.config import method_settings, to_dict
from tinylm.errors import ConfigError, nearest, shown
from tinylm.experiments.reward_models import ABOUT, load_reward_model, read_about
from tinylm.language_model import LanguageModel
from tinylm.registry import RULES


@dataclass(frozen=True)
class RuleChoice:
    """A rule that is asked for."""

    name: str
    """In the registry RULES."""
    settings: Any
    """Of the rule."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"rule": self.name, "settings": to_dict(self.settings)}

    def open(self, lm: LanguageModel, device: torch.device | None = None) -> RuleReward:
        """Return the reward of a model's responses."""
        return RuleReward(RULES.load(self.name)(self.settings), lm.tokenizer)


@dataclass(frozen=True)
class ModelChoice:
    """A reward model that is asked for."""

    folder: Path

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values: not where it lies, which may change.

        Raises:
            AlignmentError: if the folder cannot be read.
        """
        return {"reward_model": read_about(self.folder)["sha256"]}

    def open(self, lm: LanguageModel, device: torch.device | None = None) -> LearnedReward:
        """Return the reward of a model's responses, on a device; None: the processor.

        Raises:
            AlignmentError: if the folder cannot be read, or the reward model has another tokenizer.
        """
        model = load_reward_model(self.folder, lm.tokenizer)
        return LearnedReward(model.to(device or "cpu"), str(self.folder))


RewardChoice = RuleChoice | ModelChoice
"""The reward that is asked for."""


def chosen_reward(
    name: str | None, options: list[str], option: str = "rewards"
) -> tuple[RewardChoice | None, list[str]]:
    """Return the reward of ``--rewards``, and the options that are none of its settings.

    Args:
        name: as given.
        options: ``KEY=VALUE``, of which the keys ``rewards.…`` are settings of the rule.
        option: of the command line, which is also the first part of such keys.

    Raises:
        ConfigError: for what is neither a rule nor the folder of a reward model, a setting that the
            rule does not have, or settings of none.
    """
    prefix = f"{option}."
    own = [each for each in options if each.startswith(prefix)]
    others = [each for each in options if each not in own]
    if name is None:
        if own:
            raise ConfigError(f"-o {own[0]} is about --{option}: name a rule, or leave it out")
        return None, others
    if name in RULES:
        keys = [each.removeprefix(prefix) for each in own]
        settings = method_settings(RULES, name, keys, option=option, prefix=prefix)
        return RuleChoice(name, settings), others
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(f"--{option} {shown(name)}: unknown rule{nearest(name, RULES)}")
    if not (folder / ABOUT).exists():
        raise ConfigError(
            f"--{option} {folder} is no reward model: it has no {ABOUT}; train one: "
            "`tinylm reward RUN --rule RULE --out FOLDER`"
        )
    if own:
        raise ConfigError(f"-o {own[0]}: {folder} is a reward model, which has no settings")
    return ModelChoice(folder), others


def chosen_rule(
    name: str | None, options: list[str], option: str = "rule"
) -> tuple[RuleChoice | None, list[str]]:
    """Return the rule of ``--rule``, and the options that are none of its settings.

    Raises:
        ConfigError: for an unknown rule, and what ``chosen_reward`` raises.
    """
    if name is not None and name not in RULES:
        raise ConfigError(f"--{option} {shown(name)}: unknown rule{nearest(name, RULES)}")
    choice, others = chosen_reward(name, options, option)
    assert not isinstance(choice, ModelChoice)
    return choice, others
