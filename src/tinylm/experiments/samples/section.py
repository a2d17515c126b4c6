"""Sample generations at several settings, and what their numbers say about quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.units import unit_of
from tinylm.measurement import Verdict
from tinylm.report.blocks import Block, Heading, Paragraph, Sample, Table, literal
from tinylm.report.formatting import count, listed, percent, plural, significant
from tinylm.report.measurements import difference, leaders, named
from tinylm.report.passages import passages

TEXT = passages(__file__)
Setting = Mapping[str, Any]
_TRUE = "true"


def blocks(results: ReportInputs) -> list[Block]:
    """Return the section, or nothing without the experiment ``samples``."""
    result = results.results.get("samples")
    if result is None:
        return []
    settings, unit = result["settings"], unit_of(result)
    nearest, _ = _nearest(result)
    prompts = [f"“{literal(output['prompt'])}”" for output in settings[0]["outputs"]]
    blocks: list[Block] = [
        Heading(1, "Sample generations", "sec:samples"),
        *TEXT.blocks(
            "decoding settings",
            limit=plural(result["max_new_tokens"], "token"),
            number=plural(len(settings), "decoding setting"),
            settings=listed([literal(setting["name"]) for setting in settings]),
        ),
        Heading(2, "Quality in numbers", "sec:quality"),
        *TEXT.blocks(
            "method",
            begun=TEXT.line("sources", pairs=f"{count(result['num_stories'])} validation pairs")
            if unit.item == "pair"
            else TEXT.line(
                "beginnings",
                prompt=plural(result["prompt_tokens"], "token"),
                stories=plural(result["num_stories"], "validation story", "validation stories"),
            ),
            story=unit.item,
        ),
        _table(settings, result["reference"]),
        *(Paragraph(text) for text in comments(result)),
        Heading(2, "The texts", "sec:texts"),
        *TEXT.blocks("texts", prompts=listed(prompts), nearest=named([nearest])[0]),
    ]
    for setting in settings:
        outputs = setting["outputs"]
        for output in outputs if setting["name"] == nearest else outputs[:1]:
            state = "ended" if output["finished"] else "cut at the limit"
            note = f"{plural(output['num_tokens'], 'token')}, {state}"
            text = output["text"].removeprefix(output["prompt"]).lstrip()
            blocks.append(Sample(setting["name"], text, output["prompt"], note))
    return blocks


def _row(name: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        significant(metrics["perplexity"]),
        f"{metrics['distinct_1']:.3f}",
        f"{metrics['distinct_2']:.3f}",
        percent(metrics["repetition"]),
        percent(metrics["unk_rate"]),
        significant(metrics["mean_length"]),
        percent(metrics["finished_share"], 0),
    )


def _table(settings: Sequence[Setting], reference: Mapping[str, Any]) -> Table:
    rows = [_row(literal(setting["name"]), setting["metrics"]) for setting in settings]
    rows.append(_row("true texts", reference))
    return Table(
        "tab:samples",
        TEXT.line("table"),
        ("Setting", "Perplexity", "Distinct-1", "Distinct-2", "Repeated", "Unknown", "Length",
         "Ended"),
        tuple(rows),
        "lrrrrrrr",
        TEXT.line("table's note"),
        emphasised=(len(rows) - 1,),
    )  # fmt: skip


def comments(result: Mapping[str, Any]) -> list[str]:
    """Return paragraphs that judge the settings by repetition, variety and perplexity."""
    settings = result["settings"]
    paragraphs = [_between(result), _against(result)]
    unfinished = [s["name"] for s in settings if s["metrics"]["finished_share"] < 0.5]
    if len(unfinished) == len(settings):
        paragraphs.append(
            "At no setting does the model end most of its texts within the limit; most of the "
            "texts below are cut there."
        )
    elif unfinished:
        paragraphs.append(f"With {listed(named(unfinished))} most texts were cut before their end.")
    return paragraphs


def _extremes(
    result: Mapping[str, Any], measure: str, values: Mapping[str, float]
) -> tuple[str, str] | None:
    """Return the settings with the highest and the lowest value, if these differ measurably."""
    most, least = (choose(values, key=values.__getitem__) for choose in (max, min))
    if most == least or difference(result, measure, most, least).verdict is not Verdict.MORE:
        return None
    return most, least


def _between(result: Mapping[str, Any]) -> str:
    metrics = {setting["name"]: setting["metrics"] for setting in result["settings"]}

    def values(key: str) -> dict[str, float]:
        return {name: float(of[key]) for name, of in metrics.items()}

    repeated, varied, surprising = map(values, ("repetition", "distinct_2", "perplexity"))
    less_likely = {name: -value for name, value in surprising.items()}
    repetition = _extremes(result, "repetition", repeated)
    variety = _extremes(result, "distinct_2", varied)
    likelihood = _extremes(result, "log_probability_per_token", less_likely)
    sentences = []
    if repetition:
        most, least = repetition
        sentences.append(
            f"The most repetitive setting is {_with(most, percent(repeated[most]))}, the least "
            f"repetitive one {_with(least, percent(repeated[least]))}."
        )
    else:
        sentences.append("In repetition no two settings are measurably different.")
    if variety:
        most, least = variety
        sentences.append(
            f"Variety is greatest with {_with(most, f'distinct-2 {varied[most]:.3f}')} and "
            f"smallest with {_with(least, f'{varied[least]:.3f}')}."
        )
    else:
        sentences.append("In variety no two settings are measurably different.")
    if likelihood:
        most, least = likelihood
        sentences.append(
            f"Perplexity is lowest with {_with(most, significant(surprising[most]))} and highest "
            f"with {_with(least, significant(surprising[least]))}."
        )
    else:
        sentences.append("In perplexity no two settings are measurably different.")
    if likelihood and repetition and likelihood[0] == repetition[0]:
        sentences.append(
            "The setting with the lowest perplexity is also the most repetitive, so a low "
            "perplexity alone does not indicate good text [[holtzman2020]]."
        )
    if likelihood and variety and likelihood[1] == variety[0]:
        sentences.append("The most varied text is also the least likely under the model.")
    return " ".join(sentences)


def _with(name: str, value: str) -> str:
    return f"{named([name])[0]} ({value})"


def _distance(metrics: Mapping[str, Any], reference: Mapping[str, Any]) -> float:
    return float(sum(abs(metrics[key] - reference[key]) for key in ("distinct_2", "repetition")))


def _nearest(result: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the setting nearest to the true texts, and those that are not measurably farther."""
    reference = result["reference"]
    near = {s["name"]: -_distance(s["metrics"], reference) for s in result["settings"]}
    return leaders(result, "distance", near)


