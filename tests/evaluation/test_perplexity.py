"""Perplexity by hand, and the loss of a split against a naive loop."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.windows import TokenWindows
from tinylm.evaluation.perplexity import (
    SplitLoss,
    sequence_mean_perplexity,
    split_loss,
    token_weighted_perplexity,
)
from tinylm.model.decoder import DecoderLM
from tinylm.tokenizers.word import WordTokenizer

MakeModel = Callable[..., DecoderLM]


@pytest.fixture
def token_file(tmp_path: Path) -> TokenFile:
    """Some 43 tokens of 19 types: neither a multiple of the context nor of a batch."""
    tokenizer = WordTokenizer("abcdefghijklmno")
    stories = ["a b c d e f g", "h a b, m n o a a", "k j i h g f e d c b a a b n", "c d k l o b"]
    path = tmp_path / "validation.tokens"
    write_token_file(path, stories, tokenizer, "by-hand", "validation")
    return TokenFile(path)


def test_token_weighted_and_sequence_mean_by_hand() -> None:
    texts = [[math.log(1 / 2), math.log(1 / 4)], [math.log(1 / 8)]]
    # exp of (ln 2 + ln 4 + ln 8) / 3 = ln 64 / 3 = ln 4.
    assert token_weighted_perplexity(texts) == pytest.approx(4)
    # The texts' own: sqrt(2 * 4) = 2.828… and 8.
    assert sequence_mean_perplexity(texts) == pytest.approx((math.sqrt(8) + 8) / 2)


def test_the_two_agree_for_one_text_and_for_a_uniform_model() -> None:
    text = [-0.3, -2.0, -1.1]
    assert token_weighted_perplexity([text]) == pytest.approx(sequence_mean_perplexity([text]))
    uniform = [[-math.log(50)] * n for n in (1, 7, 30)]
    assert token_weighted_perplexity(uniform) == pytest.approx(50)
    assert sequence_mean_perplexity(uniform) == pytest.approx(50)


def test_texts_without_tokens_are_left_out() -> None:
    assert sequence_mean_perplexity([[], [-1.0]]) == pytest.approx(math.e)
    assert token_weighted_perplexity([[], [-1.0]]) == pytest.approx(math.e)
    assert math.isnan(token_weighted_perplexity([[]]))
    assert math.isnan(sequence_mean_perplexity([]))


def test_bits_per_byte_by_hand() -> None:
    # Four tokens of 3 bits each (1/8 every time) stand for 6 bytes: 2 bits a byte.
    loss = SplitLoss(total=4 * math.log(8), num_tokens=4)
    assert loss.bits_per_byte(6) == pytest.approx(2)
    assert loss.mean == pytest.approx(math.log(8))
    assert loss.perplexity == pytest.approx(8)
    assert SplitLoss(1e9, 1).perplexity < math.inf


@torch.no_grad()
def naive(model: DecoderLM, ids: list[int]) -> tuple[float, list[int]]:
    """One forward pass a token, and how often each place of the file was a target."""
    context, total, counted = model.config.context_length, 0.0, [0] * len(ids)
    for place in range(1, len(ids)):
        start = (place - 1) // context * context
        logits = model(torch.tensor([ids[start:place]]))[0, -1]
        total -= float(logits.double().log_softmax(-1)[ids[place]])
        counted[place] += 1
    return total, counted


@pytest.mark.parametrize("context_length", [7, 10, 60])
@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_split_loss_equals_a_naive_loop_and_counts_every_token_once(
    small_model: MakeModel, token_file: TokenFile, context_length: int, batch_size: int
) -> None:
    model = small_model(context_length=context_length)
    ids = token_file.ids.tolist()
    total, counted = naive(model, ids)
    assert counted == [0] + [1] * (len(ids) - 1)
    loss = split_loss(model, TokenWindows(token_file, context_length), batch_size)
    assert loss.num_tokens == len(ids) - 1
    assert loss.total == pytest.approx(total, rel=1e-5)


def test_split_loss_of_some_windows(small_model: MakeModel, token_file: TokenFile) -> None:
    model = small_model()
    windows = TokenWindows(token_file, 10)
    shares: list[float] = []
    whole = split_loss(model, windows, 2, progress=shares.append)
    assert (
        shares == sorted(shares) and len(shares) == math.ceil(len(windows) / 2) and shares[-1] == 1
    )
    parts = [split_loss(model, windows, 2, [i]) for i in range(len(windows))]
    assert sum(part.total for part in parts) == pytest.approx(whole.total, rel=1e-5)
    assert sum(part.num_tokens for part in parts) == whole.num_tokens
    assert [windows.num_targets([i]) for i in range(len(windows))] == [p.num_tokens for p in parts]
    assert windows.num_targets(range(len(windows))) == whole.num_tokens
    totals = [(part.total, part.num_tokens) for part in parts]
    assert whole.blocks(99) == [pytest.approx(total, rel=1e-5) for total in totals]
    first = len(parts) - len(parts) // 2
    halves = [tuple(map(sum, zip(*half, strict=True))) for half in (totals[:first], totals[first:])]
    assert whole.blocks(2) == [pytest.approx(half, rel=1e-5) for half in halves]
    some = split_loss(model, windows, 2, [0, 3])
    assert some.total == pytest.approx(parts[0].total + parts[3].total, rel=1e-5)


def test_split_loss_is_without_dropout_and_puts_the_mode_back(
    small_model: MakeModel, token_file: TokenFile
) -> None:
    model = small_model()
    windows = TokenWindows(token_file, 10)
    expected = split_loss(model, windows, 4)
    assert not model.training
    model.train()
    assert split_loss(model, windows, 4) == expected
    assert model.training
    with pytest.raises(ValueError, match="invalid literal"):
        split_loss(model, windows, 4, ["x"])  # type: ignore[list-item]
    assert model.training  # also after a failure
