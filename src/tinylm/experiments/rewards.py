"""What a reward is made of: the name of a rule, or the folder of a reward model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinylm.alignment.rules import RuleReward
from tinylm.alignment.samples import Reward
from tinylm.config import method_settings, to_dict
from tinylm.errors import ConfigError, nearest, shown
from tinylm.language_model import LanguageModel
from tinylm.registry import RULES


@dataclass(frozen=True)
class RewardChoice:
    """The reward that is asked for."""

    name: str
    """In the registry RULES."""
    settings: Any
    """Of the rule."""

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"rule": self.name, "settings": to_dict(self.settings)}

    def open(self, lm: LanguageModel) -> Reward:
        """Return the reward of a model's responses."""
        return RuleReward(RULES.load(self.name)(self.settings), lm.tokenizer)


def chosen_reward(
    name: str | None, options: list[str], option: str = "rewards"
) -> tuple[RewardChoice | None, list[str]]:
    """Return the reward of ``--rewards``, and the options that are none of its settings.

    Args:
        name: as given.
        options: ``KEY=VALUE``, of which the keys ``rewards.…`` are settings of the rule.
        option: of the command line, which is also the first part of such keys.

    Raises:
        ConfigError: for an unknown rule, a setting that it does not have, or settings of none.
    """
    prefix = f"{option}."
    own = [each for each in options if each.startswith(prefix)]
    others = [each for each in options if each not in own]
    if name is None:
        if own:
            raise ConfigError(f"-o {own[0]} is about --{option}: name a rule, or leave it out")
        return None, others
    if name not in RULES:
        raise ConfigError(f"--{option} {shown(name)}: unknown rule{nearest(name, RULES)}")
    settings = method_settings(RULES, name, [each.removeprefix(prefix) for each in own])
    return RewardChoice(name, settings), others
