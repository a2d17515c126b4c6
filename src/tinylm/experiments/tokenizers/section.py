"""Tokenizers at one budget: bits per byte, what tokens leave out, costs, and all segmentations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.measurement import CONFIDENCE, Difference, Measurement, Verdict, compare, mean
from tinylm.report.blocks import Block, Heading, Paragraph, Table, code, literal
from tinylm.report.formatting import count, listed, millions, percent, plural, significant
from tinylm.report.measurements import dagger, disturbances, hardware, measured, over_seeds, rounds
from tinylm.report.passages import passages

TEXT = passages(__file__)

Row = Mapping[str, Any]
_SPACE = "␣"
_DIGITS = 3
"""Decimals of bits per byte."""


def summary(result: Row) -> str:
    """Return the experiment in a paragraph, as inline markup."""
    beginning = TEXT.line("summary")
    return f"{beginning} {bits_comment(result)} {perplexity_comment(result)}"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``tokenizers``."""
    result = results.results.get("tokenizers")
    if result is None:
        return []
    rows = result["tokenizers"]
    return [
        Heading(1, "Tokenizers at one budget", "sec:tokenizers"),
        *TEXT.blocks(
            "technique",
            flops=millions(result["flops"]),
            layers=plural(result["num_layers"], "layer"),
            width=count(result["hidden_size"]),
            context=plural(result["context_length"], "token"),
            seeds=plural(len(result["seeds"]), "seed"),
            texts=plural(result["texts"], "text"),
            bytes=count(result["bytes"]),
            confidence=percent(CONFIDENCE, 0),
        ),
        Paragraph(bits_comment(result)),
        _bits_table(result),
        *results.told_figure(
            "tokenizers-bits",
            TEXT.line("bits, before the figure"),
            TEXT.line("bits, figure"),
            TEXT.line("bits, without seeing it"),
        ),
        Heading(2, "Why not perplexity", "sec:tokenizers-perplexity"),
        *TEXT.blocks("perplexity"),
        Paragraph(perplexity_comment(result)),
        Heading(2, "What the tokens leave out", "sec:tokenizers-left-out"),
        *TEXT.blocks("left out", fitted=plural(result["fitted"], "training text")),
        Paragraph(left_out_comment(rows)),
        Heading(2, "Words that nobody has seen", "sec:tokenizers-unseen"),
        *_unseen(result),
        Heading(2, "Costs", "sec:tokenizers-costs"),
        *TEXT.blocks("costs", short=_span(result, min), long=_span(result, max)),
        Paragraph(costs_comment(result)),
        _costs_table(result),
        *results.told_figure(
            "tokenizers-costs",
            TEXT.line("costs, before the figure"),
            TEXT.line("costs, figure"),
            TEXT.line("costs, without seeing it"),
        ),
        *_sums(result),
    ]


def ordered(rows: Sequence[Row], key: str = "bits_per_byte") -> list[Row]:
    """Return the rows by the mean over the seeds, the lowest first."""
    return sorted(rows, key=lambda row: fmean(row[key]))


def _gap(row: Row, other: Row, key: str = "bits_per_byte") -> Difference:
    """Return how much more one needs than another, seed by seed."""
    return mean([a - b for a, b in zip(row[key], other[key], strict=True)])


def _bits(row: Row, key: str = "bits_per_byte") -> str:
    return over_seeds(row[key], _DIGITS)


def _bits_table(result: Row) -> Table:
    rows = result["tokenizers"]
    return Table(
        "tab:tokenizers",
        TEXT.line("bits, table"),
        (
            "Tokenizer", "Types", "Bits a byte", "left out", "Perplexity", "Bytes a token",
            "Tokens a word", "`<unk>`",
        ),
        tuple(
            (
                row["name"],
                count(row["vocab_size"]),
                _bits(row),
                f"{fmean(row['bits_per_byte']) - fmean(row['token_bits_per_byte']):.{_DIGITS}f}",
                significant(fmean(row["perplexity"])),
                f"{row['bytes_per_token']:.2f}",
                f"{row['tokens_per_word']:.2f}",
                percent(row["unknown"]),
            )
            for row in rows
        ),
        "lrrrrrrr",
        TEXT.line("bits, table's note", confidence=percent(CONFIDENCE, 0)),
        emphasised=(rows.index(ordered(rows)[0]),),
    )  # fmt: skip


