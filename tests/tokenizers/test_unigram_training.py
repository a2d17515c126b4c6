"""Training of the unigram model against the lattice, recomputation, and other trainers."""

import json
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers

from tests.tokenizers.test_lattice import lattice_of
from tinylm.config import DataConfig
from tinylm.data.corpora import open_corpus
from tinylm.tokenizers.counted_words import Words
from tinylm.tokenizers.lattice import Lattice
from tinylm.tokenizers.unigram_seeds import Pieces, known_parts, seeds
from tinylm.tokenizers.unigram_training import Cuts, Plan, digamma, maximised, train

CHARACTERS = "abc"
SPLIT = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+"


@st.composite
def corpora(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, float]]:
    """Return words with their uses, and pieces with scores, of which all characters are some."""
    words = draw(
        st.dictionaries(st.text(CHARACTERS, min_size=1, max_size=8), st.integers(1, 9), min_size=1)
    )
    longer = draw(st.sets(st.text(CHARACTERS, min_size=2, max_size=4), max_size=8))
    pieces = (*CHARACTERS, *sorted(longer))
    return words, {piece: draw(st.floats(-8, -0.01)) for piece in pieces}


def cuts_of(words: dict[str, int], scores: dict[str, float]) -> tuple[Cuts, np.ndarray]:
    """Return the cuts of words, which may be used 0 times, and the scores of the pieces."""
    return Cuts.of(Words.of_counts(words), Pieces.of(list(scores))), np.array([*scores.values()])


