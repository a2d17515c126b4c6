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
from tinylm.tokenizers.lattice import Lattice
from tinylm.tokenizers.unigram_training import (
    Plan,
    best_edges,
    cuts,
    digamma,
    expected_counts,
    losses,
    maximised,
    of_known,
    seeds,
    train,
    used,
)

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


def arrays(words: dict[str, int], scores: dict[str, float]):
    return (
        cuts(list(words), list(scores), 16),
        np.array(list(scores.values())),
        np.array(list(words.values()), float),
    )


@given(corpora())
def test_expected_counts_are_the_posteriors_of_all_lattices(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    counts, likelihood = expected_counts(*arrays(words, scores))
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
    words, scores = case
    corpus, values, uses = arrays(words, scores)
    counts = expected_counts(corpus, values, uses)[0]
    step = 1e-5
    for number in range(len(values)):
        moved = [values.copy(), values.copy()]
        moved[0][number] += step
        moved[1][number] -= step
        up, down = (expected_counts(corpus, each, uses)[1] for each in moved)
        assert counts[number] == pytest.approx((up - down) / (2 * step), abs=1e-4)


@given(corpora())
def test_a_round_of_em_never_lowers_the_likelihood(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    corpus, values, uses = arrays(words, scores)
    values = values - math.log(np.exp(values).sum())
    before = -math.inf
    for _ in range(5):
        counts, likelihood = expected_counts(corpus, values, uses)
        assert likelihood >= before - 1e-9 * abs(likelihood)
        before = likelihood
        values = np.maximum(maximised(counts, sparse=False), -700.0)


@given(corpora())
def test_the_best_cuts_are_those_of_the_lattices(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    corpus, values, _ = arrays(words, scores)
    best, last = best_edges(corpus, values)
    pieces, owners = used(corpus, last)
    for number, word in enumerate(words):
        path = lattice_of(word, scores).best()
        assert best[corpus.last[number]] == pytest.approx(path.log_probability, abs=1e-12)
        ours = pieces[owners == number]
        assert Counter(ours.tolist()) == Counter(edge.piece for edge in path.edges)


def log_likelihood(counts: dict[int, float]) -> float:
    total = math.fsum(counts.values())
    return math.fsum(n * math.log(n / total) for n in counts.values() if n > 0)


@given(corpora())
def test_the_loss_of_a_piece_is_that_of_likelihood_counted_again(
    case: tuple[dict[str, int], dict[str, float]],
) -> None:
    words, scores = case
    corpus, values, uses = arrays(words, scores)
    names = list(scores)
    own = cuts(names, names, 16, whole=False)
    candidates = np.array([len(name) > 1 for name in names])
    loss = losses(corpus, own, values, uses, candidates)
    before: Counter[int] = Counter()
    for word, count in words.items():
        for edge in lattice_of(word, scores).best().edges:
            before[edge.piece] += count
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


def test_digamma_is_scipys() -> None:
    x = np.concatenate([np.linspace(1e-3, 20, 4001), np.logspace(-6, 9, 301)])
    np.testing.assert_allclose(digamma(x), scipy.special.digamma(x), rtol=1e-11, atol=1e-12)
    counts = np.array([0.0, 0.5, 3.0, 40.0])
    with np.errstate(divide="ignore"):
        expected = scipy.special.digamma(counts) - scipy.special.digamma(counts.sum())
    assert maximised(counts, sparse=True)[0] == -math.inf
    np.testing.assert_allclose(maximised(counts, sparse=True)[1:], expected[1:], rtol=1e-11)
    assert np.exp(maximised(counts, sparse=False)).sum() == pytest.approx(1)


def test_seeds_are_substrings_by_uses_times_length() -> None:
    words = {"abab": 3, "ba": 2}
    ordered = seeds(words, Plan(size=9, seed_size=5, longest=3, min_frequency=3))
    # ab: 2 * 3 uses of 2 characters; ba: 3 + 2; aba and bab: 3 of 3.
    assert ordered == {"a": 8, "b": 8, "ab": 12, "ba": 10, "aba": 9}
    assert "bab" in seeds(words, Plan(size=9, longest=3, min_frequency=3))
    assert "abab" not in seeds(words, Plan(size=9, longest=3, min_frequency=3))
    assert len(seeds(words, Plan(size=9, min_frequency=4))) == 4


def test_unknown_characters_part_words() -> None:
    known, words = of_known({"axb": 2, "\nb": 1, "x": 1, "ab": 3}, 2)
    assert known == {"a", "x", "b"}
    known, words = of_known({"axb": 2, "\nb": 4, "ab": 3}, 3)
    assert known == {"a", "b", "\n"}
    assert words == {"a": 2, "b": 2, "\nb": 4, "ab": 3}


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
    scores = train(words, plan)
    assert characters <= scores.keys()
    assert len(scores) <= plan.size
    assert math.fsum(map(math.exp, scores.values())) == pytest.approx(1)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert train(dict(reversed(words.items())), plan) == scores


def test_a_very_long_word_is_learned_in_parts() -> None:
    scores = train({"ab" * 2000: 1, "ab": 5}, Plan(size=12))
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
        "ours": train(words, Plan(size=size)),
        "plain": train(words, Plan(size=size, sparse=False)),
        "theirs": {piece: score for piece, score in rows if piece != "<unk>"},
    }
    likelihood = {}
    for name, scores in scores_of.items():
        assert len(scores) == size
        total = math.log(math.fsum(map(math.exp, scores.values())))
        normalised = {piece: score - total for piece, score in scores.items()}
        known = {word: uses for word, uses in held_out.items() if set(word) <= scores.keys()}
        assert known == dict(held_out)
        likelihood[name] = expected_counts(*arrays(known, normalised))[1]
    assert likelihood["ours"] > likelihood["theirs"]
    assert likelihood["plain"] > likelihood["theirs"]
