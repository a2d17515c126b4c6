"""What is said of the corpus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.telling import table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def zipf(exponent: float, end: float = 1.0) -> Change:
    """Words fall like this; those beyond rank 1,000 are rarer by the factor ``end``."""

    def change(result: Result) -> None:
        ranks = [rank for rank, _ in result["rank_frequency"]]
        result["rank_frequency"] = [
            [rank, 1e9 / rank**exponent / (end if rank > 1_000 else 1)] for rank in ranks
        ]

    return change


def few_types(result: Result) -> None:
    result["rank_frequency"] = [point for point in result["rank_frequency"] if point[0] <= 1_000]


def hardly_any(result: Result) -> None:
    result["rank_frequency"] = result["rank_frequency"][:5]


def in_bytes(result: Result) -> None:
    """The tokenizer's vocabulary is not trained, and nothing is lost."""
    result.update(tokenizer="bytes", min_frequency=None, max_size=None)
    unknown(0, 0, 0.0)(result)


def in_pieces(held: int, most: int) -> Change:
    """A trained tokenizer that loses nothing."""

    def change(result: Result) -> None:
        result.update(tokenizer="bpe", vocab_size=held, max_size=most, min_frequency=2)
        result["splits"]["train"].update(text_bytes=1020, tokens=300, stories=50)
        unknown(0, 0, 0.0)(result)

    return change


def unknown(train: int, validation: int, rate: float = 0.001) -> Change:
    def change(result: Result) -> None:
        splits = result["splits"]
        splits["train"].update(unknown=train, unknown_rate=rate)
        splits["validation"].update(unknown=validation, unknown_rate=rate)

    return change


def vectors(**values: Any) -> Change:
    return lambda result: result["vectors"].update(values)


def lengths(mean: float, median: float) -> Change:
    return lambda result: result["lengths"]["train"].update(mean=mean, median=median)


def types(seen: int, held: int, most: int = 10_000) -> Change:
    return lambda result: result.update(types_seen=seen, vocab_size=held, max_size=most)


def of_pairs(result: Result) -> None:
    result.update(unit="pair", rows={"source_mean": 10.5, "target_mean": 6.0})


