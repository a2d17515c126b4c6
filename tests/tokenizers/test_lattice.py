"""The lattice against a list of all segmentations of short strings."""

import math
import random
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylm.tokenizers.lattice import Edge, Lattice

CHARACTERS = "abc"


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    """Return a string and pieces with scores, of which all characters are some."""
    text = draw(st.text(CHARACTERS, min_size=1, max_size=7))
    longer = draw(st.sets(st.text(CHARACTERS, min_size=2, max_size=4), max_size=8))
    score = st.floats(-8, -0.01)
    return text, {piece: draw(score) for piece in (*CHARACTERS, *sorted(longer))}


def lattice_of(text: str, scores: dict[str, float]) -> Lattice:
    numbers = {piece: number for number, piece in enumerate(scores)}
    edges = [
        Edge(start, end, numbers[text[start:end]], scores[text[start:end]])
        for start in range(len(text))
        for end in range(start + 1, len(text) + 1)
        if text[start:end] in scores
    ]
    return Lattice(len(text), edges)


def segmentations(text: str, scores: dict[str, float]) -> Iterator[tuple[str, ...]]:
    """Yield all ways to cut a text, by trying each of the places between its characters."""
    for mask in range(1 << (len(text) - 1)):
        cuts = [0, *(i + 1 for i in range(len(text) - 1) if mask >> i & 1), len(text)]
        parts = tuple(text[a:b] for a, b in pairwise(cuts))
        if all(part in scores for part in parts):
            yield parts


def weighed(text: str, scores: dict[str, float]) -> dict[tuple[str, ...], float]:
    return {
        parts: math.fsum(scores[part] for part in parts) for parts in segmentations(text, scores)
    }


def log_sum(values: list[float]) -> float:
    return math.log(math.fsum(map(math.exp, values)))


def parts_of(text: str, edges: tuple[Edge, ...]) -> tuple[str, ...]:
    return tuple(text[edge.start : edge.end] for edge in edges)


@given(cases())
def test_the_best_is_the_most_probable_of_all(case: tuple[str, dict[str, float]]) -> None:
    text, scores = case
    every = weighed(text, scores)
    best = lattice_of(text, scores).best()
    assert best.log_probability == pytest.approx(max(every.values()), abs=1e-12)
    assert every[parts_of(text, best.edges)] == pytest.approx(best.log_probability, abs=1e-12)


@given(cases(), st.integers(1, 70))
def test_the_n_best_are_the_first_of_all_in_order(
    case: tuple[str, dict[str, float]], n: int
) -> None:
    text, scores = case
    every = weighed(text, scores)
    paths = lattice_of(text, scores).n_best(n)
    segmentations = [parts_of(text, path.edges) for path in paths]
    assert len(set(segmentations)) == len(paths) == min(n, len(every))
    expected = sorted(every.values(), reverse=True)[:n]
    assert [path.log_probability for path in paths] == pytest.approx(expected, abs=1e-12)
    assert [every[parts] for parts in segmentations] == pytest.approx(expected, abs=1e-12)
    assert paths[0].log_probability == lattice_of(text, scores).best().log_probability


@given(cases(), st.sampled_from([0.0, 0.2, 1.0, 3.0]))
def test_forward_and_backward_sum_over_all(
    case: tuple[str, dict[str, float]], alpha: float
) -> None:
    text, scores = case
    every = weighed(text, scores)
    lattice = lattice_of(text, scores)
    assert lattice.log_probability() == pytest.approx(log_sum(list(every.values())), abs=1e-12)
    assert lattice.backward()[0] == pytest.approx(lattice.log_probability(), abs=1e-12)
    tempered = log_sum([alpha * score for score in every.values()])
    assert lattice.forward(alpha)[-1] == pytest.approx(tempered, abs=1e-12)
    for place in range(1, len(text)):
        before = log_sum(list(weighed(text[:place], scores).values()))
        after = log_sum(list(weighed(text[place:], scores).values()))
        assert lattice.forward()[place] == pytest.approx(before, abs=1e-12)
        assert lattice.backward()[place] == pytest.approx(after, abs=1e-12)


@given(cases())
def test_posteriors_are_shares_of_all(case: tuple[str, dict[str, float]]) -> None:
    text, scores = case
    every = weighed(text, scores)
    total = log_sum(list(every.values()))
    lattice = lattice_of(text, scores)
    for edge, posterior in zip(lattice.edges, lattice.posteriors(), strict=True):
        expected = 0.0
        for parts, score in every.items():
            ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
            if (edge.start, edge.end) in zip([0, *ends], ends, strict=False):
                expected += math.exp(score - total)
        assert posterior == pytest.approx(expected, abs=1e-12)


class Tree:
    """Random numbers that go through all choices of a sampler: each leads to every edge in turn.

    A number that is asked for is the middle of a cell of a fine grid, so that the share of grid
    points that lead to a path is its probability, but for the grid's width.
    """

    def __init__(self, numbers: list[float]) -> None:
        self.numbers = numbers

    def random(self) -> float:
        return self.numbers.pop(0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_each_choice_of_the_sampler_has_its_exact_probability(alpha: float) -> None:
    text, scores = "aab", {"a": -1.0, "b": -2.0, "aa": -1.7, "ab": -2.2, "aab": -2.9}
    lattice, every = lattice_of(text, scores), weighed("aab", scores)
    total = log_sum([alpha * score for score in every.values()])
    cells = 60
    grid = [(i + 0.5) / cells for i in range(cells)]
    counts: Counter[tuple[str, ...]] = Counter()
    for x in grid:
        for y in grid:
            path = lattice.sample(Tree([x, y, 0.5]), alpha)
            counts[parts_of(text, path.edges)] += 1
            assert path.log_probability == pytest.approx(every[parts_of(text, path.edges)])
    assert len(counts) == len(every) == 4
    for parts, score in every.items():
        exact = math.exp(alpha * score - total)
        assert counts[parts] / cells**2 == pytest.approx(exact, abs=2 / cells)


def test_samples_have_the_distribution_to_the_power_alpha() -> None:
    text = "abcabc"
    scores = {"a": -2.0, "b": -2.1, "c": -2.2, "ab": -3.0, "bc": -2.9, "ca": -4.0, "abc": -3.5}
    lattice, every = lattice_of(text, scores), weighed(text, scores)
    draws = 20_000
    for alpha in (0.0, 0.3, 1.0):
        source = random.Random(7)
        total = log_sum([alpha * score for score in every.values()])
        counts = Counter(parts_of(text, lattice.sample(source, alpha).edges) for _ in range(draws))
        chi_square = math.fsum(
            (counts[parts] - draws * share) ** 2 / (draws * share)
            for parts, score in every.items()
            for share in [math.exp(alpha * score - total)]
        )
        degrees = len(every) - 1
        # Five standard deviations above the mean of the distribution of chi-square.
        assert chi_square < degrees + 5 * math.sqrt(2 * degrees)
        assert counts.keys() <= every.keys()


def test_nothing_has_one_segmentation() -> None:
    lattice = Lattice(0, [])
    assert lattice.best().edges == ()
    assert lattice.log_probability() == 0
    assert [path.edges for path in lattice.n_best(3)] == [()]
    assert lattice.sample(random.Random(1)).edges == ()


def test_of_equal_ways_that_is_taken_whose_last_piece_starts_first() -> None:
    scores = {"a": -1.0, "b": -1.0, "c": -1.0, "ab": -2.0, "bc": -2.0}
    lattice = lattice_of("abc", scores)
    for path in (lattice.best(), lattice.n_best(1)[0]):
        assert parts_of("abc", path.edges) == ("a", "bc")
