"""The beam-search experiment: beams compared with greedy decoding and sampling."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinylm.config import GenerationConfig
from tinylm.evaluation.bleu import bleu_counts
from tinylm.evaluation.continuations import (
    StoryPrompts,
    continuation_text,
    generate_in_batches,
    measure_continuations,
    story_prompts,
)
from tinylm.evaluation.diversity import distinct, repetition
from tinylm.evaluation.speed import run_interleaved
from tinylm.evaluation.text_sets import TextSet, differences
from tinylm.experiments.beam_search.settings import BeamSearchExperiment
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.generation.engine import Generated, generate
from tinylm.generation.scoring import token_log_probabilities
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.registry import STRATEGIES
from tinylm.tokenizers.base import EOS_ID
from tinylm.training.precision import resolve_device


def settings(context: Context) -> dict[str, GenerationConfig]:
    """Return the decoding settings that are compared, by name."""
    own, evaluation = context.config.experiments.beam_search, context.config.evaluation
    plain = GenerationConfig(
        strategy="greedy",
        temperature=evaluation.temperature,
        top_p=evaluation.top_p,
        seed=evaluation.seed,
        allow_unk=True,
        length_penalty=own.length_penalty,
    )
    beams = {
        f"beam {width}": replace(plain, strategy="beam", num_beams=width) for width in own.widths
    }
    return {"greedy": plain, "sampling": replace(plain, strategy="sampling"), **beams}


def run(context: Context) -> dict[str, Any]:
    """Continue validation stories with every setting, and measure time and text.

    Raises:
        CheckpointError: if there is no checkpoint.
    """
    config = context.config
    own: BeamSearchExperiment = config.experiments.beam_search
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    validation = encoded_split(config.data, lm.tokenizer, "validation", context.console)
    wanted = replace(config.evaluation, max_new_tokens=own.max_new_tokens)
    context_length = lm.model.config.context_length
    most = max(own.few_prompts, own.prompts)
    there = len(
        story_prompts(validation, replace(wanted, num_stories=most), context_length).prompts
    )
    tell_fewer(context.console, "experiments.beam_search.prompts", most, there)
    few, many = min(own.few_prompts, there), min(own.prompts, there)
    counts = sorted({few, many})
    compared = settings(context)
    comparisons = []
    with (
        threads(config.training.threads),
        context.console.task("Comparing decoding strategies", len(counts)) as done,
    ):
        for number, count in enumerate(counts):
            prompts = story_prompts(validation, replace(wanted, num_stories=count), context_length)

            def progress(share: float, before: int = number) -> None:
                done(before + share)

            comparison = _compare(context, lm, prompts, compared, progress)
            comparisons.append(comparison)
            if count == few:
                n_best = _n_best(lm, prompts, compared[f"beam {own.widths[0]}"])
    return {
        "repeats": own.repeats,
        "prompt_tokens": config.evaluation.prompt_tokens,
        "max_new_tokens": prompts.most,
        "length_penalty": own.length_penalty,
        "early_stopping": compared["greedy"].early_stopping,
        "temperature": config.evaluation.temperature,
        "top_p": config.evaluation.top_p,
        "comparisons": comparisons,
        "signature": comparisons[0].pop("signature"),
        "sentence_signature": comparisons[0].pop("sentence_signature"),
        "n_best": n_best,
    }


def _compare(
    context: Context,
    lm: LanguageModel,
    prompts: StoryPrompts,
    compared: dict[str, GenerationConfig],
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Return one row a setting, and what the true continuations measure."""
    batch_size = context.config.evaluation.batch_size
    outputs: dict[str, list[Generated]] = {}

    def decode(name: str) -> Callable[[], None]:
        limited = replace(compared[name], max_new_tokens=prompts.most)

        def work() -> None:
            outputs[name] = generate_in_batches(lm.model, prompts.prompts, limited, batch_size)

        return work

    times = run_interleaved(
        {name: decode(name) for name in compared},
        context.config.experiments.beam_search.repeats,
        progress=progress,
    )
    rows = []
    measured: dict[str, dict[str, Any]] = {}
    sets: dict[str, TextSet] = {}
    for name, generation in compared.items():
        measured[name] = measure_continuations(
            lm.model, lm.tokenizer, prompts.continued(outputs[name]), context.config.evaluation
        )
        sets[name] = _text_set(outputs[name], measured[name]["texts"])
        timing = times[name]
        num_tokens = sum(len(text.ids) + text.finished for text in outputs[name])
        settings = STRATEGIES.load(generation.strategy).uses(generation)
        rows.append(
            {
                "name": name,
                "num_beams": generation.num_beams if "num_beams" in settings else None,
                "seconds": timing.as_result(),
                "tokens_per_second": num_tokens / timing.median,
                "bleu_corpus": measured[name]["bleu"]["corpus"],
                "bleu_sentence_mean": measured[name]["bleu"]["sentence_mean"],
                **_text_measures(sets[name], [text.finished for text in outputs[name]]),
            }
        )
    first = measured["greedy"]
    true = _true_set(lm, prompts, batch_size)
    return {
        "num_prompts": len(prompts.prompts),
        "rows": rows,
        "true": _text_measures(true, prompts.true_finished),
        "differences": differences(sets | {"true": true}, "true"),
        "signature": first["bleu"]["signature"],
        "sentence_signature": first["bleu"]["sentence_signature"],
        "texts": _texts(lm, prompts, measured),
    }