CASES = [
    *table_of(
        "data",
        # The vocabulary.
        (None, "4,808 that occur at least 2 times enter the vocabulary, which with the 4 special"),
        (types(5_530, 4_812), "4 special tokens has 4,812 entries, below its limit of 10,000."),
        (types(50_000, 10_000), "The 9,996 most frequent of them enter the vocabulary, which with"),
        (types(50_000, 10_000), "has 10,000 entries, its limit.", "below"),
        (types(5_530, 5_534), "All of them enter the vocabulary", "replaced by"),
        (types(5_531, 5_534), "The 5,530 that occur at least 2 times enter the vocabulary, which"),
        (types(5_531, 5_534), "The other word is replaced by <unk>."),
        (types(5_532, 5_534), "The other 2 words are replaced by <unk>."),
        (in_bytes, "works on bytes: a token is one byte of a text's UTF-8"),
        (in_bytes, "and <eos> (its end).\nNo token of either split is unknown.", "different words"),
        (in_bytes, "tab:example shows", "tab:round-trip"),
        (in_pieces(2_000, 2_000), "vocabulary has 2,000 entries, its limit: 4 special tokens and"),
        (in_pieces(2_000, 2_000), "1,996 pieces of words. A token of the training split is 5.10"),
        (in_pieces(900, 2_000), "limit of 2,000, since no other would occur 2 times: 4 special"),
        (in_pieces(900, 2_000), "No token of either split is unknown.", "different words"),
        (None, "<eos> (its end). The vocabulary is built on the training split only, so that it"),
        (unknown(0, 0), "No token of either split is unknown."),
        (unknown(1, 0), "1 token of the training split (0.10\u202f%) and 0 of the validation sp"),
        (unknown(0, 1), "0 tokens of the training split (0.10\u202f%) and 1 of the validation sp"),
        (unknown(9, 9, 0.0199), "(1.99\u202f%) are unknown.", "easier than"),
        (unknown(9, 9, 0.02), "so its task is easier than predicting the whole text."),
        # The example.
        (None, "The decoded text is equal to the original."),
        (None, "The beginning of a training story and its first"),
        (lambda f: f["example"].update(decoded="Once"), "The decoded text differs from the orig"),
        (lambda f: f["example"].update(tokens=[]), "Windows and labels", "tab:example"),
        (lambda f: f["example"].update(tokens=["a"], text="A.", decoded="A."), "\nA.\n", " …"),
        (lambda f: f["example"].update(tokens=["a"] * 25, ids=[7] * 25), "a a a …\nIds"),
        (lambda f: f["example"].update(tokens=["a"] * 24, ids=[7] * 24), "a a a\nIds"),
        # Lengths and frequencies.
        (lengths(165, 161), "161 tokens (fig:data, left) and the mean 165: mean and median are"),
        (lengths(111, 100), "a number of long stories raise the mean."),
        (lengths(109, 100), "close to each other"),
        (lengths(91, 100), "close to each other"),
        (lengths(89, 100), "a number of short stories lower the mean"),
        (zipf(1.0), "an exponent of 1.00 (fig:data, right); in ordinary language it is about 1"),
        (zipf(1.14), "(Zipf's law zipf1949), which is close."),
        (zipf(1.16), "so the frequencies fall more steeply here."),
        (zipf(0.86), "(Zipf's law zipf1949), which is close."),
        (zipf(0.84), "so the frequencies fall less steeply here."),
        (zipf(1.0, 1.9), "At higher ranks the frequencies continue the power law.", "rarer"),
        (zipf(1.0, 2.1), "the word at 90\u202f% of all ranks is 2.1 times rarer than", "continue"),
        (few_types, "an exponent of", "higher ranks"),
        (hardly_any, "the first are", "an exponent of"),
        # Vectors.
        (None, "(5 epochs, 5 words of context on each side); they are trained further with the mo"),
        (vectors(source="file"), "They were read from a published file; they are trained further"),
        (vectors(trainable=False), "they stay frozen while the model is trained"),
        (vectors(coverage=1), "Every word in the vocabulary has a vector; only the special tokens"),
        (vectors(coverage=0.999), "99.9\u202f% of the words in the vocabulary have a vector; the"),
        (None, "tab:neighbours shows the nearest neighbours of some words."),
        (vectors(neighbours={}), "start at random.", "tab:neighbours"),
        (lambda f: f.update(vectors=None), "Windows and labels", "fastText"),
        # Pairs.
        (of_pairs, "What the pairs are like", "What the stories"),
        (of_pairs, "Mean tokens per pair", "per story"),
        (of_pairs, "The source is given, with 10.5 tokens on average; the target, with 6.00, is"),
        (of_pairs, "The tokens of the source have no label. No row is cut: one that"),
        (of_pairs, "One epoch has 51,832 pairs."),
        # Windows.
        (None, "The model sees at most 64 tokens at once."),
        (None, "3.1\u202f% of the training stories are short enough to fit into a window, and 1.1"),
        (lambda f: f["windows"].update(fit_share=0.953, whole_share=0.142), "95.3\u202f% of the"),
        (None, "One epoch has 51,832 windows."),
        # The corpus.
        (lambda f: f.update(corpus="files"), "consists of files. tab:splits gives its size."),
        (lambda f: f.update(corpus="files!"), "files! tab:splits gives its size.", "eldan"),
        (lambda f: f.update(corpus=""), "tab:splits gives its size."),
        (lambda f: f.update(corpus="2 in the style of TinyStories"), "TinyStories eldan2023. tab"),
        (lambda f: f.update(corpus="2 of a/TinyStories on a"), "TinyStories eldan2023 on a. tab"),
        (lambda f: f.update(corpus="2 of TinyStories.txt"), "TinyStories.txt. tab", "eldan2023"),
        (lambda f: f["lengths"]["train"].update(max=10**6), "tokens are not shown). Right"),
        (lambda f: f["lengths"]["train"].update(max=1), "the training stories. Right", "not shown"),
        (None, "Tokens include the <sos> and the <eos> of every story; the lengths do not."),
    ),
    *table_of("data", (lambda r: r.pop("training"), "ignored in the loss", "One epoch"), about="*"),
    *table_of(
        "data",
        (None, "close to each other. The 20 most frequent", "fig:data"),
        (None, "an exponent of 1.16; in ordinary"),
        drawn=False,
    ),
    *table_of(
        "data",
        (of_pairs, "In training the tokens of the sources are predicted as well", "have no label"),
        settings={"training": {"learn_source": True}},
    ),
]  # fmt: skip
