"""The experiment on quantization, on a run of a few seconds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.experiments.test_efficiency import with_settings
from tests.training.tiny import tiny_run
from tinylm.checkpoint import TrainingState
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.quantizer import layouts, widths
from tinylm.compression.quantizing import quantize
from tinylm.data.windows import TokenWindows
from tinylm.errors import CompressionError
from tinylm.experiments.compressing import calibration_windows
from tinylm.experiments.context import Context
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.quantization import measure
from tinylm.experiments.quantization.figures import quantization_figure
from tinylm.experiments.quantization.settings import QuantizationExperiment
from tinylm.experiments.quantizing import quantize_run
from tinylm.experiments.training.measure import run as train
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.registry import QUANTIZERS

SETTINGS = QuantizationExperiment(windows=6, amounts=(3, 1), bits=3)
CALIBRATED = ["gptq", "awq", "smoothquant"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("quantization")
    context = tiny_run(folder / "run", folder / "cache", "training.max_steps=6")
    train(context)
    return with_settings(context, quantization=SETTINGS)


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    return measure.run(context)


def quantized(context: Context, name: str, amount: int = 3, **settings: Any) -> LanguageModel:
    """The run's model quantized as `tinylm quantize` would."""
    lm, method = LanguageModel.load(context.folder), QUANTIZERS.load(name)
    ids = calibration_windows(context, amount, SETTINGS.seed)
    quantize(lm.model, method, method.Settings(activations="float", **settings), ids)
    return lm


@torch.no_grad()
def window_losses(context: Context, model: GenerativeModel) -> Tensor:
    """Nats and tokens of six windows spread over the validation split, (windows, 2)."""
    lm = LanguageModel.load(context.folder)
    split = encoded_split(context.config.data, lm.tokenizer, "validation", context.console)
    windows = TokenWindows(split, 16)
    sums = []
    for index in np.linspace(0, len(windows) - 1, 6).round():
        ids = torch.tensor(split.ids[int(index) * 16 : int(index) * 16 + 17].astype(np.int64))
        loss = cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="sum")
        sums.append([float(loss), len(ids) - 1])
    return torch.tensor(sums, dtype=torch.float64)


def interval(first: Tensor, second: Tensor) -> list[float]:
    """The difference of the means a token with its interval, by leaving out each window."""

    def difference(kept: list[int]) -> float:
        means = [x[kept, 0].sum() / x[kept, 1].sum() for x in (first, second)]
        return float(means[0] - means[1])

    every = list(range(len(first)))
    without = np.array([difference([i for i in every if i != left]) for left in every])
    error = math.sqrt((len(every) - 1) / len(every) * ((without - without.mean()) ** 2).sum())
    reach = float(stats.t.ppf(0.975, len(every) - 1)) * error
    value = difference(every)
    return [value, value - reach, value + reach]


