"""What is said of all ways of compression."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import Case, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]
TOKENS = [1000] * 8
OFFSETS = [0.03, -0.02, 0.01, -0.01, 0.02, -0.03, 0.01, -0.01]
MIB = 2**20


def row(
    kind: str,
    size: float,
    more: float = 0.0,
    *,
    method: str | None = None,
    width: tuple[int, int] | None = None,
    share: float = 0.0,
    ms: float = 128.0,
    spread: float = 0.01,
    reach: float = 1.0,
) -> dict[str, Any]:
    """A form of so many MiB, its loss so many nats above that of the whole model.

    Args:
        kind: of form.
        size: in MiB.
        more: nats.
        method: of the form.
        width: of weights, and of the embedding.
        share: that went.
        ms: of 128 tokens.
        spread: of its time.
        reach: how far its blocks scatter.
    """
    return {
        "kind": kind,
        "method": method,
        "width": None if width is None else list(width),
        "share": share,
        "bytes": round(size * MIB),
        "losses": [1000 * (1 + more + reach * offset) for offset in OFFSETS],
        "decoding": timing(ms / 1000, spread),
    }


WHOLE = row("whole", 8)
MASKED = row("masked", 8.5, 0.1, method="wanda", share=0.5)
EIGHT = row("rounded", 2.4, 0.001, method="rtn", width=(8, 8), ms=64, reach=1.01)
MIXED = row("mixed", 1.6, 0.02, method="gptq", width=(4, 8), ms=96)
REMOVED = row("removed", 6, 0.3, share=0.25, ms=32)
SMALL = row("removed", 0.5, 0.5, share=0.5, method="gptq", width=(3, 4), ms=160)
AWFUL = row("rounded", 0.6, 2.0, method="rtn", width=(2, 2))


def made(*rows: dict[str, Any], whole: dict[str, Any] = WHOLE) -> Change:
    """Let these be the forms, beside the whole model and a masked one."""

    def change(result: Result) -> None:
        result.update(tokens=TOKENS, decoded=128, rows=[whole, *rows, MASKED])

    return change


def untrained(result: Result) -> None:
    result["steps"] = 0


CASES = [
    *table_of(
        "compression",
        (made(EIGHT, MIXED), "3 forms of it were made", "4 forms of it"),
        (made(EIGHT, MIXED), "Recommended where it must be twice as small within 2 %: RTN 8 bits, "
         "3.33 times smaller; it costs 0.10 % (95 % interval: 0.08 % to 0.12 %); its decoding is "
         "quicker, 0.500 times the whole model's time."),
        (made(EIGHT, MIXED), "four times as small within 5 %: GPTQ 4 bits, embedding 8, 5.00 times "
         "smaller; it costs 2.02 %"),
        # Of forms that are not measurably worse than the best, the smallest.
        (made(EIGHT, {**EIGHT, "bytes": MIB, "method": "awq"}), "within 2 %: AWQ 8 bits, 8.00 tim"),
        (made({**EIGHT, "losses": WHOLE["losses"]}), "it costs nothing measurable;"),
        (made(REMOVED), "No form that was tried is twice as small within 2 % of perplexity."),
        (made(EIGHT), "No form that was tried is four times as small within 5 % of perplexity."),
        # Times.
        (made(MIXED), "its decoding is quicker, 0.750 times"),
        (made({**MIXED, "decoding": WHOLE["decoding"]}), "its decoding is not measurably quicker "
         "or slower than the whole model's."),
        (made({**MIXED, "decoding": timing(0.1, 1.8)}), "how much quicker or slower its decoding "
         "is could not be measured."),
        (made(EIGHT, REMOVED), "25 % of heads and neurons removed, float32 has the lowest median "
         "time; its decoding is quicker, 0.250 times the whole model's time."),
        (made(EIGHT), "With weights held at 0 (Wanda, 50 % of the weights) decoding is not measur"),
        (made(EIGHT), "and the bytes are 1.06 times the whole model's."),
        # What is on the frontier.
        (made(EIGHT, MIXED), "On the frontier of bytes and perplexity are 3 of 4 forms, 0 of them "
         "with removed parts.", "the largest of these"),
        (made(EIGHT, SMALL), "3 of 4 forms, 1 of them with removed parts, the largest of these at "
         "0.500 MiB."),
        (made(EIGHT, SMALL), "50 % of heads and neurons removed, GPTQ 3 bits, embedding 4"),
        (made(EIGHT, AWFUL), "Left out: 1 form whose perplexity is more than 100 % higher."),
        (made(EIGHT), "fig:compression shows all forms", "Left out"),
        (made(MIXED), "5.0\n2.77\n2.02 ± 0.00"),
    ),
    Case("compression", "taught what was left for 150 steps, by word-level distillation;"),
    Case("compression", "taken out; what is left", change=untrained, unsaid="taught", alone=True),
    Case("compression", "tab:compression gives the frontier.", unsaid="fig:", drawn=False),
    Case("compression", "†: disturbed", change=made({**EIGHT, "decoding": timing(0.1, 1.0)})),
]  # fmt: skip
