"""Runs that are trained on pairs: rows, their losses, going on, and all that follows training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.reader import reader
from tests.training.tiny import (
    metrics_without_clock,
    state_without_clock,
    stop_training,
    tiny_run,
)
from tinylm.config import ModelConfig, load_config
from tinylm.data.corpora.skills import SkillsCorpus
from tinylm.data.token_files import TokenFile, write_pair_file
from tinylm.data.windows import IGNORED, PairRows, windows_of
from tinylm.errors import ConfigError, DataError, GenerationError
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.prediction import predict
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.language_model import LanguageModel
from tinylm.model.base import build
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.tasks.responses import ResponseModelling, Row
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.tokenizers.word import WordSettings, WordTokenizer

__all__ = ["reader"]
TEXTS = [
    ("the dog runs", "talo ra ."),
    ("a cat", "mire"),
    ("the big dog saw a cat and the bird", "miren talo dora vetu ."),
    ("a bird", "keso ra ra ra"),
]


def words() -> WordTokenizer:
    every = [text for pair in TEXTS for text in pair]
    return WordTokenizer.train(every, WordSettings(min_frequency=1))


def pair_file(folder: Path) -> TokenFile:
    write_pair_file(folder / "pairs.tokens", TEXTS, words(), "texts", "train")
    return TokenFile(folder / "pairs.tokens", words(), "texts")


def rows() -> list[Row]:
    made = []
    for source, target in TEXTS:
        first = [SOS_ID, *words().encode(source)]
        made.append(Row((*first, *words().encode(target), EOS_ID), len(first)))
    return made


def model_of(kind: str = "decoder", **settings: Any) -> DecoderLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "hidden_size": 16, "dropout": 0.0}
    size, sizes = words().vocab_size, {"context_length": 20, **sizes, **settings}
    model = build(ModelConfig(kind=kind, vocab_size=size, **sizes))
    assert isinstance(model, DecoderLM)
    return model


# --- rows ---


@pytest.mark.parametrize("kind", ["decoder", "reader"])
@pytest.mark.usefixtures("reader")
def test_loss_and_gradients_are_those_of_targets_as_instruction_tuning_has_them(
    tmp_path: Path, kind: str
) -> None:
    model = model_of(kind).eval()
    windows = windows_of(pair_file(tmp_path), model.config)
    task = LanguageModelling(words(), windows, windows, 2)
    other = ResponseModelling(words(), rows(), rows(), "texts", 2)
    order = np.array([2, 0, 3, 1])
    kept = []
    for each in (task, other):
        model.zero_grad()
        loss, count = each.loss(model, each.batch(order))
        loss.backward()
        kept.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        # The mean over the tokens of targets and their ends, one prediction after the other.
        wanted = sum(_by_hand(model, row, row.given) for row in rows())
        assert count == sum(len(row.ids) - row.given for row in rows())
        assert float(loss.detach()) == pytest.approx(wanted, rel=1e-6)
        assert each.validate(model) == pytest.approx(wanted / count, rel=1e-6)
    for ours, theirs in zip(*kept, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert windows.num_targets(range(4)) == count
    assert windows.targets_each == count / 4
    assert windows.num_text_bytes == sum(len(target.encode()) for _, target in TEXTS)


@torch.no_grad()
def _by_hand(model: DecoderLM, row: Row, first: int) -> float:
    total = 0.0
    for place in range(first, len(row.ids)):
        given = torch.tensor([min(row.given, place)])
        x = model.residual(torch.tensor([row.ids[:place]]), given=given)
        total -= float(model.unembed(x[0, -1]).double().log_softmax(-1)[row.ids[place]])
    return total


def test_learning_sources_adds_their_labels_and_changes_no_measure(tmp_path: Path) -> None:
    model = model_of().eval()
    file = pair_file(tmp_path)
    plain, dense = (windows_of(file, model.config, learn_source=on) for on in (False, True))
    batch, learned = plain.batch([0, 2]), dense.batch([0, 2])
    assert torch.equal(batch.ids, learned.ids)
    for labels, target_only, row in zip(
        learned.labels.tolist(), batch.labels.tolist(), (rows()[0], rows()[2]), strict=True
    ):
        assert [label for label in labels if label != IGNORED] == list(row.ids[1:])
        assert [label for label in target_only if label != IGNORED] == list(row.ids[row.given :])
    task = LanguageModelling(words(), dense, plain, 2, measure_training=True)
    loss, count = task.loss(model, task.batch(np.arange(4)))
    assert count == dense.num_targets(range(4)) == sum(len(row.ids) - 1 for row in rows())
    total = sum(_by_hand(model, row, 1) for row in rows())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-6)
    assert task.training_loss(model) == pytest.approx(task.validate(model), rel=1e-12)


def test_rows_longer_than_the_context_are_left_out_whole(tmp_path: Path) -> None:
    file = pair_file(tmp_path)
    lengths = [len(row.ids) - 1 for row in rows()]
    longest = max(lengths)
    assert PairRows(file, longest).texts.tolist() == [0, 1, 2, 3]
    cut = PairRows(file, longest - 1)
    assert (cut.texts.tolist(), cut.left_out, len(cut)) == ([0, 1, 3], 1, 3)
    assert cut.longest == sorted(lengths)[-2]
    assert cut.batch([2]).ids[0].tolist() == list(rows()[3].ids[:-1])
    assert cut.num_text_bytes == sum(len(TEXTS[i][1]) for i in (0, 1, 3))
    assert windows_of(file, ModelConfig(context_length=longest - 1)).num_targets([2]) == 5
    with pytest.raises(DataError, match=r"no pair of the train split fits .* shortest has 4"):
        PairRows(file, 3)


# --- runs ---


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Translations that the grammar of tasks makes, each once."""
    config = load_config(
        overrides=["data.corpus=skills", "data.tasks=[translation]", "data.train_stories=300"]
    )
    items = {item.prompt: item.answer for item in SkillsCorpus(config.data).items("train")}
    path = tmp_path_factory.mktemp("pairs") / "tala.jsonl"
    lines = [json.dumps({"source": source, "target": items[source]}) for source in items]
    path.write_text("\n".join(lines))
    return path


