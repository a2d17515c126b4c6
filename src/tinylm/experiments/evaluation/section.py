"""Evaluation on stories that the model has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.units import unit_of
from tinylm.measurement import Difference, Verdict
from tinylm.registry import TOKENIZERS
from tinylm.report.blocks import Block, Heading, Paragraph, Sample, Table, code, literal
from tinylm.report.formatting import (
    count,
    excerpt,
    listed,
    open_end,
    percent,
    plural,
    setting,
    significant,
)
from tinylm.report.passages import passages

TEXT = passages(__file__)
_SHOWN = 5
"""Continuations that are printed."""
_MISSES, _LONGEST = 3, 120
"""Targets that are printed though they are wrong, and characters of a text there."""
_MODERATE, _HIGH = 10, 30
"""From here on a corpus BLEU is called moderate, and high."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``evaluation``."""
    result = results.results.get("evaluation")
    if result is None:
        return []
    return [
        Heading(1, "Evaluation", "sec:evaluation"),
        *_prediction(results, result),
        *_continuations(result),
        *(_targets(result["targets"]) if "targets" in result else []),
        *_examples(result),
    ]


def _prediction(results: ReportInputs, result: Mapping[str, Any]) -> list[Block]:
    validation = result["validation"]
    return [
        Heading(2, "Prediction", "sec:prediction"),
        *TEXT.blocks(
            "prediction",
            which=TEXT.line("prediction of targets")
            if "targets" in result
            else TEXT.line("prediction of stories"),
            tokens=count(validation["tokens"]),
            checkpoint=code(result["checkpoint"]),
            loss=significant(validation["loss"], 4),
            perplexity=significant(validation["perplexity"], 4),
            training=beside_training(results, result),
            bits=significant(validation["bits_per_byte"]),
            whole=TEXT.line("texts that are kept whole")
            if TOKENIZERS.load(results.config.tokenizer.kind).lossless
            else TEXT.line("texts that are not kept whole"),
        ),
    ]


def beside_training(results: ReportInputs, result: Mapping[str, Any]) -> str:
    """Return why this perplexity is not the one that was validated during training, if it is not.

    Empty, or a sentence with a space in front.
    """
    training = results.results.get("training")
    here = significant(result["validation"]["perplexity"], 4)
    if training is None or significant(training["best"]["perplexity"], 4) == here:
        return ""
    used, every = training["validation_windows"], training["validation_split_windows"]
    reasons = []
    if used < every:
        reasons.append(
            f"on {count(used)} of the {plural(every, unit_of(training).window)} of the split only"
        )
    if training["precision"] == "bf16":
        reasons.append("with matrix products in bfloat16 instead of float32")
    best = significant(training["best"]["perplexity"], 4)
    if not reasons:
        return f" The {best} of [[sec:training]] is that of another checkpoint."
    return f" The {best} of [[sec:training]] differs because it was measured {listed(reasons)}."


def _continuations(result: Mapping[str, Any]) -> list[Block]:
    decoding = (
        "sampled from the model's distribution"
        if _is_free(result)
        else f"sampled with temperature {setting(result['temperature'])} and top-p "
        f"{setting(result['top_p'])}"
    )
    perplexity, distinct = result["perplexity"], result["distinct"]
    rows = [
        ("Perplexity, token-weighted", *_both(perplexity, "token_weighted")),
        ("Perplexity, mean of the texts", *_both(perplexity, "sequence_mean")),
        *((f"Distinct-{n}", *(f"{distinct[side][n]:.3f}" for side in ("generated", "true")))
          for n in sorted(distinct["generated"])),
        ("Repeated 4-grams", percent(result["repetition"]["generated"]),
         percent(result["repetition"]["true"])),
        ("Unknown tokens", percent(result["unk_rate"]["generated"], 2),
         percent(result["unk_rate"]["true"], 2)),
    ]  # fmt: skip
    bleu = result["bleu"]
    return [
        Heading(2, "Continuations", "sec:continuations"),
        *TEXT.blocks(
            "continuations",
            begun=_begun(result),
            limit=plural(result["max_new_tokens"], "token"),
            decoding=decoding,
            seed=str(result["seed"]),
        ),
        Table(
            "tab:continuations",
            TEXT.line("table of the continuations"),
            ("", "Generated", "True"),
            tuple(tuple(row) for row in rows),
            "lrr",
        ),
        Paragraph(" ".join(comparison(result))),
        Heading(2, "Agreement with the true continuations", "sec:bleu"),
        *TEXT.blocks("BLEU", comment=bleu_comment(result)),
        Table(
            "tab:bleu",
            TEXT.line("table of BLEU"),
            ("", "BLEU", "Signature"),
            (
                ("Corpus", f"{bleu['corpus']:.2f}", code(bleu["signature"])),
                ("Mean of the texts (sentence BLEU)", f"{bleu['sentence_mean']:.2f}",
                 code(bleu["sentence_signature"])),
            ),
            "lrp",
            TEXT.line("table of BLEU, note"),
        ),
    ]  # fmt: skip


