"""The experiment on all ways of compression, on a run of a few seconds."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from tests.cli.test_finetune import files
from tests.experiments.test_efficiency import with_settings
from tests.report.cases.compression import TOKENS, WHOLE, row
from tinylm.compression.quantizer import widths
from tinylm.compression.quantizing import quantize
from tinylm.data.windows import TokenWindows
from tinylm.errors import CompressionError, ConfigError
from tinylm.experiments.compressing import calibration_windows
from tinylm.experiments.compression import measure
from tinylm.experiments.compression.comparing import (
    MIXED,
    REMOVED,
    ROUNDED,
    frontier,
    increase,
    num_bytes,
    perplexity,
    recommended,
)
from tinylm.experiments.compression.settings import CompressionExperiment
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.preparation import encoded_split
from tinylm.language_model import LanguageModel
from tinylm.registry import QUANTIZERS

SETTINGS = CompressionExperiment(
    shares=(0.5,),
    steps=3,
    calibration=6,
    windows=6,
    widths=((4, 8),),
    combined=((8, 8),),
    masks=("magnitude",),
    tokens=8,
    repeats=2,
)


@pytest.fixture
def context(tiny_context: Context) -> Context:
    context = replace(tiny_context, console=SilentConsole(), keeps=False)
    return with_settings(context, compression=SETTINGS)


def test_every_form_is_read_and_timed(context: Context) -> None:
    before = files(context.folder)
    result = measure.run(context)
    assert files(context.folder) == before  # trainings are gone
    rows = result["rows"]
    rounded = sum(len(widths(QUANTIZERS.load(name))) for name in QUANTIZERS)
    assert len(rows) == 1 + rounded + 1 + 1 + 2
    assert all(len(each["losses"]) == len(result["tokens"]) for each in rows)
    times = {tuple(each["width"] or ()): each["decoding"] for each in rows if not each["share"]}
    for each in rows:
        if each["kind"] in (ROUNDED, MIXED) and each["method"] != "nf4":
            assert each["decoding"] == times[tuple(each["width"])]
    # One of them by hand, from another implementation of the loss.
    lm = LanguageModel.load(context.folder)
    ids = calibration_windows(context, 6, 0, tokenizer=lm.tokenizer)
    method = QUANTIZERS.load("gptq")
    settings = method.Settings(bits=4, embedding_bits=8, activations="float", windows=6)
    quantize(lm.model, method, settings, ids)
    split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
    windows = TokenWindows(split, lm.model.config.context_length)
    batch = windows.batch(torch.tensor(windows.fixed_subset(6)).numpy())
    with torch.no_grad():
        logits = lm.model(batch.ids).flatten(0, 1)
    loss = cross_entropy(logits, batch.labels.flatten(), ignore_index=-100, reduction="sum")
    [mixed] = [each for each in rows if each["kind"] == MIXED]
    assert sum(mixed["losses"]) == pytest.approx(float(loss), rel=1e-5)
    assert sum(result["tokens"]) == int((batch.labels != -100).sum())


def test_what_is_left_is_smaller_and_taught(context: Context, tmp_path: Path) -> None:
    result = measure.run(context)
    taught, rounded = (each for each in result["rows"] if each["kind"] == REMOVED)
    assert (taught["width"], rounded["width"]) == (None, [8, 8])
    assert rounded["bytes"] < taught["bytes"] < result["rows"][0]["bytes"]
    untaught = with_settings(context, compression=replace(SETTINGS, steps=0))
    cut = next(each for each in measure.run(untaught)["rows"] if each["kind"] == REMOVED)
    assert cut["bytes"] == taught["bytes"]
    assert cut["losses"] != taught["losses"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"masks": ("heads",)}, "experiments.compression.masks: heads removes parts: give some of"),
        ({"parts": ("layers",)}, "of the layers nothing can go: give other experiments.compr"),
        ({"method": "nf4"}, "method = nf4: it has one width"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], message: str, context: Context) -> None:
    """The run has one layer."""
    wrong = with_settings(context, compression=replace(SETTINGS, **changed))
    with pytest.raises((CompressionError, ConfigError), match=message):
        measure.run(wrong)


def made_up(points: list[tuple[float, float]]) -> dict[str, Any]:
    rows = [row("rounded", size, more, method="rtn", width=(8, 8)) for size, more in points]
    return {"tokens": TOKENS, "decoded": 128, "rows": [copy.deepcopy(WHOLE), *rows]}


POINTS = st.lists(
    st.tuples(st.sampled_from([1.0, 1.5, 2.0, 3.0, 5.0]), st.sampled_from([0.0, 0.01, 0.03, 0.2])),
    max_size=7,
)


@given(POINTS)
def test_the_frontier_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    result = made_up(points)
    rows = result["rows"]
    costs = [(num_bytes(each), perplexity(result, each)) for each in rows]
    best = [
        (num_bytes(each), perplexity(result, each)) for each in frontier(result, rows, num_bytes)
    ]

    def beaten(size: float, value: float) -> bool:
        return any(s <= size and v <= value and (s, v) != (size, value) for s, v in costs)

    assert best == sorted({each for each in costs if not beaten(*each)})


@given(POINTS)
def test_what_is_recommended_is_small_and_good_enough(points: list[tuple[float, float]]) -> None:
    result = made_up(points)
    chosen = recommended(result, 4, 0.05)
    able = [each for each in points if each[0] <= 2 and math.expm1(each[1]) <= 0.05]
    if not able:
        assert chosen is None
        return
    assert chosen is not None
    assert increase(result, chosen) <= 0.05
    least = min(more for _, more in able)  # whose blocks scatter alike: any difference is measured
    assert chosen["bytes"] == min(size for size, more in able if more == least) * 2**20
