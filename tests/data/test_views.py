"""What models see of windows, and what they must predict."""

from pathlib import Path

import pytest
import torch

from tests.data.test_windows import windows_of as whole_windows
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.data.views import VIEWS
from tinylm.data.windows import IGNORED, TokenWindows
from tinylm.tokenizers.word import WordTokenizer

LENGTHS = [3, 17, 5, 30, 2, 40, 9]


def long_file(folder: Path) -> TokenFile:
    text = " ".join(["the cat sat"] * 4000)
    tokenizer = WordTokenizer.train([text], WordTokenizer.Settings(min_frequency=1))
    path = folder / "long.tokens"
    write_token_file(path, [text], tokenizer, "test", "train")
    return TokenFile(path)


@pytest.mark.parametrize("view", VIEWS)
def test_a_window_is_seen_the_same_in_any_batch(view: str, tmp_path: Path) -> None:
    whole = whole_windows(tmp_path, LENGTHS, 8)
    windows = TokenWindows(whole.tokens, 8, view)
    together = windows.batch(range(len(windows)))
    for i in range(len(windows)):
        alone = windows.batch([i])
        for name in ("ids", "labels", "real", "given", "hidden"):
            both = getattr(together, name)
            part = getattr(alone, name)
            if both is not None and part is not None:
                assert torch.equal(both[[i]], part), name
    # What is predicted is what the whole window predicts there, and is counted.
    plain = whole.batch(range(len(whole)))
    counted = together.labels != IGNORED
    assert torch.equal(together.labels[counted], plain.labels[counted])
    assert windows.num_targets(range(len(windows))) == together.num_targets == int(counted.sum())


def test_hidden_tokens_are_predicted_and_so_is_the_one_after_the_last(tmp_path: Path) -> None:
    length = 12
    whole = TokenWindows(long_file(tmp_path), length)
    batch = TokenWindows(whole.tokens, length, "hidden").batch(range(len(whole)))
    plain = whole.batch(range(len(whole)))
    assert batch.hidden is not None
    assert batch.real is not None
    cut, lengths, hidden, places = 0, [], 0, 0
    for row in range(len(whole) - 1):  # the last one may be shorter
        real, unseen = batch.real[row].tolist(), batch.hidden[row].tolist()
        count = sum(real)
        assert real == [place < count for place in range(length)]
        assert not unseen[0]
        assert not any(unseen[count:])
        for place in range(length):
            counts = place == count - 1 or (place < count - 1 and unseen[place + 1])
            expected = int(plain.labels[row, place]) if counts else IGNORED
            assert int(batch.labels[row, place]) == expected
            kept = int(plain.ids[row, place]) if place < count else 0
            assert int(batch.ids[row, place]) == kept
        cut += count < length
        lengths += [count] if count < length else []
        hidden, places = hidden + sum(unseen), places + count - 1
    rows = len(whole) - 1
    assert rows > 900
    # Half are cut, of which one in twelve keeps its length; 15 % are hidden: five deviations.
    share = 0.5 * (1 - 1 / length)
    assert abs(cut - share * rows) < 5 * (rows * share * (1 - share)) ** 0.5
    assert abs(hidden - 0.15 * places) < 5 * (places * 0.15 * 0.85) ** 0.5
    assert set(lengths) == set(range(1, length))


def test_of_the_rest_all_that_follows_the_given_tokens_counts(tmp_path: Path) -> None:
    whole = TokenWindows(long_file(tmp_path), 8)
    batch = TokenWindows(whole.tokens, 8, "rest").batch(range(len(whole)))
    assert batch.given is not None
    plain = whole.batch(range(len(whole)))
    for given, labels, all_labels in zip(
        batch.given.tolist(), batch.labels.tolist(), plain.labels.tolist(), strict=True
    ):
        targets = sum(label != IGNORED for label in all_labels)
        assert 1 <= given <= targets
        assert labels == [
            label if place >= given - 1 else IGNORED for place, label in enumerate(all_labels)
        ]
    # Each number of given tokens is as likely: chi-squared of 7 degrees, below its 1e-6 quantile.
    full = (plain.labels != IGNORED).all(1)
    counts = torch.bincount(batch.given[full], minlength=9)[1:].double()
    expected = counts.sum() / 8
    assert float(((counts - expected) ** 2 / expected).sum()) < 40.5
    assert counts.sum() > 1000
