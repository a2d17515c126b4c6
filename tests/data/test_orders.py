"""The order of windows: computed permutations without bias, and shares of several processes."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from collections import Counter
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.data.ranks import RankOrder
from tinylm.data.orders import ShuffledOrder, StreamOrder, WholeOrder
from tinylm.data.permutations import LARGEST, ComputedPermutation
from tinylm.errors import DataError

BILLION = 10**9
Make = Callable[[int, int], WholeOrder]
MAKES: dict[str, Make] = {
    "shuffled": lambda count, batch: ShuffledOrder(count, batch, 3),
    "streams": StreamOrder,
}


def whole(size: int, seed: int = 0, number: int = 0) -> npt.NDArray[np.int64]:
    return ComputedPermutation(size, seed, number).at(0, size)


def by_hand(place: int, size: int, seed: int, number: int, back: bool = False) -> int:
    """Compute the number at a place, or the place of a number, in Python's own integers."""
    keys = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(24, np.uint64).tolist()
    sizes = itertools.count(max(1, math.isqrt(size) - 1))
    left = next(a for a in sizes if a % 2 == 0 and a * a >= size)
    right = -(-size // left)

    def moved(by: int, modulus: int) -> int:
        for factor in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9):
            by = by * factor % 2**64
            by ^= by >> 32 if factor == 0x9E3779B97F4A7C15 else 0
        return (by >> 32) * modulus >> 32

    value = place
    while True:
        upper, lower = divmod(value, right)
        steps = list(enumerate(keys))
        for i, key in reversed(steps) if back else steps:
            sign = -1 if back else 1
            if i % 2 == 0:
                upper = (upper + sign * moved((lower + key) % 2**64, left)) % left
            else:
                lower = (lower + sign * moved((upper + key) % 2**64, right)) % right
        value = upper * right + lower
        if value < size:
            return value


# --- the permutation ---


def test_every_size_up_to_2000_is_permuted() -> None:
    for size in range(1, 2001):
        assert (np.bincount(whole(size, 5, size), minlength=size) == 1).all(), size


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 200_000), seed=st.integers(0, 2**80), number=st.integers(0, 2**40))
def test_any_size_is_permuted(size: int, seed: int, number: int) -> None:
    numbers = whole(size, seed, number)
    assert numbers.dtype == np.int64
    assert (np.bincount(numbers, minlength=size) == 1).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data(), size=st.integers(1, LARGEST), seed=st.integers(0, 2**70))
def test_numbers_are_those_of_integers_without_limit_and_lead_back(
    data: st.DataObject, size: int, seed: int
) -> None:
    """So that no two places have one number, in sizes of which no list can be made."""
    first = data.draw(st.integers(max(0, size - 5), size - 1) | st.integers(0, size - 1))
    last = min(size, first + 3)
    numbers = ComputedPermutation(size, seed, 2).at(first, last).tolist()
    assert numbers == [by_hand(place, size, seed, 2) for place in range(first, last)]
    assert all(0 <= number < size for number in numbers)
    back = [by_hand(number, size, seed, 2, back=True) for number in numbers]
    assert back == list(range(first, last))


def test_a_block_is_its_places_one_by_one() -> None:
    for size in (7, 1000, BILLION):
        permutation = ComputedPermutation(size, 1, 0)
        block = permutation.at(2, 7)
        assert block.tolist() == [permutation.at(i, i + 1)[0] for i in range(2, 7)]
        assert len(permutation.at(3, 3)) == 0


PINNED = {
    10: [9, 4, 2, 3, 1, 5, 7, 0, 6, 8],
    10**12: [215263628134, 547130914625, 395025145663],
}


def test_the_values_stay_as_they_are() -> None:
    """A change of them would send trainings that go on into another order."""
    assert ComputedPermutation.name == "feistel-24"
    assert whole(10).tolist() == PINNED[10]
    assert ComputedPermutation(10**12, 7, 3).at(0, 3).tolist() == PINNED[10**12]


