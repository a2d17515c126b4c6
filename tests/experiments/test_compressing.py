"""Compressed runs: written whole or not at all, counted, and runs like any other."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from tinylm.checkpoint import damage, load_training_state, step_of, text_of_run
from tinylm.config import DataConfig, load_config
from tinylm.config.quantization import RoundingConfig
from tinylm.data.windows import TokenWindows
from tinylm.errors import CompressionError, ConfigError, DataError
from tinylm.experiments.checks import loss
from tinylm.experiments.compressing import (
    Compression,
    before,
    calibration_windows,
    count_weights,
    new_run,
    write_compressed,
)
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.quantizing import quantize_run
from tinylm.experiments.records import read_compression
from tinylm.experiments.verification.measure import open_subject
from tinylm.language_model import LanguageModel
from tinylm.model.base import build
from tinylm.numbers.linear import LinearMap
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedLinear


def done(context: Context, method: str = "magnitude") -> Compression:
    of = before(context, LanguageModel.load(context.folder))
    return Compression("prune", method, {"share": 0.5}, of, {"windows": 4}, {"heads": [1]})


def halved(context: Context) -> LanguageModel:
    """The run's model with half of its feed-forward neurons."""
    lm = LanguageModel.load(context.folder)
    config = replace(lm.model.config, ffn_size=lm.model.config.resolved_ffn_size // 2)
    return LanguageModel(build(config).eval(), lm.tokenizer, lm.source)


def test_a_compressed_run_is_a_run(tiny_context: Context, tmp_path: Path) -> None:
    smaller, out = halved(tiny_context), tmp_path / "smaller"
    with torch.no_grad():
        smaller.model.unembedding.weight[:, :3] = 0
    written = write_compressed(out, tiny_context, smaller, done(tiny_context))
    assert read_compression(out) == written
    assert {path.name for path in out.iterdir()} == {
        "config.yaml",
        "checkpoints",
        "compression.json",
    }
    config = load_config(out / "config.yaml")
    assert config == replace(tiny_context.config, model=smaller.model.config)
    source = LanguageModel.load(tiny_context.folder)
    loaded = LanguageModel.load(out)
    assert source.source is not None and loaded.source is not None
    assert step_of(loaded.source.resolve()) == step_of(source.source.resolve())
    assert (out / "checkpoints/last").resolve() == (out / "checkpoints/best").resolve()
    for name, weight in smaller.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)

    weights = list(smaller.model.parameters())
    assert written["after"] == {
        "weights": sum(p.numel() for p in weights),
        "nonzero": sum(int((p != 0).sum()) for p in weights),
        "bytes": (loaded.source / "model.safetensors").stat().st_size,
    }
    assert written["before"]["bytes"] == (source.source / "model.safetensors").stat().st_size
    assert written["before"]["weights"] == sum(p.numel() for p in source.model.parameters())
    assert written["source"]["run"] == str(tiny_context.folder.resolve())
    assert written["source"]["checkpoint"] == source.source.resolve().name
    assert written["earlier"] == []
    again = write_compressed(
        tmp_path / "again",
        open_run(out, SilentConsole()),
        loaded,
        done(open_run(out, SilentConsole())),
    )
    assert again["earlier"] == [{k: v for k, v in written.items() if k != "earlier"}]
    assert again["source"]["run"] == str(out)


def test_what_it_was_made_of_may_be_gone_when_it_is_written(
    tiny_context: Context, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny_context.folder, tmp_path / "run", symlinks=True))
    context = open_run(run, SilentConsole())
    smaller, record = halved(context), done(context)
    expected = write_compressed(tmp_path / "there", context, smaller, record)
    shutil.rmtree(run)
    assert write_compressed(tmp_path / "gone", context, smaller, record) == expected
    state = load_training_state(tmp_path / "gone/checkpoints/last")
    assert state.numbers["corpus"] == text_of_run(tiny_context.folder)


def test_a_compressed_run_is_measured_and_not_trained_on(
    tiny_context: Context, tmp_path: Path
) -> None:
    write_compressed(tmp_path / "out", tiny_context, halved(tiny_context), done(tiny_context))
    context = open_run(tmp_path / "out", SilentConsole())
    assert run_experiment("evaluation", context)["num_stories"] == 6
    with pytest.raises(ConfigError, match=r"was made by `tinylm prune` .* --method full$"):
        run_experiment("training", context)


