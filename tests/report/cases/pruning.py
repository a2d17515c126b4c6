"""What is said of pruning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import Case, all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]
OFFSETS = [0.03, -0.02, 0.01, -0.01, 0.02, -0.03, 0.01, -0.01]


def nats(loss: float, tokens: list[int], reach: float = 1.0) -> list[float]:
    """Return blocks of this mean loss that scatter a little."""
    return [count * (loss + reach * offset) for count, offset in zip(tokens, OFFSETS, strict=True)]


def lose(key: str, whole: float, **by_method: float) -> Change:
    """Let the whole model, and methods at every share, have these losses."""

    def change(result: Result) -> None:
        tokens = result["tokens"] = [100] * 8
        result["whole"][key] = nats(whole, tokens)
        for method in result["methods"]:
            for row in method["rows"]:
                row[key] = nats(by_method.get(method["name"], 5.0), tokens)

    return change


def level(key: str, *names: str) -> Change:
    """Let methods have losses that scatter around those of the whole model."""

    def change(result: Result) -> None:
        for method in result["methods"]:
            if method["name"] in names:
                for row in method["rows"]:
                    row[key] = list(reversed(result["whole"][key]))

    return change


def free(result: Result) -> None:
    """Training leaves magnitude at half of the weights as good as the whole model."""
    lose("after", 1.0)(result)
    result["methods"][0]["rows"][0]["after"] = list(result["whole"]["after"])


def untrained(result: Result) -> None:
    result["steps"] = 0


def only(*names: str) -> Change:
    def change(result: Result) -> None:
        for method in result["methods"]:
            if method["name"] not in names:
                method["refused"] = [{"share": 0.5, "why": "it cannot"}]
                method["rows"] = []
        result["timed"] = [name for name in result["timed"] if name in names]

    return change


def refuse(result: Result) -> None:
    method = result["methods"][-1]
    method["refused"] = [{"share": method["rows"].pop(0)["share"], "why": "too many"}]


def times(decoding: float, step: float, spread: float = 0.01) -> Change:
    """Let pruned models take this share of the whole model's time."""

    def change(result: Result) -> None:
        for what, ratio in (("decoding", decoding), ("step", step)):
            result["whole"][what] = timing(1.0, 0.0, 5)
            for method in result["methods"]:
                for row in method["rows"]:
                    if method["name"] in result["timed"]:
                        row[what] = timing(ratio, spread, 5)

    return change


def refuse_last(result: Result) -> None:
    method = result["methods"][-1]
    method["refused"] = [{"share": method["rows"].pop()["share"], "why": "too many"}]


def alone_timed(name: str, ratio: float, first: int = 0) -> Change:
    """Let decoding by a method take this share of the whole model's time, from a share on."""

    def change(result: Result) -> None:
        result["whole"]["decoding"] = timing(1.0, 0.0, 5)
        for method in result["methods"]:
            if method["name"] == name:
                for place, row in enumerate(method["rows"]):
                    row["decoding"] = timing(ratio if place >= first else 1.0, 0.01, 5)

    return change


def single(result: Result) -> None:
    for method in result["methods"]:
        del method["rows"][1:]


def sparse(token: list[float], batch: list[float]) -> Change:
    """Let sparse products take this share of the dense ones' time."""

    def change(result: Result) -> None:
        for size, ratios in (("token", token), ("batch", batch)):
            for row, ratio in zip(result["sparse"][size]["rows"], ratios, strict=True):
                row["dense"], row["sparse"] = timing(1.0, 0.01, 5), timing(ratio, 0.01, 5)

    return change


def heads(idle: tuple[int, ...] = (), by_lot: float = 0.5) -> Change:
    def change(result: Result) -> None:
        result["heads"]["by_lot"] = by_lot
        for number, head in enumerate(result["heads"]["heads"]):
            head["idle"] = number in idle

    return change


def without(removal: float, worth: float) -> Change:
    """Let the model have these losses without half of its heads."""

    def change(result: Result) -> None:
        tokens = result["tokens"]
        for name, loss in (("removal", removal), ("worth", worth)):
            result["heads"]["without"][name] = [nats(loss, tokens)] * 3

    return change


def no_head(result: Result) -> None:
    result["heads"] = {"refused": "positions = alibi"}


