"""Log-probabilities of given texts against one forward pass a token."""

from collections.abc import Callable

import pytest
import torch

from tinylm.generation.scoring import token_log_probabilities
from tinylm.model.decoder import DecoderLM
from tinylm.registry import POSITIONS

MakeModel = Callable[..., DecoderLM]


def text(length: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return [2, *torch.randint(4, 23, (length - 1,), generator=generator).tolist()]


@torch.no_grad()
def naive(model: DecoderLM, ids: list[int], starts: list[int]) -> list[float]:
    """One forward pass a token: token i + 1 from the tokens starts[i] … i, and no others."""
    return [
        float(model(torch.tensor([ids[start : i + 1]]))[0, -1].log_softmax(-1)[ids[i + 1]])
        for i, start in enumerate(starts)
    ]


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_short_texts_equal_one_pass_a_token(
    small_model: MakeModel, positions: str, norm: str
) -> None:
    model = small_model(positions=positions, norm_placement=norm)
    texts = [text(n, seed=n) for n in (2, 11, 5, 10, 3)]
    for ids, scores in zip(texts, token_log_probabilities(model, texts), strict=True):
        assert scores == pytest.approx(naive(model, ids, [0] * (len(ids) - 1)), abs=1e-5)


@pytest.mark.parametrize("length", [12, 15, 16, 17, 21, 22, 40])
def test_long_texts_follow_the_window_rule(small_model: MakeModel, length: int) -> None:
    """Windows of 10 start at 0, 5, 10, …; the tokens of a later one's second half are its own."""
    model = small_model()
    ids = text(length, seed=length)
    starts = [0 if i < 10 else (i - 5) // 5 * 5 for i in range(length - 1)]
    seen = [i - start + 1 for i, start in enumerate(starts)]
    assert all(count == i + 1 for i, count in enumerate(seen[:10]))  # all that came before
    assert all(6 <= count <= 10 for count in seen[10:])  # at least half a context afterwards
    (scores,) = token_log_probabilities(model, [ids])
    assert scores == pytest.approx(naive(model, ids, starts), abs=1e-5)


@pytest.mark.parametrize("context", [2, 3, 7])
def test_odd_and_tiny_contexts_cover_every_token(small_model: MakeModel, context: int) -> None:
    model = small_model(context_length=context)
    for length in range(2, 4 * context + 3):
        ids = text(length, seed=length)
        (scores,) = token_log_probabilities(model, [ids])
        assert len(scores) == length - 1
        assert all(value < 0 for value in scores)
        # The last token saw at least half a context, its neighbours included.
        best = min(
            abs(scores[-1] - naive(model, ids[start:], [0] * (length - 1 - start))[-1])
            for start in range(max(0, length - 1 - context), max(1, length - 1 - context // 2))
        )
        assert best < 1e-5


def test_batching_and_order_change_nothing(small_model: MakeModel) -> None:
    model = small_model()
    texts = [text(n, seed=n) for n in (30, 2, 11, 25, 4)]
    whole = token_log_probabilities(model, texts)
    for batch_size in (1, 2, 3):
        for scores, expected in zip(
            token_log_probabilities(model, texts, batch_size), whole, strict=True
        ):
            assert scores == pytest.approx(expected, abs=1e-5)
    for ids, expected in zip(texts, whole, strict=True):
        assert token_log_probabilities(model, [ids])[0] == pytest.approx(expected, abs=1e-5)


def test_texts_without_a_token_to_predict_have_no_scores(small_model: MakeModel) -> None:
    assert token_log_probabilities(small_model(), [[2], text(4), []])[::2] == [[], []]
    assert token_log_probabilities(small_model(), []) == []


def test_probabilities_of_all_continuations_sum_to_one(small_model: MakeModel) -> None:
    model = small_model()
    texts = [[2, 5, token] for token in range(23)]
    scores = token_log_probabilities(model, texts)
    total = sum(torch.tensor(values[-1]).exp() for values in scores)
    assert float(total) == pytest.approx(1, abs=1e-5)


def test_a_model_in_training_mode_is_scored_without_dropout_and_put_back(
    small_model: MakeModel,
) -> None:
    model = small_model()
    expected = token_log_probabilities(model, [text(20)])
    model.train()
    assert token_log_probabilities(model, [text(20)]) == expected
    assert model.training
