"""What is said of how strategies compare: likelihood, variety, cost and BLEU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.report.made_up import beam_differences, timing
from tests.report.telling import all_of, table_of

Result = dict[str, Any]
Change = Callable[[Result], None]


def values(key: str, *of: float, true: float | None = None, reach: float = 0.03) -> Change:
    """Greedy, sampling, beam 5 and beam 10 (and true texts) have these values of a measure."""

    def change(result: Result) -> None:
        comparison = result["comparisons"][-1]
        rows = comparison["rows"]
        for row, value in zip([*rows, comparison["true"]], [*of, true], strict=True):
            if value is None:
                continue
            if key == "distinct":
                row["distinct"]["2"] = value
            else:
                row[key] = value
        comparison["differences"] = beam_differences(rows, comparison["true"], reach)

    return change


def unknown(measure: str) -> Change:
    """One prompt alone: there is no interval."""

    def change(result: Result) -> None:
        for pairs in result["comparisons"][-1]["differences"][measure].values():
            for pair in pairs.values():
                pair[1:] = [None, None]

    return change


def seconds(*of: float, spread: float = 0.02) -> Change:
    def change(result: Result) -> None:
        for row, value in zip(result["comparisons"][-1]["rows"], of, strict=True):
            row["seconds"] = timing(value, spread, 5)

    return change


def one_comparison(result: Result) -> None:
    del result["comparisons"][0]


def alike_with_any_prompts(result: Result) -> None:
    change = values("bleu_corpus", 5, 5, 5, 5)
    for comparison in result["comparisons"]:
        change({"comparisons": [comparison]})


SUM, EACH = "log_probability", "log_probability_per_token"
CASES = table_of(
    "beam-search",
    # Likelihood.
    (values(SUM, -75.0, -120.0, -60.0, -50.0), "−60.0 with beam 5 and −50.0 with beam 10: eve"),
    (values(SUM, -75.0, -120.0, -60.0, -50.0), "beam 10: every widening finds more likely tex"),
    (values(SUM, -50.0, -120.0, -60.0, -75.0), "every widening finds less likely text. Per"),
    (values(SUM, -75.0, -120.0, -60.0, -59.0), "the widest beam finds more likely text than g"),
    (values(SUM, -60.0, -120.0, -76.0, -75.0), "the widest beam finds less likely text than g"),
    (values(SUM, -60.0, -120.0, -50.0, -60.5), "of the widest beam is not measurably more or"),
    (unknown(SUM), "with a single prompt no difference can be measured"),
    # Per token it is told where the lengths differ, and what follows where that is another thing.
    (all_of(values("mean_length", 50.0, 50, 50, 51), values(SUM, -50.0, -120.0, -60.0, -75.0),
            values(EACH, -1.3, -2.0, -1.2, -1.0)),
     "and −1.000 with beam 10: every widening finds more likely text."),
    (all_of(values("mean_length", 50.0, 50, 50, 51), values(SUM, -75.0, -120.0, -60.0, -50.0),
            values(EACH, -1.3, -2.0, -1.2, -1.0)),
     "text. Per token it is −1.300 with greedy, −1.200 with beam 5 and −1.000 with beam 10. "),
    (values("mean_length", 50.0, 50, 50, 50), "Likelihood.", "Per token it is"),
    (values("mean_length", 50.0, 50, 50, 60), "The texts of beam 10 are 20\u202f% longer than"),
    (values("mean_length", 50.0, 50, 50, 60), "which by itself lowers their sum"),
    (values("mean_length", 50.0, 50, 50, 40), "are 20\u202f% shorter than those of greedy, wh"),
    (values("mean_length", 50.0, 50, 50, 51), "beam 10 writes.", "which by itself"),
    (values(EACH, -1, -1, -1, -1, true=-2), "are 1.0 nats less likely than what beam 10 write"),
    (values(EACH, -1, -1, -1, -1, true=-0.5), "are 0.50 nats more likely than what beam 10"),
    (values(EACH, -1, -1, -1, -1, true=-1.01), "not measurably more or less likely than what"),
    (unknown(EACH), "Whether the true continuations are more likely could not be measured."),
    # Repetition and variety.
    (values("repetition", 0.1, 0.1, 0.1, 0.2, true=0.1), "beam 10 repeat themselves more than"),
    (values("repetition", 0.1, 0.1, 0.1, 0.05, true=0.1), "themselves less than the true ones"),
    (values("repetition", 0.1, 0.1, 0.1, 0.101, true=0.1), "do not repeat themselves measurab"),
    (values("repetition", 0.1, 0.1, 0.1, 0.2, true=0.1), "and repeat themselves more than tho"),
    (unknown("repetition"), "cannot be compared in repetition with the true ones"),
    (values("distinct", 0.5, 0.5, 0.5, 0.4, true=0.5), "0.400 is below that of the true ones"),
    (values("distinct", 0.5, 0.5, 0.5, 0.6, true=0.5), "0.600 is above that of the true ones"),
    (values("distinct", 0.5, 0.5, 0.5, 0.5, true=0.5), "0.500 is not measurably different fro"),
    (unknown("distinct_2"), "cannot be compared with that of the true ones"),
    (None, "Nearest to the true texts in distinct-2 and repetition together is sampling."),
    (all_of(values("distinct", 0.5, 0.5, 0.5, 0.5, true=0.5),
          values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1)),
     "is greedy, but none of the others is measurably farther."),
    (all_of(values("distinct", 0.3, 0.49, 0.482, 0.2, true=0.5),
          values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1)),
     "is sampling, but beam 5 is not measurably farther."),
    (all_of(values("distinct", 0.482, 0.485, 0.482, 0.2, true=0.5),
          values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1)),
     "is sampling, but greedy and beam 5 are not measurably farther."),
    (None, "less varied or more repetitive; Holtzman et al. holtzman2020 report the same for hu"),
    (values(EACH, -1, -1, -1, -1, true=-1.01), "Nearest", "for human text"),
    (all_of(values("distinct", 0.5, 0.5, 0.5, 0.5, true=0.5),
          values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1)), "Nearest", "for human text"),
    (values("distinct", 0.5, 0.5, 0.5, 0.5, true=0.5), "report the same for human text"),
    (values("repetition", 0.1, 0.1, 0.1, 0.1, true=0.1), "report the same for human text"),
    # Cost.
    (seconds(1, 1, 3, 5), "With 50 prompts, compared with greedy decoding, beam 5 takes 3.00× the "
     "time and beam 10 takes 5.00× the time; this is measurably less than the number of beams. "
     "With 5 prompts, compared with greedy decoding,"),
    (all_of(one_comparison, seconds(1, 1, 3, 5)), "than the number of beams.", "With 5 prompts"),
    (seconds(1, 1, 9, 20), "20.0× the time; this is measurably more than the number of beams."),
    (seconds(1, 1, 5, 10), "takes 5.00× the time and beam 10 takes 10.0× the time. With 5 prompts"),
    (seconds(1, 1, 3, 20), "this is measurably less than the number of beams for beam 5 and "
     "measurably more than the number of beams for beam 10."),
    (seconds(1, 1, 0.5, 5), "beam 5 is faster (0.500× the time)"),
    (seconds(1, 1, 1.01, 5), "the time of beam 5 is not measurably different and beam 10"),
    (seconds(1, 1, 1.1, 1.2, spread=1.2), "the time of beam 5 could not be measured"),
    (seconds(1, 1, 1.1, 1.2, spread=1.2), "although the measurement was repeated."),
    # BLEU.
    (values("bleu_corpus", 5, 3, 5.1, 9), "With 50 prompts beam 10 has the highest corpus BLEU "
     "(9.00). Its text is also the most likely per token: the two measures agree."),
    (values("bleu_corpus", 9, 3, 5.1, 5), "With 50 prompts greedy has the highest corpus BLEU "
     "(9.00). The most likely text per token is that of beam 10, whose BLEU is 4.00 points "
     "lower: the two measures do not agree."),
    (values("bleu_corpus", 5.1, 3, 4, 5), "greedy has the highest corpus BLEU (5.10), but beam "
     "10 is not measurably lower. The most likely text per token is that of beam 10: the two "
     "measures do not contradict each other."),
    (values("bleu_corpus", 5.1, 3, 5, 5), "but beam 5 and beam 10 are not measurably lower."),
    (values("bleu_corpus", 5, 5, 5, 5), "(5.00), but none of the others is measurably lower. "
     "BLEU therefore does not separate the strategies."),
    (alike_with_any_prompts, "measurably lower. With 5 prompts"),  # the conclusion is drawn once
    (unknown("bleu"), "BLEU therefore does not separate the strategies."),
    (None, "With 5 prompts"),
    (one_comparison, "With 50 prompts", "With 5 prompts"),
)  # fmt: skip
