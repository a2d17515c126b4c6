"""A run's model as a writer: its answers follow from prompts and seed, whatever the batches are."""

from __future__ import annotations

import pytest

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.alignment.self_instruct import model_writer
from tinylm.alignment.self_instruct.model_writer import ModelWriter
from tinylm.alignment.self_instruct.writer import Request, Written, cut
from tinylm.errors import AlignmentError

REQUEST = Request(6, 1.0, 1.0, 3)
PROMPTS = ["the cat", "a dog ran", "the cat", "the", "the cat"]


def writer() -> ModelWriter:
    return ModelWriter(tiny_model(context_length=16), tiny_tokenizer(), "sha")


def test_answers_follow_from_prompts_and_seed_and_equal_prompts_get_different_ones() -> None:
    shares: list[float] = []
    answers = writer().write(PROMPTS, REQUEST, shares.append)
    assert answers == writer().write(PROMPTS, REQUEST)
    assert len({answers[i].text for i in (0, 2, 4)}) == 3
    assert answers != writer().write(PROMPTS, Request(6, 1.0, 1.0, 4))
    assert shares == sorted(shares)
    assert shares[-1] <= 1


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = writer().write(PROMPTS, REQUEST)
    monkeypatch.setattr(model_writer, "ROWS", 2)
    assert writer().write(PROMPTS, REQUEST) == whole


def test_an_answer_is_cut_at_a_stop_and_at_the_limit() -> None:
    whole = writer().write(["the cat"], Request(6, 1.0, 1.0, 3))[0]
    assert not whole.finished or whole.text
    first = whole.text.split()[1]
    stopped = writer().write(["the cat"], Request(6, 1.0, 1.0, 3, (first,)))[0]
    assert stopped == Written(whole.text.partition(first)[0], True)
    assert cut("abc", ("c", "b")) == ("a", True)
    assert cut("abc", ()) == ("abc", False)


def test_what_does_not_fit_is_told_before_and_refused() -> None:
    asking = writer()
    assert asking.fits("the cat", 13)
    assert not asking.fits("the cat", 14)
    assert asking.fits("the cat " * 7, None)
    assert not asking.fits("the cat " * 8, None)
    with pytest.raises(AlignmentError, match="fills the context of 16"):
        asking.write(["the cat " * 8], REQUEST)
    # As much as there is room for, where no limit is given.
    texts = asking.write(["the cat"] * 8, Request(None, 1.0, 1.0, 0))
    longest = max(len(tiny_tokenizer().encode(each.text)) for each in texts)
    assert longest <= 13
