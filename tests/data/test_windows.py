"""Windows, their order, and padded rows: every token a label once, every window once an epoch."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_token_files import Numbers
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.windows import (
    IGNORED,
    ShuffledOrder,
    TokenWindows,
    pad_rows,
    story_rows,
)
from tinylm.errors import DataError
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID


def windows_of(folder: Path, lengths: list[int], context_length: int) -> TokenWindows:
    """Windows over stories whose ids are 4, 5, 6, … throughout the file."""
    numbers = iter(range(4, 10_000))
    texts = [" ".join(str(next(numbers)) for _ in range(length)) for length in lengths]
    path = folder / "a.tokens"
    write_token_file(path, texts, Numbers(20_000), "c", "train")  # type: ignore[arg-type]
    return TokenWindows(TokenFile(path), context_length)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    context_length=st.integers(2, 15),
    batch_size=st.integers(1, 5),
)
def test_every_token_but_the_first_is_a_label_exactly_once(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    context_length: int,
    batch_size: int,
) -> None:
    windows = windows_of(tmp_path_factory.mktemp("w"), lengths, context_length)
    ids = windows.tokens.ids.tolist()
    labels: list[int] = []
    inputs: list[int] = []
    rows = 0
    for batch in windows.in_order(batch_size):
        rows += len(batch.ids)
        assert batch.ids.shape == batch.labels.shape == (len(batch.ids), context_length)
        assert batch.ids.dtype == batch.labels.dtype == torch.int64
        counted = batch.labels != IGNORED
        labels += batch.labels[counted].tolist()
        inputs += batch.ids[counted].tolist()
        assert batch.num_targets == int(counted.sum())
        if batch.real is None:
            assert counted.all()
        else:
            assert torch.equal(batch.real, counted)
            assert (batch.ids[~batch.real] != SOS_ID).all()
    assert rows == len(windows)
    assert labels == ids[1:]
    assert inputs == ids[:-1]


def test_windows_by_hand(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, [2, 1], 3)
    assert windows.tokens.ids.tolist() == [SOS_ID, 4, 5, EOS_ID, SOS_ID, 6, EOS_ID]
    batch = windows.batch([1, 0])
    assert batch.ids.tolist() == [[EOS_ID, SOS_ID, 6], [SOS_ID, 4, 5]]
    assert batch.labels.tolist() == [[SOS_ID, 6, EOS_ID], [4, 5, EOS_ID]]
    assert batch.real is None
    short = windows_of(tmp_path, [2, 1], 4).batch([1])
    assert short.ids.tolist() == [[SOS_ID, 6, EOS_ID, PAD_ID]]
    assert short.labels.tolist() == [[6, EOS_ID, IGNORED, IGNORED]]
    assert short.real is not None
    assert short.real.tolist() == [[True, True, False, False]]


@settings(max_examples=40, deadline=None)
@given(
    num_tokens=st.integers(2, 40) | st.integers(10**10 - 5, 10**10 + 5),
    context_length=st.integers(1, 9) | st.just(1024),
    places=st.lists(st.integers(0, 2**40), max_size=20),
)
def test_targets_are_counted_without_reading_any(
    tmp_path_factory: pytest.TempPathFactory,
    num_tokens: int,
    context_length: int,
    places: list[int],
) -> None:
    file = windows_of(tmp_path_factory.mktemp("w"), [1], 2).tokens
    object.__setattr__(file.header, "num_tokens", num_tokens)
    windows = TokenWindows(file, context_length)
    count = len(windows)
    assert (count - 1) * context_length < num_tokens - 1 <= count * context_length
    assert windows.num_targets(range(count)) == num_tokens - 1
    assert windows.num_targets(range(count - 1)) == (count - 1) * context_length
    chosen = [place % count for place in places] + [count - 1]
    left = num_tokens - 1
    expected = sum(min(context_length, left - i * context_length) for i in chosen)
    assert windows.num_targets(chosen) == windows.num_targets(np.array(chosen)) == expected


def test_a_batch_of_no_windows(tmp_path: Path) -> None:
    """Of a process for which none is left."""
    batch = windows_of(tmp_path, [5, 2], 3).batch(np.empty(0, np.int64))
    assert batch.ids.shape == batch.labels.shape == (0, 3)
    assert (batch.num_targets, batch.size) == (0, (0, 3))


def test_a_batch_does_not_touch_the_file(tmp_path: Path) -> None:
    windows = windows_of(tmp_path, [5], 3)
    batch = windows.batch([0])
    batch.ids[:] = 99
    assert 99 not in windows.batch([0]).ids
    assert 99 not in windows.batch([0]).labels


def test_a_file_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    file = windows_of(tmp_path, [0], 2).tokens
    object.__setattr__(file.header, "num_tokens", 1)
    with pytest.raises(DataError, match=r"a\.tokens has fewer than two tokens"):
        TokenWindows(file, 2)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 400), size=st.integers(1, 500))
def test_a_fixed_subset_is_spread_over_the_file_without_a_repeat(count: int, size: int) -> None:
    class Sized(TokenWindows):
        def __init__(self) -> None:
            """Only a length."""

        def __len__(self) -> int:
            return count

    chosen = Sized().fixed_subset(size)
    assert chosen == Sized().fixed_subset(size)
    if size >= count:
        assert chosen is None
        return
    assert chosen is not None
    assert len(set(chosen)) == len(chosen) == size
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    assert size == 1 or chosen[-1] == count - 1
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
    assert Sized().fixed_subset(None) is None


# --- shuffled order ---


def epoch(order: ShuffledOrder) -> list[int]:
    indices: list[int] = []
    for _ in range(math.ceil(order.num_windows / order.batch_size)):
        indices += order.next().tolist()
    assert order.epoch_ended
    return indices


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 2**40))
def test_each_epoch_is_a_permutation(count: int, batch_size: int, seed: int) -> None:
    order = ShuffledOrder(count, batch_size, seed)
    for number in range(3):
        assert sorted(epoch(order)) == list(range(count))
        assert order.epoch == number


def test_epochs_and_seeds_differ_and_the_same_seed_repeats() -> None:
    order, twin = ShuffledOrder(200, 7, 1), ShuffledOrder(200, 7, 1)
    other, shifted = ShuffledOrder(200, 7, 2), ShuffledOrder(200, 50, 1)
    first = epoch(order)
    assert epoch(twin) == first
    assert epoch(shifted) == first  # another batch size cuts the same order
    second = epoch(order)
    assert len({tuple(first), tuple(second), tuple(epoch(other)), tuple(epoch(other))}) == 4
    assert first != list(range(200))


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    batch_size=st.integers(1, 12),
    taken=st.integers(0, 60),
)
def test_going_on_from_a_position(count: int, batch_size: int, taken: int) -> None:
    order = ShuffledOrder(count, batch_size, 3)
    for _ in range(taken):
        order.next()
    resumed = ShuffledOrder(count, batch_size, 3)
    resumed.restore(order.state())
    assert resumed.epoch_ended == order.epoch_ended
    for _ in range(25):
        assert resumed.next().tolist() == order.next().tolist()
        assert resumed.state() == order.state()


# --- rows ---


def test_pad_rows() -> None:
    rows = [[5, 6, 7], [8], [9, 10]]
    ids, real = pad_rows(rows)
    assert ids.tolist() == [[5, 6, 7], [8, PAD_ID, PAD_ID], [9, 10, PAD_ID]]
    assert real.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    ids, real = pad_rows(rows, left=True)
    assert ids.tolist() == [[5, 6, 7], [PAD_ID, PAD_ID, 8], [PAD_ID, 9, 10]]
    assert real.tolist() == [[True] * 3, [False, False, True], [False, True, True]]
    assert ids.dtype == torch.int64
    ids, real = pad_rows([[], [4]])
    assert (ids.tolist(), real.tolist()) == ([[PAD_ID], [4]], [[False], [True]])
    assert pad_rows([])[0].shape == (0, 0)
    assert pad_rows([np.array([1, 2])])[0].tolist() == [[1, 2]]


def test_story_rows() -> None:
    stories = [[SOS_ID, 5, 6, EOS_ID], [SOS_ID, 7, EOS_ID]]
    batch = story_rows(stories)
    assert batch.ids.tolist() == [[SOS_ID, 5, 6], [SOS_ID, 7, EOS_ID]]
    assert batch.labels.tolist() == [[5, 6, EOS_ID], [7, EOS_ID, IGNORED]]
    assert batch.real is not None
    assert batch.real.tolist() == [[True] * 3, [True] * 3]
    assert batch.num_targets == 5
    given_two = story_rows(stories, 2)
    assert given_two.labels.tolist() == [[IGNORED, 6, EOS_ID], [IGNORED, EOS_ID, IGNORED]]
    each = story_rows(stories, [3, 1])
    assert each.labels.tolist() == [[IGNORED, IGNORED, EOS_ID], [7, EOS_ID, IGNORED]]
    assert story_rows(stories, 9).num_targets == 0
    wide = story_rows(stories, width=6)  # (2, 5): the last id of a row is a label only
    assert wide.ids.tolist() == [[SOS_ID, 5, 6, EOS_ID, 0], [SOS_ID, 7, EOS_ID, 0, 0]]
    assert wide.num_targets == batch.num_targets
    assert torch.equal(story_rows(stories, width=3).ids, batch.ids)
    none = story_rows([], [])  # of a process for which none is left
    assert (none.ids.shape, none.labels.shape, none.num_targets) == ((0, 0), (0, 0), 0)