QUICK, SLOW = [0.5] * 3, [2.0] * 3
CASES = [
    *table_of(
        "pruning",
        # What it costs.
        (None, "What reads texts read 16 windows of the training split. What is left was then tr"),
        (untrained, "read 16 windows of the training split.", "was then trained"),
        (lose("losses", 1.0, magnitude=1.5, wanda=1.2, taylor=1.4, random=3.0),
         "At p = 50 %, weights masked and with nothing trained, the perplexity is lowest by Wanda, "
         "3.32 against 2.72 of the whole model (higher); it is highest by random pruning, 20.09."),
        (all_of(lose("losses", 1.0, neurons=2.0), level("losses", "neurons")),
         "parts removed and with nothing trained, the perplexity is lowest by removal of neurons, "
         "2.72 against 2.72 of the whole model (not measurably different); it is highest by"),
        (lose("losses", 1.0, heads=0.9), "removal of heads, 2.46 against 2.72 of the whole model "
         "(lower); it is highest"),
        (all_of(lose("losses", 1.0, magnitude=1.0, wanda=1.0, taylor=3.0, random=4.0),
                level("losses", "wanda")),
         "; Wanda is not measurably different; it is highest by random pruning"),
        (all_of(lose("losses", 1.0), level("losses", "heads", "neurons", "layers")),
         "removal of neurons and removal of layers are not measurably different."),
        (only("magnitude"), "the perplexity is lowest by pruning by magnitude", "highest by"),
        (only("heads"), "At p = 50 %, parts removed", "weights masked"),
        (lose("after", 1.0, taylor=1.5), "At p = 50 %, weights masked and after 20 steps, the pe"),
        (untrained, "with nothing trained", "after 20 steps, the"),
        (all_of(lose("losses", 1.0), lose("after", 1.2)), "no gain for the whole model, whose perpl"
         "exity rises to 3.32 from 2.72: the optimizer begins anew."),
        (all_of(lose("losses", 1.0), lose("after", 1.0)), "Every share that was mea",
         "no gain"),
        (lose("after", 1.0), "Every share that was measured costs perplexity, however it was"),
        (free, "The greatest share without a measurable loss beside the whole model, trained as "
         "long, is p = 50 %, of pruning by magnitude."),
        (all_of(lose("after", 1.0), level("after", "heads", "layers")),
         "is p = 75 %, of removal of heads and removal of layers."),
        (refuse, "–: cannot be (layers at 50 %)."),
        (None, "Validation perplexity by the share", "cannot be"),
        (None, "after training.", "the whole model's time of"),
        (untrained, "The whole model: 1.96.", "after training"),
        # What it saves.
        (None, "The whole model has 1,102,520 numbers that are not 0 in 4.21 MiB, 3.90 MiB compre"),
        (None, "After pruning by magnitude at p = 75 % 660,152 are left in 4.28 MiB, 2.54 MiB co"),
        (only("heads"), "After removal of heads at p = 75 % 954,200 are left", "by magnitude at"),
        (times(1.0, 1.0), "At p = 75 % decoding is not measurably different after pruning by magn"
         "itude, removal of heads, removal of neurons and removal of layers. At p = 75 % a traini"
         "ng step is not measurably different", "of the whole model's time"),
        (times(0.5, 2.0), "decoding is quicker after pruning by magnitude (0.50 of the whole model'"
         "s time), removal of heads (0.50 of the whole model's time),"),
        (times(0.5, 2.0), "a training step is slower after pruning by magnitude (2.00 of the whol"),
        (all_of(times(0.5, 1.0), alone_timed("heads", 1.0)), "and removal of layers (0.50 of the wh"
         "ole model's time); it is not measurably different after removal of heads. At"),
        (all_of(times(1.0, 1.0), refuse_last), "Decoding is not measurably different after pruning "
         "by magnitude at p = 75 %, removal of heads at p = 75 %, removal of neurons at p = 75 "
         "% and removal of layers at p = 50 %."),
        (times(1.0, 1.0, 0.9), "a training step could not be measured after pruning by magnitude"),
        (times(1.0, 1.0), "After pruning by magnitude at p = 75 %, beside p = 50 %, decoding is"
         " not measurably different and a training step is not measurably different."),
        (all_of(times(1.0, 1.0), alone_timed("magnitude", 0.5, 1)), "decoding is quicker (0.50 of "
         "the time) and a training step is not"),
        (single, "decoding", "beside p ="),
        (sparse(QUICK, SLOW), "In compressed sparse rows the product of a map of 512 × 128 is quick"
         "er than the dense one with 1 token from 50 % zeros on and with 2,048 tokens at no share "
         "that was tried."),
        (sparse([2.0, 0.5, 0.5], [0.5, 2.0, 0.5]), "with 1 token from 90 % zeros on and with 2,04"
         "8 tokens from 99 % zeros on."),
        # Which heads.
        (heads(), "50.0 % of orders by lot reach as much, so that removal is not shown to follow"),
        (heads(by_lot=0.01), "reach as much, so that removal follows the worth of heads."),
        (heads(), "No head is idle: without each the loss is measurably different."),
        (heads((0, 8)), "2 of 12 heads are idle, not measurably missed alone; of the 3 that go "
         "first in their layers 1 are among them: 3.1."),
        (heads((0,)), "that go first in their layers 0 are.", "among them"),
        (without(1.0, 1.5), "Without 2 of 4 heads of each layer the perplexity is 2.72 where remo"),
        (without(1.0, 1.5), "the order of removal, measured anew after each head, is the bet"),
        (without(1.5, 1.0), "the worth of each head alone is the better guide."),
        (without(1.0, 1.0), "either order serves."),
        (None, "tab:pruning-heads has both."),
        (no_head, "Which heads can go? None: positions = alibi."),
        (None, "fig:pruning shows perplexity beside time"),
    ),
    Case("pruning", "at 0.30 times the run's learning rate", alone=True),
    Case("pruning", "with nothing trained", change=untrained, unsaid="after 20", alone=True),
    Case("pruning", "tab:pruning gives the perplexity", unsaid="fig:", drawn=False),
    Case("pruning", "a map of 512 × 128", change=no_head, unsaid="orders by lot", alone=True),
    Case("pruning", "The two orders have a rank correlation", alone=True),
]  # fmt: skip
