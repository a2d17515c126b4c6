"""Training a classifier: it learns, it goes on bit for bit, and a frozen body stays as it was."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.tiny import COMMANDS, tiny_model, tiny_tokenizer
from tinylm.config import TrainingConfig
from tinylm.config.finetuning import ClassificationConfig
from tinylm.data.labelled import LabelledData, LabelledRow
from tinylm.errors import AdapterError, ConfigError, DataError
from tinylm.experiments.classifying import (
    Classified,
    ClassifierRecipe,
    TextClassifier,
    classify,
)
from tinylm.experiments.context import SilentConsole
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.finetuning.classification import Classifier, trained
from tinylm.language_model import LanguageModel
from tinylm.model.weights import model_weights
from tinylm.training.tracking import read_metrics

FILLER = ["the", "sat", "on", "mat", ".", "red", "ball", "saw"]


def rows(count: int, seed: int) -> list[LabelledRow]:
    """Texts of three to six words, one of which is cat or dog: their label, at any place."""
    random = np.random.default_rng(seed)
    chosen = []
    for i in range(count):
        words = list(random.choice(FILLER, random.integers(2, 6)))
        label = ("cat", "dog")[i % 2]
        words.insert(int(random.integers(len(words) + 1)), label)
        chosen.append(LabelledRow(" ".join(words), label))
    return chosen


DATA = LabelledData(rows(64, 0), rows(20, 1), ("cat", "dog"))


def language_model(**settings: Any) -> LanguageModel:
    return LanguageModel(tiny_model(**settings).eval(), tiny_tokenizer())


def recipe(steps: int = 80, **settings: Any) -> ClassifierRecipe:
    training = TrainingConfig(
        learning_rate=1e-2,
        batch_size=8,
        max_steps=steps,
        checkpoint_interval=3,
        threads=1,
        device="cpu",
        tensorboard=False,
    )
    return ClassifierRecipe(
        ClassificationConfig(**settings), training, "toy", DATA.fingerprint(), 8
    )


def train(
    folder: Path, how: ClassifierRecipe, console: SilentConsole | None = None, **model: Any
) -> Classified:
    lm = language_model(**model)
    return classify(lm, DATA, how, folder, console or SilentConsole(), COMMANDS)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("body", ["lora", "full"])
def test_a_separable_task_is_learnt(tmp_path: Path, body: str, bidirectional: bool) -> None:
    console = SilentConsole()
    result = train(
        tmp_path / "one", recipe(body=body, bidirectional=bidirectional), console, dropout=0.1
    )
    assert result.scores.accuracy == 1
    assert result.scores.macro_f1 == 1
    assert result.scores.majority == 0.5
    assert result.steps == 80
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        "classifier.json",
        "classifier.safetensors",
        "finetuning.json",
        "metrics.jsonl",
    ]
    records = read_metrics(tmp_path / "one")
    assert [record["step"] for record in records] == list(range(8, 88, 8))
    assert min(record["loss"] for record in records) < 0.1
    assert sum("accuracy" in note for note in console.notes) == 10
    assert "64 training texts (cat 32, dog 32), 20 validation texts" in console.notes[0]

    lm = language_model(dropout=0.1)
    again = TextClassifier.load(lm, tmp_path / "one")
    texts = [row.text for row in DATA.validation]
    assert torch.equal(again.probabilities(texts), result.model.probabilities(texts))
    assert again.scores(DATA.validation) == result.scores
    assert again.probabilities(["the cat sat"]).argmax() == 0


def test_a_frozen_body_stays_the_same_bits(tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in model_weights(tiny_model()).items()}
    for bidirectional in (False, True):
        folder = tmp_path / str(bidirectional)
        result = train(folder, recipe(16, body="frozen", bidirectional=bidirectional))
        after = model_weights(result.model.lm.model)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
        hidden = 16
        assert result.trained == 2 * hidden + 2 + (hidden if bidirectional else 0)


def test_a_frozen_body_without_cls_reads_every_text_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = recipe(24, body="frozen", pooler=True)
    with monkeypatch.context() as patched:
        patched.setattr(Classifier, "has_fixed_features", False)
        asked_every_time = train(tmp_path / "slow", how, dropout=0.1)
    reads: list[int] = []
    plain = Classifier.features

    def counted(self: Classifier, ids: Tensor, *rest: Any) -> Tensor:
        reads.append(len(ids))
        return plain(self, ids, *rest)

    monkeypatch.setattr(Classifier, "features", counted)
    result = train(tmp_path / "quick", how, dropout=0.1)
    assert sum(reads) == 64 + 20 + 20  # both splits, and the scores of what is kept
    for row, other in zip(
        trained(result.model.classifier).values(),
        trained(asked_every_time.model.classifier).values(),
        strict=True,
    ):
        assert torch.allclose(row, other, atol=1e-5)


def test_lora_leaves_the_weights_below_it_alone(tmp_path: Path) -> None:
    before = model_weights(tiny_model())["layers.0.attention.output.weight"].clone()
    result = train(tmp_path / "one", recipe(8, body="lora"))
    name = "layers.0.attention.output.base.weight"
    assert torch.equal(dict(result.model.lm.model.named_parameters())[name], before)


class Interrupting(SilentConsole):
    """Presses Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Callable[..., None]]:
        def done(amount: float) -> None:
            if amount == self.step:
                os.kill(os.getpid(), signal.SIGINT)

        yield done