def settings(pairs: Path, *more: str) -> list[str]:
    return [
        "data.corpus=pairs",
        f"data.path={json.dumps(str(pairs))}",
        "data.train_stories=null",
        "data.validation_stories=null",
        "model.context_length=32",
        "evaluation.num_stories=5",
        *more,
    ]


@pytest.fixture(scope="module")
def run(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of a decoder that learned some of it."""
    folder = tmp_path_factory.mktemp("pair-run")
    more = ("training.max_steps=150", "training.learning_rate=1e-2", "training.learn_source=true")
    context = tiny_run(folder / "run", folder / "cache", *settings(pairs, *more))
    run_experiment("training", context)
    return context


@pytest.mark.parametrize("kind", ["decoder", "reader"])
@pytest.mark.usefixtures("reader")
def test_training_goes_on_bit_for_bit(
    kind: str, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (
        f"model.kind={kind}",
        "training.log_interval=1",
        "training.validation_interval=1",
        "training.accumulation_steps=2",
    )
    folders = [tmp_path / "whole", tmp_path / "stopped"]
    contexts = [tiny_run(each, tmp_path / "cache", *settings(pairs, *more)) for each in folders]
    run_experiment("training", contexts[0])
    with monkeypatch.context() as patched:
        stop_training(patched, 1)
        with pytest.raises(StoppedBySignalError):
            run_experiment("training", contexts[1])
    run_experiment("training", open_run(folders[1], SilentConsole()))
    ends = [each / "checkpoints" / "step-12" for each in folders]
    for name in ("model.safetensors", "training.safetensors"):
        assert ends[0].joinpath(name).read_bytes() == ends[1].joinpath(name).read_bytes()
    assert state_without_clock(ends[0]) == state_without_clock(ends[1])
    assert metrics_without_clock(folders[0]) == metrics_without_clock(folders[1])


def test_the_source_is_the_prompt_and_what_follows_is_measured(run: Context, pairs: Path) -> None:
    result = run_experiment("evaluation", run)
    lm = LanguageModel.load(run.folder)
    targets = result["targets"]
    assert 0 <= targets["exact_match"] <= 1
    assert len(targets["texts"]) == 5
    encode = lm.tokenizer.encode
    held = [encode(json.loads(line)["source"]) for line in pairs.read_text().splitlines()]
    for text in targets["texts"]:
        assert encode(text["source"]) in held
        most = targets["max_new_tokens"]
        greedy = lm.generate(text["source"], strategy="greedy", max_new_tokens=most)
        after = greedy.text.removeprefix(greedy.prompt).strip()
        assert after.lower() == text["generated"].lower()
        assert text["equal"] is (greedy.finished and after.lower() == text["true"].lower())
    # The whole split: targets given their sources, none of the tokens of a source.
    total, count = 0.0, 0
    tokens = TokenFile(next((run.folder.parent / "cache").rglob("validation-*.tokens")))
    assert tokens.pairs is not None
    source, target = [], []
    for index, (given, _) in enumerate(tokens.pairs.tolist()):
        row = tokens.story(index).tolist()
        source.append(lm.tokenizer.decode(row[:given]))
        target.append(lm.tokenizer.decode(row[given:]))
        score = lm.score(target[-1], given=source[-1])
        total, count = total - score.log_probability, count + score.num_tokens
    assert result["validation"]["tokens"] == count
    assert result["validation"]["loss"] == pytest.approx(total / count, abs=1e-5)
    right = [lm.generate(text, strategy="greedy", max_new_tokens=20) for text in source]
    matches = [
        each.finished and each.ids == lm.tokenizer.encode(text)
        for each, text in zip(right, target, strict=True)
    ]
    assert targets["pairs"] == len(matches)
    assert targets["exact_match"] == pytest.approx(sum(matches) / len(matches))


def test_every_check_passes(run: Context) -> None:
    result = run_experiment("verification", run)
    assert result["failed"] == []
    assert result["passed"] >= 15


def test_the_plan_is_what_training_did(run: Context) -> None:
    _, plan = predict(run.config, SilentConsole())
    done = json.loads((run.folder / "results" / "training.json").read_text())
    for key in ("steps", "epochs", "tokens_seen", "windows_per_epoch"):
        assert plan[key] == pytest.approx(done[key]), key
    assert plan["unit"] == "pair"
    of_windows = done["tokens_seen"] / done["steps"]
    assert done["tokens_per_step"] == pytest.approx(of_windows, rel=0.1)


def test_pairs_that_do_not_fit_are_told(pairs: Path, tmp_path: Path) -> None:
    longer = tmp_path / "longer.jsonl"
    extra = {"source": "the dog saw " * 20, "target": "talo"}
    longer.write_text(pairs.read_text() + "\n" + json.dumps(extra))
    console = SilentConsole()
    context = tiny_run(tmp_path / "run", tmp_path / "cache", *settings(longer))
    run_experiment("training", Context(context.folder, context.config, console))
    told = [each for each in console.warnings if "left out" in each]
    assert len(told) == 1
    assert "are longer than model.context_length = 32 and are left out" in told[0]
    assert told[0].startswith("1 of ")


@pytest.mark.usefixtures("reader")
def test_settings_without_effect_are_refused(pairs: Path, tmp_path: Path) -> None:
    learn = "training.learn_source=true"
    with pytest.raises(ConfigError, match=r"no effect with model\.kind = reader, which reads"):
        tiny_run(tmp_path / "a", tmp_path / "c", *settings(pairs, learn, "model.kind=reader"))
    with pytest.raises(ConfigError, match=r"no effect with data\.corpus = stories, whose texts"):
        tiny_run(tmp_path / "a", tmp_path / "c", learn)
    config = load_config(
        overrides=[*settings(pairs), "training.carry_state=true", "model.kind=gru"]
    )
    with pytest.raises(ConfigError, match=r"carry_state = true has no effect on pairs"):
        prepare_data(config, SilentConsole())
    assert not (tmp_path / "a").exists()


# --- what needs a source ---


@pytest.fixture
def reading(reader: str) -> LanguageModel:
    return LanguageModel(model_of(reader).eval(), words())


def test_an_empty_prompt_is_refused_where_a_source_is_needed(reading: LanguageModel) -> None:
    calls: list[Callable[[], object]] = [
        lambda: reading.generate(""),
        lambda: reading.generate(["a cat", " \n"]),
        lambda: next(reading.stream("")),
        lambda: reading.trace_generation(""),
        lambda: reading.score("mire"),
        lambda: reading.score("mire", given=""),
    ]
    for call in calls:
        with pytest.raises(GenerationError) as caught:
            call()
        assert str(caught.value) == (
            "model.kind = reader reads a source and writes after it: give the text to read as the "
            "prompt"
        )
    assert reading.generate("a cat", max_new_tokens=3).text.startswith("a cat")


@pytest.mark.parametrize("kind", ["decoder", "reader"])
@pytest.mark.usefixtures("reader")
def test_a_text_is_scored_after_what_is_given(kind: str) -> None:
    lm = LanguageModel(model_of(kind).eval(), words())
    for row, (source, target) in zip(rows(), TEXTS, strict=True):
        score = lm.score(target, given=source)
        assert score.num_tokens == len(row.ids) - row.given
        wanted = -_by_hand(lm.model, row, row.given)  # type: ignore[arg-type]
        assert score.log_probability == pytest.approx(wanted, rel=1e-5)
    if kind == "decoder":
        # The chain rule: a whole text is its beginning without an end, and what follows it.
        whole, rest = lm.score("a cat mire"), lm.score("mire", given="a cat")
        first = lm.score("a cat")
        end = lm.score("", given="a cat").log_probability
        assert whole.log_probability == pytest.approx(
            first.log_probability - end + rest.log_probability, abs=1e-4
        )
    with pytest.raises(GenerationError, match="expected one text, not 3"):
        lm.score("a", given=3)  # type: ignore[arg-type]
