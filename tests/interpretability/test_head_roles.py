"""What a head is called and what is said of it, on both sides of every threshold."""

from __future__ import annotations

import math

import pytest

from tinylm.interpretability.head_measures import Favourite, HeadMeasure, Share
from tinylm.interpretability.head_roles import (
    FEWEST_QUERIES,
    MIXED,
    describe,
    describe_worth,
    role,
)
from tinylm.measurement import Difference

OTHERS = {"own position": Share(0.1, 0.1, 900), "punctuation": Share(0.2, 0.2, 900)}


def head(*favourites: Favourite, **shares: Share) -> HeadMeasure:
    named = {name.replace("_", " "): share for name, share in shares.items()}
    return HeadMeasure(0, 0, OTHERS | named, 4.2, 9.0, 0.5, favourites)


@pytest.mark.parametrize(
    ("share", "expected", "name"),
    [
        (0.19, 0.1, "previous token"),  # focus 0.1
        (0.1899, 0.1, MIXED),
        (0.6, 0.5, "previous token"),  # the further from all, the more a tenth of the way is
        (0.54, 0.5, MIXED),
        (0.05, 0.5, MIXED),
    ],
)
def test_a_head_is_named_after_what_stands_out(share: float, expected: float, name: str) -> None:
    head_role = role({**OTHERS, "previous token": Share(share + 1e-12, expected, 900)})
    assert head_role.name == name
    assert head_role.second_name is None


def test_a_share_of_too_few_queries_takes_no_part() -> None:
    for queries, name in ((FEWEST_QUERIES, "same word"), (FEWEST_QUERIES - 1, MIXED)):
        assert role({**OTHERS, "same word": Share(0.9, 0.1, queries)}).name == name


@pytest.mark.parametrize(
    ("second", "named"),
    [(0.301, True), (0.299, False)],  # half of the focus of the first, 0.6 of 0.4
)
def test_a_second_place_is_named_if_it_is_close(second: float, named: bool) -> None:
    shares = {
        "previous token": Share(0.64, 0.1, 900),  # focus 0.6
        "nearby tokens": Share(second * 0.9 + 0.1, 0.1, 900),
    }
    assert role(shares).second_name == ("nearby tokens" if named else None)


def test_a_second_place_must_stand_out_itself() -> None:
    shares = {
        "previous token": Share(0.14 * 0.9 + 0.1, 0.1, 900),
        "nearby tokens": Share(0.09 * 0.9 + 0.1, 0.1, 900),
    }
    assert role(shares).second_name is None


def test_a_tie_goes_to_the_place_named_first() -> None:
    same = Share(0.5, 0.1, 900)
    assert role({"punctuation": same, "previous token": same}).name == "previous token"


def test_the_sentence_of_a_role_has_share_and_expectation() -> None:
    text = describe(head(previous_token=Share(0.62, 0.08, 900)), str)
    assert text == (
        "Gives 62\u202f% of its weight to the previous token (8\u202f% under uniform attention); "
        "4.2 tokens back on average."
    )
    text = describe(head(same_word=Share(0.5, 0.1, 900), previous_token=Share(0.4, 0.08, 900)), str)
    assert text.startswith(
        "Gives 50\u202f% of its weight to the same word earlier, where there is one (10\u202f% by "
        "its positions alone) and 40\u202f% to the previous token (8\u202f% under uniform attention"
    )


def test_a_mixed_head_is_described_by_its_greatest_shares() -> None:
    text = describe(
        head(previous_token=Share(0.12, 0.1, 900), nearby_tokens=Share(0.15, 0.1, 900)), str
    )
    assert text.startswith(
        "No category stands out. Gives 15\u202f% of its weight to the tokens three to eight back "
        "(10\u202f% under uniform attention) and 12\u202f% to the previous token"
    )
    assert describe(head(), str).startswith("No category stands out. Gives no more than expected")


def test_favourites_are_spelled() -> None:
    text = describe(head(Favourite(3, 2.5), Favourite(4, 1.75)), "pqrst".__getitem__)
    assert text.endswith(
        "Most above what their positions explain: “s” (2.5 times) and “t” (1.8 times)."
    )


def test_nothing_measured_is_said_so() -> None:
    few = HeadMeasure(0, 0, {"own position": Share(0.9, 0.1, 3)}, 1.0, 1.0, 0.5, ())
    assert describe(few, str) == "Too few tokens were measured to say anything."


@pytest.mark.parametrize(
    ("worth", "said"),
    [
        (Difference(0.1, 0.05, 0.15), "is higher, by 0.1000 nats (0.0500 to 0.1500)."),
        (Difference(-0.1, -0.15, -0.05), "is lower, by 0.1000 nats (0.0500 to 0.1500)."),
        (Difference(0.1, -0.01, 0.2), "is not measurably different: 0.1000 nats (-0.0100 to"),
        (Difference(0.1, math.nan, math.nan), "could not be measured."),
    ],
)
def test_worth_follows_its_interval(worth: Difference, said: str) -> None:
    assert said in describe_worth(worth)