def _against(result: Mapping[str, Any]) -> str:
    nearest, alike = _nearest(result)
    reference = result["reference"]
    metrics = next(s["metrics"] for s in result["settings"] if s["name"] == nearest)
    are = "is" if len(alike) == 1 else "are"
    but = f", but {listed(named(alike))} {are} not measurably farther" if alike else ""
    text = (
        "Nearest to the true texts in distinct-2 and repetition together (sum of the absolute "
        f"differences: {_distance(metrics, reference):.3f}) is {named([nearest])[0]}{but}. "
    )
    pair = f"({percent(metrics['repetition'])} against {percent(reference['repetition'])})"
    text += f"With {named([nearest])[0]}, repetition "
    text += {
        Verdict.MORE: "is higher than in the true texts",
        Verdict.LESS: "is lower than in the true texts",
        Verdict.ALIKE: "is not measurably different from that of the true texts",
        Verdict.UNKNOWN: "could not be compared with that of the true texts",
    }[difference(result, "repetition", nearest, _TRUE).verdict]
    text += f" {pair}, and perplexity "
    pair = f"({significant(metrics['perplexity'])} against {significant(reference['perplexity'])})"
    text += {
        Verdict.MORE: f"is lower {pair}.",
        Verdict.LESS: f"is higher {pair}.",
        Verdict.ALIKE: f"is not measurably different {pair}.",
        Verdict.UNKNOWN: f"could not be compared {pair}.",
    }[difference(result, "log_probability_per_token", nearest, _TRUE).verdict]
    limits = TEXT.line("limits of the measures")
    return f"{text} {limits}"
