"""Data and preprocessing."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tinylm.experiments.data.figures import zipf_excess, zipf_exponent
from tinylm.experiments.data.round_trip import round_trip_blocks
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.units import Unit, unit_of
from tinylm.registry import TOKENIZERS
from tinylm.report.blocks import Block, Figure, Heading, Paragraph, Table, code, literal
from tinylm.report.formatting import count, excerpt, percent, plural, significant
from tinylm.report.passages import passages

TEXT = passages(__file__)
_EXAMPLE_TOKENS = 24
_SPECIAL = 4
"""Special tokens of the vocabulary, where a result does not say how many there are."""
_MANY_UNKNOWN = 0.02
"""Share of unknown tokens from which the task is called easier for them."""
_CLOSE = 0.1
"""Relative difference of mean and median up to which they are called close."""
_ZIPF = 0.15
"""Difference from Zipf's exponent up to which an exponent is called close to it."""
_RARER = 2.0
"""How many times rarer the rarest words may be than the power law says.

All of these are words for sizes of the whole corpus, which is counted and not sampled."""


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``data``."""
    data = results.results.get("data")
    if data is None:
        return []
    blocks: list[Block] = [Heading(1, "Data and preprocessing", "sec:data")]
    blocks += _corpus(data)
    blocks += _tokens(data)
    blocks += _words(results, data)
    if data["vectors"]:
        blocks += _vectors(results, data["vectors"])
    blocks += _windows(results, data)
    return blocks


def _corpus(data: Mapping[str, Any]) -> list[Block]:
    names, unit = list(data["splits"]), unit_of(data)
    corpus = literal(_sentence(data["corpus"]))
    cited = re.sub(r"TinyStories(?=\.?( |$))", r"\g<0> [[eldan2023]]", corpus, count=1)
    rows = [
        (unit.items.capitalize(), *(count(data["splits"][name]["stories"]) for name in names)),
        ("Tokens", *(count(data["splits"][name]["tokens"]) for name in names)),
        ("Bytes of text", *(count(data["splits"][name]["text_bytes"]) for name in names)),
        (
            f"Mean tokens per {unit.item}",
            *(significant(data["lengths"][name]["mean"]) for name in names),
        ),
        (
            f"Median tokens per {unit.item}",
            *(count(data["lengths"][name]["median"]) for name in names),
        ),
        (
            "95\u202f% have at most (tokens)",
            *(count(data["lengths"][name]["p95"]) for name in names),
        ),
        (f"Longest {unit.item} (tokens)", *(count(data["lengths"][name]["max"]) for name in names)),
        ("Unknown tokens", *(percent(data["splits"][name]["unknown_rate"], 2) for name in names)),
    ]
    return [
        *TEXT.blocks("corpus", corpus=cited),
        Table(
            "tab:splits",
            TEXT.line("table of the splits", name=code(data["corpus_name"])),
            ("", *(name.capitalize() for name in names)),
            tuple(tuple(row) for row in rows),
            "l" + "r" * len(names),
            TEXT.line("table of the splits, note", story=unit.item),
        ),
    ]


def _tokens(data: Mapping[str, Any]) -> list[Block]:
    train, validation = data["splits"]["train"], data["splits"]["validation"]
    tokenizer = TOKENIZERS.load(data.get("tokenizer", "word"))  # earlier results name none
    trained, types = "", ""
    if tokenizer.trained:
        trained = " " + TEXT.line("tokenizer, trained", stories=unit_of(data).items)
        types = f"{(vocabulary if tokenizer.whole_words else tokens_made)(data)} "
    return [
        Heading(2, "From text to tokens", "sec:tokens"),
        *TEXT.blocks(
            "tokenizer",
            explanation=tokenizer.explanation,
            trained=trained,
            story=unit_of(data).item,
        ),
        Paragraph(f"{types}{_unknown(train, validation)}"),
        *_example(data["example"], unit_of(data)),
        *([] if tokenizer.lossless else round_trip_blocks(data.get("round_trip"), unit_of(data))),
    ]


def _example(example: Mapping[str, Any], unit: Unit) -> list[Block]:
    """Return the beginning of a story in text, tokens and ids, or nothing if it has no token."""
    if not example["tokens"]:
        return []
    tokens, ids = example["tokens"][:_EXAMPLE_TOKENS], example["ids"][:_EXAMPLE_TOKENS]
    more = " …" if len(example["tokens"]) > _EXAMPLE_TOKENS else ""
    same = " ".join(example["text"].split()) == " ".join(example["decoded"].split())
    decoded = (
        "The decoded text is equal to the original."
        if same
        else "The decoded text differs from the original: words may be unknown, and spaces and "
        "capitals that do not follow from the tokens are lost."
    )
    return [
        *TEXT.blocks("example", decoded=decoded, story=unit.item),
        Table(
            "tab:example",
            TEXT.line("table of the example", tokens=plural(len(tokens), "token"), story=unit.item),
            ("", ""),
            (
                ("Text", literal(excerpt(example["text"], 230))),
                ("Tokens", " ".join(code(str(token)) for token in tokens) + more),
                ("Ids", ", ".join(str(number) for number in ids) + more),
                ("Decoded", literal(excerpt(example["decoded"], 230))),
            ),
            "lp",
        ),
    ]


def vocabulary(data: Mapping[str, Any]) -> str:
    """Return how many words there are, and which of them the vocabulary holds."""
    special = data.get("special_tokens", _SPECIAL)
    kept = data["vocab_size"] - special
    dropped = data["types_seen"] - kept
    full = data["vocab_size"] >= data["max_size"]
    if full:
        which = f"The {count(kept)} most frequent of them enter"
    elif dropped > 0:
        which = f"The {count(kept)} that occur at least {data['min_frequency']} times enter"
    else:
        which = "All of them enter"
    limit = "its limit" if full else f"below its limit of {count(data['max_size'])}"
    text = (
        f"The training split contains {count(data['types_seen'])} different words. {which} the "
        f"vocabulary, which with the {special} special tokens has {count(data['vocab_size'])} "
        f"entries, {limit}."
    )
    if dropped <= 0:
        return text
    if dropped == 1:
        return f"{text} The other word is replaced by `<unk>`."
    return f"{text} The other {count(dropped)} words are replaced by `<unk>`."


def tokens_made(data: Mapping[str, Any]) -> str:
    """Return how many tokens there are where none is left out, and how long they are."""
    special = data.get("special_tokens", _SPECIAL)
    limit = "its limit" if data["vocab_size"] >= data["max_size"] else (
        f"below its limit of {count(data['max_size'])}, since no other would "
        f"occur {data['min_frequency']} times"
    )  # fmt: skip
    train = data["splits"]["train"]
    each = train["text_bytes"] / max(1, train["tokens"] - 2 * train["stories"])
    return (
        f"The vocabulary has {count(data['vocab_size'])} entries, {limit}: {special} special "
        f"tokens and {count(data['vocab_size'] - special)} pieces of words. A token of the "
        f"training split is {significant(each)} bytes long on average."
    )


def _unknown(train: Mapping[str, Any], validation: Mapping[str, Any]) -> str:
    if train["unknown"] == 0 and validation["unknown"] == 0:
        return "No token of either split is unknown."
    text = (
        f"In running text, {plural(train['unknown'], 'token')} of the training split "
        f"({percent(train['unknown_rate'], 2)}) and {count(validation['unknown'])} of the "
        f"validation split ({percent(validation['unknown_rate'], 2)}) are unknown"
    )
    if validation["unknown_rate"] < _MANY_UNKNOWN:
        return f"{text}."
    return (
        f"{text}. The model has to predict only `<unk>` in their place, so its task is easier than "
        "predicting the whole text."
    )


def _words(results: ReportInputs, data: Mapping[str, Any]) -> list[Block]:
    drawn = results.has_figure("figures/data.svg")
    blocks: list[Block] = [
        Heading(2, f"What the {unit_of(data).items} are like", "sec:words"),
        Paragraph(f"{lengths_comment(data, drawn)} {words_comment(data, drawn)}"),
    ]
    if drawn:
        blocks.append(
            Figure(
                "fig:data",
                "figures/data.svg",
                TEXT.line(
                    "figure of lengths and frequencies",
                    cut=_cut_off(data),
                    stories=unit_of(data).items,
                ),
                TEXT.line(
                    "figure of lengths and frequencies, without seeing it",
                    story=unit_of(data).item,
                ),
            )
        )
    return blocks


def _cut_off(data: Mapping[str, Any]) -> str:
    """Return which stories the histogram does not show, in brackets, or nothing."""
    longest = data["length_histogram"]["edges"][-1]
    if data["lengths"]["train"]["max"] <= longest:
        return ""
    return f" (those of more than {count(math.floor(longest))} tokens are not shown)"


def lengths_comment(data: Mapping[str, Any], drawn: bool) -> str:
    """Return how long the stories are, and whether a few long or short ones change the mean."""
    lengths, unit = data["lengths"]["train"], unit_of(data)
    ratio = lengths["mean"] / lengths["median"]
    shape = "mean and median are close to each other"
    if ratio > 1 + _CLOSE:
        shape = f"a number of long {unit.items} raise the mean"
    elif ratio < 1 - _CLOSE:
        shape = f"a number of short {unit.items} lower the mean"
    shown = " ([[fig:data]], left)" if drawn else ""
    return (
        f"The median length of a training {unit.item} is {count(lengths['median'])} tokens{shown} "
        f"and the mean {significant(lengths['mean'])}: {shape}."
    )


def words_comment(data: Mapping[str, Any], drawn: bool) -> str:
    """Return which words are frequent, and whether their frequencies follow Zipf's law."""
    total = data["splits"]["train"]["tokens"]
    top = data["top_words"]
    covered = sum(number for _, number in top) / total
    text = (
        f"The {len(top)} most frequent tokens make up {percent(covered)} of the training split; "
        f"the first are {' '.join(code(word) for word, _ in top[:8])}."
    )
    exponent = zipf_exponent(data["rank_frequency"])
    if exponent is None:
        return text
    shown = " ([[fig:data]], right)" if drawn else ""
    text += (
        " Ranked by frequency, the words between ranks 10 and 1,000 follow a power law with an "
        f"exponent of {significant(exponent)}{shown}; in ordinary language it is about 1 "
        "(Zipf's law [[zipf1949]])"
    )
    if exponent > 1 + _ZIPF:
        text += ", so the frequencies fall more steeply here."
    elif exponent < 1 - _ZIPF:
        text += ", so the frequencies fall less steeply here."
    else:
        text += ", which is close."
    excess = zipf_excess(data["rank_frequency"])
    if excess is None:
        return text
    if excess > _RARER:
        return text + (
            " At higher ranks the frequencies are below the power law: the word at 90\u202f% of "
            f"all ranks is {significant(excess, 2)} times rarer than the power law predicts."
        )
    return f"{text} At higher ranks the frequencies continue the power law."


