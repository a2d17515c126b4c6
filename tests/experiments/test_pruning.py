"""The experiment on pruning, on a run of a second."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.experiments.test_efficiency import with_settings
from tests.training.tiny import tiny_run
from tinylm.compression.masking import targets
from tinylm.config import RunConfig
from tinylm.config.finetuning import EVERY_PROJECTION
from tinylm.errors import CompressionError
from tinylm.experiments.block_losses import perplexity_of
from tinylm.experiments.compressing import count_weights
from tinylm.experiments.context import Context, run_experiment
from tinylm.experiments.pruned import Pruning, prune_into, prune_run
from tinylm.experiments.pruning import heads, measure
from tinylm.experiments.pruning.comparing import by_share
from tinylm.experiments.pruning.figures import pruning_figure
from tinylm.experiments.pruning.settings import PruningExperiment
from tinylm.experiments.pruning.sparse import sparse_products
from tinylm.language_model import LanguageModel
from tinylm.registry import PRUNERS

SHARES = (0.5, 0.9)
STEPS = 3
SETTINGS = PruningExperiment(
    shares=SHARES,
    retrain_steps=STEPS,
    windows=4,
    tokens=4,
    sparse_shares=(0.5, 0.99),
    stories=6,
    repeats=2,
)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of two layers and four heads."""
    folder = tmp_path_factory.mktemp("pruning")
    made = tiny_run(
        folder / "run",
        folder / "cache",
        *("model.num_layers=2", "model.num_heads=4", "model.head_dim=4", "model.dropout=0"),
        *("training.max_steps=20", "training.learning_rate=3e-3"),
    )
    run_experiment("training", made)
    return with_settings(made, pruning=SETTINGS)


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    return measure.run(context)


def settings_of(name: str) -> Any:
    kind = PRUNERS.load(name).Settings
    return kind(windows=SETTINGS.windows) if "windows" in kind.__dataclass_fields__ else kind()


@pytest.mark.parametrize("name", PRUNERS)
def test_a_row_is_what_the_command_makes(
    context: Context, result: dict[str, Any], name: str, tmp_path: Path
) -> None:
    method = next(method for method in result["methods"] if method["name"] == name)
    row = by_share(method)[0.5]
    rate = context.config.training.learning_rate * SETTINGS.retrain_rate
    asked = Pruning(name, 0.5, settings_of(name), STEPS, rate)
    written = prune_into(context, tmp_path / "out", asked)
    losses = written["details"]["losses"]
    for key, when in (("losses", "pruned"), ("after", "after")):
        loss = math.log(perplexity_of(row[key], result["tokens"]))
        assert loss == pytest.approx(losses[when], abs=2e-5)
    size = written["after"]
    assert (row["weights"], row["nonzero"], row["bytes"]) == tuple(size.values())
    assert row["compressed"] < row["bytes"]
    assert method["removes"] is PRUNERS.load(name).removes
    assert {row["share"] for row in method["rows"]} | {
        each["share"] for each in method["refused"]
    } == set(SHARES)


def test_numbers_that_are_left_are_counted(context: Context, result: dict[str, Any]) -> None:
    model = LanguageModel.load(context.folder).model
    maps = targets(model, EVERY_PROJECTION, (torch.nn.Linear,))
    sizes = [module.weight.numel() for module in maps.values()]
    whole = result["whole"]
    assert (whole["weights"], whole["nonzero"]) == count_weights(model)
    first = result["methods"][0]
    assert not first["removes"]
    for share, row in by_share(first).items():
        untrained = whole["nonzero"] - sum(round(share * size) for size in sizes)
        assert row["weights"] == whole["weights"]
        assert untrained <= row["nonzero"] <= untrained + len(sizes)


def test_all_that_remove_and_one_that_masks_are_timed(result: dict[str, Any]) -> None:
    removing = [name for name in PRUNERS if PRUNERS.load(name).removes]
    assert result["timed"][1:] == removing
    assert not PRUNERS.load(result["timed"][0]).removes
    for method in result["methods"]:
        for row in method["rows"]:
            assert ("decoding" in row, "step" in row) == ((method["name"] in result["timed"],) * 2)
    assert {"decoding", "step"} < set(result["whole"])


