"""The fine-tuning experiment on a run of a few seconds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinylm.config import DataConfig, GenerationConfig, RunConfig
from tinylm.config.finetuning import PromptConfig
from tinylm.data.corpora.letters import build_letter
from tinylm.experiments.adapting import FULL
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.finetuning import measure as finetuning
from tinylm.experiments.finetuning import measure_costs as finetuning_costs
from tinylm.experiments.finetuning.longer_context import _windows, extend_context
from tinylm.experiments.finetuning.measure import LORA_PLUS, ways
from tinylm.experiments.finetuning.settings import FinetuningExperiment
from tinylm.experiments.lab_texts import Story, rows_loss
from tinylm.experiments.preparation import encoded_split
from tinylm.finetuning.adapters import adapter_of, attach, trained_parameters
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.quantized import QuantizedWeight
from tinylm.registry import METHODS

SETTINGS = FinetuningExperiment(
    texts=40,
    stories=6,
    steps=6,
    seeds=2,
    batch_size=4,
    rank=4,
    ranks=(1, 4),
    dimensions=(16, 64),
    context_factor=2,
    context_steps=2,
    sample_tokens=3,
    new_tokens=3,
    repeats=2,
)


@pytest.fixture(scope="module")
def context(tiny_context: Context) -> Context:
    config: RunConfig = tiny_context.config
    return replace(
        tiny_context,
        config=replace(config, experiments=replace(config.experiments, finetuning=SETTINGS)),
    )


class Watched:
    """What the experiment trained, and the models that it measured."""

    def __init__(self) -> None:
        self.trainings: list[dict[str, Any]] = []
        self.base: dict[str, torch.Tensor] = {}
        self.setting: Any = None


@pytest.fixture(scope="module")
def watched(context: Context) -> tuple[Watched, dict[str, Any]]:
    """Run the experiment once, with every training written down."""
    seen = Watched()
    train_on = finetuning.train_on
    methods = finetuning._methods

    def noted(
        model: DecoderLM, stories: Any, config: Any, steps: int, progress: Callable[[float], None]
    ) -> DecoderLM:
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        seen.trainings.append(
            {"stories": stories, "config": config, "steps": steps, "trained": trained}
        )
        return train_on(model, stories, config, steps, progress)

    def kept(setting: Any, compared: Any) -> Any:
        seen.setting = setting
        seen.base = {name: t.clone() for name, t in setting.base.state_dict().items()}
        return methods(setting, compared)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "train_on", noted)
        patch.setattr(finetuning, "_methods", kept)
        result = finetuning.run(context)
    return seen, result


@pytest.fixture(scope="module")
def result(watched: tuple[Watched, dict[str, Any]]) -> dict[str, Any]:
    return watched[1]


def test_every_method_has_its_row(result: dict[str, Any]) -> None:
    assert json.loads(json.dumps(result)) == result
    names = [row["name"] for row in result["methods"]]
    assert names[0] == FULL
    assert set(names) == {FULL, LORA_PLUS, *METHODS}
    assert len(set(names)) == len(names)
    for row in result["methods"]:
        assert math.isfinite(row["target_loss"]) and math.isfinite(row["base_loss"])
        assert row["trained"] > 0
        assert row["peak_bytes"] > 4 * row["trained"]
        assert row["step"]["rounds"] >= SETTINGS.repeats
        speed = row["generation"]["tokens_per_second"]
        assert speed == pytest.approx(6 * SETTINGS.new_tokens / row["generation"]["median_s"])


def test_all_take_the_same_steps_on_the_same_rows(
    watched: tuple[Watched, dict[str, Any]],
) -> None:
    seen, _ = watched
    # full, LoRA+; LoRA again; rank 1 (4 is there); dimensions
    assert len(seen.trainings) == len(METHODS) + 2 + 1 + 1 + 2
    first = seen.trainings[0]
    for training in seen.trainings:
        assert training["steps"] == SETTINGS.steps
        assert training["stories"] is first["stories"]
        assert replace(training["config"], learning_rate=1.0) == replace(
            first["config"], learning_rate=1.0
        )
    assert (first["config"].schedule, first["config"].batch_size) == ("constant", 4)


def test_the_base_is_the_model_of_the_run_before_and_after(
    watched: tuple[Watched, dict[str, Any]], context: Context
) -> None:
    seen, result = watched
    own = LanguageModel.load(context.folder).model.state_dict()
    assert own.keys() == seen.base.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in seen.base.items())
    now = seen.setting.base.state_dict()
    assert all(torch.equal(now[name], tensor) for name, tensor in seen.base.items())
    assert seen.setting.losses(seen.setting.base) == result["before"]


def test_learning_is_measured_on_letters_and_forgetting_on_stories_that_nothing_trained_on(
    watched: tuple[Watched, dict[str, Any]], context: Context
) -> None:
    seen, result = watched
    base, texts = seen.setting.base, seen.setting.texts
    assert result["before"]["base_loss"] == rows_loss(base, texts.own, 4)
    assert result["before"]["target_loss"] == rows_loss(base, texts.target, 4)
    assert seen.trainings[0]["stories"] is texts.train
    room = context.config.model.context_length - PromptConfig().length
    tokenizer = LanguageModel.load(context.folder).tokenizer
    letters = {
        split: [[2, *tokenizer.encode(build_letter(0, split, i)), 3] for i in range(number)]
        for split, number in (("train", SETTINGS.texts), ("validation", SETTINGS.stories))
    }
    for split, rows in (("train", texts.train), ("validation", texts.target)):
        expected = finetuning.in_pieces([np.array(ids) for ids in letters[split]], room)
        assert [row.tolist() for row in rows] == [row.tolist() for row in expected]
    stories = encoded_split(context.config.data, tokenizer, "validation", SilentConsole())
    known = [stories.story(i).tolist() for i in range(len(stories))]
    starts = [row.tolist() for row in texts.own if row[0] == 2]
    assert len(starts) == SETTINGS.stories == result["own_texts"]
    assert all(any(story[: len(start)] == start for story in known) for start in starts)
    assert result["target"]["name"] == "letters"
    assert result["target"]["train_texts"] == SETTINGS.texts
    flat = [token for ids in letters["train"] for token in ids[1:-1]]
    assert result["target"]["unknown_rate"] == pytest.approx(flat.count(1) / len(flat))


def test_lora_is_trained_again_with_other_random_numbers(
    watched: tuple[Watched, dict[str, Any]],
) -> None:
    _, result = watched
    lora = next(row for row in result["methods"] if row["name"] == "lora")
    for key in ("target_loss", "base_loss"):
        first, second = result["repeats"][key]
        assert first == lora[key]
        assert second != first


def test_samples_continue_both_kinds_of_text(result: dict[str, Any]) -> None:
    assert [sample["kind"] for sample in result["samples"]] == ["target", "target", "own"]
    assert result["samples"][0]["prompt"].startswith("Dear")
    for sample in result["samples"]:
        assert set(sample["texts"]) == {"base", FULL, "lora"}


def test_other_text_can_be_named(context: Context, tmp_path: Path) -> None:
    def target(name: str | None, **data: Any) -> DataConfig:
        config = context.config
        experiment = replace(SETTINGS, target=name)
        return finetuning.target_data(
            replace(
                config,
                data=replace(config.data, **data),
                experiments=replace(config.experiments, finetuning=experiment),
            )
        )

    assert (target(None).corpus, target("stories").corpus) == ("letters", "stories")
    assert target(None, corpus="letters").corpus == "stories"
    assert target(None, corpus="files", path="texts.txt").path is None
    files = target(str(tmp_path), train_stories=5)
    assert (files.corpus, files.path) == ("files", str(tmp_path))
    assert (files.train_stories, files.validation_stories) == (SETTINGS.texts, SETTINGS.stories)


def test_lora_plus_differs_from_lora_in_its_rates_alone(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["methods"]}
    lora, plus = rows["lora"]["settings"], rows[LORA_PLUS]["settings"]
    assert {key for key in lora if lora[key] != plus[key]} == {"learning_rate_ratio"}
    assert plus["learning_rate_ratio"] == 16
    assert rows[LORA_PLUS]["method"] == "lora"
    assert rows[LORA_PLUS]["target_loss"] != rows["lora"]["target_loss"]


def test_merged_where_there_is_something_to_merge(result: dict[str, Any]) -> None:
    merged = {row["name"] for row in result["methods"] if row["generation_merged"]}
    assert merged == {"lora", LORA_PLUS, "dylora", "qlora", "longlora", "intrinsic", "ia3"}


def test_ranks_and_dimensions_are_those_asked_for(result: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in result["methods"]}
    assert [row["rank"] for row in result["ranks"]] == [1, 4]
    first, second = result["ranks"]
    assert second["trained"] == 4 * first["trained"] == rows["lora"]["trained"]
    assert [row["rank"] for row in result["dylora"]] == [1, 2, 3, 4]
    assert result["dylora"][-1]["target_loss"] == rows["dylora"]["target_loss"]
    assert len({row["target_loss"] for row in result["dylora"]}) == 4
    assert [row["dimension"] for row in result["dimensions"]["rows"]] == [16, 64]
    assert rows["intrinsic"]["trained"] == rows["intrinsic"]["settings"]["dimension"]


def test_a_rank_that_is_there_is_measured_as_if_trained(
    watched: tuple[Watched, dict[str, Any]],
) -> None:
    """The row taken over from the comparison is that of a training of its own."""
    seen, result = watched
    lora = next(way for way in ways(8, seen.setting.base) if way.name == "lora")
    assert (lora.settings.rank, lora.settings.alpha) == (8, 16)
    own = replace(lora, settings=replace(lora.settings, rank=4, alpha=8.0))
    model = seen.setting.adapted(own)
    kept = next(row for row in result["ranks"] if row["rank"] == 4)
    assert seen.setting.losses(model)["target_loss"] == kept["target_loss"]


def test_bytes_in_four_bits_are_counted(result: dict[str, Any], small_model: Any) -> None:
    row = next(row for row in result["methods"] if row["name"] == "qlora")
    held = row["quantized"]
    # hidden 16: query, key and value 48 x 16, output 16 x 16, feed-forward 2 x 64 x 16
    assert held["weights"] == 16 * (48 + 16 + 2 * 64)
    assert held["code_bytes"] == held["weights"] / 2
    assert held["float_bytes"] == 4 * held["weights"]
    blocks = held["weights"] / 64
    assert held["constant_bytes"] == blocks + 4 * (4 + 4)  # a scale and a mean a matrix
    assert [r["name"] for r in result["methods"] if r["quantized"]] == ["qlora"]
    assert finetuning_costs.quantized(small_model()) is None


@pytest.mark.parametrize("method", ["lora", "qlora", "longlora"])
def test_memory_counts_what_is_held(
    small_model: Any, context: Context, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rests between steps: matrices in 4 bits, and what copies stand in for, too."""
    training = replace(context.config.training, batch_size=2, precision="fp32")
    stories = [np.arange(9) % 20 + 2] * 4
    model: Any = attach(small_model(), method, METHODS.load(method).Settings(rank=2))
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    monkeypatch.setattr(finetuning_costs, "peak_bytes", lambda work, device: work() or 0)
    measured = finetuning_costs.step_memory(model, training, stories)
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    trained = trained_parameters(model, "default").values()
    moments = sum(8 * p.numel() + 4 for p in trained)  # two, and the count of steps
    own = sum(4 * p.numel() for p in adapter_of(model, "default").own.values())
    assert measured == held + moments + own
    assert (own > 0) == (method == "longlora")
    assert any(m.num_bytes for m in model.modules() if isinstance(m, QuantizedWeight)) == (
        method == "qlora"
    )
    after = dict(model.named_parameters())
    assert all(torch.allclose(after[name], before[name], atol=1e-20) for name in before)


