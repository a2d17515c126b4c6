"""Data and preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table, code, literal
from tinylm.report.figures.data import zipf_exponent
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.inputs import ReportInputs

_EXAMPLE_TOKENS = 24


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``data``."""
    data = results.results.get("data")
    if data is None:
        return []
    made: list[Block] = [Heading(1, "Data and preprocessing", "sec:data")]
    made += _corpus(data)
    made += _tokens(results, data)
    made += _words(results, data)
    if data.get("vectors"):
        made += _vectors(results, data["vectors"])
    made += _windows(results, data)
    return made


def _corpus(data: Mapping[str, Any]) -> list[Block]:
    names = list(data["splits"])
    citation = " [[eldan2023]]" if "tinystories" in data["corpus_name"].lower() else ""
    rows = [
        ("Stories", *(count(data["splits"][name]["stories"]) for name in names)),
        ("Tokens", *(count(data["splits"][name]["tokens"]) for name in names)),
        ("Bytes of text", *(count(data["splits"][name]["text_bytes"]) for name in names)),
        ("Mean tokens a story", *(significant(data["lengths"][name]["mean"]) for name in names)),
        ("Median tokens a story", *(count(data["lengths"][name]["median"]) for name in names)),
        ("95 % have at most", *(count(data["lengths"][name]["p95"]) for name in names)),
        ("Longest story", *(count(data["lengths"][name]["max"]) for name in names)),
        ("Unknown tokens", *(percent(data["splits"][name]["unknown_rate"], 2) for name in names)),
    ]
    return [
        Paragraph(f"{literal(_sentence(data['corpus']))}{citation} [[tab:splits]] gives its size."),
        Table(
            "tab:splits",
            f"The corpus {code(data['corpus_name'])} after tokenization.",
            ("", *(name.capitalize() for name in names)),
            tuple(tuple(row) for row in rows),
            "l" + "r" * len(names),
        ),
    ]


def _tokens(results: ReportInputs, data: Mapping[str, Any]) -> list[Block]:
    train, validation = data["splits"]["train"], data["splits"]["validation"]
    example = data["example"]
    shown = list(zip(example["tokens"], example["ids"], strict=False))
    tokens = " ".join(code(f"{token}") for token, _ in shown[:_EXAMPLE_TOKENS])
    ids = ", ".join(str(number) for _, number in shown[:_EXAMPLE_TOKENS])
    more = "" if len(shown) <= _EXAMPLE_TOKENS else " …"
    dropped = data["types_seen"] - data["vocab_size"] + 4
    limit = (
        f"the {count(data['max_size'])} most frequent of them are kept"
        if data["vocab_size"] >= data["max_size"]
        else f"which leaves {count(data['vocab_size'])} entries, below the limit of "
        f"{count(data['max_size'])}"
    )
    made: list[Block] = [
        Heading(2, "From text to tokens", "sec:tokens"),
        Paragraph(
            "The tokenizer works on words: text is lower-cased and cut into words, numbers and "
            "single punctuation marks by one rule; decoding puts spaces and capitals back. Four "
            "special tokens come first in the vocabulary: `<pad>` (filling), `<unk>` (a word "
            "outside the vocabulary), `<sos>` (start of a story) and `<eos>` (its end). The "
            "vocabulary is built on the training split only, so that nothing about the "
            "validation stories is known beforehand."
        ),
        Paragraph(
            f"The training split holds {count(data['types_seen'])} different words. A word needs "
            f"{plural(data['min_frequency'], 'occurrence')} to enter the vocabulary; {limit}, "
            "special tokens included. "
            + (
                f"The {plural(dropped, 'rarest type')} became `<unk>`. "
                if dropped > 0
                else "No word was left out. "
            )
            + _unknown(train, validation)
        ),
    ]
    if shown:
        made += [
            Paragraph("[[tab:example]] follows the beginning of one story through the tokenizer."),
            Table(
                "tab:example",
                "One story's first tokens. The decoded text differs from the original only "
                "where words are unknown or spacing and capitals cannot be told from the tokens.",
                ("", "What the tokenizer makes of it"),
                (
                    ("Text", literal(_cut(example["text"], 230))),
                    ("Tokens", tokens + more),
                    ("Ids", ids + more),
                    ("Decoded", literal(_cut(example["decoded"], 230))),
                ),
                "lp",
            ),
        ]
    return made


