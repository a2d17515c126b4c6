"""What is said of texts generated at several settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import sample_differences
from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def values(key: str, *of: float, true: float | None = None, reach: float = 0.03) -> Change:
    """Greedy, temperature 0.7, temperature 1 and top-p 0.9 (and true texts) have these values."""

    def change(result: Result) -> None:
        for setting, value in zip(result["settings"], of, strict=True):
            setting["metrics"][key] = value
        if true is not None:
            result["reference"][key] = true
        metrics = {setting["name"]: setting["metrics"] for setting in result["settings"]}
        result["differences"] = sample_differences(metrics, result["reference"], reach)

    return change


def unknown(measure: str) -> Change:
    def change(result: Result) -> None:
        for pairs in result["differences"][measure].values():
            for pair in pairs.values():
                pair[1:] = [None, None]

    return change


def ended(*shares: float) -> Change:
    def change(result: Result) -> None:
        for setting, share in zip(result["settings"], shares, strict=True):
            setting["metrics"]["finished_share"] = share

    return change


NEAR = values("distinct_2", 0.5, 0.5, 0.5, 0.5, true=0.5)
LIKE = values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1)
P, R, D = "perplexity", "repetition", "distinct_2"
CASES = table_of(
    "samples",
    # Between the settings.
    (values(R, 0.3, 0.1, 0.2, 0.2), "most repetitive setting is greedy (30.0\u202f%), the least "
     "repetitive one temperature 0.7 (10.0\u202f%)"),
    (values(R, 0.1, 0.1, 0.101, 0.1), "In repetition no two settings are measurably different."),
    (values(R, 0.1, 0.1, 0.1, 0.1), "In repetition no two settings are measurably different."),
    (values(D, 0.3, 0.1, 0.2, 0.2), "greatest with greedy (distinct-2 0.300) and smallest with "
     "temperature 0.7 (0.100)"),
    (values(D, 0.3, 0.301, 0.3, 0.3), "In variety no two settings are measurably different."),
    (values(P, 2, 5, 9, 6), "Perplexity is lowest with greedy (2.00) and highest with temperature"),
    (values(P, 2, 2.01, 2, 2), "In perplexity no two settings are measurably different."),
    (all_of(values(P, 2, 5, 9, 6), values(R, 0.3, 0.1, 0.2, 0.2)), "lowest perplexity is also"),
    (all_of(values(P, 2, 5, 9, 6), values(R, 0.1, 0.3, 0.2, 0.2)), "The most", "perplexity is als"),
    (all_of(values(P, 2, 2, 2, 2), values(R, 0.3, 0.1, 0.2, 0.2)), "The most", "perplexity is als"),
    (all_of(values(P, 2, 5, 9, 6), values(R, 0.3, 0.3, 0.3, 0.3)), "no two", "lowest perplexity i"),
    (all_of(values(P, 2, 5, 9, 6), values(D, 0.1, 0.2, 0.5, 0.3)), "also the least likely under"),
    (all_of(values(P, 2, 5, 9, 6), values(D, 0.1, 0.6, 0.5, 0.3)), "greatest", "least likely unde"),
    (all_of(values(P, 2, 5, 9, 6), values(D, 0.5, 0.5, 0.5, 0.5)), "no two", "least likely under"),
    (all_of(values(P, 2, 2, 2, 2), values(D, 0.1, 0.2, 0.5, 0.3)), "greatest", "least likely unde"),
    (None, "the first 5 tokens of 50 validation stories were continued", "the sources of"),
    (lambda r: r.update(unit="pair"), "the sources of 50 validation pairs were continued"),
    # Against the true texts.
    (None, "(sum of the absolute differences: 0.013) is temperature 1."),
    (all_of(LIKE, values(D, 0.48, 0.49, 0.1, 0.1, true=0.5)), "is temperature 0.7, but greedy is"
     " not measurably farther.", "is temperature 0.7."),
    (all_of(NEAR, LIKE), "is greedy, but temperature 0.7, temperature 1 and top-p 0.9 are not mea"),
    (all_of(NEAR, values(R, 0.2, 0.4, 0.4, 0.4, true=0.1)), "With greedy, repetition is higher th"),
    (all_of(NEAR, values(R, 0.2, 0.4, 0.4, 0.4, true=0.3)), "With greedy, repetition is lower tha"),
    (all_of(NEAR, LIKE), "repetition is not measurably different from that of the true texts"),
    (unknown(R), "repetition could not be compared with that of the true"),
    (all_of(NEAR, LIKE, values(P, 4, 5, 6, 7, true=8)), "perplexity is lower (4.00 against 8.00)."),
    (all_of(NEAR, LIKE, values(P, 8, 5, 6, 7, true=4)), "perplexity is higher (8.00 against 4.00)"),
    (all_of(NEAR, LIKE, values(P, 8, 5, 6, 7, true=8)), "and perplexity is not measurably differe"),
    (unknown("log_probability_per_token"), "and perplexity could not be compared"),
    # How the texts end.
    (ended(0.4, 0.1, 0.2, 0.49), "At no setting does the model end most of its texts"),
    (ended(0.4, 0.1, 0.5, 0.5), "With greedy and temperature 0.7 most texts were cut before their"),
    (ended(0.5, 0.5, 0.5, 0.5), "The texts", "most texts were cut"),
    (None, "71 tokens, ended"),
    (None, "82 tokens, cut at the limit"),
    (None, "with temperature 1 that of every prompt"),
)  # fmt: skip
