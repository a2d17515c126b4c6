"""The experiment on families of models, made small, and each of its parts by other means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.report.encoders_made_up import result as made_up
from tests.report.encoders_made_up import training as made_up_training
from tests.training.tiny import stop_training
from tinylm.config import ModelConfig, RunConfig, load_config
from tinylm.data.windows import IGNORED, ShuffledOrder, windows_of
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.encoders import measure, trainings
from tinylm.experiments.encoders.asking import FORMS, choices, losses_by_context, right_choices
from tinylm.experiments.encoders.costs import by_context, training_speed
from tinylm.experiments.encoders.readings import at, at_budget, budget_step, gap
from tinylm.experiments.encoders.settings import EncodersExperiment
from tinylm.experiments.encoders.trainings import Text, config_of, texts
from tinylm.experiments.encoders.variants import (
    TOLERANCE,
    Variant,
    flops_per_token,
    matched,
    variants,
)
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.model.base import GenerativeModel, build
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import MODELS
from tinylm.tokenizers.base import SOS_ID

SETTINGS = EncodersExperiment(
    kinds=("decoder", "prefix-lm", "lstm"), stories=300, items=200, num_layers=1, num_heads=2,
    hidden_size=24, context_length=40, item_context=40, tokens_per_step=80, steps=4, item_steps=6,
    points=2, held_out=4, asked=4, contexts=(8, 48), measured_context=8, given=(2, 8, 60), tail=4,
    places=3, questions=8, rounds=1, seeds=2,
)  # fmt: skip
CONTINUING = [kind for kind in MODELS if MODELS.load(kind).view in ("whole", "rest")]


def context_of(folder: Path, settings: EncodersExperiment = SETTINGS) -> Context:
    config = load_config(overrides=[f"data.cache_folder={folder / 'cache'}", "training.threads=1"])
    experiments = replace(config.experiments, encoders=settings)
    made: RunConfig = replace(config, experiments=experiments)
    return Context(folder / "run", made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def both(folder: Path) -> list[Text]:
    return texts(context_of(folder))


def small(text: Text, kind: str) -> GenerativeModel:
    torch.manual_seed(0)
    return build(text.models[kind]).eval()


def test_it_is_json_with_a_value_each_seed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an interrupted run goes on with what is missing, to the same numbers."""
    context = context_of(folder)
    whole = json.loads(json.dumps(measure.run(context), allow_nan=False))
    names = [variant["name"] for variant in whole["variants"]]
    assert names == ["decoder", "decoder-rest", "prefix-lm", "lstm"]
    assert [variant["predicts"] for variant in whole["variants"]] == [
        "whole", "rest", "rest", "whole",
    ]  # fmt: skip
    for text in whole["texts"]:
        assert [row["name"] for row in text["trainings"]] == names
        used = [row["steps"] * row["flops_per_token"] for row in text["trainings"]]
        for row in text["trainings"]:
            assert max(used) - min(used) <= row["flops_per_token"]  # half a step of each
            assert row["curve"][-1]["step"] == row["steps"] >= text["common_steps"]
            assert all(len(point["loss"]) == 2 for point in row["curve"])
            assert ("accuracy" in row["curve"][0]) == (text["name"] == "translation")
        assert text["common_steps"] == (4 if text["name"] == "stories" else 6)
        sizes = [row["parameters"] for row in text["trainings"]]
        assert max(sizes) <= min(sizes) * (1 + TOLERANCE) ** 2
    for name in names:
        assert [len(seeds) for seeds in whole["contexts"]["losses"][name]] == [2, 2, 2]
        for form in whole["questions"]["forms"]:
            assert len(form["right"][name]) == 2
    assert list(whole["costs"]) == ["decoder", "prefix-lm", "lstm"]
    assert not (context.folder / "encoders").exists()  # trainings are deleted

    started = stop_training(monkeypatch, 2)
    with pytest.raises(StoppedBySignalError, match="tinylm experiment encoders --run"):
        measure.run(context)
    again = measure.run(context)
    assert started[:3] == [0, 0, 1]  # the first is kept and the second goes on
    assert len(started) == 1 + 16  # 4 variants, 2 texts, 2 seeds
    for before, after in zip(whole["texts"], again["texts"], strict=True):
        assert [row["curve"] for row in before["trainings"]] == [
            row["curve"] for row in after["trainings"]
        ]
    assert again["contexts"] == whole["contexts"]