def bits_comment(result: Row) -> str:
    """Return which tokenizer needs the fewest bits, and which others measurably more."""
    best, *others = ordered(result["tokenizers"])
    more = [row for row in others if _gap(row, best).verdict is Verdict.MORE]
    rest = [row for row in others if row not in more]
    text = f"A byte of held-out text costs the fewest bits with {best['name']}: {_bits(best)}."
    if more:
        named = [f"{row['name']} ({fmean(row['bits_per_byte']):.2f})" for row in more]
        text += f" It costs measurably more with {listed(named)}."
    if rest:
        named = [f"{row['name']} ({fmean(row['bits_per_byte']):.2f})" for row in rest]
        text += f" No difference from it can be told for {listed(named)}."
    return text


def perplexity_comment(result: Row) -> str:
    """Return how perplexity orders them, and what equal quality would look like in it."""
    by_bits = ordered(result["tokenizers"])
    lowest = ordered(by_bits, "perplexity")[0]
    bits = fmean(by_bits[0]["bits_per_byte"])
    size = {row["name"]: row["bytes_per_token"] for row in by_bits}
    short, long = min(size, key=size.__getitem__), max(size, key=size.__getitem__)
    place = by_bits.index(lowest) + 1
    return (
        f"The lowest perplexity is that with {lowest['name']}, "
        f"{significant(fmean(lowest['perplexity']))}; by bits per byte it is number {place} of "
        f"{len(by_bits)}. Two models that both need {bits:.2f} bits a byte, as the best does here, "
        f"would have a perplexity of {significant(2 ** (bits * size[short]))} with {short}, of "
        f"{size[short]:.2f} bytes a token, and of {significant(2 ** (bits * size[long]))} with "
        f"{long}, of {size[long]:.2f}."
    )


def left_out_comment(rows: Sequence[Row]) -> str:
    """Return what is charged for lossy tokens, and what would look best without that."""
    lossy = [row for row in rows if row["restored"] < 1]
    if not lossy:
        return "All these tokenizers give every text back as it was, and nothing is charged."
    said = [
        f"{_less(row):.{_DIGITS}f} for {row['name']} ({percent(row['unknown'])} `<unk>`)"
        for row in lossy
    ]
    best, seeming = ordered(rows)[0], ordered(rows, "token_bits_per_byte")[0]
    text = f"The charge in bits a byte is {listed(said)}."
    if seeming["name"] != best["name"]:
        text += (
            f" Without it {seeming['name']} would look best, with "
            f"{fmean(seeming['token_bits_per_byte']):.2f} bits a byte; with it, it needs "
            f"{fmean(seeming['bits_per_byte']):.2f}."
        )
    return text


def _less(row: Row) -> float:
    return fmean(row["bits_per_byte"]) - fmean(row["token_bits_per_byte"])


def _unseen(result: Row) -> list[Block]:
    words = result["unseen"]
    if not words:
        return TEXT.blocks("unseen, none")
    names = [row["name"] for row in result["tokenizers"]]
    table = Table(
        "tab:tokenizers-unseen",
        TEXT.line("unseen, table"),
        ("Tokenizer", *(literal(each["word"]) for each in words)),
        tuple((name, *(literal(" ".join(each["cuts"][name])) for each in words)) for name in names),
        "l" + "p" * len(words),
        TEXT.line("unseen, table's note"),
    )
    return [*TEXT.blocks("unseen"), table]


def per_byte(row: Row) -> Measurement:
    """Return how long a byte takes to decode, in seconds."""
    return Measurement.of([value / row["bytes_per_token"] for value in row["decoding"]["seconds"]])


def costs_comment(result: Row) -> str:
    """Return what the vocabulary takes of the parameters, what was read, and who decodes fast."""
    rows = result["tokenizers"]
    share = {row["name"]: row["of_vocabulary"] / row["parameters"] for row in rows}
    read = {row["name"]: row["tokens"] * row["bytes_per_token"] for row in rows}
    most, least = max(share, key=share.__getitem__), min(share, key=share.__getitem__)
    longest, shortest = max(read, key=read.__getitem__), min(read, key=read.__getitem__)
    fast, *slower = sorted(rows, key=lambda row: per_byte(row).median)
    last = slower[-1]
    against = compare(per_byte(last), per_byte(fast))
    return (
        f"Embedding and unembedding are {percent(share[least], 0)} of the parameters with {least} "
        f"and {percent(share[most], 0)} with {most}. For the same FLOPs the model read "
        f"{count(read[longest] / 1000)} kB of text with {longest} and "
        f"{count(read[shortest] / 1000)} kB with {shortest}. A byte takes the least time to write "
        f"with {fast['name']} and the most with {last['name']}, "
        f"{significant(against.ratio)} times as much ({against.word})."
    )


