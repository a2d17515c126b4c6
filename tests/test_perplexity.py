"""Perplexity is exp of the loss, never overflows, and is never written in hundreds of digits."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tinylm.perplexity import perplexity, perplexity_text


@given(st.floats(0, 1e300))
def test_exp_of_the_loss_as_far_as_a_float_goes(loss: float) -> None:
    assert perplexity(loss) == (math.exp(loss) if loss <= 700 else math.exp(700))
    assert len(perplexity_text(perplexity(loss))) <= 10


def test_how_it_is_written() -> None:
    assert perplexity_text(12.345) == "12.35"
    assert perplexity_text(999_999.0) == "999999.00"
    assert perplexity_text(1e200) == "1.00e+200"
