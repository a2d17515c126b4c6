"""The experiment on alignment: policies by every method, at equal numbers of generated tokens.

Start and policies answer the same beginnings of validation stories. What is true is known, since a
rule says it; what a reward model has learned of rankings by that rule is measured beside it. The
frontier, above which no policy can lie, follows from the start's own responses
(``alignment.frontier``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinylm import folders
from tinylm.alignment.best_of import best_of, best_of_bound
from tinylm.alignment.frontier import averaged, betas_of
from tinylm.alignment.measuring import Measured, measure_policy
from tinylm.alignment.samples import Reward
from tinylm.config import to_dict
from tinylm.data.windows import Windows, windows_of
from tinylm.errors import ConfigError
from tinylm.evaluation.continuations import continuation_text
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.alignment.learned import reward_model, too_far
from tinylm.experiments.alignment.policies import FOLDER, Policy, aligned, asked, rule_of
from tinylm.experiments.alignment.settings import AlignmentExperiment
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.ranking import beginnings, spread
from tinylm.experiments.reward_models import read_about
from tinylm.experiments.rewards import ModelChoice
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.registry import ALIGNMENTS, RULES
from tinylm.tasks.alignment.base import Alignment

Row = dict[str, Any]
_SEED = 5_000_011
"""Of the responses by which models are compared, which no training and no validation draws."""
_BEST_OF = (2, 4, 8, 16)


def run(context: Context) -> Row:
    """Align the run's best checkpoint by every method and seed, and compare what came of it.

    Each policy is a run of its own below ``RUN/alignment``, so that a training that was interrupted
    goes on where it stopped; they are deleted once all are measured.

    Raises:
        CheckpointError: if there is no checkpoint.
        ConfigError: if a prompt fills the context, or a method cannot follow a learned reward.
        AlignmentError: if the start's responses are all as good as each other.
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
    """
    settings: AlignmentExperiment = context.config.experiments.alignment
    rule = RULES.load(settings.rule)
    methods = list(dict.fromkeys(settings.methods))
    method: type[Alignment[Any]] = ALIGNMENTS.load(settings.learned_method)
    if method.learns_from != "rewards":
        able = [name for name in ALIGNMENTS if ALIGNMENTS.load(name).learns_from == "rewards"]
        raise ConfigError(
            f"experiments.alignment.learned_method = {settings.learned_method} learns from "
            f"preferences, and a learned reward is followed: give one of {', '.join(able)}"
        )
    first = context.config.training.seed
    seeds = range(first, first + settings.seeds)
    with threads(context.config.training.threads):
        lm = LanguageModel.load(context.folder)
        context.console.note("Reward models")
        models = {seed: reward_model(context, seed) for seed in seeds}
        judging = Judging(context, settings, lm, models[first])
        start = judging.start()
        rows: list[Row] = []
        total = settings.seeds * len(methods)
        for name in methods:
            policies: list[Row] = []
            for seed in seeds:
                number = 1 + len(rows) * settings.seeds + len(policies)
                context.console.note(f"Policy {number} of {total}: {name}, seed {seed}")
                wanted = asked(
                    *(context, name, seed, settings.tokens, start["length"], rule_of(settings)),
                    max_new_tokens=judging.most,
                )
                policy = aligned(context, f"{name}-{seed}", wanted)
                policies.append({"seed": seed, **_trained(policy), **judging.policy(policy, seed)})
            kind = ALIGNMENTS.load(name)
            rows.append(
                {
                    "name": name,
                    "label": kind.label,
                    "noun": kind.noun,
                    "explanation": kind.explanation,
                    "settings": to_dict(wanted.settings),
                    "learning_rate": wanted.training.learning_rate,
                    "steps": wanted.training.max_steps,
                    "policies": policies,
                }
            )
        learned: list[Row] = []
        for seed in seeds:
            context.console.note(f"Learned reward {1 + len(learned)} of {settings.seeds}")
            learned.append(
                too_far(context, models[seed], seed, start["length"], judging.most)
                | {"reward_model": read_about(models[seed])["measured"]}
            )
    result = {
        "rule": {
            "name": settings.rule,
            "label": rule.label,
            "noun": rule.noun,
            "explanation": rule.explanation,
        },
        "tokens": settings.tokens,
        "prompts": len(judging.prompts),
        "responses": settings.responses,
        "prompt_tokens": settings.prompt_tokens,
        "new_tokens": judging.most,
        "windows": judging.num_windows,
        "start": start,
        "frontier": judging.frontier,
        "best_of": judging.best_of,
        "methods": rows,
        "learned": {
            "rankings": settings.rankings,
            "wrong": settings.wrong,
            "steps": settings.reward_steps,
            "beta": settings.learned_beta,
            "tokens": settings.learned_tokens,
            "label": method.label,
            "noun": method.noun,
            "policies": learned,
        },
        "sample": {"prompt": judging.prompt, "texts": judging.texts},
    }
    folders.remove(context.folder / FOLDER)
    return result


def _trained(policy: Policy) -> Row:
    """Return what is kept of a training."""
    details = policy.details
    return {
        "steps": details["steps"],
        "best_step": details["best_step"],
        "stopped": details["stopped"],
        "generated": details["generated"],
        "seconds": policy.seconds,
        "curve": [
            {key: value for key, value in each.items() if key != "texts"}
            for each in policy.validations
        ],
    }


@dataclass
class _Text:
    """The text that models are measured on."""

    windows: Windows
    subset: list[int] | None
    batch_size: int

    def loss(self, model: GenerativeModel) -> float:
        """Return the loss of a model, in nats a token."""
        return split_loss(model, self.windows, self.batch_size, self.subset).mean


class Judging:
    """What start and policies are measured by."""

    def __init__(
        self,
        context: Context,
        settings: AlignmentExperiment,
        lm: LanguageModel,
        reward_model: Path,
    ) -> None:
        """Read prompts, text and the reward model that all are measured by.

        Raises:
            ConfigError: if no story is longer than a prompt.
        """
        self.lm = lm
        self.context, self.settings = context, settings
        split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
        there = beginnings(split, settings.prompt_tokens)
        tell_fewer(
            *(context.console, "experiments.alignment.prompts", settings.prompts, len(there))
        )
        self.prompts = spread(there, settings.prompts)
        length = lm.model.config.context_length
        # A reward model reads the last token, too, which a language model only predicts.
        self.most = length - settings.prompt_tokens - 1
        self.learned = ModelChoice(reward_model).open(lm)
        windows = windows_of(split, lm.model.config)
        subset = windows.fixed_subset(settings.windows)
        self.text = _Text(windows, subset, context.config.evaluation.batch_size)
        self.num_windows = len(windows) if subset is None else len(subset)
        self.rule: Reward = rule_of(settings).open(lm)
        self.prompt = lm.tokenizer.decode(self.prompts[0])
        self._before: dict[int, Row] = {}
        self.texts: dict[str, str] = {}
        """What each model makes of the first prompt."""
        self.frontier: list[list[float]] = []
        """KL and reward."""
        self.best_of: list[Row] = []

    def start(self) -> Row:
        """Measure the start, and compute the frontier from its rewards."""
        settings = self.settings
        count = settings.start_responses
        with self._answering("Answering by the start", count) as done:
            measured = self._measured(self.lm.model, count, 0, done)
        rewards = np.reshape(measured.rewards, (len(self.prompts), count))
        betas = betas_of(measured.rewards)
        points = averaged([row.tolist() for row in rewards], betas)
        self.frontier = [[point.kl, point.reward] for point in points]
        self.best_of = [
            {
                "n": n,
                "kl": best_of_bound(n),
                "reward": float(np.mean([_best_of(row.tolist(), n) for row in rewards])),
            }
            for n in _BEST_OF
        ]
        return {
            **_means(measured),
            "loss": self.text.loss(self.lm.model),
            "perfect": float((rewards == rewards.max()).mean()),
            "best": float(rewards.max()),
            "responses": rewards.size,
        }

    def policy(self, policy: Policy, seed: int) -> Row:
        """Measure a policy, beside the start by as many responses of the same seed."""
        model = LanguageModel.load(policy.folder).model
        count = self.settings.responses
        if seed not in self._before:
            with self._answering("Answering by the start", count) as done:
                before = self._measured(self.lm.model, count, seed + 1, done)
            self._before[seed] = _means(before)
            self._keep("start", before)
        with self._answering("Answering by the policy", count) as done:
            measured = self._measured(model, count, seed + 1, done)
        self._keep(policy.folder.name.rpartition("-")[0], measured)
        start = {f"start_{key}": value for key, value in self._before[seed].items()}
        return {**_means(measured), "loss": self.text.loss(model), **start}

    def _answering(self, what: str, count: int) -> AbstractContextManager[Callable[[float], None]]:
        return self.context.console.task(what, count * len(self.prompts))

    def _measured(
        self, model: GenerativeModel, count: int, seed: int, done: Callable[[float], None]
    ) -> Measured:
        prompts = [prompt for prompt in self.prompts for _ in range(count)]
        return measure_policy(
            *(model, self.lm.model, prompts, self.most, _SEED + seed, self.rule),
            judge=self.learned,
            progress=done,
        )

    def _keep(self, name: str, measured: Measured) -> None:
        sample = measured.samples[0]
        self.texts.setdefault(
            name,
            continuation_text(self.lm.tokenizer, list(sample.prompt), list(sample.ids)),
        )


def _means(measured: Measured) -> Row:
    return {
        "reward": measured.mean_reward,
        "learned": measured.mean_judged,
        "kl": measured.mean_kl,
        "length": measured.mean_length,
        "variety": measured.variety,
        "ended": sum(sample.finished for sample in measured.samples) / len(measured.samples),
    }


def _best_of(rewards: Sequence[float], n: int) -> float:
    """Return the mean reward of the best of n responses of the start, by those that it drew."""
    drawn = torch.tensor(rewards, dtype=torch.float64)
    start = torch.full_like(drawn, -math.log(len(rewards)))
    return float(best_of(start, drawn, n).exp() @ drawn)
