"""The samples experiment: the same prompts under several decoding settings, measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tinylm.config import GenerationConfig
from tinylm.data.token_files import TokenFile
from tinylm.evaluation.diversity import distinct, repetition, share_of
from tinylm.evaluation.perplexity import token_weighted_perplexity
from tinylm.experiments.context import Context, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.generation.scoring import token_log_probabilities
from tinylm.language_model import Generation, LanguageModel
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID
from tinylm.training.precision import resolve_device

_SEEDS = 4


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

    Raises:
        CheckpointError: if there is none.
    """
    config = context.config
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    validation = encoded_split(config.data, lm.tokenizer, "validation", context.console)
    most = config.generation.max_new_tokens
    compared = settings(config.generation)
    results = []
    with (
        threads(config.training.threads),
        context.console.task("Generating samples", len(compared)) as done,
    ):
        for count, (name, one) in enumerate(compared.items(), 1):
            # Greedy decoding has one answer; sampling is measured over several.
            seeds = 1 if one.strategy == "greedy" else _SEEDS
            prompts = list(config.report.prompts) * seeds
            outputs = lm.generate(prompts, one)
            texts = [output.ids for output in outputs]
            results.append(
                {
                    "name": name,
                    "config": {
                        "strategy": one.strategy,
                        "temperature": one.temperature,
                        "top_k": one.top_k,
                        "top_p": one.top_p,
                        "seed": one.seed,
                    },
                    "outputs": [
                        {
                            "prompt": output.prompt,
                            "text": output.text,
                            "num_tokens": len(output.ids),
                            "finished": output.finished,
                        }
                        for output in outputs[: len(config.report.prompts)]
                    ],
                    "metrics": _measures(texts, len(config.report.prompts))
                    | {
                        "perplexity": _perplexity(lm, config.report.prompts, prompts, outputs),
                        "finished_share": float(np.mean([output.finished for output in outputs])),
                    },
                }
            )
            done(count)
        reference = _reference(lm, validation, len(config.report.prompts), most)
    return {"max_new_tokens": most, "settings": results, "reference": reference}


def _measures(texts: Sequence[Sequence[int]], group: int) -> dict[str, float]:
    """Measure texts; distinct-n in groups of like size, since it falls as the text grows."""
    groups = [texts[start : start + group] for start in range(0, len(texts), group)]
    return {
        "distinct_1": float(np.mean([distinct(one, 1) for one in groups])),
        "distinct_2": float(np.mean([distinct(one, 2) for one in groups])),
        "repetition": repetition(texts),
        "unk_rate": share_of(texts, UNK_ID),
        "mean_length": float(np.mean([len(text) for text in texts])),
    }


def _perplexity(
    lm: LanguageModel, shown: Sequence[str], prompts: Sequence[str], outputs: Sequence[Generation]
) -> float:
    framed = {prompt: [SOS_ID, *lm.tokenizer.encode(prompt)] for prompt in shown}
    texts = [
        framed[prompt] + output.ids + [EOS_ID] * output.finished
        for prompt, output in zip(prompts, outputs, strict=True)
    ]
    scores = token_log_probabilities(lm.model, texts)
    return token_weighted_perplexity(
        [values[len(framed[p]) - 1 :] for p, values in zip(prompts, scores, strict=True)]
    )


def _reference(lm: LanguageModel, validation: TokenFile, group: int, most: int) -> dict[str, float]:
    """Return the same measures of true stories, as many and as long as the samples."""
    count = min(group * _SEEDS, len(validation))
    chosen = np.linspace(0, len(validation) - 1, count).round().astype(int)
    stories = [validation.story(int(index)).tolist()[: most + 1] for index in chosen]
    texts = [[token for token in story[1:] if token != EOS_ID] for story in stories]
    scores = token_log_probabilities(lm.model, stories)
    return {
        **_measures(texts, group),
        "perplexity": token_weighted_perplexity(scores),
        "finished_share": float(np.mean([story[-1] == EOS_ID for story in stories])),
    }
