"""The search for a smaller model of a run: what it tries, keeps, writes and refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.test_finetune import files
from tests.training.tiny import tiny_run
from tinylm.compression.search import Candidate
from tinylm.config.searching import SearchConfig
from tinylm.errors import CompressionError, ConfigError, DataError, TrainingError
from tinylm.evaluation.perplexity import SplitLoss
from tinylm.experiments import searching, smaller
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.quantizing import quantize_run
from tinylm.experiments.records import Compressed, read_compression, source_of
from tinylm.experiments.searching import compress_run
from tinylm.experiments.smaller import Smaller, num_bytes
from tinylm.language_model import LanguageModel
from tinylm.numbers.quantized import QuantizedWeight
from tinylm.registry import QUANTIZERS
from tinylm.training.commands import Commands

AGAIN = Commands("the same command", "the same at a lower rate")
SETTINGS = SearchConfig(
    shares=(0.5,), steps=4, widths=((8, 8), (4, 8), (4, 4), (2, 2)), calibration=6, windows=5
)


@pytest.fixture
def context(tiny_context: Context) -> Context:
    return replace(tiny_context, console=SilentConsole(), keeps=False)


def compressed(
    context: Context, out: Path, settings: SearchConfig = SETTINGS, **goal: Any
) -> Compressed:
    return compress_run(context, out, settings, AGAIN, **goal)


def sizes_of(context: Context, folder: Path, **changed: Any) -> dict[Candidate, int]:
    return dict(Smaller(context, replace(SETTINGS, **changed), folder, AGAIN).sizes())


@pytest.mark.parametrize("method", ["rtn", "gptq"])
def test_sizes_are_told_before_anything_is_made(
    method: str, context: Context, tmp_path: Path
) -> None:
    work = Smaller(context, replace(SETTINGS, method=method, steps=0), tmp_path, AGAIN)
    sizes = work.sizes()
    assert len(sizes) == 2 * (1 + len(SETTINGS.widths))
    for candidate, size in sizes.items():
        made = work.rounded(work.trained(candidate.share), candidate.width)
        assert num_bytes(made) == size
    whole = context.folder / "checkpoints/best/model.safetensors"
    assert sizes[Candidate()] == whole.stat().st_size


def test_a_run_is_written_that_is_no_larger_than_asked(context: Context, tmp_path: Path) -> None:
    sizes, out = sizes_of(context, tmp_path / "sizes"), tmp_path / "out"
    most = sizes[Candidate(0.0, (4, 4))]
    written = compressed(context, out, target_bytes=most)
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "checkpoints",
        "compression.json",
    }
    assert written == read_compression(out)
    file = out / "checkpoints/best/model.safetensors"
    assert written["after"]["bytes"] == file.stat().st_size <= most
    details = written["details"]
    small = [each for each in details["tried"] if each["bytes"] <= most]
    assert details["chosen"] == min(small, key=lambda tried: tried["loss"])
    assert (written["command"], written["method"]) == ("compress", "gptq")
    lm = LanguageModel.load(context.folder)
    assert lm.source is not None
    assert written["source"] == source_of(context.folder, lm.source.resolve())
    # What is chosen is written, and what it loses is of windows that decided nothing.
    model = LanguageModel.load(out).model
    width = details["chosen"]["width"]
    bits = {m.form.bits for m in model.modules() if isinstance(m, QuantizedWeight)}
    assert bits == (set(width) if width else set())
    assert details["more"] != details["chosen"]["more"]
    opened = open_run(out, SilentConsole())
    assert opened.config.model == model.config


def test_the_smallest_is_written_that_loses_no_more_than_asked(
    context: Context, tmp_path: Path
) -> None:
    written = compressed(context, tmp_path / "out", max_loss=0.2)
    chosen, tried = written["details"]["chosen"], written["details"]["tried"]
    good = [each for each in tried if each["loss"] <= tried[0]["loss"] + 0.1823216]
    assert chosen == min(good, key=lambda each: each["bytes"])
    assert chosen["bytes"] < tried[0]["bytes"]


def test_a_candidate_is_what_the_commands_would_make(context: Context, tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    only = replace(SETTINGS, shares=(), widths=((4, 8),))
    compressed(context, out, only, max_loss=9.0)
    method = QUANTIZERS.load("gptq")
    quantize_run(context, other, "gptq", method.Settings(bits=4, embedding_bits=8, windows=6))
    ours, theirs = (LanguageModel.load(each).model.state_dict() for each in (out, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_left_was_taught(context: Context, tmp_path: Path) -> None:
    taught, plain = (
        Smaller(context, replace(SETTINGS, steps=steps), tmp_path, AGAIN) for steps in (4, 0)
    )
    first, again, cut = taught.trained(0.5), taught.trained(0.5), plain.trained(0.5)
    assert first.config == cut.config
    assert first.config.num_heads == 1
    weights = first.state_dict()
    assert all(torch.equal(weights[name], each) for name, each in again.state_dict().items())
    assert not torch.equal(first.embedding.weight, cut.embedding.weight)
    [student] = tmp_path.iterdir()
    record = json.loads((student / "distillation.json").read_text())
    assert record["method"] == "word"
    assert record["teacher"]["run"] == str(context.folder.resolve())


def test_a_stopped_search_goes_on_also_to_another_goal(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that was measured is measured again, and the end is the same."""
    whole = compressed(context, tmp_path / "whole", max_loss=0.2)
    out = tmp_path / "out"
    made: list[Any] = []
    rounded = Smaller.rounded

    def stopped(self: Smaller, model: Any, width: Any, **given: Any) -> Any:
        made.append(width)
        if len(made) == 4:
            raise TrainingError("stopped")
        return rounded(self, model, width, **given)

    monkeypatch.setattr(Smaller, "rounded", stopped)
    with pytest.raises(TrainingError):
        compressed(context, out, max_loss=0.01)
    assert {path.name for path in out.iterdir()} >= {"search.json"}
    assert not (out / "config.yaml").exists()
    before = list(made)
    kept = json.loads((out / "search.json").read_text())["tried"]
    assert len(kept) == 3
    written = compressed(context, out, max_loss=0.2)
    tried = written["details"]["tried"]
    assert len(tried) == len({json.dumps([each["share"], each["width"]]) for each in tried})
    later = made[len(before) :]
    assert tried[: len(kept)] == kept
    assert len(later) == len(tried) - len(kept) + 1  # and the chosen one, to be written
    assert written["details"]["chosen"] == whole["details"]["chosen"]
    names = [path for path in files(out) if "compression.json" not in str(path)]
    assert names == [path for path in files(tmp_path / "whole") if "compression" not in str(path)]


