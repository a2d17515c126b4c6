"""What is said of families of models, inside and outside of an interval."""

from __future__ import annotations

from typing import Any

from tests.report.encoders_made_up import result, timing
from tests.report.telling import Phrase
from tinylm.experiments.encoders import discussion

HALF = "0.500 nats (95\u202f% interval: 0.500 to 0.500)"
ALIKE = [2.01, 2.09, 1.9]
"""A loss of each seed near that of the others, which is ``LOSS``."""
LOWER = [1.5, 1.6, 1.4]
HIGHER = [2.5, 2.6, 2.4]
TWO = ("decoder", "decoder-rest")
GAIN = [0.7, 0.71, 0.69]


def of_text(sentence: str, *more: Any, text: int = 0, **named: Any) -> str:
    """Return what a function says of one text of a made-up result."""
    made = result(**named)
    said: str = getattr(discussion, sentence)(made, made["texts"][text], *more)
    return said


def of_all(sentence: str, **named: Any) -> str:
    """Return what a function says of a made-up result."""
    said: str = getattr(discussion, sentence)(result(**named))
    return said


def of_costs(sentence: str, change: tuple[str, int, str, Any] | None = None, **named: Any) -> str:
    """Return what a function says of made-up costs, of which one may be another."""
    costs = result(**named)["costs"]
    if change is not None:
        kind, row, key, value = change
        costs[kind][row][key] = value
    said: str = getattr(discussion, sentence)(costs)
    return said


def contexts(given: tuple[int, ...] = (16, 64, 4096), *losses: list[float]) -> str:
    """Return what is said of a decoder by the tokens that it is given."""
    return of_all("context_comment", names=("decoder",), given=given,
                  contexts={"decoder": losses})  # fmt: skip


def questions(names: tuple[str, ...], **right: list[float]) -> str:
    """Return what is said of the easier form of questions."""
    form = result(names=names, right=right)["questions"]["forms"][0]
    return discussion.questions_comment(form, names[0])


