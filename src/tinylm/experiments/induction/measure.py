"""The experiment on induction heads: how they form in two layers, and which the run has.

Heads with high prefix-matching scores are replaced by their mean and compared with as many random
ones, in the two-layer model, and in the run's own on repeated random tokens and on its own stories.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

from tinylm.config import RunConfig
from tinylm.experiments.context import Console, Context, tell_fewer, threads
from tinylm.experiments.induction.forming import form, losses_of, model_config, table_of
from tinylm.experiments.induction.settings import FORMED, InductionExperiment
from tinylm.experiments.preparation import encoded_split
from tinylm.interpretability.circuits import Reading, composition, copying_score, ov_circuit
from tinylm.interpretability.head_ablation import Head, MeanAblation
from tinylm.interpretability.head_scores import head_scores, repeated_tokens
from tinylm.interpretability.text_losses import in_context_score
from tinylm.language_model import LanguageModel
from tinylm.measurement import mean_replicates, paired
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import SOS_ID
from tinylm.training.precision import resolve_device

_LONGEST = 64
"""Most random tokens that are repeated to the run's model."""
_MOST_ABLATED = 8


def run(context: Context) -> dict[str, Any]:
    """Train the two-layer model, and measure its heads and those of the run's best checkpoint.

    Raises:
        CheckpointError: if there is none.
        DataError: if the corpus cannot be used.
        ConfigError: if sizes of the two-layer model contradict each other.
    """
    config, console = context.config, context.console
    settings: InductionExperiment = config.experiments.induction
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    with threads(config.training.threads):
        with console.task("Training the two-layer model", settings.steps) as done:
            formed = form(settings, config.training, done)
        with console.task("Switching heads off", 1.0) as done:
            small = _heads(formed.model, formed.repeated, settings)
            done(0.3)
            own = _run_heads(lm, config, console, settings)
            done(1.0)
    sizes = model_config(settings)
    return {
        "model": {
            "types": settings.types,
            "context_length": sizes.context_length,
            "hidden_size": sizes.hidden_size,
            "num_heads": sizes.num_heads,
            "parameters": sum(p.numel() for p in formed.model.parameters()),
        },
        "training": {
            "steps": settings.steps,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "seconds": formed.seconds,
        },
        "texts": settings.texts,
        "random_sets": settings.random_sets,
        "curve": formed.curve,
        "formed": small | {"composition": _compositions(formed.model)},
        "run": own,
    }


def _heads(
    model: GenerativeModel, repeated: Tensor, settings: InductionExperiment
) -> dict[str, Any]:
    """Return the scores of a model's heads, and what it loses without those of high scores."""
    scores = head_scores(model, repeated)
    order = scores.best("prefix_matching", scores.first_token.numel())
    ablation = MeanAblation(model, repeated.tolist())
    length = (repeated.shape[1] - 1) // 2
    previous = scores.best("previous_token")[0]
    return {
        "length": length,
        # Without it the others have nothing to read: random sets that hold it are told apart.
        "previous": list(previous) if scores.previous_token[previous] >= FORMED else None,
        "heads": [
            row | {"eigenvalues": copying_score(ov_circuit(model, row["layer"], row["head"]))}
            for row in table_of(scores)
        ],
        **losses_of(ablation.losses(())),
        "ablation": ablation_rows(ablation, order, lambda losses: losses[:, length:], settings),
    }


def _compositions(model: GenerativeModel) -> dict[str, Any]:
    """Return the scores of all pairs of a head of the first layer and one of the second."""
    result = {}
    for reading in get_args(Reading):
        composed = composition(model, reading)
        result[reading] = {
            "scores": composed.scores[0, :, 1].tolist(),
            "baseline": composed.baseline,
            "spread": composed.spread,
        }
    return result


