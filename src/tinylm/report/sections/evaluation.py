"""Evaluation on stories that the model has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.report.blocks import (
    Block,
    Bullets,
    Equation,
    Heading,
    Paragraph,
    Sample,
    Table,
    code,
)
from tinylm.report.formatting import count, percent, plural, setting, significant
from tinylm.report.inputs import ReportInputs

_CLOSE = 0.1
"""Relative difference below which generated and true text count as alike."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``evaluation``."""
    found = results.results.get("evaluation")
    if found is None:
        return []
    return [
        Heading(1, "Evaluation", "sec:evaluation"),
        *_prediction(found),
        *_continuations(found),
        *_examples(found),
    ]


def _prediction(found: Mapping[str, Any]) -> list[Block]:
    validation = found["validation"]
    measured = f" of the checkpoint {code(found['checkpoint'])}" if found.get("checkpoint") else ""
    return [
        Heading(2, "Prediction", "sec:prediction"),
        Paragraph(
            f"Over all {count(validation['tokens'])} tokens of the validation split the loss"
            f"{measured} is {significant(validation['loss'], 4)} nats per token, a perplexity of "
            f"{significant(validation['perplexity'], 4)}. A perplexity can be compared only "
            "between models with one vocabulary, since it counts choices per token. Spread over "
            f"the bytes of the text the same loss is {significant(validation['bits_per_byte'])} "
            "bits per byte, which any model can be compared by."
        ),
    ]


def _continuations(found: Mapping[str, Any]) -> list[Block]:
    decoding = (
        "drawn from the model's own distribution"
        if found["temperature"] == 1 and found["top_p"] == 1
        else f"sampled with temperature {setting(found['temperature'])} and top-p "
        f"{setting(found['top_p'])}"
    )
    perplexity, distinct = found["perplexity"], found["distinct"]
    rows = [
        ("Perplexity, token-weighted", *_both(perplexity, "token_weighted")),
        ("Perplexity, mean of the texts", *_both(perplexity, "sequence_mean")),
        *((f"Distinct-{n}", *(f"{distinct[side][n]:.3f}" for side in ("generated", "true")))
          for n in sorted(distinct["generated"])),
        ("Repeated 4-grams", percent(found["repetition"]["generated"]),
         percent(found["repetition"]["true"])),
        ("Unknown tokens", percent(found["unk_rate"]["generated"], 2),
         percent(found["unk_rate"]["true"], 2)),
    ]  # fmt: skip
    bleu = found["bleu"]
    return [
        Heading(2, "Continuations", "sec:continuations"),
        Paragraph(
            f"{plural(found['num_stories'], 'validation story', 'validation stories')} were cut "
            f"after {plural(found['prompt_tokens'], 'token')} and continued by the model for at "
            f"most {plural(found['max_new_tokens'], 'token')}, {decoding} "
            f"(seed {found['seed']}). [[tab:continuations]] sets these continuations beside the "
            "true ones, by three measures:"
        ),
        Bullets(
            (
                "*Perplexity* under the model itself: how surprising it finds each text. "
                "Token-weighted is the exponential of the mean over all tokens; the mean of the "
                "texts' own perplexities is another number, in which short and odd texts weigh "
                "more.",
                "*Distinct-n* [[li2016]]: different n-grams divided by all n-grams. It falls when "
                "texts repeat one another.",
                "*Repetition*: share of 4-grams that occurred before in the same text. It rises "
                "when a text goes round in circles.",
            )
        ),
        Table(
            "tab:continuations",
            "Generated and true continuations of the same beginnings.",
            ("", "Generated", "True"),
            tuple(tuple(row) for row in rows),
            "lrr",
        ),
        Paragraph(" ".join(comparison(found))),
        Heading(2, "Agreement with the true continuations", "sec:bleu"),
        Paragraph(
            "BLEU [[papineni2002]] measures how many n-grams of a text occur in a reference: the "
            "geometric mean of the n-gram precisions $p_n$, times a penalty $b$ for texts that "
            "are too short, on a scale of 0 to 100:"
        ),
        Equation('"BLEU" = 100 dot b dot exp(1/4 sum_(n=1)^4 log p_n)'),
        Table(
            "tab:bleu",
            "BLEU of the generated continuations against the true ones, with the signatures "
            "that state how each was computed [[post2018]].",
            ("", "BLEU", "Signature"),
            (
                ("Corpus", f"{bleu['corpus']:.2f}", code(bleu["signature"])),
                ("Mean of sentences", f"{bleu['sentence_mean']:.2f}",
                 code(bleu["sentence_signature"])),
            ),
            "lrp",
            "Corpus BLEU pools the counts of all texts and is not the mean of sentence scores.",
        ),
        Paragraph(bleu_comment(bleu["corpus"], found["prompt_tokens"])),
    ]  # fmt: skip