def test_a_stopped_training_goes_on(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Smaller(context, SETTINGS, tmp_path / "one", AGAIN)
    whole = work.trained(0.5).state_dict()
    other = Smaller(context, SETTINGS, tmp_path / "two", AGAIN)

    def stopped(name: str, inner: Context) -> None:
        assert inner.commands == AGAIN
        raise TrainingError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(smaller, "run_experiment", stopped)
        with pytest.raises(TrainingError):
            other.trained(0.5)
    again = other.trained(0.5).state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_search_of_other_settings_is_refused(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(smaller, "quantize", _refused)
        patch.setattr(Smaller, "sizes", lambda self: {Candidate(): 9, Candidate(0, (2, 2)): 3})
        only = replace(SETTINGS, shares=(), widths=((2, 2),))
        with pytest.raises(TrainingError, match="stopped"):
            compressed(context, tmp_path, only, max_loss=0.02)
    before = files(tmp_path)
    assert [*before] == ["search.json"]
    with pytest.raises(ConfigError, match="holds a search of another run or of other settings"):
        compressed(context, tmp_path, max_loss=0.02)
    assert files(tmp_path) == before
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(DataError, match=r"search\.json"):
        compressed(context, tmp_path, max_loss=0.02)


def _refused(*_: Any) -> None:
    raise TrainingError("stopped")


def test_nothing_good_enough_is_said_with_the_nearest(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = searching._Work.read
    told: list[int] = []

    def worse(self: Any, model: Any, indices: list[int]) -> SplitLoss:
        told.append(num_bytes(model))
        loss = read(self, model, indices)
        more = torch.tensor([0.5 * (told[-1] != told[0]), 0.0], dtype=torch.float64)
        assert loss.windows is not None
        return SplitLoss.of(loss.windows + more * loss.windows[:, 1:])

    monkeypatch.setattr(searching._Work, "read", worse)
    with pytest.raises(CompressionError) as error:
        compressed(context, tmp_path / "out", max_loss=0.02)
    assert str(error.value).startswith("--max-loss 2%: nothing smaller that is tried loses so lit")
    assert "bits loses +6" in str(error.value)
    assert not (tmp_path / "out/config.yaml").exists()


@pytest.mark.parametrize(
    ("changed", "goal", "message"),
    [
        ({"parts": ("magnitude",)}, {"max_loss": 0.1}, "magnitude removes nothing"),
        ({"method": "nf4"}, {"max_loss": 0.1}, "method = nf4: it has one width"),
        ({}, {"target_bytes": 10}, r"the smallest that is tried has \d+ bytes"),
        ({}, {"target_bytes": 10**9}, r"the run's model has \d+ bytes already"),
        ({"calibration": 10**6}, {"max_loss": 0.1}, "calibration windows = 1000000"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    changed: dict[str, Any], goal: dict[str, Any], message: str, context: Context, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, CompressionError), match=message):
        compressed(context, tmp_path / "out", replace(SETTINGS, **changed), **goal)
    assert not (tmp_path / "out").exists()


def test_a_quantized_run_is_refused(context: Context, tmp_path: Path) -> None:
    method = QUANTIZERS.load("rtn")
    quantize_run(context, tmp_path / "small", "rtn", method.Settings())
    small = open_run(tmp_path / "small", SilentConsole())
    with pytest.raises(CompressionError, match="quantized already"):
        compressed(small, tmp_path / "out", max_loss=0.1)
    assert not (tmp_path / "out").exists()


def test_parts_that_cannot_go_stay(tmp_path: Path) -> None:
    """With ALiBi no head can go: neurons do, and a share of which nothing can go is told."""
    made = tiny_run(tmp_path / "run", tmp_path / "cache", "model.positions=alibi")
    run_experiment("training", made)
    context = open_run(tmp_path / "run", SilentConsole())
    work = Smaller(context, replace(SETTINGS, steps=0), tmp_path, AGAIN)
    config, whole = work.trained(0.5).config, work.lm.model.config
    assert config.num_heads == whole.num_heads
    assert config.resolved_ffn_size == whole.resolved_ffn_size // 2
    alone = Smaller(context, replace(SETTINGS, parts=("heads",)), tmp_path, AGAIN)
    assert {each.share for each in alone.sizes()} == {0.0}
    console = context.console
    assert isinstance(console, SilentConsole)
    assert any("nothing is removed at 50%: heads" in note for note in console.notes)


def test_what_was_tried_is_told(context: Context, tmp_path: Path) -> None:
    console = context.console
    assert isinstance(console, SilentConsole)
    written = compressed(context, tmp_path / "out", max_loss=0.2)
    lines = [note for note in console.notes if ", perplexity " in note]
    assert len(lines) == len(written["details"]["tried"])
    assert lines[0].startswith("the whole model, float weights: ")
    assert "(+0.00 %, +0.00 to +0.00)" in lines[0]
    assert searching.shown_more([0.0, None, None]) == "+0.00 %"
