"""The samples experiment: the same prompts under several decoding settings, measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinylm.config import GenerationConfig, ReportConfig
from tinylm.data.token_files import TokenFile
from tinylm.evaluation.continuations import (
    continuation_text,
    generate_in_batches,
    story_prompts,
)
from tinylm.evaluation.diversity import distinct, repetition, share_of
from tinylm.evaluation.text_sets import TextSet, differences
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.generation.scoring import token_log_probabilities
from tinylm.language_model import LanguageModel
from tinylm.tokenizers.base import EOS_ID, UNK_ID
from tinylm.training.precision import resolve_device


def settings(base: GenerationConfig) -> dict[str, GenerationConfig]:
    """Return the decoding settings that are compared, by name."""
    plain = replace(base, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repetition_penalty=1.0)
    return {
        "greedy": replace(plain, strategy="greedy"),
        "temperature 0.7": replace(plain, strategy="sampling", temperature=0.7),
        "top-k 50": replace(plain, strategy="sampling", top_k=50),
        "top-p 0.9": replace(plain, strategy="sampling", top_p=0.9),
        "temperature 1.0": replace(plain, strategy="sampling"),
        "temperature 1.5": replace(plain, strategy="sampling", temperature=1.5),
    }


def run(context: Context) -> dict[str, Any]:
    """Generate from the run's best checkpoint and measure each setting.

    The prompts of the report are continued to be read; the beginnings of validation stories, the
    same for every setting, to be measured beside the true continuations.

    Raises:
        CheckpointError: if there is none.
        DataError: if no validation story is long enough.
    """
    config = context.config
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    validation = encoded_split(config.data, lm.tokenizer, "validation", context.console)
    most = config.generation.max_new_tokens
    wanted = replace(config.evaluation, max_new_tokens=most)
    prompts = story_prompts(validation, wanted, lm.model.config.context_length)
    tell_fewer(context.console, "evaluation.num_stories", wanted.num_stories, len(prompts.prompts))
    compared = settings(config.generation)
    shown = _shown_prompts(context, lm, validation, prompts.prompts)
    results = []
    sets = {}
    with (
        threads(config.training.threads),
        context.console.task("Generating samples", len(compared)) as done,
    ):
        for count, (name, chosen) in enumerate(compared.items()):

            def progress(share: float, before: int = count) -> None:
                done(before + share)

            generated = generate_in_batches(
                lm.model, prompts.prompts, chosen, config.evaluation.batch_size, progress
            )
            finished = [text.finished for text in generated]
            sets[name] = _scored(lm, prompts.prompts, [text.ids for text in generated], finished)
            results.append(
                {
                    "name": name,
                    "config": {
                        "strategy": chosen.strategy,
                        "temperature": chosen.temperature,
                        "top_k": chosen.top_k,
                        "top_p": chosen.top_p,
                        "seed": chosen.seed,
                    },
                    "outputs": [
                        {
                            "prompt": output.prompt,
                            "text": output.text,
                            "num_tokens": len(output.ids),
                            "finished": output.finished,
                        }
                        for output in lm.generate(shown, chosen)
                    ],
                    "metrics": _measures(sets[name], finished),
                    "texts": [
                        continuation_text(lm.tokenizer, prompt, text.ids)
                        for prompt, text in zip(prompts.prompts, generated, strict=True)
                    ],
                }
            )
        true = _scored(lm, prompts.prompts, prompts.true, prompts.true_finished)
    return {
        "max_new_tokens": most,
        "unit": validation.header.noun,
        "num_stories": len(prompts.prompts),
        "prompt_tokens": config.evaluation.prompt_tokens,
        "settings": results,
        "reference": _measures(true, prompts.true_finished),
        "differences": differences(sets | {"true": true}, "true"),
    }


def _shown_prompts(
    context: Context, lm: LanguageModel, validation: TokenFile, prompts: Sequence[list[int]]
) -> list[str]:
    """Return the prompts whose texts are printed: the report's, or sources of pairs.

    Where texts are pairs, the report's own prompts are beginnings of stories unless others were
    given; so are empty ones, after which a model that needs a source writes nothing.
    """
    given = context.config.report.prompts
    if validation.pairs is not None and given == ReportConfig().prompts:
        return [lm.tokenizer.decode(prompt) for prompt in prompts[: len(given)]]
    return list(given)


def _scored(
    lm: LanguageModel,
    prompts: Sequence[list[int]],
    texts: Sequence[list[int]],
    finished: Sequence[bool],
) -> TextSet:
    """Return continuations with their log-probabilities under the model."""
    whole = [
        prompt + ids + [EOS_ID] * end
        for prompt, ids, end in zip(prompts, texts, finished, strict=True)
    ]
    scores = token_log_probabilities(lm.model, whole)
    own = [values[len(prompt) - 1 :] for prompt, values in zip(prompts, scores, strict=True)]
    return TextSet(texts, [sum(values) for values in own], [len(values) for values in own])


def _measures(texts: TextSet, finished: Sequence[bool]) -> dict[str, float]:
    return {
        "distinct_1": distinct(texts.ids, 1),
        "distinct_2": distinct(texts.ids, 2),
        "repetition": repetition(texts.ids),
        "unk_rate": share_of(texts.ids, UNK_ID),
        "mean_length": float(np.mean([len(ids) for ids in texts.ids])),
        "perplexity": math.exp(-sum(texts.log_probabilities) / max(1, sum(texts.num_scored))),
        "finished_share": float(np.mean(finished)),
    }