def comparison(found: Mapping[str, Any]) -> list[str]:
    """Return sentences on how generated text differs from true text, by measure."""
    sentences = []
    own = found["perplexity"]["generated"]["token_weighted"]
    true = found["perplexity"]["true"]["token_weighted"]
    pair = f"({significant(own)} against {significant(true)})"
    free = found["temperature"] == 1 and found["top_p"] == 1
    if own < true * (1 - _CLOSE):
        why = (
            "it is surer of itself than the true stories justify"
            if free
            else "cutting off unlikely words makes text more predictable than a person's"
        )
        sentences.append(f"The model finds its own text easier than the true one {pair}: {why}.")
    elif own > true * (1 + _CLOSE):
        sentences.append(
            f"The model finds its own text harder than the true one {pair}: once an unlikely word "
            "has been drawn, it finds itself in places that training never showed, and errors "
            "add up."
        )
    else:
        sentences.append(
            f"Own and true text are about equally surprising to the model {pair}: its "
            "uncertainty is calibrated."
        )
    repeated, natural = found["repetition"]["generated"], found["repetition"]["true"]
    pair = f"({percent(repeated)} of the 4-grams against {percent(natural)})"
    if repeated > natural * 1.25 + 0.005:
        sentences.append(f"It repeats itself more than the true stories do {pair}.")
    elif repeated < natural * 0.75 - 0.005:
        sentences.append(
            f"It repeats itself less than the true stories do {pair}: it misses the refrains and "
            "returning phrases of which such stories are made."
        )
    else:
        sentences.append(f"It repeats itself about as much as the true stories do {pair}.")
    n = sorted(found["distinct"]["generated"])[-1]
    varied, wanted = found["distinct"]["generated"][n], found["distinct"]["true"][n]
    pair = f"(distinct-{n} {varied:.3f} against {wanted:.3f})"
    if varied < wanted * (1 - _CLOSE):
        sentences.append(f"Across stories its phrases are less varied {pair}.")
    elif varied > wanted * (1 + _CLOSE):
        sentences.append(
            f"Across stories its phrases are more varied {pair}; with the perplexities above, "
            "that speaks of word combinations that people would not use, not of imagination."
            if own > true
            else f"Across stories its phrases are more varied {pair}."
        )
    else:
        sentences.append(f"The variety of phrases across stories is alike {pair}.")
    return sentences


def bleu_comment(corpus: float, prompt_tokens: int) -> str:
    """Return what the BLEU score means here."""
    level = (
        "low" if corpus < 10 else "moderate" if corpus < 30 else "high"
    )  # fmt: skip
    text = f"A corpus BLEU of {corpus:.1f} is {level}. "
    if corpus < 30:
        return text + (
            "It should not be higher: BLEU was made for translation, where the reference says "
            f"what the text has to say. A story of which only {plural(prompt_tokens, 'token')} "
            "are given can go on in many good ways, and a good continuation shares little but "
            "common phrases with the one that happened to be written. The score is a floor to "
            "compare models on, not a grade for the text."
        )
    return text + (
        "For open-ended text that is a warning rather than praise: either the stories are so "
        "alike that any continuation matches, or validation stories occur in the training split."
    )


def _examples(found: Mapping[str, Any]) -> list[Block]:
    examples = found.get("examples") or []
    if not examples:
        return []
    made: list[Block] = [
        Heading(2, "Examples", "sec:examples"),
        Paragraph(
            f"The first {plural(len(examples), 'continuation')}, unselected, each with the true "
            "one under it; the given beginning is in bold."
        ),
    ]
    for i, example in enumerate(examples, 1):
        made += [
            Sample(
                f"{i}. Generated",
                example["generated"],
                example["prompt"],
                f"BLEU {example['bleu']:.1f} · perplexity {significant(example['perplexity'])}",
            ),
            Sample(f"{i}. True", example["true"], example["prompt"]),
        ]
    return made


def _both(values: Mapping[str, Any], key: str) -> tuple[str, str]:
    return significant(values["generated"][key], 4), significant(values["true"][key], 4)