def _begun(result: Mapping[str, Any]) -> str:
    """Return what was continued, as the beginning of a sentence."""
    number = result["num_stories"]
    if "targets" in result:
        pairs = plural(number, "validation pair", "validation pairs")
        return f"The sources of {pairs} were read, and targets written after them"
    stories = plural(number, "validation story", "validation stories")
    prompt = plural(result["prompt_tokens"], "token")
    return f"The first {prompt} of {stories} were continued"


def _is_free(result: Mapping[str, Any]) -> bool:
    """Whether the texts are drawn from the model's own distribution."""
    return bool(result["temperature"] == 1 and result["top_p"] == 1)


def comparison(result: Mapping[str, Any]) -> list[str]:
    """Return sentences on how generated text differs from true text, by measure."""
    stories = "targets" if "targets" in result else "stories"
    own = result["perplexity"]["generated"]["token_weighted"]
    true = result["perplexity"]["true"]["token_weighted"]
    pair = f"(perplexity {significant(own)} against {significant(true)})"
    likelier = _difference(result, "log_probability_per_token")
    predicted = {
        Verdict.MORE: f"Under the model, its own text is more predictable than the true one {pair}"
        + (
            "; under a well-calibrated model both would be equally predictable."
            if _is_free(result)
            else ": leaving out unlikely tokens makes text more predictable."
        ),
        Verdict.LESS: "Under the model, its own text is less predictable than the true one "
        f"{pair}. A possible reason is that one unlikely token leads to contexts that do not occur "
        "in the training split.",
        Verdict.ALIKE: "Under the model, the predictability of its own text is not measurably "
        f"different from that of the true one {pair}.",
        Verdict.UNKNOWN: "Whether the model's own text is more predictable than the true one could "
        f"not be measured {pair}.",
    }
    sentences = [predicted[likelier.verdict]]
    repeated, natural = result["repetition"]["generated"], result["repetition"]["true"]
    pair = f"({percent(repeated)} of the 4-grams against {percent(natural)})"
    sentences.append(
        {
            Verdict.MORE: f"The generated text repeats itself more than the true {stories} {pair}.",
            Verdict.LESS: f"The generated text repeats itself less than the true {stories} {pair}.",
            Verdict.ALIKE: "The repetition of the generated text is not measurably different from "
            f"that of the true {stories} {pair}.",
            Verdict.UNKNOWN: "The repetition of the generated text could not be compared with that "
            f"of the true {stories} {pair}.",
        }[_difference(result, "repetition").verdict]
    )
    n = max(result["distinct"]["generated"])
    varied, wanted = result["distinct"]["generated"][n], result["distinct"]["true"][n]
    pair = f"(distinct-{n} {varied:.3f} against {wanted:.3f})"
    sentences.append(
        {
            Verdict.LESS: f"Its phrases are less varied than those of the true {stories} {pair}.",
            Verdict.MORE: f"Its phrases are more varied than those of the true {stories} {pair}"
            + (
                "; with the higher perplexity, this suggests unusual combinations of words."
                if likelier.verdict is Verdict.LESS
                else "."
            ),
            Verdict.ALIKE: "The variety of its phrases is not measurably different from that of "
            f"the true {stories} {pair}.",
            Verdict.UNKNOWN: "The variety of its phrases could not be compared with that of the "
            f"true stories {pair}.",
        }[_difference(result, f"distinct_{n}").verdict]
    )
    return sentences