def test_sizes_are_those_of_the_files(small_model: Any) -> None:
    model = small_model()
    parameters = sum(p.numel() for p in model.parameters())
    assert finetuning_costs.size(model) == {"trained": parameters, "bytes": 4 * parameters}
    adapted: Any = attach(model, "lora", METHODS.load("lora").Settings(rank=2))
    trained = sum(p.numel() for p in trained_parameters(adapted, "default").values())
    measured = finetuning_costs.size(adapted)
    assert measured["trained"] == trained
    assert 4 * trained < measured["bytes"] < 4 * trained + 4096


def test_merging_for_the_clock_leaves_the_model_alone(small_model: Any) -> None:
    model: Any = attach(small_model(), "lora", METHODS.load("lora").Settings(rank=2))
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.normal_()
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        before = model.eval()(ids)
        plain = finetuning_costs._merged(model)
        assert plain is not None
        assert not [name for name, _ in plain.named_parameters() if "lora" in name]
        assert torch.equal(model(ids), before)
        assert torch.allclose(plain(ids), before, atol=1e-4)
    assert finetuning_costs._merged(small_model()) is None
    prefix: Any = attach(small_model(), "prefix", METHODS.load("prefix").Settings())
    assert finetuning_costs._merged(prefix) is None


# --- pieces and windows ---