def _unknown(train: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    if train["unknown"] == 0 and validation["unknown"] == 0:
        return "No token of either split is unknown."
    text = (
        f"In running text that is {percent(train['unknown_rate'], 2)} of the training and "
        f"{percent(validation['unknown_rate'], 2)} of the validation tokens"
    )
    if validation["unknown_rate"] > 1.5 * max(train["unknown_rate"], 1e-9):
        return f"{text}: the validation stories use words that training never showed."
    if validation["unknown_rate"] < 0.02:
        return f"{text}: rare enough not to blur the measurements."
    return f"{text}, which makes the task easier than the text is; perplexities of models with "\
        "other vocabularies cannot be compared with those below."  # fmt: skip


def _words(results: ReportInputs, data: Mapping[str, Any]) -> list[Block]:
    lengths = data["lengths"]["train"]
    total = data["splits"]["train"]["tokens"]
    top = data["top_words"][:20]
    covered = sum(number for _, number in top) / total if total else 0
    exponent = zipf_exponent(data["rank_frequency"])
    text = (
        f"The {len(top)} most frequent tokens make up {percent(covered)} of the training split; "
        f"the first are {listed([f'“{literal(word)}”' for word, _ in top[:8]])}. "
    )
    if exponent is not None:
        text += (
            f"Ranked by frequency, words follow a power law with exponent "
            f"{significant(exponent)} between ranks 10 and 1,000 ([[fig:data]], right). Zipf's law "
            "[[zipf1949]] expects about 1. "
        )
        if exponent > 1.15:
            text += (
                "The steeper fall means a small, much repeated vocabulary, as one expects of "
                "stories for small children; a model of modest size can learn it."
            )
        elif exponent < 0.85:
            text += "The flatter fall means that the common words are used unusually evenly."
        else:
            text += "The corpus thus has the shape of ordinary language."
    skewed = lengths["mean"] > 1.1 * lengths["median"]
    shape = (
        "a few long stories pull the mean up" if skewed else "mean and median lie close together"
    )
    made: list[Block] = [
        Heading(2, "What the stories are like", "sec:words"),
        Paragraph(
            f"A training story has {count(lengths['median'])} tokens in the median and "
            f"{significant(lengths['mean'])} on average: {shape} ([[fig:data]], left). {text}"
            if results.has_figure("figures/data.svg")
            else text.replace(" ([[fig:data]], right)", "")
        ),
    ]
    if results.has_figure("figures/data.svg"):
        made.append(
            Figure(
                "fig:data",
                "figures/data.svg",
                "Left: how long the training stories are. Right: how often each word occurs, "
                "against its rank, on logarithmic axes; a power law is a straight line.",
                "Histogram of story lengths, and a log-log plot of word frequency against rank.",
            )
        )
    return made


def _vectors(results: ReportInputs, vectors: Mapping[str, Any]) -> list[Block]:
    trained_here = vectors["source"] == "train"
    origin = (
        f"They were trained on the training split itself "
        f"({plural(results.config.vectors.epochs, 'epoch')}, "
        f"{results.config.vectors.window} words of context on each side)"
        if trained_here
        else "They were read from a published file"
    )
    fate = (
        "they are a starting point, and are trained further with the model"
        if vectors["trainable"]
        else "they stay frozen, so that the model learns around them"
    )
    neighbours: Mapping[str, Any] = vectors.get("neighbours") or {}
    made: list[Block] = [
        Heading(2, "Word vectors", "sec:vectors"),
        Paragraph(
            f"The embedding starts from fastText vectors [[bojanowski2017]] of dimension "
            f"{vectors['dimension']}, in which a word is the sum of the vectors of its character "
            f"n-grams. {origin}; {fate}. {percent(vectors['coverage'])} of the vocabulary has a "
            f"vector"
            + (
                "; the other entries, special tokens among them, start at random."
                if vectors["coverage"] < 1
                else "."
            )
        ),
    ]
    if neighbours:
        rows = tuple(
            (
                code(word),
                ", ".join(f"{literal(other)} ({similarity:.2f})" for other, similarity in near),
            )
            for word, near in neighbours.items()
        )
        made.append(
            Table(
                "tab:neighbours",
                "Nearest words by the cosine of the vectors that the embedding starts from.",
                ("Word", "Nearest words (cosine)"),
                rows,
                "lp",
                "Words that are spelled alike are near because they share n-grams; words that "
                "are used alike, because they share contexts.",
            )
        )
    return made


def _windows(results: ReportInputs, data: Mapping[str, Any]) -> list[Block]:
    context = results.config.model.context_length
    lengths = data["lengths"]["train"]
    training = results.results.get("training")
    if lengths["p95"] <= context:
        fit = "at least 95 % of the stories fit into it whole"
    elif lengths["median"] <= context:
        fit = "more than half of the stories fit into it whole"
    else:
        fit = (
            f"shorter than the median story ({count(lengths['median'])} tokens), so that the "
            "model sees most stories in pieces and cannot look back to their beginning"
        )
    windows = (
        f" One epoch has {plural(training['windows_per_epoch'], 'window')}." if training else ""
    )
    return [
        Heading(2, "Windows and labels", "sec:windows"),
        Paragraph(
            f"The model sees at most {context} tokens at once: {fit}. Each story becomes "
            "`<sos>` … `<eos>`, cut into windows of that length; the label of every token is the "
            "token after it, which the model gets as input in the next place whatever it "
            "predicted itself (teacher forcing [[williams1989]]). Filling is ignored in the loss, "
            f"and nothing else is.{windows}"
        ),
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."


def _cut(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[:length].rsplit(' ', 1)[0]} …"