def _span(result: Row, which: Callable[[Iterable[float]], float]) -> str:
    """Return the bytes that a context spans with the shortest or the longest tokens."""
    size = which(row["bytes_per_token"] for row in result["tokenizers"])
    return count(result["context_length"] * size)


def _costs_table(result: Row) -> Table:
    rows = result["tokenizers"]
    decoding = [measured(row["decoding"]) for row in rows]
    return Table(
        "tab:tokenizers-costs",
        TEXT.line("costs, table"),
        (
            "Tokenizer", "Parameters", "of vocabulary", "MFLOPs", "Steps", "kB read",
            "kB/s trained", "kB/s decoded",
        ),
        tuple(
            (
                row["name"],
                count(row["parameters"]),
                percent(row["of_vocabulary"] / row["parameters"], 0),
                f"{row['flops_per_token'] / 1e6:.2f}",
                count(row["steps"]),
                count(row["tokens"] * row["bytes_per_token"] / 1000),
                significant(fmean(row["tokens_per_second"]) * row["bytes_per_token"] / 1000),
                significant(result["new_tokens"] / per_byte(row).median / 1000) + dagger(timing),
            )
            for row, timing in zip(rows, decoding, strict=True)
        ),
        "lrrrrrrr",
        TEXT.line(
            "costs, table's note",
            tokens=plural(result["new_tokens"], "token"),
            rounds=rounds(*(row["decoding"] for row in rows)),
            machine=hardware(result),
        )
        + disturbances(decoding),
    )  # fmt: skip


def _sums(result: Row) -> list[Block]:
    """Return what the usual number misses; nothing where no tokenizer has more than one way."""
    rows = result["sums"]
    if not rows:
        return []
    return [
        Heading(2, "All segmentations of a text", "sec:tokenizers-sums"),
        *TEXT.blocks("sums", prefixes=count(result["prefixes"])),
        Paragraph(sums_comment(rows)),
        Table(
            "tab:tokenizers-sums",
            TEXT.line("sums, table"),
            (
                "Tokenizer", "Bytes", "Ways", "Missed bits", "Share", "Bytes", "Ways",
                "Missed bits", "Share",
            ),
            tuple(
                (
                    row["name"],
                    *(
                        cell
                        for group, digits in (("texts", 4), ("words", 2))
                        for cell in (
                            f"{row[group]['bytes']:.1f}",
                            count(row[group]["segmentations"]),
                            over_seeds(row[group]["missed_bits"], digits),
                            percent(fmean(row[group]["share"])),
                        )
                    ),
                )
                for row in rows
            ),
            "lrrrrrrrr",
            TEXT.line("sums, table's note", confidence=percent(CONFIDENCE, 0)),
        ),
        Paragraph(example_comment(rows)),
    ]  # fmt: skip


def sums_comment(rows: Sequence[Row]) -> str:
    """Return how much the usual number misses of texts and of words that nobody has seen."""
    most = max(rows, key=lambda row: fmean(row["words"]["missed_bits"]))
    more = [row["name"] for row in rows if _words_more(row).verdict is Verdict.MORE]
    rest = [row["name"] for row in rows if row["name"] not in more]
    text = (
        f"With {most['name']} the usual number misses "
        f"{over_seeds(most['words']['missed_bits'], 2)} bits of a word that nobody has seen, and "
        f"{over_seeds(most['texts']['missed_bits'], 4)} bits of the beginning of a text."
    )
    if more:
        text += f" It misses measurably more of such words than of beginnings with {listed(more)}."
    if rest:
        text += f" No difference between the two can be told with {listed(rest)}."
    return text


def _words_more(row: Row) -> Difference:
    pairs = zip(row["words"]["missed_bits"], row["texts"]["missed_bits"], strict=True)
    return mean([word - text for word, text in pairs])


def example_comment(rows: Sequence[Row]) -> str:
    """Return the segmentations of the word of which most is missed."""
    row = max(rows, key=lambda row: -float(row["example"]["share"]))
    example = row["example"]
    ways = [
        f"{code(' '.join(way['tokens']))} with {percent(way['share'])}"
        for way in example["likeliest"]
    ]
    return (
        f"Most is missed of *{literal(example['word'])}* with {row['name']} (first seed): of its "
        f"{plural(example['segmentations'], 'way', 'ways')} the tokenizer takes "
        f"{code(' '.join(example['canonical']))}, which has {percent(example['share'])} of the "
        f"probability; the likeliest are {listed(ways)}."
    )