def test_what_was_measured_is_measured_again_where_it_is_damaged_or_of_other_settings(
    both: list[Text], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, variant = both[1], Variant("lstm")
    first = trainings.measured(text, variant, 7, lambda lm: {"more": 1})
    assert trainings.measured(text, variant, 7, lambda lm: {"more": 2}) == first
    path = text.context.folder / "encoders" / "translation-lstm-7" / "measured.json"
    path.write_text(path.read_text("utf-8").replace("more", "less"), "utf-8")
    assert trainings.measured(text, variant, 7, lambda lm: {"more": 3})["more"] == 3
    changed = context_of(folder, replace(SETTINGS, learning_rate=1e-3))
    other = trainings.measured(replace(text, context=changed), variant, 7, lambda lm: {"more": 4})
    assert other["more"] == 4
    assert other["curve"][-1]["loss"] != first["curve"][-1]["loss"]


@pytest.mark.parametrize("kind", CONTINUING)
def test_every_kind_that_continues_gets_as_many_parameters(kind: str) -> None:
    """As a built model has them."""
    settings = replace(SETTINGS, kinds=tuple(dict.fromkeys(("decoder", kind))), hidden_size=32)
    model = matched(kind, settings, 500, 32)
    sizes = [
        sum(parameter.numel() for parameter in build(each).parameters())
        for each in (matched("decoder", settings, 500, 32), model)
    ]
    assert abs(sizes[1] / sizes[0] - 1) <= TOLERANCE
    assert sizes[1] == parameter_counts(model)["total"]


@pytest.mark.parametrize("kind", CONTINUING)
def test_the_width_is_the_nearest(kind: str) -> None:
    settings = replace(SETTINGS, kinds=tuple(dict.fromkeys(("decoder", kind))), hidden_size=32)
    model = matched(kind, settings, 500, 32)
    target = parameter_counts(matched("decoder", settings, 500, 32))["total"]

    def distance(width: int) -> int:
        other = replace(model, hidden_size=width, head_dim=None, ffn_size=None)
        return abs(parameter_counts(other)["total"] - target)

    assert distance(model.hidden_size) == min(map(distance, range(1, 80)))


def test_what_cannot_be_compared_is_refused() -> None:
    for change, words in (
        ({"kinds": ("decoder", "lstm", "decoder")}, "kinds: decoder stands there twice"),
        ({"kinds": ("decoder", "masked")}, "masked does not learn to continue"),
        ({"tokens_per_step": 30}, r"tokens_per_step = 30 is less than a window of 40"),
        ({"questions": 6}, "questions = 6: .* multiple of 4"),
    ):
        with pytest.raises(ConfigError, match=rf"experiments\.encoders\..*{words}"):
            variants(replace(SETTINGS, **change))
    with pytest.raises(ConfigError, match="hidden_size = 1: the nearest lstm has"):
        matched("lstm", replace(SETTINGS, hidden_size=1), 10, 16)


def test_the_first_kind_alone_is_trained_in_two_ways() -> None:
    both_ways = variants(SETTINGS)
    assert [(each.kind, each.predicts) for each in both_ways] == [
        ("decoder", "whole"), ("decoder", "rest"), ("prefix-lm", "rest"), ("lstm", "whole"),
    ]  # fmt: skip
    assert len(variants(replace(SETTINGS, kinds=("prefix-lm", "lstm")))) == 2


def test_a_training_predicts_what_its_view_says(both: list[Text]) -> None:
    """Counted by the trainer, beside the labels of the windows in its order."""
    text = both[0]
    counted = {}
    for variant in (Variant("decoder"), Variant("decoder", "rest")):
        config = config_of(text, variant, 0)
        whole = windows_of(text.data.train, config.model)
        seen = windows_of(text.data.train, config.model, view=config.training.view)
        order = ShuffledOrder(len(whole), text.batch_size, 0)
        chosen = [index for _ in range(text.steps("decoder")) for index in order.next()]
        counted[variant.view] = seen.num_targets(chosen), whole.num_targets(chosen)
        run = replace(text.context, folder=text.context.folder / variant.name)
        values = trainings.train_trial(
            run, config, "encoders", variant.name, trainings._remedy(run)
        )
        assert values["tokens_seen"] == counted[variant.view][0]
    assert counted[None][0] == counted[None][1]
    assert 0.1 < counted["rest"][0] / counted["rest"][1] < 0.8


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model.kind=prefix-lm", "for kinds of models that predict all of a window"),
        ("data.corpus=pairs", "has no effect with data.corpus = pairs"),
    ],
)
def test_a_view_without_effect_is_refused(setting: str, words: str) -> None:
    config = load_config(overrides=["training.view=rest", setting])
    with pytest.raises(ConfigError, match=rf"training\.view = rest .*{words}"):
        prepare_data(config, SilentConsole())