def stories_of(*stories: list[int]) -> list[Story]:
    return [np.array(story) for story in stories]


def test_pieces_predict_every_token_but_the_first_once() -> None:
    stories = stories_of(list(range(10)), list(range(20, 25)), [30, 31])
    pieces = finetuning.in_pieces(stories, 4)
    shown = [piece.tolist() for piece in pieces]
    assert shown == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8], [8, 9], [20, 21, 22, 23, 24], [30, 31]]
    predicted = [token for piece in shown for token in piece[1:]]
    assert predicted == [*range(1, 10), *range(21, 25), 31]


def test_windows_of_the_longer_context_are_whole() -> None:
    joined = _windows(stories_of(list(range(5)), list(range(5, 13))), 4)
    assert [window.tolist() for window in joined] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_a_longer_context_leaves_the_base_alone(small_model: Any, context: Context) -> None:
    base = small_model(context_length=8, dropout=0.0)
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    rows = [list(range(3, 20)) for _ in range(4)]
    done: list[int] = []
    result = extend_context(
        base,
        stories_of(*rows),
        stories_of(*rows[1:]),
        16,
        replace(context.config.training, batch_size=2, precision="fp32"),
        2,
        lambda method, model: METHODS.load(method).Settings(rank=2),
        1,
        lambda: done.append(1),
    )
    assert (result["context_length"], result["extended"], result["windows"]) == (8, 16, 3)
    assert [row["method"] for row in result["rows"]] == ["none", "lora", "longlora"]
    assert len(done) == 2
    assert all(math.isfinite(row["within"]) and math.isfinite(row["beyond"])
               for row in result["rows"])  # fmt: skip
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())
    assert base.config.context_length == 8
    assert "step" not in result["rows"][0]
    assert result["rows"][2]["trained"] > result["rows"][1]["trained"]  # embeddings and norms