@pytest.mark.parametrize("name", ["notes.txt", "config.yaml", "checkpoints"])
def test_a_folder_that_holds_something_is_left_alone(
    name: str, tiny_context: Context, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("mine")
    lm = halved(tiny_context)
    for attempt in (
        lambda: new_run(tmp_path, SilentConsole()).__enter__(),
        lambda: write_compressed(tmp_path, tiny_context, lm, done(tiny_context)),
    ):
        with pytest.raises(ConfigError, match=r"is not empty: give --out a new folder$"):
            attempt()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_that_was_pruned_dozens_of_times_has_a_record_that_can_be_read(
    tiny_context: Context, tmp_path: Path
) -> None:
    """Files are read only so deep, so that one record must not stand in the other."""
    context, lm = tiny_context, halved(tiny_context)
    for number in range(1, 36):
        out = tmp_path / f"{number}"
        write_compressed(out, context, LanguageModel(lm.model, lm.tokenizer), done(context))
        if number > 2:
            shutil.rmtree(tmp_path / f"{number - 2}")
        context = open_run(out, SilentConsole())
    written = read_compression(out)
    assert written is not None
    assert [each["source"]["run"] for each in (written, *written["earlier"])] == [
        *(str((tmp_path / f"{number}").resolve()) for number in range(34, 0, -1)),
        str(tiny_context.folder.resolve()),
    ]


def test_no_folder_is_made_of_a_file_or_inside_of_a_run(
    tiny_context: Context, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run = tiny_context.folder
    for out, message in (
        (tmp_path / "notes.txt", r"notes\.txt is no folder: give --out a new one$"),
        (tmp_path / "notes.txt/below", r"notes\.txt is no folder: give --out a new one$"),
        (run / "smaller", r"smaller is inside of the run .*: give --out a folder elsewhere$"),
        (run / "checkpoints/a/b", r"b is inside of the run .*: give --out a folder elsewhere$"),
    ):
        with pytest.raises(ConfigError, match=message), new_run(out, SilentConsole()):
            pass
    assert not (run / "smaller").exists()
    assert not (run / "checkpoints/a").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_merged_model_is_not_taken_for_what_a_killed_command_left(
    tiny_context: Context, tmp_path: Path
) -> None:
    lm = LanguageModel.load(tiny_context.folder)
    lm.save(tmp_path / "checkpoints")
    with pytest.raises(ConfigError, match="is not empty"):
        write_compressed(tmp_path, tiny_context, lm, done(tiny_context))
    assert damage(tmp_path / "checkpoints/last") is None


def test_what_could_not_be_written_whole_is_no_run(
    tiny_context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    lm = halved(tiny_context)
    for name in ("save_checkpoint", "write_text"):
        with monkeypatch.context() as patched:
            patched.setattr(f"tinylm.experiments.compressing.{name}", fail)
            with pytest.raises(OSError, match="No space"):
                write_compressed(out, tiny_context, lm, done(tiny_context))
        assert not out.exists()


def test_what_a_killed_command_left_is_made_anew(tiny_context: Context, tmp_path: Path) -> None:
    out, lm = tmp_path / "out", halved(tiny_context)
    write_compressed(out, tiny_context, lm, done(tiny_context))
    (out / "config.yaml").unlink()
    shutil.copytree(out / "checkpoints", out / ".checkpoints.1.tmp", symlinks=True)
    written = write_compressed(out, tiny_context, lm, done(tiny_context, "random"))
    assert read_compression(out) == written
    assert {p.name for p in out.iterdir()} == {"config.yaml", "checkpoints", "compression.json"}
    assert [p.name for p in (out / "checkpoints").glob("step-*")] == ["step-30"]


def test_a_damaged_record_is_refused(tiny_context: Context, tmp_path: Path) -> None:
    write_compressed(tmp_path / "out", tiny_context, halved(tiny_context), done(tiny_context))
    path = tmp_path / "out/compression.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"method": "heads"}))
    with pytest.raises(CompressionError, match=r"compression\.json: has changed since"):
        read_compression(path.parent)


def test_weights_are_counted_where_they_are(tiny_lm: LanguageModel) -> None:
    model = copy.deepcopy(tiny_lm.model)
    total = sum(p.numel() for p in model.parameters())
    assert count_weights(model)[0] == total
    layer = model.get_submodule("layers.0.feed_forward")
    expand = layer.expand
    assert isinstance(expand, LinearMap)
    with torch.no_grad():
        expand.weight[:2] = 0
    zeros = total - count_weights(model)[1]
    layer.expand = QuantizedLinear(expand, NormalFloat())
    assert count_weights(model)[0] == total
    coarse = int((layer.expand.weight == 0).sum()) - int((expand.weight == 0).sum())
    assert total - count_weights(model)[1] == zeros + coarse
    tied = copy.deepcopy(tiny_lm.model)
    tied.unembedding.weight = tied.embedding.weight
    assert count_weights(tied)[0] == total - tied.embedding.weight.numel()


# --- calibration ---


def test_calibration_windows_are_of_the_training_split(tiny_context: Context) -> None:
    lm, config = LanguageModel.load(tiny_context.folder), tiny_context.config
    train, validation = (
        TokenWindows(encoded_split(config.data, lm.tokenizer, split, SilentConsole()), 24)
        for split in ("train", "validation")
    )
    ids = calibration_windows(tiny_context, 12, seed=3)
    assert (ids.shape, ids.dtype) == ((12, 24), torch.int64)
    of_train = {tuple(row) for row in train.batch(range(len(train))).ids.tolist()}
    rows = [tuple(row) for row in ids.tolist()]
    assert len(set(rows)) == 12
    assert set(rows) <= of_train
    assert not set(rows) & {tuple(r) for r in validation.batch(range(len(validation))).ids.tolist()}
    assert torch.equal(ids, calibration_windows(tiny_context, 12, 3, tokenizer=lm.tokenizer))
    assert not torch.equal(ids, calibration_windows(tiny_context, 12, seed=4))
    whole = (train.tokens.header.num_tokens - 1) // 24
    everything = calibration_windows(tiny_context, whole, seed=0)
    np.testing.assert_array_equal(everything.flatten(), train.tokens.ids[: whole * 24])


def test_calibration_on_another_text(tiny_context: Context, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("the dog ran home . " * 40 + "\n<|endoftext|>\n")
    (tmp_path / "valid.txt").write_text("zzz\n<|endoftext|>\n")
    other = DataConfig(corpus="files", path=str(tmp_path), cache_folder=str(tmp_path / "cache"))
    lm = LanguageModel.load(tiny_context.folder)
    ids = calibration_windows(tiny_context, 2, 0, data=other)
    assert set(lm.tokenizer.decode(ids[1].tolist()).lower().replace(".", "").split()) == {
        *("the", "dog", "ran", "home"),
    }


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_more_windows_than_there_are_are_refused(count: int, tiny_context: Context) -> None:
    with pytest.raises(ConfigError, match=rf"calibration windows = {count}: .* give 1 to [\d,]+,"):
        calibration_windows(tiny_context, count, 0)


def test_a_text_of_no_known_word_is_refused(tiny_context: Context, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("qqq zzz " * 100 + "\n<|endoftext|>\n")
    (tmp_path / "valid.txt").write_text("zzz\n<|endoftext|>\n")
    other = DataConfig(corpus="files", path=str(tmp_path), cache_folder=str(tmp_path / "cache"))
    with pytest.raises(DataError, match="holds no word that the model knows"):
        calibration_windows(tiny_context, 1, 0, data=other)


@pytest.mark.parametrize("rounding", ["dynamic", "static"])
def test_the_loss_of_a_model_that_rounds_inputs_passes_its_check(
    rounding: Literal["dynamic", "static"], tiny_context: Context, tmp_path: Path
) -> None:
    """It is not made from the weight of the output layer, whose inputs are rounded first."""
    settings = RoundingConfig(bits=8, activations=rounding, windows=2)
    quantize_run(tiny_context, tmp_path / "out", "rtn", settings)
    subject = open_subject(open_run(tmp_path / "out", SilentConsole()), tmp_path)
    assert loss.run(subject).passed
