"""The experiment on distillation, on a run of a second."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.experiments.test_efficiency import with_settings
from tests.training.tiny import stop_training, tiny_run
from tinylm.checkpoint import load_training_state
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import RunConfig, from_dict
from tinylm.data.windows import ShuffledOrder, TokenWindows
from tinylm.errors import ConfigError
from tinylm.evaluation.bleu import bleu
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.context import Context, run_experiment
from tinylm.experiments.distillation import measure
from tinylm.experiments.distillation.comparing import average, beside_alone
from tinylm.experiments.distillation.figures import distillation_figure
from tinylm.experiments.distillation.settings import DistillationExperiment
from tinylm.experiments.distillation.students import config_of_students, trained, ways
from tinylm.experiments.distilling import distill
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.language_model import LanguageModel
from tinylm.registry import DISTILLATIONS
from tinylm.tokenizers.base import EOS_ID
from tinylm.training.loop import Trainer

SETTINGS = DistillationExperiment(
    methods=("word", "both"),
    steps=3,
    seeds=2,
    texts=6,
    prompt_tokens=3,
    num_beams=2,
    windows=6,
    stories=3,
    new_tokens=5,
    tokens=4,
    repeats=2,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A trained run of two layers that ends its texts."""
    folder = tmp_path_factory.mktemp("distillation")
    made = tiny_run(
        folder / "run",
        folder / "cache",
        *("model.num_layers=2", "model.context_length=24", "training.max_steps=20"),
        *("training.learning_rate=3e-3", "evaluation.prompt_tokens=3"),
    )
    run_experiment("training", made)
    lm = LanguageModel.load(made.folder)
    assert lm.source is not None
    with torch.no_grad():
        lm.model.unembedding.bias[EOS_ID] += 2.8
    state = load_training_state(lm.source)
    save_checkpoint(made.folder / "checkpoints", lm.model, lm.tokenizer, state, last=False)
    return with_settings(made, distillation=SETTINGS)


@pytest.fixture(scope="module")
def result(whole: Context) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(json.dumps(measure.run(whole)))
    return made


def tokens_of(whole: Context, seed: int) -> int:
    """Return the tokens that three steps of four windows predict: one window is short."""
    lm = LanguageModel.load(whole.folder)
    split = encoded_split(whole.config.data, lm.tokenizer, "train", whole.console)
    windows = TokenWindows(split, 24)
    order = ShuffledOrder(len(windows), 4, seed)
    tokens = sum(windows.batch(order.next()).num_targets for _ in range(3))
    assert 0 <= 3 * 4 * 24 - tokens < 24
    return tokens


def test_each_method_has_a_student_of_each_seed_beside_those_alone(
    whole: Context, result: dict[str, Any]
) -> None:
    names = [method["name"] for method in result["methods"]]
    assert names == ["alone", *SETTINGS.methods]
    for method in result["methods"]:
        assert [student["seed"] for student in method["students"]] == [0, 1]
        assert all(0 <= student[key] <= 100 for student in method["students"] for key in
                   ("greedy", "beam"))  # fmt: skip
    losses = {student["loss"] for method in result["methods"] for student in method["students"]}
    assert len(losses) == 2 * len(names)
    assert result["tokens"] == tokens_of(whole, seed=0)
    assert set(result["sample"]["texts"]) == {"teacher", *names}
    assert result["student"]["weights"] < result["teacher"]["weights"]
    assert (result["student"]["hidden_size"], result["student"]["num_layers"]) == (8, 1)
    texts = result["texts"]
    assert 0 < texts["beginnings"] - texts["left_out"] <= SETTINGS.texts
    assert not (whole.folder / "distillation").exists()
    assert distillation_figure(result).axes


@pytest.mark.parametrize("method", ["word", "both"])
def test_a_student_is_the_one_that_the_command_makes(
    whole: Context, result: dict[str, Any], method: str, tmp_path: Path
) -> None:
    config = config_of_students(whole, LanguageModel.load(whole.folder)).training
    row = next(each for each in result["methods"] if each["name"] == method)
    own = ["texts=6", "prompt_tokens=3", "num_beams=2"] if method == "both" else []
    made = distill(
        whole.folder,
        tmp_path / "out",
        method,
        [
            *("model.num_layers=1", "model.hidden_size=8", "training.seed=1", "vectors.seed=0"),
            *(f"training.learning_rate={config.learning_rate}", "training.max_steps=3"),
            *(f"training.warmup_steps={config.warmup_steps}", "training.validation_windows=6"),
            *("training.validation_interval=3", "training.compile=false"),
            *own,
        ],
    )
    student = row["students"][1]
    assert student["loss"] == made["best"]["loss"]
    lm = LanguageModel.load(tmp_path / "out")
    split = encoded_split(whole.config.data, lm.tokenizer, "validation", whole.console)
    windows = TokenWindows(split, lm.model.config.context_length)
    loss = split_loss(lm.model, windows, 4, windows.fixed_subset(6)).mean
    assert student["loss"] == pytest.approx(loss, rel=1e-5)
    # BLEU, from texts that are generated one by one.
    for strategy in ("greedy", "beam"):
        made_texts, true_texts = [], []
        chosen = [0, round((len(split) - 1) / 2), len(split) - 1]
        for story in (split.story(place).tolist() for place in chosen):
            prompt = lm.tokenizer.decode(story[:4])
            text = lm.generate(
                prompt, strategy=strategy, num_beams=2, max_new_tokens=5, allow_unk=True
            )
            made_texts.append(text.text.removeprefix(prompt).strip())
            ids = story[:-1][: 4 + len(text.ids)]
            true_texts.append(lm.tokenizer.decode(ids).removeprefix(prompt).strip())
        assert student[strategy] == pytest.approx(bleu(made_texts, true_texts).corpus)