# --- no visible bias ---


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_every_permutation_of_few_places_is_as_likely(size: int) -> None:
    draws = 20 * math.factorial(size) + 1500
    counts = Counter(tuple(whole(size, seed).tolist()) for seed in range(draws))
    assert len(counts) == math.factorial(size)
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_every_number_is_as_likely_at_every_place() -> None:
    size, draws = 24, 6000
    numbers = np.stack([whole(size, 1, number) for number in range(draws)])
    counts = np.stack([np.bincount(column, minlength=size) for column in numbers.T])
    # Every row and column has one sum, so a cell differs by the (n-1)/n-th part less than freely.
    distance = ((counts - draws / size) ** 2 / (draws / size)).sum() * (size - 1) / size
    assert 1e-4 < stats.chi2.sf(distance, (size - 1) ** 2) < 1 - 1e-4
    # What stands beside each other, of all ordered pairs:
    pairs = np.bincount((numbers[:, :-1] * size + numbers[:, 1:]).ravel(), minlength=size * size)
    pairs = pairs.reshape(size, size)[~np.eye(size, dtype=bool)]
    assert stats.chisquare(pairs).pvalue > 1e-4


@pytest.mark.parametrize("size", [1000, 65_536, 100_003])
def test_a_long_permutation_looks_like_a_drawn_one(size: int) -> None:
    numbers, places = whole(size, 4), np.arange(size)
    # |number - place| of a drawn one has the mean (n^2 - 1) / 3n and nearly the variance n^2 / 18.
    expected, spread = (size**2 - 1) / (3 * size), size / math.sqrt(18 * size)
    assert abs(np.abs(numbers - places).mean() - expected) < 4.5 * spread
    limit = 4.5 / math.sqrt(size)
    assert abs(np.corrcoef(numbers, places)[0, 1]) < limit
    for distance in (1, 2, 3, 32, math.isqrt(size), math.isqrt(size - 1) + 1):
        assert abs(np.corrcoef(numbers[:-distance], numbers[distance:])[0, 1]) < limit
    assert abs(np.corrcoef(numbers % 2, places % 2)[0, 1]) < limit
    # One place in n keeps its number, and one pair of neighbours in n stays one: Poisson of 1, 2.
    assert (numbers == places).sum() < 9
    assert (np.abs(np.diff(numbers)) == 1).sum() < 14


@pytest.mark.parametrize(("seed", "number"), [(4, 1), (5, 0), (4 + 2**32, 0), (4 + 2**64, 0)])
def test_neighbouring_epochs_and_seeds_have_nothing_in_common(seed: int, number: int) -> None:
    size = 50_000
    first, second = whole(size, 4), whole(size, seed, number)
    assert abs(np.corrcoef(first, second)[0, 1]) < 4.5 / math.sqrt(size)
    assert (first == second).sum() < 9
    pairs = set(itertools.pairwise(first.tolist())) & set(itertools.pairwise(second.tolist()))
    assert len(pairs) < 9