def _vectors(results: ReportInputs, vectors: Mapping[str, Any]) -> list[Block]:
    trained_here = vectors["source"] == "train"
    origin = (
        "They were trained on the training split itself "
        f"({plural(results.config.vectors.epochs, 'epoch')}, "
        f"{plural(results.config.vectors.window, 'word')} of context on each side)"
        if trained_here
        else "They were read from a published file"
    )
    fate = (
        "they are trained further with the model"
        if vectors["trainable"]
        else "they stay frozen while the model is trained"
    )
    neighbours: Mapping[str, Any] = vectors["neighbours"]
    covered = (
        "Every word in the vocabulary has a vector; only the special tokens start at random."
        if vectors["coverage"] == 1
        else f"{percent(vectors['coverage'])} of the words in the vocabulary have a vector; the "
        "others, and the special tokens, start at random."
    )
    table = " " + TEXT.line("word vectors, their table") if neighbours else ""
    blocks: list[Block] = [
        Heading(2, "Word vectors", "sec:vectors"),
        *TEXT.blocks(
            "word vectors",
            dimension=str(vectors["dimension"]),
            origin=origin,
            fate=fate,
            covered=covered,
            table=table,
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
        blocks.append(
            Table(
                "tab:neighbours",
                TEXT.line("table of neighbours"),
                ("Word", "Nearest words (cosine)"),
                rows,
                "lp",
                TEXT.line("table of neighbours, note"),
            )
        )
    return blocks


def _windows(results: ReportInputs, data: Mapping[str, Any]) -> list[Block]:
    windows = data["windows"]
    training = results.results.get("training")
    number = (
        f" One epoch has {plural(training['windows_per_epoch'], unit_of(data).window)}."
        if training
        else ""
    )
    rows = data.get("rows")
    if rows is not None:
        return [
            Heading(2, "Rows and labels", "sec:windows"),
            *TEXT.blocks(
                "rows",
                context=count(windows["context_length"]),
                fit=percent(windows["fit_share"]),
                source=significant(rows["source_mean"]),
                target=significant(rows["target_mean"]),
                learned=TEXT.line("rows, sources are learned")
                if results.config.training.learn_source
                else TEXT.line("rows, targets alone"),
                epoch=number,
            ),
        ]
    return [
        Heading(2, "Windows and labels", "sec:windows"),
        *TEXT.blocks(
            "windows",
            context=count(windows["context_length"]),
            fit=percent(windows["fit_share"]),
            whole=percent(windows["whole_share"]),
            epoch=number,
        ),
    ]


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?" else f"{text}."