def ablation_rows(
    ablation: MeanAblation,
    order: Sequence[Head],
    part: Callable[[Tensor], Tensor],
    settings: InductionExperiment,
) -> list[dict[str, Any]]:
    """Return what is lost without the first heads of an order, and without as many random others.

    Args:
        ablation: of the texts.
        order: all heads, those of interest first; up to half of them are left out.
        part: of the losses that counts.
        settings: how many random sets, and their seed.

    Returns:
        A row each number of heads: ``more``, nats a token with its interval over the texts, and
        ``random``, the same of every random set.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    whole = mean_replicates(part(ablation.losses(())).nanmean(1).tolist())
    rows = []
    for count in range(1, min(len(order) // 2, _MOST_ABLATED) + 1):
        without = mean_replicates(part(ablation.losses(order[:count])).nanmean(1).tolist())
        random = []
        for heads in random_sets(order[count:], count, settings.random_sets, generator):
            loss = float(part(ablation.losses(heads)).nanmean(1).mean())
            random.append({"heads": [list(head) for head in heads], "more": loss - whole.value})
        rows.append(
            {
                "heads": [list(head) for head in order[:count]],
                "more": paired(without, whole).as_result(),
                "random": random,
            }
        )
    return rows


def random_sets(
    heads: Sequence[Head], size: int, count: int, generator: torch.Generator
) -> list[tuple[Head, ...]]:
    """Return different sets of heads, ``count`` or as many as there are."""
    drawn: dict[tuple[Head, ...], None] = {}
    while len(drawn) < min(count, math.comb(len(heads), size)):
        chosen = torch.randperm(len(heads), generator=generator)[:size]
        drawn[tuple(heads[i] for i in sorted(chosen.tolist()))] = None
    return list(drawn)


def _run_heads(
    lm: LanguageModel, config: RunConfig, console: Console, settings: InductionExperiment
) -> dict[str, Any] | None:
    """Return the same of the run's model, and its in-context learning on its own stories.

    Returns:
        None if its context or vocabulary is too small for repeated tokens.
    """
    special = len(lm.tokenizer.special_tokens)
    types = range(special, lm.model.config.resolved_vocab_size)
    length = min((lm.model.config.context_length - 1) // 2, len(types), _LONGEST)
    if length < 2:
        return None
    repeated = repeated_tokens(types, length, settings.texts, SOS_ID, settings.seed)
    result = _heads(lm.model, repeated, settings)
    return result | {"stories": _own_stories(lm, config, console, settings, result)}


def _own_stories(
    lm: LanguageModel,
    config: RunConfig,
    console: Console,
    settings: InductionExperiment,
    measured: dict[str, Any],
) -> dict[str, Any] | None:
    """Return the in-context learning score on stories, whole and without heads.

    The late token is the last that half of the stories have, the early one an eighth of that.

    Returns:
        None if the stories are too short, or there is one head alone.
    """
    validation = encoded_split(config.data, lm.tokenizer, "validation", console)
    tell_fewer(console, "experiments.induction.stories", settings.stories, len(validation))
    number = min(settings.stories, len(validation))
    context = lm.model.config.context_length
    chosen = [round(i * (len(validation) - 1) / max(1, number - 1)) for i in range(number)]
    texts = [validation.story(i)[:context].tolist() for i in chosen]
    texts = [text for text in texts if len(text) > 1]
    late = int(statistics.median_low(map(len, texts))) - 1 if texts else 0
    early = max(1, late // 8)
    if late <= early or len(measured["heads"]) < 2:
        return None
    ranked = sorted(measured["heads"], key=lambda row: -row["prefix_matching"])
    order = [(row["layer"], row["head"]) for row in ranked]
    above = sum(row["prefix_matching"] >= FORMED for row in ranked)
    count = min(max(1, above), max(1, len(order) // 2))
    ablation = MeanAblation(lm.model, texts)
    generator = torch.Generator().manual_seed(settings.seed)
    random = random_sets(order[count:], count, settings.random_sets, generator)

    def score(heads: Sequence[Head]) -> list[float | None]:
        return in_context_score(ablation.losses(heads), early, late).as_result()

    return {
        "stories": len(texts),
        "early": early,
        "late": late,
        "whole": score(()),
        "heads": [list(head) for head in order[:count]],
        "without": score(order[:count]),
        "random": [score(heads)[0] for heads in random],
    }