def _texts(
    lm: LanguageModel, prompts: StoryPrompts, measured: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return every prompt with its true continuation and with what all settings made of it.

    ``references`` are the true continuations cut to the length of each, as BLEU has them.
    """
    return [
        {
            "prompt": lm.tokenizer.decode(prompt),
            "true": continuation_text(lm.tokenizer, prompt, true),
            "outputs": {name: of["texts"][i]["generated"] for name, of in measured.items()},
            "references": {name: of["texts"][i]["true"] for name, of in measured.items()},
        }
        for i, (prompt, true) in enumerate(zip(prompts.prompts, prompts.true, strict=True))
    ]


def _text_set(generated: Sequence[Generated], texts: Sequence[Mapping[str, Any]]) -> TextSet:
    return TextSet(
        [text.ids for text in generated],
        [text.log_probability for text in generated],
        [len(text.ids) + text.finished for text in generated],
        bleu_counts([text["generated"] for text in texts], [text["true"] for text in texts]),
    )


def _true_set(lm: LanguageModel, prompts: StoryPrompts, batch_size: int) -> TextSet:
    """Return the true continuations with their log-probabilities under the model."""
    ends = zip(prompts.prompts, prompts.true, prompts.true_finished, strict=True)
    whole = [prompt + ids + [EOS_ID] * end for prompt, ids, end in ends]
    scores = token_log_probabilities(lm.model, whole, batch_size)
    own = [
        values[len(prompt) - 1 :] for prompt, values in zip(prompts.prompts, scores, strict=True)
    ]
    return TextSet(prompts.true, [sum(values) for values in own], [len(values) for values in own])


def _text_measures(texts: TextSet, finished: Sequence[bool]) -> dict[str, Any]:
    return {
        "log_probability": statistics.mean(texts.log_probabilities),
        "log_probability_per_token": sum(texts.log_probabilities) / sum(texts.num_scored),
        "distinct": {str(n): distinct(texts.ids, n) for n in (1, 2, 3)},
        "repetition": repetition(texts.ids),
        "mean_length": statistics.mean(map(len, texts.ids)),
        "finished_share": statistics.mean(finished),
    }


def _n_best(
    lm: LanguageModel, prompts: StoryPrompts, generation: GenerationConfig
) -> dict[str, Any]:
    """Return all hypotheses that a beam ends with, for the first prompt."""
    prompt = prompts.prompts[0]
    all_of_them = replace(generation, max_new_tokens=prompts.most, num_return=generation.num_beams)
    (best,) = generate(lm.model, [prompt], all_of_them, SPECIAL_IDS)
    return {
        "prompt": lm.tokenizer.decode(prompt),
        "num_beams": generation.num_beams,
        "hypotheses": [
            {
                "text": continuation_text(lm.tokenizer, prompt, hypothesis.ids),
                "score": hypothesis.score,
                "log_probability": hypothesis.log_probability,
                "num_tokens": len(hypothesis.ids) + hypothesis.finished,
            }
            for hypothesis in (best, *best.alternatives)
        ],
    }