def test_an_interrupted_one_goes_on_and_keeps_what_is_finished(
    whole: Context, result: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started = stop_training(monkeypatch, 3)
    with pytest.raises(StoppedBySignalError, match="tinylm experiment distillation --run"):
        measure.run(whole)
    again = measure.run(whole)
    assert started == [0, 0, 0, 1, 0, 0, 0]  # the first two are kept, the third goes on
    for before, after in zip(result["methods"], again["methods"], strict=True):
        for first, second in zip(before["students"], after["students"], strict=True):
            assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_a_student_of_other_settings_is_made_anew(
    whole: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = LanguageModel.load(whole.folder)
    way = ways(SETTINGS)[1]
    config = config_of_students(whole, lm)
    started: list[int] = []
    run = Trainer.run

    def counted(self: Trainer) -> Any:
        started.append(self.step)
        return run(self)

    monkeypatch.setattr(Trainer, "run", counted)

    def loss(way: Any, config: RunConfig) -> float:
        student = trained(whole, LanguageModel.load(whole.folder), way, config, 0)
        return float(student.result["best"]["loss"])

    first = loss(way, config)
    assert loss(way, config) == first and len(started) == 1
    hot = replace(way, settings=replace(way.settings, temperature=2.0))
    assert loss(hot, config) != first and len(started) == 2
    longer = replace(config, training=replace(config.training, learning_rate=1e-3))
    assert loss(way, longer) != first and len(started) == 3
    # A damaged record is told and its student made again.
    record = whole.folder / "distillation/word-0/distillation.json"
    record.write_text("{}", "utf-8")
    assert loss(way, config) == first and len(started) == 4


def test_alone_is_plain_training_and_every_method_takes_the_settings_it_has() -> None:
    given = DistillationExperiment(methods=tuple(DISTILLATIONS), temperature=3.0, texts=7)
    alone, *others = ways(given)
    assert alone.settings.alpha == 0
    assert [way.name for way in others] == list(DISTILLATIONS)
    for way in others:
        assert getattr(way.settings, "temperature", 3.0) == 3.0
        assert getattr(way.settings, "texts", 7) == 7
    assert len(ways(replace(given, methods=("word", "word")))) == 2


def test_differences_pair_the_seeds() -> None:
    def method(*losses: float) -> dict[str, Any]:
        return {"students": [{"loss": loss} for loss in losses]}

    alone, other = method(1.0, 2.0, 3.0), method(1.1, 2.1, 3.1)
    difference = beside_alone({"methods": [alone, other]}, other, "loss")
    assert difference.value == pytest.approx(0.1)
    assert difference.ends == pytest.approx((0.1, 0.1))
    assert average(other, "loss") == pytest.approx(math.exp(2.1))
    # Student's interval of the differences 0.1, 0.2 and 0.6: t = 4.3027 at two degrees.
    far = method(1.1, 2.2, 3.6)
    difference = beside_alone({"methods": [alone, far]}, far, "loss")
    reach = 4.302653 * math.sqrt(0.07 / 3)
    assert difference.ends == pytest.approx((0.3 - reach, 0.3 + reach))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 64}, "hidden_size = 64: such a student has [\\d,]+ numbers and its teach"),
        ({"num_layers": 2, "hidden_size": 16}, "num_layers = 2 and hidden_size = 16: such a stud"),
        ({"prompt_tokens": 24}, "distillation.prompt_tokens = 24: a context of 24 tokens leaves"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_trained(
    whole: Context, changed: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Trainer, "run")
    with pytest.raises(ConfigError, match=message) as error:
        measure.run(with_settings(whole, distillation=replace(SETTINGS, **changed)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"methods": []}, "experiments.distillation.methods"),
        ({"methods": ["wrod"]}, "unknown distillation method 'wrod'; did you mean word"),
        ({"seeds": 0}, "experiments.distillation.seeds = 0: must be at least 1"),
        ({"rate": 0}, "experiments.distillation.rate = 0: must be greater than 0"),
        ({"repeats": 1}, "experiments.distillation.repeats = 1: must be at least 2"),
    ],
)
def test_bad_settings_are_one_line(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        from_dict(RunConfig, {"experiments": {"distillation": changed}}, "test")
    assert "\n" not in str(error.value)
