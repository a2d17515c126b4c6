"""What is said of distillation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import timing
from tests.report.telling import Case, all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]
OFFSETS = (0.3, -0.2, -0.1)
"""Of the seeds, around their mean."""


def students(key: str, alone: float, own: dict[str, float], reach: float = 0.01) -> Change:
    """Let the students of each method have values that differ alike from those alone.

    Args:
        key: of what.
        alone: mean of those that learn alone.
        own: means of the methods, in order; ``reach`` is how far pairs of one seed lie apart.
        reach: how far the differences of the seeds lie apart.
    """

    def change(result: Result) -> None:
        first, *others = result["methods"]
        for place, offset in enumerate(OFFSETS):
            first["students"][place][key] = alone + offset
            for method in others:
                value = own.get(method["name"], alone)
                apart = reach * OFFSETS[(place + 1) % len(OFFSETS)]
                method["students"][place][key] = value + offset + apart

    return change


def losses(word: float, sequence: float, both: float) -> Change:
    return students("loss", 3.0, {"word": word, "sequence": sequence, "both": both})


def greedy(word: float, sequence: float, both: float) -> Change:
    return students("greedy", 3.0, {"word": word, "sequence": sequence, "both": both}, 0.1)


def beam(word: float, sequence: float, both: float) -> Change:
    return students("beam", 4.0, {"word": word, "sequence": sequence, "both": both}, 0.1)


ALIKE = all_of(losses(3.0, 3.0, 3.0), greedy(3.0, 3.0, 3.0), beam(4.0, 4.0, 4.0))


def single(result: Result) -> None:
    for method in result["methods"]:
        del method["students"][1:]


def only(name: str) -> Change:
    def change(result: Result) -> None:
        first, *others = result["methods"]
        result["methods"] = [first, *(each for each in others if each["name"] == name)]

    return change


def texts(beginnings: int, left_out: int) -> Change:
    def change(result: Result) -> None:
        result["tokens"] = 400_000
        result["texts"] = {"beginnings": beginnings, "left_out": left_out, "tokens": 40_000}

    return change


def no_texts(result: Result) -> None:
    result["texts"] = None


def decoding(ratio: float, spread: float = 0.01) -> Change:
    def change(result: Result) -> None:
        result["teacher"]["decoding"] = timing(1.0, spread, 5)
        result["student"]["decoding"] = timing(ratio, spread, 5)

    return change


def trainings(word: float) -> Change:
    return students("seconds", 20.0, {"word": word, "sequence": 20.0, "both": 20.0})


def says_nothing(result: Result) -> None:
    result["sample"]["texts"]["word"] = ""


def teacher(result: Result) -> None:
    result["teacher"] |= {"loss": 0.5, "greedy": 7.35, "beam": 6.97}


CASES = [
    *table_of(
        "distillation",
        # What was done.
        (None, "The run's model, of 3 layers and width 128, is the teacher of students of 1 layer "
               "and width 64."),
        (None, "alpha = 0.5 and T = 1 in word-level distillation and word- and sequence-level dis"),
        (only("sequence"), "Sequence-level distillation", "loss of a token"),
        (texts(300, 13), "first 8 tokens of 300 training texts and ended 287 of them, 40,000 token"
                         "s in all; the other 13 would have taught a wrong end. Within its steps a "
                         "student reads them 10 times over."),
        (texts(300, 0), "ended 300 of them, 40,000 tokens in all; none was left out."),
        (no_texts, "All students were trained for", "went on from the first"),
        (None, "from 3 seeds"),
        (None, "otherwise no difference is shown, which is not to say that there is none: 3 seeds"),
        (single, "From one seed there is no interval", "leaves 0 out"),
        # Perplexity: exp(3.0) = 20.09, exp(0.5) = 1.65, exp(-0.1) = 0.905, exp(1.4) = 4.06.
        (all_of(teacher, losses(2.9, 4.4, 3.0)), "A student that learns alone reaches a perplexity "
         "of 20.09, the teacher has 1.65. The perplexity is measurably lower after word-level dist"
         "illation (−9.5 %, −10.1 % to −8.9 %); measurably higher after sequence-level distillatio"
         "n (+306 %, +303 % to +308 %); not measurably different after word- and sequence-level di"
         "stillation (0.0 %, −0.7 % to +0.7 %)."),
        (losses(3.0, 3.0, 3.0), "The perplexity is not measurably different after word-level disti",
         "The perplexity is measurably"),
        (single, "Whether the methods change it is not shown by one seed.", "higher after"),
        # BLEU.
        (all_of(teacher, greedy(3.0, 4.2, 2.5)), "By greedy decoding those alone reach 3.0, the te"
         "acher 7.3. BLEU is measurably lower after word- and sequence-level distillation (−0.50, "
         "−0.57 to −0.43); measurably higher after sequence-level distillation (+1.20, +1.13 to +1"
         ".27); not measurably different after word-level distillation (0.00, −0.07 to +0.07)."),
        (all_of(teacher, beam(5.0, 4.0, 4.0)), "By beam search those alone reach 4.0, the teacher "
         "7.0. BLEU is measurably higher after word-level distillation (+1.00, +0.93 to +1.07)"),
        # Both together.
        (ALIKE, "Of word-level distillation, sequence-level distillation and word- and sequence-le"
         "vel distillation no difference from training alone is shown in any measure.",
         "writes as the teacher"),
        (all_of(ALIKE, losses(2.9, 3.0, 3.0)), "Word-level distillation is better than training a"
         "lone in perplexity, and worse in no measure."),
        (all_of(ALIKE, losses(2.9, 2.9, 3.0)), "Word-level distillation and sequence-level distil"
         "lation are better than training alone in perplexity, and"),
        (all_of(ALIKE, losses(3.0, 4.4, 3.0)), "Sequence-level distillation is worse than trainin"
         "g alone in perplexity, and better in no measure.", "writes as the teacher"),
        (all_of(ALIKE, losses(3.0, 4.4, 3.0), greedy(3.0, 4.2, 3.0), beam(4.0, 4.5, 4.0)),
         "Sequence-level distillation is better than training alone in BLEU by greedy decoding and"
         " beam search, and worse in perplexity."),
        (all_of(ALIKE, losses(3.0, 4.4, 3.0), beam(4.0, 4.5, 4.0)), "A student that learns the te"
         "xts of its teacher writes as the teacher does and finds less likely what people wrote"),
        (all_of(ALIKE, losses(2.9, 3.0, 3.0), greedy(2.5, 3.0, 3.0)), "Word-level distillation is "
         "better than training alone in perplexity, and worse in BLEU by greedy decoding.",
         "writes as the teacher"),
        (single, "continued greedily", "Both together."),
        # What it saves.
        (decoding(0.5), "28 % of the teacher's 1,102,648, and decodes a text in 0.500 "),
        (decoding(0.5), "of the teacher's time (quicker)."),
        (decoding(1.0), "of the teacher's time (not measurably different)."),
        (trainings(60.0), "the same steps take 3.0 times as long by word-level distillation (slow"),
        (trainings(20.0), "1.0 times as long by word-level distillation (not measurably differen"),
        # Tables and figure.
        (losses(2.9, 4.4, 3.0), "−9.5 ± 0.6 %"),
        (losses(2.9, 4.4, 3.0), "+306 ± 3 %"),
        (None, "the difference from training alone, ± half of the 95 % interval. BLEU by"),
        (single, "the difference from training alone. BLEU by", "±"),
        (None, "Training: median of 3 trainings a student"),
        (None, "tab:distillation and fig:distillation give the results. Brackets give"),
        (single, "fig:distillation give the results.", "Brackets give"),
        (None, "A bar is the 95 % interval of the difference from training alone"),
        (single, "of one student of each method", "A bar is"),
        (says_nothing, "nothing: it ends at once"),
        (None, "Students of the first seed", "nothing: it ends at once"),
    ),
    Case("distillation", "tab:distillation gives the results.", unsaid="fig:", drawn=False),
    Case("distillation", "Brackets give differences", alone=True),
    Case("distillation", "is not shown by one seed. A student has", change=single, alone=True),
]  # fmt: skip