def _difference(result: Mapping[str, Any], measure: str) -> Difference:
    """Return how much the generated texts are above the true ones."""
    return Difference.from_result(result["differences"][measure])


def bleu_comment(result: Mapping[str, Any]) -> str:
    """Return how high the BLEU score is, and what is to be expected."""
    corpus = result["bleu"]["corpus"]
    low, high = Difference.from_result(result["bleu"]["interval"]).ends
    level = "low" if corpus < _MODERATE else "moderate" if corpus < _HIGH else "high"
    between = (
        ""
        if math.isnan(low)
        else f" (95\u202f% interval over the texts: {max(0.0, low):.1f} to {high:.1f})"
    )
    text = f"A corpus BLEU of {corpus:.1f}{between} is {level}. "
    if "targets" in result:
        return f"{text}These texts are drawn; [[sec:targets]] is about the likeliest ones."
    if corpus < _HIGH:
        return text + (
            "This is expected: BLEU was designed for translation, where the reference fixes the "
            f"content; the first {plural(result['prompt_tokens'], 'token')} of a story do not. The "
            "score serves to compare models."
        )
    return text + (
        "Such a score is unusual for open-ended text: the stories may be much alike, or validation "
        "stories may occur in the training split."
    )


def _targets(targets: Mapping[str, Any]) -> list[Block]:
    """Return how many targets are written as they should be, and how near the others come."""
    bleu = targets["bleu"]
    interval = Difference.from_result(targets["interval"]).ends
    between = Difference.from_result(bleu["interval"]).ends
    rows = [
        (
            "Exact match",
            percent(targets["exact_match"]),
            _ends(interval, percent),
            plural(targets["pairs"], "pair"),
        ),
        (
            "BLEU, corpus",
            f"{bleu['corpus']:.1f}",
            _ends(between, lambda end: f"{end:.1f}"),
            plural(len(targets["texts"]), "pair"),
        ),
        (
            "BLEU, mean of the targets",
            f"{bleu['sentence_mean']:.1f}",
            "",
            plural(len(targets["texts"]), "pair"),
        ),
    ]
    return [
        Heading(2, "Targets", "sec:targets"),
        *TEXT.blocks("targets", signature=code(bleu["signature"])),
        Table(
            "tab:targets",
            TEXT.line("table of targets"),
            ("", "Value", "95\u202f% interval", "Of"),
            tuple(rows),
            "lrrr",
        ),
        *_misses(targets["texts"]),
    ]  # fmt: skip


def _ends(ends: tuple[float, float], shown: Callable[[float], str]) -> str:
    low, high = ends
    return "" if math.isnan(low) else f"{shown(max(0.0, low))} to {shown(high)}"


def _misses(texts: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the first targets that are not the true ones."""
    missed = [text for text in texts if not text["equal"]][:_MISSES]
    if not missed:
        return TEXT.blocks("no misses", number=count(len(texts)))
    rows = tuple(
        tuple(literal(excerpt(text[key], _LONGEST)) for key in ("source", "true", "generated"))
        for text in missed
    )
    return [
        Table("tab:misses", TEXT.line("table of misses"), ("Source", "True", "Written"), rows,
              "ppp"),
    ]  # fmt: skip


def _examples(result: Mapping[str, Any]) -> list[Block]:
    texts = result["texts"][:_SHOWN]
    cut = "" if "targets" in result else ", cut at the same length"
    number = len(result["texts"])
    if number > len(texts):
        which = f"The first {len(texts)} of the {count(number)} continuations follow"
    else:
        which = "The continuation follows" if number == 1 else f"All {number} continuations follow"
    blocks: list[Block] = [
        Heading(2, "Examples", "sec:examples"),
        *TEXT.blocks("examples", texts=which, cut=cut),
    ]
    for i, example in enumerate(texts, 1):
        blocks += [
            Sample(
                f"{i}. Generated",
                example["generated"],
                example["prompt"],
                f"BLEU {example['bleu']:.1f} · perplexity {significant(example['perplexity'])}",
            ),
            Sample(f"{i}. True", open_end(example["true"]), example["prompt"]),
        ]
    return blocks


def _both(values: Mapping[str, Any], key: str) -> tuple[str, str]:
    return significant(values["generated"][key], 4), significant(values["true"][key], 4)