def test_too_little_text_for_a_window_is_no_error(small_model: Any, context: Context) -> None:
    result = extend_context(
        small_model(context_length=8),
        stories_of(list(range(5))),
        stories_of(list(range(5))),
        16,
        context.config.training,
        2,
        lambda method, model: METHODS.load(method).Settings(rank=2),
        1,
        lambda: None,
    )
    empty: dict[str, Any] = {"within": [], "beyond": []}
    assert result["rows"] == [{"method": "none", "within": None, "beyond": None, "windows": empty}]


def test_the_speeds_are_of_equal_texts(small_model: Any, context: Context) -> None:
    lora: Any = attach(small_model(), "lora", METHODS.load("lora").Settings(rank=2))
    training = replace(context.config.training, batch_size=2, precision="fp32")
    stories = [np.arange(9) % 20 + 2] * 4
    result = finetuning_costs.measure_speeds(
        {"full": small_model().requires_grad_(), "lora": lora},
        training,
        stories,
        [[2, 5, 6, 7, 8, 9, 10]] * 3,
        replace(SETTINGS, new_tokens=4),
        SilentConsole(),
    )
    assert result["full"]["generation_merged"] is None
    for name, key in (
        ("full", "generation"),
        ("lora", "generation"),
        ("lora", "generation_merged"),
    ):
        timing = result[name][key]
        assert timing["tokens_per_second"] == pytest.approx(3 * 4 / timing["median_s"])
    assert GenerationConfig().linear == "packed"


def test_a_method_gets_no_rank_that_its_matrices_lack(small_model: Any) -> None:
    model = small_model(hidden_size=12, ffn_size=5)
    by_name = {way.name: way for way in ways(64, model)}
    assert by_name["lora"].settings.rank == 5
    for way in by_name.values():
        if way.method not in (FULL, "intrinsic", "prompt"):
            way.start(model, 0)


def test_the_result_hangs_on_its_settings(context: Context, tmp_path: Path) -> None:
    from tinylm.experiments.origins import origin

    config = context.config
    other = replace(
        config,
        experiments=replace(config.experiments, finetuning=replace(SETTINGS, rank=2)),
    )
    assert origin("finetuning", config, tmp_path) != origin("finetuning", other, tmp_path)