@pytest.mark.parametrize("kind", ["decoder", "prefix-lm", "lstm"])
def test_losses_by_context_are_those_of_each_place(both: list[Text], kind: str) -> None:
    """Longer than the windows of training too."""
    text = both[0]
    model = small(text, kind)
    tokens, tail, places = text.data.validation, 4, 3
    losses = losses_by_context(model, tokens, (2, 60), tail, places)
    longer = build(replace(model.config, context_length=80)).eval()
    longer.load_state_dict(model.state_dict())
    size = tokens.header.num_tokens
    starts = torch.linspace(60, size - tail, places, dtype=torch.float64).int().tolist()
    for given, loss in zip((2, 60), losses, strict=True):
        sums = 0.0
        for start in starts:
            ids = torch.tensor(tokens.ids[start - given : start + tail].astype("int64"))[None]
            with torch.no_grad():
                logits = longer(ids[:, :-1], given=torch.tensor([given]))
            logs = logits.log_softmax(-1)[0, given - 1 :]
            sums -= float(logs.gather(1, ids[0, given:, None]).sum())
        assert loss == pytest.approx(sums / (tail * places), rel=1e-5)


def test_too_short_a_text_for_a_context_is_refused(both: list[Text]) -> None:
    with pytest.raises(DataError, match=r"tokens, too few .* experiments\.encoders\.given"):
        losses_by_context(small(both[0], "lstm"), both[0].data.validation, (10**6,), 4, 3)


class _Fixed:
    """A model that gives each token the same logits everywhere."""

    def __init__(self, model: GenerativeModel, logits: torch.Tensor) -> None:
        with torch.no_grad():
            model.unembedding.weight.zero_()
            model.unembedding.bias.copy_(logits)
        self.model = model


@pytest.mark.parametrize("form", FORMS)
def test_whoever_goes_by_one_of_the_words_is_right_in_one_half(both: list[Text], form: str) -> None:
    tokenizer = both[0].data.tokenizer
    asked = choices(form, tokenizer, 40, 0)
    assert len(asked) == len({each.text for each in asked}) == 40
    for four in zip(*[iter(asked)] * 4, strict=True):
        if form == "binding":
            assert sum(each.text.startswith(each.answer) for each in four) == 2
        else:
            assert all(each.text.startswith(f"{each.answer} had") for each in four)
            assert not any(each.wrong in each.text for each in four)
        assert len({frozenset((each.answer, each.wrong)) for each in four}) == 1
    torch.manual_seed(1)
    fixed = _Fixed(small(both[0], "decoder"), torch.randn(tokenizer.vocab_size))
    assert sum(right_choices(fixed.model, tokenizer, asked)) == 20
    if form == "binding":  # the order alone, seen from the texts themselves
        assert (
            sum(each.text.index(each.answer) < each.text.index(each.wrong) for each in asked) == 20
        )