PHRASES = [
    # Losses beside those of the first kind.
    Phrase(
        "After equally many tokens the loss on stories, beside *decoder*, is lower for *prefix-lm* "
        f"by {HALF}; higher for *lstm* by {HALF}; not measurably different for "
        "*decoder, rest alone*.",
        lambda: of_text(
            "loss_comment", "tokens",
            losses={"prefix-lm": LOWER, "lstm": HIGHER, "decoder-rest": ALIKE},
        ),
    ),
    Phrase(
        "After equally many operations the loss on translations, beside *decoder*, is lower for "
        f"*decoder, rest alone* by {HALF}.",
        lambda: of_text("loss_comment", "operations", text=1, names=TWO,
                        losses={"decoder-rest": LOWER}),
    ),
    Phrase("", lambda: of_text("loss_comment", "tokens", names=("decoder",))),
    Phrase(
        "After equally many tokens the loss on stories, beside *decoder*, is not to be compared "
        "for *lstm*.",
        lambda: of_text("loss_comment", "tokens", names=("decoder", "lstm"), steps={"lstm": 150}),
    ),
    Phrase(
        "The share of right translations after equally many operations, beside that of *decoder*, "
        "is for *prefix-lm* higher and *lstm* not measurably different.",
        lambda: of_text("accuracy_comment", text=1, names=("decoder", "prefix-lm", "lstm"),
                        accuracies={"prefix-lm": [0.7, 0.8, 0.6]}),
    ),
    Phrase("", lambda: of_text("accuracy_comment", text=1, names=("decoder",))),
    # The signal. After half of the steps the loss is 1 more.
    Phrase(
        "On stories a token that is read gives 1.0 targets in *decoder* and 0.50 where the rest "
        "alone is predicted. The same architecture, trained on all of them, has after equally "
        f"many tokens a loss that is lower by {HALF}; after equally many predicted tokens, for "
        "which it has read fewer, one that is higher by "
        f"{HALF}.",
        lambda: of_text("dense_comment", names=TWO, losses={"decoder-rest": HIGHER}),
    ),
    Phrase(
        "On translations a token that is read gives 1.0 targets in *decoder* and 0.50 where the "
        "rest alone is predicted. The same architecture, trained on all of them, has after "
        "equally many tokens a loss that is not measurably different; after equally many "
        "predicted tokens, for which it has read fewer, one that is higher by 1.000 nats "
        "(95\u202f% interval: 0.975 to 1.025).",
        lambda: of_text("dense_comment", text=1, names=TWO, losses={"decoder-rest": ALIKE}),
    ),
    Phrase("", lambda: of_text("dense_comment", names=("decoder", "lstm"))),
    Phrase(
        "On stories the loss after equally many tokens, beside *decoder, rest alone*, which "
        f"predicts as much, is higher for *prefix-lm* by {HALF}.",
        lambda: of_text("architecture_comment", losses={"prefix-lm": HIGHER}),
    ),
    Phrase("", lambda: of_text("architecture_comment", names=("decoder", "prefix-lm"))),
    Phrase("", lambda: of_text("architecture_comment", names=(*TWO, "lstm"))),
    # What is kept.
    Phrase(
        "For a text of 4,096 tokens *decoder* keeps 64.0\u00a0KiB, 64.0× what it keeps for 64; "
        "*prefix-lm* 2.00× of that, 128× its own at first and *lstm* 0.0156× of that, the same at "
        "any length.",
        lambda: of_costs("cache_comment", kept={"prefix-lm": (2**10, 2**17),
                                                "lstm": (2**10, 2**10)}),
    ),
    Phrase(
        "For a text of 4,096 tokens *decoder* keeps 2.00\u00a0MiB, 2.00× what it keeps for 64.",
        lambda: of_costs("cache_comment", names=("decoder",), kept={"decoder": (2**20, 2**21)}),
    ),
    Phrase("Every size that was measured is the one that was planned.",
           lambda: of_costs("planned_comment")),
    Phrase(
        "The sizes measured are those planned but for *lstm* at 4,096 tokens.",
        lambda: of_costs("planned_comment", ("lstm", 1, "state_bytes", 7)),
    ),
    Phrase(
        "A token at the end of 4,096 others is decoded in 0.500\u00a0ms by *decoder*; beside it, "
        "*lstm* is not measurably different.",
        lambda: of_costs("decoding_comment", names=("decoder", "lstm")),
    ),
    Phrase(
        "A token at the end of 4,096 others is decoded in 0.500\u00a0ms by *decoder*; beside it, "
        "*lstm* could not be measured.",
        lambda: of_costs(
            "decoding_comment",
            ("lstm", 1, "decoding", timing(0.004) | {"seconds": [0.001, 0.004, 0.02]}),
            names=("decoder", "lstm"),
        ),
    ),
    Phrase("", lambda: of_costs("decoding_comment", names=("decoder",))),
    # Contexts; the windows of training have 64 tokens.
    Phrase(
        "Given 64 tokens in place of 16, the loss of the tokens that follow is for *decoder* lower "
        f"by {HALF}. Given 4,096, which is longer than the windows of training, it is, beside 64, "
        f"for *decoder* higher by {HALF}.",
        lambda: contexts((16, 64, 4096), [2.5, 2.6, 2.4], [2.0, 2.1, 1.9], [2.5, 2.6, 2.4]),
    ),
    Phrase(
        "Given 64 tokens in place of 16, the loss of the tokens that follow is for *decoder* not "
        "measurably different.",
        lambda: contexts((16, 64), [2.0, 2.1, 1.9], [2.01, 2.09, 1.9]),
    ),
    Phrase("", lambda: contexts((64, 4096), [2.0, 2.1, 1.9], [2.0, 2.1, 1.9])),
    # Questions of new forms.
    Phrase(
        "Questions of the form *recall* are answered as by guessing by *decoder* at "
        "50.0\u202f% and *lstm* at 50.0\u202f%.",
        lambda: questions(("decoder", "lstm")),
    ),
    Phrase(
        "Questions of the form *recall* are answered better than by guessing by *decoder* at "
        "70.0\u202f%; as by guessing by *lstm* at 50.0\u202f%. Measurably different from "
        "*decoder*: *lstm*.",
        lambda: questions(("decoder", "lstm"), decoder=GAIN),
    ),
    Phrase(
        "Questions of the form *recall* are answered better than by guessing by *decoder* at "
        "70.0\u202f%; as by guessing by *lstm* at 61.7\u202f%.",
        lambda: questions(("decoder", "lstm"), decoder=GAIN, lstm=[0.45, 0.5, 0.9]),
    ),
    Phrase(  # what seeds agree on may be too little to be called more
        "Questions of the form *recall* are answered as by guessing by *decoder* at 50.2\u202f%.",
        lambda: questions(("decoder",), decoder=[0.502, 0.503, 0.501]),
    ),
    # What holds.
    Phrase(
        "*Dense signal*: that a loss on every token teaches more for each token read than one on a "
        "part of them, in the same architecture, holds on stories and holds on translations.",
        lambda: of_all("verdict_of_density", losses={"decoder-rest": HIGHER}),
    ),
    Phrase(
        "*Dense signal*: that a loss on every token teaches more for each token read than one on a "
        "part of them, in the same architecture, cannot be decided on stories and cannot be "
        "decided on translations.",
        lambda: of_all("verdict_of_density", losses={"decoder-rest": ALIKE}),
    ),
    Phrase("", lambda: of_all("verdict_of_density", names=("decoder", "lstm"))),
    Phrase(
        "*Architecture*: that a decoder is better than a model that reads its source in both "
        "directions where both predict as much, does not hold against *prefix-lm* on stories and "
        "does not hold against *prefix-lm* on translations.",
        lambda: of_all("verdict_of_architecture", losses={"prefix-lm": LOWER}),
    ),
    Phrase("", lambda: of_all("verdict_of_architecture", names=("decoder", "prefix-lm"))),
    Phrase("", lambda: of_all("verdict_of_architecture", names=TWO)),
    Phrase(
        "*One cache*: that *decoder* keeps less of 4,096 tokens than a model that reads a source "
        "does not hold against *prefix-lm*, which keeps 1.00× of that; as much of 64 tokens as of "
        "4,096 is kept by *lstm* (0.0156× of that).",
        lambda: of_all("verdict_of_cache", kept={"lstm": (2**10, 2**10)}),
    ),
    Phrase(
        "*One cache*: that *decoder* keeps less of 4,096 tokens than a model that reads a source "
        "holds against *prefix-lm*, which keeps 2.00× of that.",
        lambda: of_all("verdict_of_cache", kept={"prefix-lm": (2**10, 2**17)}),
    ),
    Phrase("", lambda: of_all("verdict_of_cache", names=("decoder",))),
    Phrase(
        "*Flexibility*: that a task phrased as a continuation is done without being trained does "
        "not hold for *recall*, where *decoder* is not above guessing; it does not hold for "
        "*binding*, where *decoder* is not above guessing.",
        lambda: of_all("verdict_of_flexibility"),
    ),
    Phrase(
        "*Flexibility*: that a task phrased as a continuation is done without being trained holds "
        "for *recall*, which *decoder* does better than *lstm*; it does not hold for *binding*, "
        "where *decoder* is not above guessing.",
        lambda: of_all("verdict_of_flexibility", names=("decoder", "lstm"),
                       right={"decoder": GAIN}),
    ),
    Phrase(
        "*Flexibility*: that a task phrased as a continuation is done without being trained holds "
        "for *recall*, where for none it can be told that it does worse; it does not hold for "
        "*binding*, where *decoder* is not above guessing.",
        lambda: of_all("verdict_of_flexibility", names=("decoder", "lstm"),
                       right={"decoder": GAIN, "lstm": GAIN}),
    ),
]  # fmt: skip