def test_parts_of_a_long_order_come_from_everywhere() -> None:
    """A batch of an order of 10^9 windows, and of 10^12, is spread evenly over the file."""
    for size in (BILLION, 10**12):
        permutation = ComputedPermutation(size, 0, 0)
        for first in (0, size // 3, size - 20_000):
            numbers = permutation.at(first, first + 20_000)
            assert len(set(numbers.tolist())) == 20_000
            assert stats.kstest(numbers / size, "uniform").pvalue > 1e-4
            assert stats.chisquare(np.bincount(numbers % 16)).pvalue > 1e-4


# --- the order ---


@pytest.mark.parametrize("count", [BILLION, 10**12, LARGEST])
def test_an_epoch_of_any_length_needs_no_list_and_goes_on_at_once(count: int) -> None:
    tracemalloc.start()
    order = ShuffledOrder(count, 32, 1)
    for place in (0, count // 2 + 5, count - 40):
        order.restore(order.state() | {"epoch": 6, "next_window": place})
        indices = [order.next() for _ in range(2)]
        expected = ComputedPermutation(count, 1, 6).at(place, min(count, place + 64))
        assert np.concatenate(indices).tolist() == expected.tolist()
    assert order.epoch_ended
    order.next()
    assert (order.epoch, order.next_window) == (7, 32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("count", [1, 2, 3])
def test_orders_of_hardly_any_windows(count: int) -> None:
    order = ShuffledOrder(count, 2, 0)
    for _ in range(20):
        taken = [i for _ in range(math.ceil(count / 2)) for i in order.next().tolist()]
        assert order.epoch_ended
        assert sorted(taken) == list(range(count))


def test_changing_a_batch_changes_no_later_one() -> None:
    order, twin = ShuffledOrder(100, 7, 1), ShuffledOrder(100, 7, 1)
    order.next()[:] = -1
    twin.next()
    order.restore(twin.state())
    assert order.next().tolist() == twin.next().tolist()


def test_a_position_names_its_permutations_and_an_older_one_goes_on_as_it_began() -> None:
    order = ShuffledOrder(50, 8, 3)
    assert order.state() == {"epoch": 0, "next_window": 0, "permutation": "feistel-24"}
    order.restore({"epoch": 1, "next_window": 16})  # as saved when NumPy drew the list
    for epoch in (1, 2):
        drawn = np.random.default_rng((3, epoch)).permutation(50).tolist()
        for first in range(16 if epoch == 1 else 0, 50, 8):
            assert order.next().tolist() == drawn[first : first + 8]
            assert order.epoch == epoch
    state = order.state()
    assert state == {"epoch": 2, "next_window": 56}  # and is saved as such
    again = ShuffledOrder(50, 8, 3)
    again.restore(state)
    assert again.next().tolist() == order.next().tolist()


def test_a_position_in_an_unknown_order_is_refused() -> None:
    with pytest.raises(DataError) as raised:
        ShuffledOrder(50, 8, 3).restore({"epoch": 1, "next_window": 8, "permutation": "cards"})
    assert str(raised.value) == (
        "the order of windows was drawn by permutations 'cards', and this version of tinylm has "
        "feistel-24: go on with the version that began the training, or train anew"
    )


# --- shares of several processes ---


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(sorted(MAKES)),
    count=st.integers(1, 70),
    batch=st.integers(1, 9),
    processes=st.integers(1, 6),
    stop=st.integers(0, 12),
)
def test_the_ranks_together_take_what_one_process_would(
    kind: str, count: int, batch: int, processes: int, stop: int
) -> None:
    make, rows = MAKES[kind], batch * processes
    one = make(count, rows)
    ranks = [RankOrder(make(count, rows), rank, processes) for rank in range(processes)]
    for step in range(25):
        expected = one.next().tolist()
        parts = [rank.next().tolist() for rank in ranks]
        assert [i for part in parts for i in part] == expected
        sizes = [len(part) for part in parts]
        assert max(sizes) <= batch
        if kind == "shuffled":
            assert max(sizes) - min(sizes) <= 1
        if len(expected) == rows:
            assert sizes == [batch] * processes
        for rank in ranks:
            assert rank.state() == one.state()
            assert rank.epoch_ended == one.epoch_ended
            assert (rank.epoch, rank.next_window) == (one.epoch, one.next_window)
        if step == stop:  # all processes are started again from what one of them saved
            state = ranks[-1].state()
            ranks = [RankOrder(make(count, rows), rank, processes) for rank in range(processes)]
            for rank in ranks:
                rank.restore(state)


@given(count=st.integers(1, 60), batch=st.integers(1, 5), processes=st.integers(1, 5))
def test_a_process_keeps_its_streams(count: int, batch: int, processes: int) -> None:
    rows = batch * processes
    for rank in range(processes):
        order = RankOrder(StreamOrder(count, rows), rank, processes)
        before: list[int] = []
        while True:
            indices = order.next().tolist()
            assert indices == [i + 1 for i in before[: len(indices)]] or not before
            before = indices
            if order.epoch_ended or not indices:
                break


def test_a_position_is_gone_on_from_by_another_number_of_processes() -> None:
    two = [RankOrder(ShuffledOrder(100, 12, 5), rank, 2) for rank in range(2)]
    taken = [i for _ in range(3) for rank in two for i in rank.next().tolist()]
    three = [RankOrder(ShuffledOrder(100, 12, 5), rank, 3) for rank in range(3)]
    for rank in three:
        rank.restore(two[0].state())
    while not three[0].epoch_ended:
        taken += [i for rank in three for i in rank.next().tolist()]
    assert sorted(taken) == list(range(100))