@pytest.mark.parametrize("kind", ["decoder", "prefix-lm", "lstm"])
def test_the_likelier_name_is_the_answer(both: list[Text], kind: str) -> None:
    tokenizer, model = both[0].data.tokenizer, small(both[0], kind)
    asked = choices("binding", tokenizer, 16, 3)
    right = []
    for each in asked:
        ids = torch.tensor([[SOS_ID, *tokenizer.encode(each.text)]])
        [answer], [wrong] = tokenizer.encode(each.answer), tokenizer.encode(each.wrong)
        with torch.no_grad():
            last = model(ids, given=torch.tensor([ids.shape[1]]))[0, -1]
        right.append(bool(last[answer] > last[wrong]))
    assert right_choices(model, tokenizer, asked) == right


def test_a_vocabulary_without_names_is_refused(both: list[Text]) -> None:
    with pytest.raises(DataError, match=r"lacks words .* experiments\.encoders\.stories"):
        choices("recall", both[1].data.tokenizer, 4, 0)


def test_costs_are_measured_where_short_and_what_is_kept_is_what_was_planned(
    both: list[Text],
) -> None:
    rows = by_context(both[0].context, both[0])
    for kind, lengths in rows.items():
        short, long = lengths
        assert (short["context"], long["context"]) == (8, 48)
        assert short["step"]["rounds"] >= 1 and short["step_bytes"] > 0
        assert long["step"] is None and long["step_bytes"] is None
        assert long["planned_step_bytes"] > short["planned_step_bytes"] > 0
        for row in lengths:
            assert row["state_bytes"] == row["planned_state_bytes"], kind
    assert rows["lstm"][0]["state_bytes"] == rows["lstm"][1]["state_bytes"]
    assert rows["decoder"][1]["state_bytes"] == 6 * rows["decoder"][0]["state_bytes"]


def test_speed_tells_the_targets_of_a_token(both: list[Text]) -> None:
    speed = training_speed(both[0].context, both[0])
    assert speed["decoder"]["targets"] == speed["lstm"]["targets"] == 1
    assert 0.3 < speed["decoder-rest"]["targets"] == speed["prefix-lm"]["targets"] < 0.8
    assert all(row["quick"]["median_s"] > 0 < row["plain"]["median_s"] for row in speed.values())


def test_held_out_targets_are_the_same_for_all(both: list[Text]) -> None:
    batch = both[0].held_out.batch(both[0].chosen or range(4))
    assert batch.given is not None
    first = (batch.labels != IGNORED).int().argmax(1)
    assert torch.equal(first, batch.given - 1)


def test_points_are_read_off_between_those_measured() -> None:
    row = made_up_training("decoder", [2.0, 3.0])  # 4, 3 and 2 after 100, 200 and 400 steps
    assert at(row, 200) == [3.0, 4.0]
    assert at(row, 400) == [2.0, 3.0]
    halfway: Sequence[float] | None = at(row, (200 * 400) ** 0.5)
    assert halfway == pytest.approx([2.5, 3.5])
    assert at(row, 401) is None
    assert at(row, 99) is None


def test_budgets_are_equal_amounts() -> None:
    made: dict[str, Any] = made_up(steps={"lstm": 800})
    text = made["texts"][0]
    decoder, rest, _, lstm = text["trainings"]
    assert [budget_step(text, row, "tokens") for row in (decoder, lstm)] == [200, 200]
    assert [budget_step(text, row, "operations") for row in (decoder, lstm)] == [400, 800]
    assert [budget_step(text, row, "time") for row in (decoder, lstm)] == [400, 400]
    assert [budget_step(text, row, "targets") for row in (decoder, rest)] == [100, 200]
    lstm["quick"] = {"median_s": 0.001}  # 800 steps in 0.8 s, in which the decoder takes 80
    assert budget_step(text, decoder, "time") == pytest.approx(80)
    assert at_budget(text, "decoder", "time") is None
    assert gap(text, "decoder-rest", "decoder", "targets").value == pytest.approx(-1.0)


def test_operations_are_those_of_planning(both: list[Text]) -> None:
    model: ModelConfig = both[0].models["lstm"]
    hidden, size = model.hidden_size, model.resolved_vocab_size
    assert flops_per_token(model) == 3 * (2 * 2 * 4 * hidden**2 + 2 * hidden * size)
