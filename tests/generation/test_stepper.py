"""The step function: cached = uncached at every step, whatever rows are kept in between."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random, largest_difference
from tinylm.generation.stepper import Stepper
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM

CONTEXT = 16  # of the models below
MakeModel = Callable[..., DecoderLM]
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@settings(max_examples=60)
@given(
    positions=st.sampled_from(ENCODINGS),
    norm=st.sampled_from(NORM_PLACEMENTS),
    lengths=st.lists(st.integers(1, CONTEXT + 3), min_size=1, max_size=3),
    width=st.integers(1, 3),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_cached_logits_equal_uncached_ones_at_every_step(
    dtype: torch.dtype,
    positions: str,
    norm: str,
    lengths: list[int],
    width: int,
    seed: int,
    data: st.DataObject,
) -> None:
    """Ragged prompts spread to beams, which branch, change places and leave, past the context."""
    model = build_random(seed, positions=positions, norm_placement=norm).to(dtype)
    generator = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(23, (count,), generator=generator).tolist()

    prompts = [words(length) for length in lengths]
    cached, plain = (Stepper(model, prompts, 0, use_cache) for use_cache in (True, False))
    cached.reserve(width * len(prompts) if data.draw(st.booleans(), label="reserve") else 0)
    for step in range(12):
        logits = cached.logits()
        assert logits.dtype == dtype
        assert largest_difference(logits, plain.logits()) < TOLERANCES[dtype]
        for row, text in enumerate(cached.rows):
            with torch.no_grad():
                alone = model(torch.tensor([text[-CONTEXT:]]))[0, -1]
            assert largest_difference(logits[row], alone) < TOLERANCES[dtype]
        count = len(cached.rows)
        rows = list(range(count))
        if step == 0:
            rows = [row for row in rows for _ in range(width)]
        elif data.draw(st.booleans(), label="keep"):
            rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count + 1))
        ids = torch.tensor(words(len(rows)))
        for stepper in (cached, plain):
            stepper.keep(rows)
            stepper.append(ids)
        assert cached.rows == plain.rows


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("norm", NORM_PLACEMENTS)
@pytest.mark.parametrize("use_cache", [True, False])
def test_every_steps_logits_come_from_exactly_the_last_window(
    small_model: MakeModel, positions: str, norm: str, use_cache: bool
) -> None:
    """Random tokens are appended to ragged rows, and a row leaves on the way."""
    model = small_model(positions=positions, norm_placement=norm)
    generator = torch.Generator().manual_seed(1)
    # Shorter than the context of 10, as long as it, and longer.
    prompts = [[2], [2, 9, 4, 13], [2, *range(5, 14)], [2, 20, 21, 22, *range(4, 13)]]
    stepper = Stepper(model, prompts, 0, use_cache)
    for step in range(16):
        logits = stepper.logits()
        for row, ids in enumerate(stepper.rows):
            with torch.no_grad():
                alone = model(torch.tensor([ids[-10:]]))[0, -1]
            torch.testing.assert_close(logits[row], alone, rtol=1e-4, atol=1e-4)
        stepper.append(torch.randint(23, (len(stepper.rows),), generator=generator))
        if step in (3, 8):
            stepper.keep([i for i in range(len(stepper.rows)) if i != 1])


class Moves:
    """What the stepper asks of the cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[list[int], int]] = []
        reorder = KVCache.reorder

        def spied(cache: KVCache, rows: torch.Tensor, shared: int = 0) -> None:
            self.asked.append((rows.tolist(), shared))
            reorder(cache, rows, shared)

        monkeypatch.setattr(KVCache, "reorder", spied)


def test_what_hypotheses_of_one_prompt_share_is_not_copied(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = Moves(monkeypatch)
    stepper = Stepper(small_model(context_length=20), [[2, 9, 4, 13, 5], [2, 7]], 0)

    def step(rows: list[int]) -> None:
        stepper.logits()
        stepper.keep(rows)
        stepper.append(torch.arange(len(rows)))

    step([0, 0, 0, 1, 1, 1])
    step([0, 2, 1, 3, 3, 4])  # within the prompts, each with 5 columns, padding included
    step([0, 1, 2, 3, 4, 5])
    step([2, 2, 2, 4, 4, 4])
    step([3, 4, 5])  # the first prompt leaves
    step([1, 0, 2])
    step([2, 2])
    step([0, 1])
    assert moves.asked == [
        ([0, 0, 0, 1, 1, 1], 0),  # row 1 was another prompt
        ([0, 2, 1, 3, 3, 4], 5),
        ([2, 2, 2, 4, 4, 4], 5),
        ([3, 4, 5], 0),
        ([1, 0, 2], 5),
        ([2, 2], 5),
    ]


def test_a_single_prompt_shares_its_columns_from_the_first_step_on(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = Moves(monkeypatch)
    stepper = Stepper(small_model(), [[2, 9, 4]], 0)
    stepper.reserve(3)
    stepper.logits()
    assert stepper._cache is not None
    # Room for three rows of 2 layers, 2 heads of 6, a context of 10, in float32.
    assert stepper._cache.num_bytes == 2 * 2 * 3 * 2 * 6 * 10 * 4
    buffer = stepper._cache._keys.data_ptr()
    stepper.keep([0, 0, 0])
    stepper.append(torch.tensor([4, 5, 6]))
    stepper.logits()
    assert stepper._cache._keys.data_ptr() == buffer
    assert moves.asked == [([0, 0, 0], 3)]


def test_a_cache_that_is_read_anew_shares_nothing_between_rows(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one prompt that have gone apart and are then read at once, as prompts are."""
    model = small_model().double()
    stepper = Stepper(model, [[2, 9], [2, *range(4, 13)]], 0)
    stepper.logits()  # row 1 fills the context of 10, so nothing is cached
    stepper.keep([0, 0, 1])
    stepper.append(torch.tensor([5, 6, 7]))
    stepper.keep([0, 1])
    stepper.logits()  # the two others are read into a cache of their own
    moves = Moves(monkeypatch)
    stepper.keep([1, 0])
    stepper.append(torch.tensor([8, 8]))
    logits = stepper.logits()
    assert moves.asked == [([1, 0], 0)]
    assert stepper.rows == [[2, 9, 6, 8], [2, 9, 5, 8]]
    with torch.no_grad():
        assert largest_difference(logits, model(torch.tensor(stepper.rows))[:, -1]) < 1e-12


def test_rows_taken_twice_grow_apart(small_model: MakeModel) -> None:
    stepper = Stepper(small_model(), [[2, 9], [2, 4]], 0)
    stepper.keep([1, 1, 0, 1])
    stepper.append(torch.tensor([5, 6, 7, 8]))
    assert stepper.rows == [[2, 4, 5], [2, 4, 6], [2, 9, 7], [2, 4, 8]]
