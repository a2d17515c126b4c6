"""The lab on low-rank factorisation, on a tiny run: what it says is so by other means."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinylm.data.token_files import TokenFile
from tinylm.errors import CheckpointError, DataError
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.lab_svd import measure as lab_svd
from tinylm.experiments.lab_svd.settings import SvdLab
from tinylm.experiments.lab_texts import rows_loss, two_kinds
from tinylm.experiments.preparation import encoded_split
from tinylm.finetuning.factorisation import decompose
from tinylm.language_model import LanguageModel

RANKS = (1, 4, 16)
SETTINGS = SvdLab(
    ranks=RANKS, competitors=4, validation_windows=8, steps=8, stories=4, learning_rate=3e-3
)


def with_lab(context: Context, settings: SvdLab) -> Context:
    experiments = replace(context.config.experiments, lab_svd=settings)
    return replace(context, config=replace(context.config, experiments=experiments))


@pytest.fixture(scope="module")
def result(tiny_context: Context) -> dict[str, Any]:
    return lab_svd.run(with_lab(tiny_context, SETTINGS))


def test_it_is_json_and_leaves_torch_as_it_was(tiny_context: Context) -> None:
    threads = torch.get_num_threads()
    result = lab_svd.run(with_lab(tiny_context, replace(SETTINGS, steps=1)))
    json.dumps(result, allow_nan=False)
    assert torch.get_num_threads() == threads


def test_a_matrix_of_rank_two_is_recovered() -> None:
    example = lab_svd.worked_example()
    matrix = np.array(example["matrix"])
    assert example["rank"] == np.linalg.matrix_rank(matrix) == 2
    assert example["values"] == pytest.approx(np.linalg.svd(matrix, compute_uv=False), abs=1e-12)
    np.testing.assert_allclose(
        np.array(example["left"]) @ np.array(example["right"]), matrix, atol=1e-12
    )
    assert example["largest_error"] < 1e-12
    assert example["rank_1_error"] == pytest.approx(example["values"][1])
    assert example["parameters"] == 2 * (6 + 5)
    a, b, *others = matrix
    for row, expected in zip(others, (a + b, a - b, 2 * a, 2 * b - a), strict=True):
        assert (row == expected).all()


def test_truncation_is_the_best_that_a_rank_allows(result: dict[str, Any]) -> None:
    rows = result["best"]["rows"]
    assert [row["rank"] for row in rows] == [1, 4]  # the full rank has no competitors
    for row in rows:
        for norm in ("frobenius", "spectral"):
            assert row["measured"][norm] == pytest.approx(row["tail"][norm], rel=1e-9)
            assert row["competitor"][norm] > row["measured"][norm]
    assert rows[1]["relative"] < rows[0]["relative"] < 1


def test_nobody_wins_even_among_many(tiny_lm: LanguageModel) -> None:
    weight = lab_svd.weight_matrices(tiny_lm.model)["layers.0.feed_forward.expand"]
    (row,) = lab_svd.competition(weight, decompose(weight), [15], 200, 0)
    assert row["competitor"]["frobenius"] >= row["measured"]["frobenius"]


def test_spectra_are_those_of_the_checkpoint(
    result: dict[str, Any], tiny_lm: LanguageModel
) -> None:
    state = tiny_lm.model.state_dict()
    assert {row["name"] for row in result["matrices"]} == {
        *("embedding", "unembedding", "layers.0.attention.query_key_value"),
        *("layers.0.attention.output", "layers.0.feed_forward.expand"),
        "layers.0.feed_forward.contract",
    }
    for row in result["matrices"]:
        weight = state[f"{row['name']}.weight"].double().numpy()
        values = np.linalg.svd(weight, compute_uv=False)
        assert (row["rows"], row["columns"]) == weight.shape
        assert row["weight"]["values"] == pytest.approx(values, rel=1e-5)
        assert row["weight"]["norm"] == pytest.approx(np.linalg.norm(weight))
        shares = values / values.sum()
        entropy = math.exp(-(shares * np.log(shares)).sum())
        assert row["weight"]["effective_rank"] == pytest.approx(entropy)
        assert 1 <= entropy <= row["weight"]["rank"] <= row["weight"]["full_rank"]
        energies = list(row["weight"]["energy_ranks"].values())
        assert energies == sorted(energies)
        assert row["break_even_rank"] == pytest.approx(
            row["rows"] * row["columns"] / (row["rows"] + row["columns"])
        )


def test_a_shared_matrix_is_counted_once() -> None:
    first = torch.nn.Linear(3, 5, bias=False)
    model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(5, 3), "unembedding": first})
    first.weight = model["embedding"].weight  # type: ignore[assignment]
    assert list(lab_svd.weight_matrices(model)) == ["embedding"]


def test_cutting_less_errs_less_and_cutting_nothing_costs_nothing(
    result: dict[str, Any], tiny_lm: LanguageModel
) -> None:
    for name, group in result["cut"]["groups"].items():
        errors = [row["relative_error"] for row in group["rows"]]
        assert errors == sorted(errors, reverse=True), name
        assert errors[-1] == 0
        assert group["rows"][-1]["loss"] == result["cut"]["loss"]
        assert group["rows"][-1]["stored"] == group["parameters"]
        assert group["rows"][0]["stored"] < group["parameters"]
        assert group["rows"][0]["before"] is None
        for before, row in pairwise(group["rows"]):
            value, low, high = row["before"]
            assert value == pytest.approx(row["loss"] - before["loss"]) and low < value < high
    groups = result["cut"]["groups"]
    for key in ("parameters", "matrices"):
        parts = sum(groups[name][key] for name in ("attention", "feed-forward"))
        assert groups["all"][key] == parts
    sizes = {p: w.numel() for p, w in lab_svd.weight_matrices(tiny_lm.model).items()}
    assert groups["all"]["parameters"] == sum(
        size for path, size in sizes.items() if "embedding" not in path
    )


def test_the_update_is_cut_from_nothing_to_the_whole(result: dict[str, Any]) -> None:
    update = result["update"]
    rows = update["ranks"]
    assert [row["rank"] for row in rows] == [0, *RANKS]
    assert rows[0]["stored"] == 0
    assert rows[-1]["losses"] == pytest.approx(update["after"])
    assert update["after"]["chosen"] < update["before"]["chosen"]
    for kind in ("chosen", "others"):
        change = update["after"][kind] - update["before"][kind]
        value, low, high = update["change"][kind]
        assert value == pytest.approx(change, abs=1e-9) and low < value < high
        for row in rows:
            value, low, high = row["whole"][kind]
            change = row["losses"][kind] - update["after"][kind]
            assert value == pytest.approx(change, abs=1e-9) and low <= value <= high
    assert rows[-1]["whole"]["chosen"] == pytest.approx([0, 0, 0], abs=1e-6)
    # Only vectors differ from the model before at rank 0.
    whole = abs(update["after"]["chosen"] - update["before"]["chosen"])
    assert abs(rows[0]["losses"]["chosen"] - update["before"]["chosen"]) < whole
    assert all(row["relative_norm"] > 0 for row in result["matrices"])


def test_the_checkpoint_is_left_alone(tiny_context: Context, tiny_lm: LanguageModel) -> None:
    before = {key: value.clone() for key, value in tiny_lm.model.state_dict().items()}
    lab_svd.run(with_lab(tiny_context, replace(SETTINGS, steps=1, ranks=(1,))))
    after = LanguageModel.load(tiny_context.folder).model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_same_settings_give_the_same_numbers(
    tiny_context: Context, result: dict[str, Any]
) -> None:
    again = lab_svd.run(with_lab(tiny_context, SETTINGS))
    for timed in (again, result):
        timed["update"]["seconds"] = 0.0
    assert again == result


def test_ranks_are_chosen_by_the_largest_matrix(tiny_context: Context) -> None:
    assert lab_svd.default_ranks([3, 128]) == (1, 2, 4, 8, 16, 32, 64, 96, 128)
    assert lab_svd.default_ranks([1]) == (1,)
    # A rank above a matrix's own leaves it whole.
    result = lab_svd.run(with_lab(tiny_context, replace(SETTINGS, steps=1, ranks=(999,))))
    assert result["cut"]["groups"]["all"]["rows"][0]["loss"] == result["cut"]["loss"]
    assert result["best"]["rows"] == []


# --- two kinds of stories ---


def splits(context: Context, lm: LanguageModel) -> tuple[TokenFile, TokenFile]:
    train, validation = (
        encoded_split(context.config.data, lm.tokenizer, split, SilentConsole())
        for split in ("train", "validation")
    )
    return train, validation


def test_stories_are_told_apart_by_their_dialogue(
    tiny_context: Context, tiny_lm: LanguageModel
) -> None:
    train, validation = splits(tiny_context, tiny_lm)
    kinds = two_kinds(train, validation, tiny_lm.tokenizer, 0.25, 5, 24)
    assert kinds.name == "dialogue"
    assert len(kinds.train) == len(train) // 4
    assert len(kinds.chosen) == len(kinds.others) == 5
    assert kinds.shares["chosen"] > kinds.shares["others"]
    assert max(map(len, [*kinds.train, *kinds.chosen])) <= 25
    with pytest.raises(DataError, match=r"set a share of 0\.5 or less, or give more stories"):
        two_kinds(train, validation, tiny_lm.tokenizer, 0.6, 5, 24)


def test_the_loss_of_stories_is_a_mean_over_their_tokens(
    tiny_context: Context, tiny_lm: LanguageModel
) -> None:
    _, validation = splits(tiny_context, tiny_lm)
    stories = [validation.story(i)[:25] for i in range(3)]
    expected, tokens = 0.0, 0
    for story in stories:
        ids = torch.from_numpy(story.astype(np.int64))
        with torch.no_grad():
            logits = tiny_lm.model(ids[None, :-1])[0].double().log_softmax(-1)
        expected -= float(logits[torch.arange(len(ids) - 1), ids[1:]].sum())
        tokens += len(ids) - 1
    for size in (1, 3):
        assert rows_loss(tiny_lm.model, stories, size) == pytest.approx(expected / tokens, rel=1e-5)


def test_a_run_without_a_checkpoint_is_refused(tiny_context: Context, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        lab_svd.run(replace(tiny_context, folder=tmp_path))