def row_of(rows: list[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    (row,) = (row for row in rows if wanted.items() <= row.items())
    return row


def test_an_entry_says_its_widths_and_layouts() -> None:
    assert {name: widths(QUANTIZERS.load(name)) for name in ("rtn", "nf4")} == {
        "rtn": (8, 4, 3, 2),
        "nf4": (4,),
    }
    assert layouts(QUANTIZERS.load("gptq")) == ("tensor", "row", "group")
    assert layouts(QUANTIZERS.load("nf4")) == ()


def test_every_method_is_tried_in_every_form(result: dict[str, Any]) -> None:
    forms = {(row["method"], row["bits"], row["granularity"]) for row in result["rows"]}
    integers = [name for name in QUANTIZERS if name != "nf4"]
    assert forms == {
        *((name, bits, layout) for name in integers for bits in (8, 4, 3, 2)
          for layout in ("row", "group")),
        ("nf4", 4, None),
    }  # fmt: skip
    assert len(result["rows"]) == len(forms)
    assert [(row["method"], row["activations"]) for row in result["inputs"]] == [
        (name, rounding) for name in QUANTIZERS for rounding in ("dynamic", "static")
    ]
    tried = [(row["method"], row["text"], row["windows"]) for row in result["calibration"]]
    kinds = [("own", 1), ("own", 3), ("shuffled", 3), ("even", 3), ("other", 3)]
    assert tried == [(name, *kind) for name in CALIBRATED for kind in kinds]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("rtn", {"bits": 4, "granularity": "group"}),
        ("awq", {"bits": 3, "granularity": "row"}),
        ("gptq", {"bits": 2, "granularity": "group"}),
        ("nf4", {"bits": 4}),
    ],
)
def test_bytes_and_losses_are_those_of_the_quantized_run(
    context: Context, result: dict[str, Any], tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    row = row_of(result["rows"], method=name, **settings)
    lm = quantized(context, name, **settings)
    path = save_checkpoint(tmp_path, lm.model, lm.tokenizer, TrainingState(1)) / "model.safetensors"
    with path.open("rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    assert row["bytes"] == path.stat().st_size - header
    own = window_losses(context, LanguageModel.load(context.folder).model)
    losses = window_losses(context, lm.model)
    mean = float(losses[:, 0].sum() / losses[:, 1].sum())
    assert row["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert row["more"] == pytest.approx(interval(losses, own), abs=1e-5)
    if name != "rtn":
        form = {"bits": row["bits"], "granularity": row["granularity"] or "group"}
        plain = window_losses(context, quantized(context, "rtn", **form).model)
        assert row["beside_plain"] == pytest.approx(interval(losses, plain), abs=1e-5)
    if row["granularity"] == "group":
        form = {"bits": row["bits"], "granularity": "row"}
        by_row = window_losses(context, quantized(context, name, **form).model)
        assert row["beside_rows"] == pytest.approx(interval(losses, by_row), abs=1e-5)


def test_what_stands_beside_nothing_has_no_difference(result: dict[str, Any]) -> None:
    for row in result["rows"]:
        assert (row["beside_plain"] is None) == (row["method"] == "rtn")
        assert (row["beside_rows"] is None) == (row["granularity"] != "group")
    for row in result["calibration"]:
        assert (row["beside_most"] is None) == ((row["text"], row["windows"]) == ("own", 3))
        assert row["beside_plain"] is not None


def test_inputs_stand_beside_the_same_weights(context: Context, result: dict[str, Any]) -> None:
    lm, method = LanguageModel.load(context.folder), QUANTIZERS.load("gptq")
    settings = method.Settings(bits=8, granularity="row", activations="static")
    quantize(lm.model, method, settings, calibration_windows(context, 3, SETTINGS.seed))
    weights = quantized(context, "gptq", bits=8, granularity="row")
    rounded, plain = (window_losses(context, each.model) for each in (lm, weights))
    row = row_of(result["inputs"], method="gptq", activations="static")
    assert row["more"] == pytest.approx(interval(rounded, plain), abs=1e-5)
    assert row["more"][0] != 0


@pytest.mark.parametrize("name", CALIBRATED)
def test_less_and_wrong_text_stand_beside_the_most(
    context: Context, result: dict[str, Any], name: str
) -> None:
    form = {"bits": 3, "granularity": "group"}
    rows = [row for row in result["calibration"] if row["method"] == name]
    most = window_losses(context, quantized(context, name, **form).model)
    fewer = window_losses(context, quantized(context, name, 1, **form).model)
    row = row_of(rows, text="own", windows=1)
    assert row["beside_most"] == pytest.approx(interval(fewer, most), abs=1e-5)
    known = row_of(result["rows"], method=name, **form)
    same = row_of(rows, text="own", windows=3)
    for key in ("perplexity", "more", "beside_plain"):
        assert same[key] == known[key]
    texts = measure.wrong_texts(
        calibration_windows(context, 3, SETTINGS.seed), context.config.model.vocab_size, 0
    )
    letters = replace(context.config.data, corpus="letters", validation_stories=None)
    texts["other"] = calibration_windows(context, 3, SETTINGS.seed, data=letters)
    for kind, ids in texts.items():
        lm, method = LanguageModel.load(context.folder), QUANTIZERS.load(name)
        quantize(lm.model, method, method.Settings(activations="float", **form), ids)
        row = row_of(rows, text=kind)
        losses = window_losses(context, lm.model)
        assert row["beside_most"] == pytest.approx(interval(losses, most), abs=1e-5)


def test_wrong_texts_are_as_long_and_say_nothing() -> None:
    ids = torch.randint(4, 50, (6, 40), generator=torch.Generator().manual_seed(1))
    texts = measure.wrong_texts(ids, 50, seed=2)
    assert list(texts) == ["shuffled", "even"]
    for text in texts.values():
        assert text.shape == ids.shape and text.dtype == torch.int64
        assert (text == ids).float().mean() < 0.2
    assert torch.equal(texts["shuffled"].flatten().sort().values, ids.flatten().sort().values)
    drawn = measure.wrong_texts(ids.repeat(50, 1), 50, seed=2)["even"]
    assert set(drawn.flatten().tolist()) == set(range(4, 50))
    again = measure.wrong_texts(ids, 50, seed=2)
    assert all(torch.equal(texts[kind], again[kind]) for kind in texts)
    assert not torch.equal(measure.wrong_texts(ids, 50, seed=3)["even"], texts["even"])


def test_its_figure_holds_the_measured_points(result: dict[str, Any]) -> None:
    left, right = quantization_figure(result).axes
    points = sum(len(each[0].get_xdata()) for each in left.containers)
    assert points == len(result["rows"])
    assert sum(len(each[0].get_xdata()) for each in right.containers) == len(result["calibration"])
    first = left.containers[0][0]
    by_group = [r for r in result["rows"] if r["method"] == "rtn" and r["granularity"] == "group"]
    assert list(first.get_xdata()) == [8 * r["bytes"] / result["weights"] for r in by_group]
    heights = [100 * math.expm1(r["more"][0]) for r in by_group]
    assert list(first.get_ydata()) == pytest.approx(heights)
    names = [label.get_text() for label in right.get_xticklabels()]
    assert names == ["1", "3", "no\norder", "drawn\nevenly", "other\ncorpus"]


def test_another_corpus_is_left_out_if_it_is_the_runs_or_cannot_be_read(
    context: Context, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = result["other"]["unknown_rate"]
    assert result["other"] == {"corpus": "letters", "unknown_rate": rate, "read": True}
    tokenizer = LanguageModel.load(context.folder).tokenizer
    own = replace(SETTINGS, other="stories")
    said, ids = measure._other_text(context, own, tokenizer, 3)
    assert (said, ids) == ({"corpus": "stories", "unknown_rate": None, "read": False}, None)
    monkeypatch.setattr(measure, "MANY_UNKNOWN", rate / 2)
    said, ids = measure._other_text(context, SETTINGS, tokenizer, 3)
    assert (said, ids) == ({"corpus": "letters", "unknown_rate": rate, "read": False}, None)


def test_methods_without_the_width_are_not_calibrated_at_it() -> None:
    narrow = {name: QUANTIZERS.load(name) for name in ("rtn", "nf4")}
    assert measure._calibrated(narrow, 3) == {}
    assert measure._calibrated({"gptq": QUANTIZERS.load("gptq")}, 3) == {
        "gptq": ("gptq", 3, "group")
    }


def test_a_quantized_run_is_refused(context: Context, tmp_path: Path) -> None:
    out = tmp_path / "smaller"
    quantize_run(context, out, "rtn", QUANTIZERS.load("rtn").Settings())
    with pytest.raises(CompressionError, match="is quantized already"):
        measure.run(replace(context, folder=out))