def test_a_sparse_product_is_the_dense_one(
    context: Context, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, Any] = {}

    def watched(work: Any, rounds: int, progress: Any) -> Any:
        made.update({(len(made), name): each() for name, each in work.items()})
        return {name: measure.Measurement.of([1.0, 1.0]) for name in work}

    monkeypatch.setattr("tinylm.experiments.pruning.sparse.run_interleaved", watched)
    monkeypatch.setattr("tinylm.experiments.pruning.sparse._WORK", 1.0)
    model = LanguageModel.load(context.folder).model
    sparse = sparse_products(context, model, torch.device("cpu"))
    assert (sparse["rows"], sparse["columns"]) == (64, 16)  # four times the width, the width
    products = list(made.values())
    assert len(products) == 8
    for dense, product in zip(products[::2], products[1::2], strict=True):
        torch.testing.assert_close(product, dense, rtol=1e-4, atol=1e-5)
    assert [row["share"] for row in result["sparse"]["token"]["rows"]] == [0.5, 0.99]
    assert result["sparse"]["batch"]["tokens"] == 4 * 16


def test_heads_go_in_the_order_of_the_command(context: Context, result: dict[str, Any]) -> None:
    told = result["heads"]
    lm = LanguageModel.load(context.folder)
    settings = PRUNERS.load("heads").Settings(count=3, windows=SETTINGS.windows)
    details = prune_run(context, lm, Pruning("heads", None, settings)).record.details
    correlations = []
    for layer, removed in enumerate(details["removed"]):
        rows = [row for row in told["heads"] if row["layer"] == layer]
        assert [row["head"] for row in sorted(rows, key=lambda row: row["place"])][:3] == removed
        correlations.append(
            spearmanr([row["place"] for row in rows], [row["worth"][0] for row in rows]).statistic
        )
    assert told["correlation"] == pytest.approx(np.mean(correlations))
    # Half of the heads, in the order of removal, is the row of that share.
    method = next(method for method in result["methods"] if method["name"] == "heads")
    assert told["without"]["removal"][1] == pytest.approx(by_share(method)[0.5]["losses"])
    assert [len(each) for each in told["without"].values()] == [3, 3]


def test_orders_by_lot_are_those_of_all_permutations() -> None:
    places, values = [[0, 1, 2, 3]], [[0.1, 0.3, 0.2, 0.4]]
    measured, by_lot = heads._agreement(places, values)
    assert measured == pytest.approx(spearmanr(places[0], values[0]).statistic)
    every = [spearmanr(order, values[0]).statistic for order in itertools.permutations(places[0])]
    assert by_lot == pytest.approx(np.mean(np.array(every) >= measured - 1e-9), abs=0.02)


def test_it_is_drawn(result: dict[str, Any]) -> None:
    figure = pruning_figure(result)
    assert [len(axes.lines) for axes in figure.axes] == [8, 8, 9, 3]
    untrained = pruning_figure(result | {"steps": 0})
    assert [axes.axison for axes in untrained.axes] == [True, False, True, True]


def test_what_no_method_can_prune_is_refused(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise CompressionError("the model is quantized already")

    for name in PRUNERS:
        monkeypatch.setattr(PRUNERS.load(name), "prune", refuse)
    with pytest.raises(CompressionError, match="the model is quantized already"):
        measure.run(context)


def test_heads_that_cannot_go_are_told(context: Context) -> None:
    lm = LanguageModel.load(context.folder)
    single = heads.keep_heads(lm.model, [[0], [1]])
    told = heads.heads_that_go(
        context,
        LanguageModel(single, lm.tokenizer, lm.source),
        torch.ones(2, 8).long(),
        lambda _: [],
    )
    assert "of 1 heads" in told["refused"]


def test_settings_are_held_to_shares() -> None:
    for shares in ((), (0.0,), (1.0,)):
        with pytest.raises(ValueError, match="shares"):
            PruningExperiment(shares=shares)
    assert isinstance(RunConfig().experiments.pruning, PruningExperiment)
