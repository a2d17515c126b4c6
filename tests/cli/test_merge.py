"""`tinylm merge`: what it writes is a run, of a plain model wherever it can be one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Command
from tests.cli.test_finetune import files
from tinylm.checkpoint import load_checkpoint
from tinylm.config import load_config
from tinylm.config.finetuning import LoraConfig
from tinylm.experiments.adapting import adapted
from tinylm.experiments.records import read_compression
from tinylm.finetuning.adapters import attach, fold, trained_parameters
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.storage import save_adapter
from tinylm.fingerprints import file_sha256
from tinylm.language_model import LanguageModel
from tinylm.model.masks import masks_of

IDS = torch.randint(4, 40, (3, 12), generator=torch.Generator().manual_seed(0))
TUNED = ("--data", "letters", "--steps", 3, "--learning-rate", 0.05)


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


@pytest.mark.parametrize(
    ("method", "options", "length"),
    [
        ("lora", ("-o", "bias=all"), 24),
        ("ia3", (), 24),
        ("qlora", (), 24),
        ("dylora", (), 24),
        ("longlora", ("--context-length", 48), 48),
    ],
)
def test_a_merged_run_is_a_plain_run(
    tinylm: Command, run: Path, method: str, options: tuple[object, ...], length: int
) -> None:
    status, _, err = tinylm("finetune", run, "--method", method, *TUNED, *options)
    assert status == 0, err
    before = files(run)
    rank = ("--rank", 2) if method == "dylora" else ()
    status, out, err = tinylm("merge", run, method, "--out", "merged", *rank)
    assert (status, out) == (0, "merged\n"), err
    assert files(run) == before
    folder = run / "adapters" / method
    whole = adapted(LanguageModel.load(run), folder).model
    if rank:
        set_rank(whole, 2, "default")
    merged = LanguageModel.load("merged").model
    assert merged.config.context_length == length
    assert not merged.changes and merged.built == merged.config
    with torch.no_grad():
        assert not torch.equal(merged(IDS), LanguageModel.load(run).model(IDS))
        torch.testing.assert_close(merged(IDS), whole(IDS), rtol=1e-4, atol=1e-4)
    config = load_config("merged/config.yaml")
    assert config.model == merged.config
    assert config.data == load_config(run / "config.yaml").data
    written = read_compression(Path("merged"))
    assert written is not None
    assert (written["command"], written["method"]) == ("merge", method)
    assert written["details"] == {
        "adapter": str(folder),
        "sha256": file_sha256(folder / "adapter_model.safetensors"),
        "rank": 2 if rank else None,
        "texts": written["details"]["texts"],
    }
    assert written["details"]["texts"]["corpus"] == "letters"
    assert written["before"]["weights"] == written["after"]["weights"]
    assert f"{written['after']['nonzero']:,} now" in err


def test_every_command_takes_a_merged_run(tinylm: Command, run: Path) -> None:
    assert tinylm("finetune", run, *TUNED)[0] == 0
    assert tinylm("merge", run / "checkpoints/best", "lora", "--out", "merged")[0] == 0
    for command in (
        ("generate", "merged", "The dog", "--max-new-tokens", 4),
        ("evaluate", "merged", "--json"),
        ("verify", "merged"),
        ("finetune", "merged", "--data", "letters", "--steps", 2),
        ("merge", "merged", "lora", "--out", "twice"),
        ("prune", "merged", "--method", "heads", "-o", "count=1", "-o", "windows=4", "--out", "p"),
        ("quantize", "merged", "--out", "q"),
        ("experiment", "data", "--run", "merged"),
        ("explore", "merged"),
    ):
        status, out, err = tinylm(*command)
        assert status == 0, (command, out, err)
    for made in ("p", "q", "twice"):
        record = read_compression(Path(made))
        assert record is not None
        assert [each["command"] for each in record["earlier"]] == ["merge"]
    status, _, err = tinylm("train", "--resume", "merged")
    assert status == 1
    assert err.endswith("tinylm finetune merged --method full\n")


def test_over_masked_and_quantized_weights(tinylm: Command, run: Path) -> None:
    """The sum is dense where an adapter acts, and said so; what it leaves alone stays as it was."""
    assert tinylm("prune", run, "--share", 0.5, "--out", "pruned")[0] == 0
    only = ("-o", "targets=[feed_forward.expand]")
    assert tinylm("finetune", "pruned", *TUNED, *only)[0] == 0
    assert tinylm("merge", "pruned", "lora", "--out", "dense")[0] == 0
    merged, base = (LanguageModel.load(name).model for name in ("dense", "pruned"))
    kept = masks_of(base)
    gone = "layers.0.feed_forward.expand"
    assert masks_of(merged).keys() == kept.keys() - {gone}
    for path, mask in masks_of(merged).items():
        assert torch.equal(mask, kept[path])
        assert not merged.get_submodule(path).weight[~mask].any()
    assert merged.get_submodule(gone).weight[~kept[gone]].any()

    assert tinylm("quantize", run, "--out", "small")[0] == 0
    assert tinylm("finetune", "small", *TUNED, *only)[0] == 0
    assert tinylm("merge", "small", "lora", "--out", "partly")[0] == 0
    assert {change["change"] for change in load_checkpoint("partly").changes} >= {"quantize"}
    whole = adapted(LanguageModel.load("small"), Path("small/adapters/lora")).model
    with torch.no_grad():
        torch.testing.assert_close(
            LanguageModel.load("partly").model(IDS), whole(IDS), rtol=1e-4, atol=1e-4
        )
    assert tinylm("evaluate", "partly", "--json")[0] == 0


def test_what_an_earlier_version_wrote_is_still_read(tinylm: Command, run: Path) -> None:
    assert tinylm("finetune", run, *TUNED)[0] == 0
    lm = adapted(LanguageModel.load(run), run / "adapters/lora")
    LanguageModel(fold(lm.model), lm.tokenizer).save("old/checkpoints")
    status, _, err = tinylm("generate", "old", "The dog", "--max-new-tokens", 4)
    assert status == 0, err
    status, _, err = tinylm("quantize", "old", "--out", "new")
    assert (status, err.count("\n")) == (1, 1)
    assert "old is a model alone, without the settings and data of a run" in err
    assert not Path("new").exists()


def test_what_cannot_be_is_one_line_and_nothing_is_written(tinylm: Command, run: Path) -> None:
    assert tinylm("finetune", run, *TUNED)[0] == 0
    assert tinylm("finetune", run, "--method", "bottleneck", *TUNED)[0] == 0
    huge = attach(LanguageModel.load(run).model, "lora", LoraConfig())
    with torch.no_grad():
        for parameter in trained_parameters(huge, "default").values():
            parameter.fill_(1e17)
    save_adapter(huge, "default", Path("huge"))
    before = files(run)
    for arguments, message in (
        ((run, "nobody", "--out", "new"), "no adapter 'nobody' in "),
        ((run, "bottleneck", "--out", "new"), "run/adapters/bottleneck: "),
        ((run, "lora", "--out", run), "is not empty: give --out a new folder"),
        ((run, "lora", "--out", run / "inside"), "is inside of the run"),
        ((run, "lora", "--out", "new", "--rank", 1), "one rank only"),
        (
            (run, "huge", "--out", "new"),
            "the output of layers.0.attention.output is not finite; train the adapter again",
        ),
        (("nothing", "lora", "--out", "new"), "nothing does not exist"),
    ):
        status, out, err = tinylm("merge", *arguments)
        assert (status, out) == (1, ""), err
        assert err.startswith("tinylm: ")
        assert message in err
        assert err.count("\n") == 1
    assert files(run) == before
    assert not Path("new").exists()
