"""`tinylm quantize`, and every command that takes a run on what it made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cli.test_finetune import files
from tinylm.checkpoint import load_training_state
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.language_model import LanguageModel
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedLinear, QuantizedWeight

Command = Callable[..., tuple[int, str, str]]


def test_a_quantized_run_is_a_run_like_any_other(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    status, printed, said = tinylm("quantize", str(tiny_run), "--bits", "4", "--out", str(out),
                                   "-o", "symmetric=true")  # fmt: skip
    assert status == 0, said
    assert printed == f"{out}\n"
    model = LanguageModel.load(out).model
    weights = [m for m in model.modules() if isinstance(m, QuantizedWeight)]
    assert weights
    for kept in weights:
        assert isinstance(kept.form, IntegerFormat)
        assert (kept.form.bits, kept.form.symmetric) == (4, True)
    about = json.loads((out / "compression.json").read_text())
    assert about["before"]["weights"] == about["after"]["weights"]
    on_disk = (out / "checkpoints/best/model.safetensors").stat().st_size
    assert about["after"]["bytes"] == on_disk < about["before"]["bytes"] / 2
    assert (about["command"], about["method"], about["calibration"]) == ("quantize", "rtn", None)

    run = str(out)
    assert tinylm("generate", run, "the dog", "--max-new-tokens", "5")[0] == 0
    status, printed, said = tinylm("evaluate", run, "--json")
    assert status == 0, said
    ours = json.loads(printed)
    theirs = json.loads(tinylm("evaluate", str(tiny_run), "--json")[1])
    assert ours.keys() == theirs.keys()
    status, _, said = tinylm("finetune", run, "--data", "letters", "--steps", "2")
    assert status == 0, said
    merged = tmp_path / "merged"
    assert tinylm("merge", run, "lora", "--out", str(merged))[0] == 0
    whole = LanguageModel.load(merged).model
    assert not any(
        isinstance(m, QuantizedLinear) for n, m in whole.named_modules() if "layers" in n
    )
    before = files(out)
    for arguments, message in (
        (["finetune", run, "--method", "full", "--data", "nothing"], "is quantized, and its"),
        (["finetune", run, "--method", "qlora", "--data", "nothing"], "adapt it by LoRA"),
        (["train", "--resume", run], f"not trained: tinylm finetune {run} --method lora"),
    ):
        status, _, said = tinylm(*arguments)
        assert status != 0
        assert message in said
        assert said.count("\n") == 1  # before the text is read, which is not there
    assert files(out) == before
    again = tmp_path / "again"
    status, _, said = tinylm("quantize", run, "--bits", "8", "--out", str(again))
    assert (status, said.count("\n")) == (1, 1)
    assert "is quantized already, as 4-bit integers, symmetric" in said
    assert not again.exists()


def test_a_static_range_is_chosen_by_texts(tinylm: Command, tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "static"
    options = ["-o", "activations=static", "-o", "activation_range=min-max", "-o", "windows=3"]
    status, _, said = tinylm("quantize", str(tiny_run), "--bits", "8", "--out", str(out), *options)
    assert status == 0, said
    about = json.loads((out / "compression.json").read_text())
    assert about["calibration"]["windows"] == 3
    ranges = about["details"]["input_ranges"]
    for path, module in LanguageModel.load(out).model.named_modules():
        if isinstance(module, QuantizedLinear):
            assert module.rounding == "static"
            assert module.input_range is not None
            assert module.input_range.tolist() == pytest.approx(ranges[path])


def test_weights_that_give_no_numbers_are_refused(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    """Each is finite, as of a training that diverged; their products are not."""
    run = Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))
    lm = LanguageModel.load(run)
    with torch.no_grad():
        lm.model.layers[0].feed_forward.contract.weight.fill_(3e38)
    assert lm.source is not None
    state = load_training_state(lm.source)
    save_checkpoint(run / "checkpoints", lm.model, lm.tokenizer, state, last=False)
    status, _, said = tinylm("quantize", str(run), "--out", str(tmp_path / "out"))
    assert (status, said.count("\n")) == (1, 1)
    assert f"the weights of {run}/checkpoints/step-30 are broken: the output of layers.0." in said
    assert not (tmp_path / "out").exists()
    status, _, said = tinylm("distill", str(run), "--out", str(tmp_path / "out"),
                             "-o", "model.hidden_size=8")  # fmt: skip
    assert status == 1
    assert "its model is broken, train it again" in said.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_targets_without_inputs_are_refused_where_inputs_count(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    for options in (
        ("--method", "gptq", "-o", "windows=2"),
        ("--method", "awq", "-o", "windows=2"),
        ("-o", "activations=static", "-o", "windows=2"),
        ("-o", "activations=dynamic"),
    ):
        out = tmp_path / "out"
        status, _, said = tinylm(
            "quantize", str(tiny_run), "--out", str(out), *options, "-o", "targets=[embedding]"
        )
        assert (status, said.count("\n")) == (1, 1), said
        assert "targets = embedding: none of them is a linear map" in said
        assert not out.exists()


def test_too_short_a_text_to_calibrate_by(tinylm: Command, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    for split in ("train", "valid"):
        (tmp_path / f"short/{split}.txt").write_text("the dog said no .\n<|endoftext|>\n")
    status, _, said = tinylm("quantize", str(tiny_run), "--method", "gptq", "--data",
                             str(tmp_path / "short"), "--out", str(tmp_path / "out"))  # fmt: skip
    assert status == 1
    assert "short has 7 tokens, and a text to calibrate by must have 25 at least" in said
    assert "give a longer one, or take a method that reads none" in said
    assert not (tmp_path / "out").exists()


def test_how_a_text_is_read_is_said_beside_it(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    """What the message of a text without marks advises, the command takes."""
    text = tmp_path / "text.txt"
    text.write_text("the dog said no .\n\n" * 40)
    command = ("quantize", str(tiny_run), "--out", str(tmp_path / "out"), "--data", str(text),
               "-o", "activations=static", "-o", "windows=2")  # fmt: skip
    status, _, said = tinylm(*command)
    assert status == 1
    assert "data.text_format=blank-line" in said
    assert said.count("\n") == 1
    status, _, said = tinylm(*command, "-o", "data.text_format=blank-line")
    assert status == 0, said
    about = json.loads((tmp_path / "out/compression.json").read_text())
    assert about["calibration"]["corpus"]["text_format"] == "blank-line"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "5"], "bits = 5: expected 8, 4, 3 or 2"),
        (["--bits", "4", "-o", "bits=8"], "--bits and -o bits say the same: give one of them"),
        (["--method", "nf4", "--bits", "8"], "bits = 8: expected 4"),
        (["--method", "gptqq"], "unknown quantization method 'gptqq'"),
        (["-o", "group_size=7"], "group_size = 7 does not divide a row of"),
        (
            ["-o", "granularity=row", "-o", "group_size=4"],
            "group_size has no effect with granularity = row: give granularity=group",
        ),
        (["-o", "granularity=column"], "granularity = 'column': expected tensor, row or group"),
        (["-o", "targets=[nose]"], "target 'nose' matches nothing that is quantized"),
        (["-o", "grup_size=4"], "unknown key grup_size; did you mean group_size"),
        (["-o", "activations=static", "-o", "windows=1000000"], "calibration windows = 1000000"),
        (["--data", "letters"], "--data is text to calibrate by, and this method reads none"),
        (["-o", "activations=static", "--data", "nowhere"], "nowhere"),
        (["-o", "windows=4"], "windows has no effect with activations = float"),
        (
            ["-o", "activations=dynamic", "-o", "percentile=99"],
            "percentile has no effect with activations = dynamic and activation_range = mse: give "
            "activations=static and activation_range=percentile, or leave it out",
        ),
        (["--method", "gptq", "-o", "strength=0.5"], "strength is a setting of smoothquant, not"),
        (["-o", "data.text_format=file"], "is about the text of --data: give one, or leave it out"),
        (["--data", "x", "-o", "data.path=y"], "data.path=y: --data says which text it is"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    arguments: list[str], message: str, tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    before = files(tiny_run)
    status, printed, said = tinylm("quantize", str(tiny_run), "--out", str(out), *arguments)
    assert status == 1
    assert printed == ""
    assert message in said
    assert said.count("\n") == 1
    assert not out.exists()
    assert files(tiny_run) == before