@given(corpora())
def test_expected_counts_are_the_posteriors_of_all_lattices(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    cuts, values = cuts_of(words, scores)
    counts, likelihood = cuts.expected_counts(values)
    expected = np.zeros(len(scores))
    total = 0.0
    for word, uses in words.items():
        lattice: Lattice = lattice_of(word, scores)
        total += uses * lattice.log_probability()
        for edge, posterior in zip(lattice.edges, lattice.posteriors(), strict=True):
            expected[edge.piece] += uses * posterior
    np.testing.assert_allclose(counts, expected, atol=1e-9)
    assert likelihood == pytest.approx(total, abs=1e-9)


@given(corpora())
def test_expected_counts_are_the_gradient_of_the_likelihood(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    cuts, values = cuts_of(*case)
    counts = cuts.expected_counts(values)[0]
    step = 1e-5
    for number in range(len(values)):
        moved = [values.copy(), values.copy()]
        moved[0][number] += step
        moved[1][number] -= step
        up, down = (cuts.expected_counts(each)[1] for each in moved)
        assert counts[number] == pytest.approx((up - down) / (2 * step), abs=1e-4)


@given(corpora())
def test_a_round_of_em_never_lowers_the_likelihood(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    cuts, values = cuts_of(*case)
    values = values - math.log(np.exp(values).sum())
    before = -math.inf
    for _ in range(5):
        counts, likelihood = cuts.expected_counts(values)
        assert likelihood >= before - 1e-9 * abs(likelihood)
        before = likelihood
        values = np.maximum(maximised(counts, sparse=False), -700.0)


def best_uses(words: dict[str, int], scores: dict[str, float]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for word, uses in words.items():
        for edge in lattice_of(word, scores).best().edges:
            counts[edge.piece] += uses
    return counts


@given(corpora())
def test_the_best_cuts_are_those_of_the_lattices(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    for rounded in (False, True):  # few different scores: ties are common
        scores = {
            piece: float(round(score)) if rounded else score for piece, score in scores.items()
        }
        cuts, values = cuts_of(words, scores)
        counts, total = cuts.best_counts(values)
        expected = best_uses(words, scores)
        assert counts.tolist() == [expected[number] for number in range(len(scores))]
        ways = (
            uses * lattice_of(word, scores).best().log_probability for word, uses in words.items()
        )
        assert total == pytest.approx(math.fsum(ways), abs=1e-9)


@given(corpora(), st.sets(st.integers(3, 10)))
def test_cuts_without_some_pieces_are_those_of_the_others(
    case: tuple[dict[str, int], dict[str, float]], gone: set[int]
) -> None:
    words, scores = case
    cuts, values = cuts_of(words, scores)
    alive = np.array([number not in gone for number in range(len(scores))])
    cuts.keep(alive)
    left = {piece: score for number, (piece, score) in enumerate(scores.items()) if alive[number]}
    others, other_values = cuts_of(words, left)
    assert len(cuts.edges) == len(others.edges)
    assert cuts.ends.tolist() == others.ends.tolist()
    counts, likelihood = cuts.expected_counts(values)
    expected, expected_likelihood = others.expected_counts(other_values)
    assert counts[alive].tolist() == expected.tolist()
    assert not counts[~alive].any()
    assert likelihood == expected_likelihood


def log_likelihood(counts: dict[int, float]) -> float:
    total = math.fsum(counts.values())
    return math.fsum(n * math.log(n / total) for n in counts.values() if n > 0)


@given(corpora())
def test_the_loss_of_a_piece_is_that_of_likelihood_counted_again(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    names = list(scores)
    # Every piece is a word too, of no use, so that it stands somewhere.
    corpus = Words.of_counts(dict.fromkeys(names, 0) | words)
    places = {word: number for number, word in enumerate(corpus.counts())}
    pieces = Pieces(
        corpus.codes,
        corpus.bounds[[places[name] for name in names]],
        np.array([len(name) for name in names]),
    )
    candidates = np.array([len(name) > 1 for name in names])
    loss = Cuts.of(corpus, pieces).losses(np.array([*scores.values()]), candidates)
    before = best_uses(words, scores)
    for number, name in enumerate(names):
        if len(name) == 1:
            assert loss[number] == math.inf  # characters stay
            continue
        rest = {piece: score for piece, score in scores.items() if piece != name}
        others = [piece for piece in names if piece != name]
        after = Counter(before)
        moved = after.pop(number, 0)
        for edge in lattice_of(name, rest).best().edges:
            after[names.index(others[edge.piece])] += moved
        expected = log_likelihood(dict(before)) - log_likelihood(dict(after))
        assert loss[number] == pytest.approx(expected, abs=1e-8)


def test_what_nothing_replaces_stays() -> None:
    cuts, values = cuts_of({"ab": 3, "b": 1}, {"ab": -1.0, "b": -2.0})
    assert cuts.losses(values, np.array([True, False])).tolist() == [math.inf, math.inf]


def test_digamma_is_scipys() -> None:
    x = np.concatenate([np.linspace(1e-3, 20, 4001), np.logspace(-6, 9, 301)])
    np.testing.assert_allclose(digamma(x), scipy.special.digamma(x), rtol=1e-11, atol=1e-12)
    counts = np.array([0.0, 0.5, 3.0, 40.0])
    with np.errstate(divide="ignore"):
        expected = scipy.special.digamma(counts) - scipy.special.digamma(counts.sum())
    assert maximised(counts, sparse=True)[0] == -math.inf
    np.testing.assert_allclose(maximised(counts, sparse=True)[1:], expected[1:], rtol=1e-11)
    assert np.exp(maximised(counts, sparse=False)).sum() == pytest.approx(1)


def seeds_of(words: dict[str, int], most: int, longest: int, least: int) -> dict[str, int]:
    pieces, weights = seeds(Words.of_counts(words), most, longest, least)
    return {pieces[number]: weight for number, weight in enumerate(weights.tolist())}


def plain_seeds(words: dict[str, int], most: int, longest: int, least: int) -> dict[str, int]:
    """Count all substrings by their names."""
    counts: Counter[str] = Counter()
    for word, uses in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + longest) + 1):
                counts[word[start:end]] += uses
    weights = {piece: uses * len(piece) for piece, uses in counts.items()}
    characters = sorted(piece for piece in counts if len(piece) == 1)
    longer = sorted(
        (piece for piece, uses in counts.items() if len(piece) > 1 and uses >= least),
        key=lambda piece: (-weights[piece], piece),
    )
    chosen = [*characters, *longer[: max(most - len(characters), 0)]]
    return {piece: weights[piece] for piece in chosen}


@given(
    st.dictionaries(st.text("abé👍", min_size=1, max_size=12), st.integers(1, 9), min_size=1),
    st.integers(1, 40),
    st.integers(1, 13),
    st.integers(1, 9),
)
def test_seeds_are_those_of_counting_all_substrings(
    words: dict[str, int], most: int, longest: int, least: int
) -> None:
    expected = plain_seeds(words, most, longest, least)
    assert list(seeds_of(words, most, longest, least).items()) == list(expected.items())


def test_seeds_are_substrings_by_uses_times_length() -> None:
    words = {"abab": 3, "ba": 2}
    # ab: 2 * 3 uses of 2 characters; ba: 3 + 2; aba and bab: 3 of 3.
    assert seeds_of(words, 5, 3, 3) == {"a": 8, "b": 8, "ab": 12, "ba": 10, "aba": 9}
    assert "bab" in seeds_of(words, 99, 3, 3)
    assert "abab" not in seeds_of(words, 99, 3, 3)
    assert len(seeds_of(words, 99, 16, 4)) == 4


def parts_of(words: dict[str, int], least: int) -> tuple[int, dict[str, int]]:
    known, parts = known_parts(Words.of_counts(words), least)
    counts: Counter[str] = Counter()
    bounds = parts.bounds.tolist()
    text = "".join(map(chr, parts.codes))
    for start, end, uses in zip(bounds[:-1], bounds[1:], parts.uses.tolist(), strict=True):
        counts[text[start:end]] += uses
    return known, dict(counts)


def test_unknown_characters_part_words() -> None:
    words = {"axb": 2, "\nb": 1, "x": 1, "ab": 3}
    assert parts_of(words, 2) == (3, {"axb": 2, "b": 1, "x": 1, "ab": 3})
    words = {"axb": 2, "\nb": 4, "ab": 3}
    assert parts_of(words, 3) == (3, {"a": 2, "b": 2, "\nb": 4, "ab": 3})
    assert parts_of({"xxé": 1, "👍": 1}, 3) == (0, {})


@pytest.mark.parametrize("length", [255, 256, 257, 512, 600])
def test_long_words_are_cut_into_parts_after_unknown_characters_are_out(length: int) -> None:
    word = ("ab" * length)[:length]
    expected = [word[start : start + 256] for start in range(0, length, 256)]
    assert parts_of({word: 2}, 2)[1] == {part: 2 * n for part, n in Counter(expected).items()}
    again = Counter([*expected, *expected])
    assert parts_of({f"{word}x{word}": 1}, 2)[1] == again


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text("abcd ", min_size=1, max_size=9), st.integers(1, 50), min_size=3),
    st.integers(0, 12),
    st.booleans(),
)
def test_a_vocabulary_has_all_characters_and_probabilities_that_sum_to_1(
    words: dict[str, int], more: int, sparse: bool
) -> None:
    characters = {character for word in words for character in word}
    plan = Plan(size=len(characters) + more, sparse=sparse)
    scores = train(Words.of_counts(words), plan)
    assert characters <= scores.keys()
    assert len(scores) <= plan.size
    assert math.fsum(map(math.exp, scores.values())) == pytest.approx(1)
    again = train(Words.of_counts(dict(reversed(words.items()))), plan)
    assert list(again.items()) == list(scores.items())
    ordered = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    assert list(scores.items()) == ordered  # ties by code points


def test_a_very_long_word_is_learned_in_parts() -> None:
    words = known_parts(Words.of_counts({"ab" * 2000: 1, "ab": 5}), 1)[1]
    scores = train(words, Plan(size=12))
    assert {"a", "b", "ab"} <= scores.keys()


def test_the_vocabulary_is_likelier_than_that_of_other_trainers(tmp_path: Path) -> None:
    """Vocabularies differ; what is maximised can be compared, on texts not trained on."""
    texts = list(open_corpus(DataConfig(corpus="stories", train_stories=1500)).train())
    seen, unseen = texts[:1000], texts[1000:]
    words, held_out = (
        Counter(word for text in part for word in re.findall(SPLIT, text))
        for part in (seen, unseen)
    )
    size = 300
    theirs = tokenizers.Tokenizer(models.Unigram())
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    theirs.train_from_iterator(
        seen,
        trainers.UnigramTrainer(
            vocab_size=size + 1,
            special_tokens=["<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    rows = json.loads(theirs.to_str())["model"]["vocab"]
    scores_of = {
        "ours": train(Words.of_counts(words), Plan(size=size)),
        "plain": train(Words.of_counts(words), Plan(size=size, sparse=False)),
        "theirs": {piece: score for piece, score in rows if piece != "<unk>"},
    }
    likelihood = {}
    for name, scores in scores_of.items():
        assert len(scores) == size
        total = math.log(math.fsum(map(math.exp, scores.values())))
        normalised = {piece: score - total for piece, score in scores.items()}
        known = {word: uses for word, uses in held_out.items() if set(word) <= scores.keys()}
        assert known == dict(held_out)
        cuts, values = cuts_of(known, normalised)
        likelihood[name] = cuts.expected_counts(values)[1]
    assert likelihood["ours"] > likelihood["theirs"]
    assert likelihood["plain"] > likelihood["theirs"]