@pytest.mark.parametrize("step", [5, 16])
@pytest.mark.parametrize(
    "settings",
    [
        {"body": "lora"},
        {"body": "full", "bidirectional": True},
        {"body": "frozen", "bidirectional": True, "pooler": True},
        {"body": "frozen"},
    ],
    ids=str,
)
def test_an_interrupted_training_goes_on_bit_for_bit(
    tmp_path: Path, settings: dict[str, Any], step: int
) -> None:
    how = recipe(24, **settings)
    train(tmp_path / "whole", how, dropout=0.1)
    with pytest.raises(StoppedBySignalError, match=f"after step {step}, saved; go on: GO ON"):
        train(tmp_path / "parts", how, Interrupting(step), dropout=0.1)
    with pytest.raises(AdapterError, match="is not finished: go on: GO ON"):
        TextClassifier.load(language_model(dropout=0.1), tmp_path / "parts")
    # A setting that the version which began it did not know counts as the default.
    file = tmp_path / "parts/finetuning.json"
    about = json.loads(file.read_text())
    del about["checksum"]  # which it did not write either
    del about["training"]["speed"], about["settings"]["epochs"]
    file.write_text(json.dumps(about))
    console = SilentConsole()
    train(tmp_path / "parts", how, console, dropout=0.1)
    assert f"Going on after step {step} of 24" in console.notes
    for name in ("classifier.safetensors", "classifier.json", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(tmp_path / name, recipe(8))
    first, second = (
        (tmp_path / name / "classifier.safetensors").read_bytes() for name in ("one", "two")
    )
    assert first == second


def test_what_else_a_folder_may_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    train(folder, recipe(8))
    with pytest.raises(ConfigError, match="is finished: choose another --name"):
        train(folder, recipe(8))
    with pytest.raises(ConfigError, match=r"another settings.body .*: choose another --name"):
        train(folder, recipe(8, body="full"))
    with pytest.raises(AdapterError, match="on the base"):
        TextClassifier.load(language_model(seed=1), folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/file").touch()
    with pytest.raises(ConfigError, match="holds something else already"):
        train(tmp_path / "other", recipe(8))


def test_texts_are_cut_and_unknown_labels_refused(tmp_path: Path) -> None:
    model = train(tmp_path / "one", recipe(8)).model
    texts = ["the cat sat on the mat and the dog ran .", "the cat"]
    ids, cut = model.rows(texts)
    assert [len(row) for row in ids] == [8, 3]
    assert cut == 1
    assert torch.allclose(model.probabilities(texts)[0], model.probabilities(texts[:1])[0])
    with pytest.raises(DataError, match="label 'cow' is none of the classifier's"):
        model.scores([LabelledRow("the cow", "cow")])
    with pytest.raises(DataError, match="at least one text"):
        model.probabilities([])


def test_a_context_that_cannot_be_is_refused(tmp_path: Path) -> None:
    how = recipe(8)
    wrong = ClassifierRecipe(how.settings, how.training, how.data, how.fingerprint, 9)
    with pytest.raises(ConfigError, match="a classifier reads 2 to the model's 8"):
        train(tmp_path / "one", wrong)
    assert not (tmp_path / "one").exists()
