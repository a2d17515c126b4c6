"""The abstract: the whole report in a paragraph, computed from its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tinylm.measurement import Verdict
from tinylm.report.blocks import code
from tinylm.report.formatting import count, duration, keyed, millions, percent, plural, significant
from tinylm.report.inputs import ReportInputs
from tinylm.report.measurements import compared, factor


def abstract(results: ReportInputs) -> str:
    """Return inline markup; every sentence needs the experiment whose numbers it tells."""
    model, found = results.config.model, results.results
    training, data, evaluation = (found.get(name) for name in ("training", "data", "evaluation"))
    size = f" of {millions(training['parameters']['total'])} parameters" if training else ""
    sentences = [
        f"A decoder-only Transformer{size} ({plural(model.num_layers, 'layer')}, "
        f"{plural(model.num_heads, 'head')}, hidden size {model.hidden_size}, context of "
        f"{plural(model.context_length, 'token')}) was built from basic tensor operations."
    ]
    if data:
        train = data["splits"]["train"]
        sentences.append(
            f"The corpus {code(data['corpus_name'])} has "
            f"{plural(train['stories'], 'training story', 'training stories')} with "
            f"{millions(train['tokens'])} word-level tokens and a vocabulary of "
            f"{count(data['vocab_size'])}."
        )
    if training:
        # Training itself may have validated on a part of the split.
        reached = evaluation["validation"] if evaluation else training["best"]
        unigram = training.get("unigram_perplexity")
        against = f", where word frequencies alone give {significant(unigram)}" if unigram else ""
        sentences.append(
            f"In {plural(training['steps'], 'step')} and {duration(training['seconds_training'])} "
            f"of training on {millions(training['tokens_seen'])} tokens, validation perplexity "
            f"reached {significant(reached['perplexity'])}{against}."
        )
    if evaluation:
        sentences.append(
            f"Continuations of {plural(evaluation['num_stories'], 'unseen story', 'unseen stories')} "  # noqa: E501
            f"reach a corpus BLEU of {evaluation['bleu']['corpus']:.1f}; "
            f"{percent(evaluation['repetition']['generated'])} of their 4-grams repeat, against "
            f"{percent(evaluation['repetition']['true'])} in the true stories."
        )
    attention = found.get("attention")
    if attention and attention.get("heads"):
        heads = attention["heads"]
        kinds = plural(len({head["role"] for head in heads}), "kind")
        sentences.append(
            f"The {len(heads)} attention heads are measured one by one and fall into {kinds}."
            if len(heads) > 1
            else "What the one attention head does is measured."
        )
    return " ".join([*sentences, *_methods(found)])


def _methods(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a sentence on each way of saving time or memory, and on the checks."""
    sentences = []
    cache = found.get("kv-cache")
    if cache:
        samples = cache["samples"]
        effect = compared(samples["cached"], samples["uncached"])
        batch = f"generation of {plural(samples['batch'], 'text')} as one batch"
        sentences.append(
            {
                Verdict.LESS: f"A key-value cache makes {batch} quicker, by a factor of "
                f"{factor(effect.inverse)}.",
                Verdict.MORE: f"A key-value cache makes {batch} slower, by a factor of "
                f"{factor(effect)}.",
                Verdict.ALIKE: "With and without a key-value cache the times of the "
                f"{batch} are not measurably different.",
                Verdict.UNKNOWN: f"Whether a key-value cache makes {batch} quicker could not be "
                "measured.",
            }[effect.verdict]
        )
    finetuning = found.get("finetuning")
    if finetuning:
        rows = keyed(finetuning["methods"], "name")
        lora, share = rows["lora"], rows["lora"]["trained"] / rows["full"]["trained"]
        before, after, full = (
            significant(math.exp(loss))
            for loss in (
                finetuning["before"]["target_loss"],
                lora["target_loss"],
                rows["full"]["target_loss"],
            )
        )
        sentences.append(
            f"On stories of another kind, LoRA takes the perplexity of the run's model from "
            f"{before} to {after} by training {percent(share)} of its parameters; training all of "
            f"them takes it to {full}."
        )
    verification = found.get("verification")
    if verification and verification["rows"]:
        rows = verification["rows"]
        failed = sum(not row["passed"] for row in rows)
        how = "*FAILED*" if failed else "passed"
        if len(rows) == 1:
            sentences.append(f"The check of the program against a plain calculation {how}.")
        else:
            which = f"{failed} of" if failed else "All"
            sentences.append(
                f"{which} {len(rows)} checks of the program against plain calculations {how}."
            )
    return sentences
