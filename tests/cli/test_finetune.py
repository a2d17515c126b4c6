"""`tinylm finetune`, `merge` and adapters in `generate` and `evaluate`, one after the other."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tinylm.config import load_config
from tinylm.experiments.adapting import RATES
from tinylm.experiments.adapting import adapted as adapted_model
from tinylm.experiments.attention.measure import attention
from tinylm.experiments.context import SilentConsole
from tinylm.experiments.lens.tuning import tune as tune_lens
from tinylm.interpretability.lens import lens
from tinylm.language_model import LanguageModel
from tinylm.reading import signed
from tinylm.registry import METHODS

Command = Callable[..., tuple[int, str, str]]

STORY = 'the dog said , " i see a big dog and the dog said , " i see the ball and a cat'
SCORED = ("--strategy", "beam", "--num-beams", "2", "--num-return", "2", "--max-new-tokens", "5")
GREEDY = ("--strategy", "greedy", "--max-new-tokens", "12")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A folder of text with dialogue."""
    folder = tmp_path / "text"
    folder.mkdir()
    for split, number in (("train", 40), ("valid", 6)):
        stories = (f"{STORY} once upon a time {'the cat said ' * (i % 3)}"
                   for i in range(number))  # fmt: skip
        (folder / f"{split}.txt").write_text("<|endoftext|>\n".join(f"{s}\n" for s in stories))
    return folder


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the tiny run."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))


def tune(tinylm: Command, run: Path, text: Path, method: str = "lora", *more: object) -> str:
    status, out, err = tinylm(
        *("finetune", run, "--method", method, "--data", text, "--steps", 20, *more)
    )
    assert status == 0, err
    assert re.search(rf"^{method}: [\d,]+ numbers are trained, the model has [\d,]+$", err, re.M)
    return out.strip()


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("bottleneck", "prefix", "prompt")])  # fmt: skip  # noqa: E501
def test_a_merged_model_says_what_the_adapted_one_says(
    tinylm: Command, run: Path, text: Path, method: str
) -> None:
    out = tune(tinylm, run, text, method, "--learning-rate", 0.03)
    assert out == str(run / "adapters" / method)
    assert not (run / "adapters" / method / "checkpoints").exists()
    _, adapted, err = tinylm("generate", run, "The dog", *GREEDY, "--adapter", method)
    assert adapted, err
    _, likeliest, _ = tinylm("generate", run, "The dog", *SCORED, "--adapter", method)
    _, plain, _ = tinylm("generate", run, "The dog", *SCORED)
    assert likeliest != plain
    status, out, err = tinylm("merge", run, method, "--out", "merged")
    assert (status, out) == (0, "merged\n"), err
    _, merged, err = tinylm("generate", "merged", "The dog", *GREEDY)
    assert merged == adapted, err


@pytest.mark.parametrize("method", ["bottleneck", "prefix", "prompt"])
def test_what_cannot_be_merged_is_used_and_not_merged(
    tinylm: Command, run: Path, text: Path, method: str
) -> None:
    tune(tinylm, run, text, method)
    status, out, err = tinylm("generate", run, "The dog", *GREEDY, "--adapter", method)
    assert status == 0, err
    assert out.startswith("The dog")
    status, out, err = tinylm("merge", run, method, "--out", "merged")
    assert (status, out) == (1, "")
    assert "cannot be merged" in err
    assert err.count("\n") == 1
    assert not Path("merged").exists()


def test_options_reach_the_method_and_the_base_stays(
    tinylm: Command, run: Path, text: Path
) -> None:
    before = files(run)
    tune(tinylm, run, text, "lora", "-o", "rank=3", "-o", "targets=[feed_forward.expand]",
         "--name", "small", "--batch-size", 4)  # fmt: skip
    fields = json.loads((run / "adapters/small/adapter_config.json").read_text())
    assert (fields["r"], fields["peft_type"]) == (3, "LORA")
    about = json.loads((run / "adapters/small/finetuning.json").read_text())
    assert about["settings"]["rank"] == 3
    assert about["training"]["batch_size"] == 4
    assert about["training"]["learning_rate"] == RATES["lora"]
    assert {k: v for k, v in files(run).items() if not k.startswith("adapters")} == before


def test_dylora_is_cut_to_a_rank(tinylm: Command, run: Path, text: Path) -> None:
    tune(tinylm, run, text, "dylora", "--learning-rate", 0.03)
    _, whole, _ = tinylm("generate", run, "The dog", *GREEDY, "--adapter", "dylora")
    _, again, _ = tinylm("generate", run, "The dog", *GREEDY, "--adapter", "dylora", "--rank", 8)
    assert whole == again
    status, _, err = tinylm("merge", run, "dylora", "--out", "cut", "--rank", 1)
    assert status == 0, err
    _, by_adapter, _ = tinylm(
        "generate", run, "The dog", *GREEDY, "--adapter", "dylora", "--rank", 1
    )
    _, cut, _ = tinylm("generate", "cut", "The dog", *GREEDY)
    assert cut == by_adapter
    # Whatever the adapter was called by who saved it.
    about = run / "adapters/dylora/tinylm.json"
    values = json.loads(about.read_text())
    del values["checksum"]
    about.write_text(json.dumps(signed(values | {"name": "mine"})))
    _, again, err = tinylm("generate", run, "The dog", *GREEDY, "--adapter", "dylora", "--rank", 1)
    assert again == by_adapter, err
    for rank in (9, 0):
        status, out, err = tinylm("generate", run, "x", "--adapter", "dylora", "--rank", rank)
        assert status != 0
        assert out == ""
        assert err.count("\n") == 1


def test_everything_can_be_trained_into_a_model_of_its_own(
    tinylm: Command, run: Path, text: Path
) -> None:
    before = files(run / "checkpoints")
    out = tune(tinylm, run, text, "full", "--learning-rate", 0.03)
    _, tuned, err = tinylm("generate", out, "The dog", *SCORED)
    _, plain, _ = tinylm("generate", run, "The dog", *SCORED)
    assert tuned != plain, err
    assert files(run / "checkpoints") == before
    for command in (["generate", run, "x", "--adapter", "full"], ["merge", run, "full", "--out", "o"]):  # fmt: skip  # noqa: E501
        status, out, err = tinylm(*command)
        assert (status, out) == (1, "")
        assert "is no adapter but a whole model" in err


def test_a_longer_context_is_kept(tinylm: Command, run: Path, text: Path) -> None:
    tune(tinylm, run, text, "longlora", "--context-length", 48, "-o", "group_size=24")
    wanted = ("generate", run, "The dog", "--strategy", "greedy", "--max-new-tokens", 40)
    _, _, err = tinylm(*wanted, "-o", "generation.min_new_tokens=40", "--adapter", "longlora")
    assert "sliding window" not in err
    _, _, err = tinylm(*wanted, "-o", "generation.min_new_tokens=40")
    assert "sliding window of the last 24" in err


def test_the_adapter_is_measured_on_the_new_text(tinylm: Command, run: Path, text: Path) -> None:
    tune(tinylm, run, text, "lora", "--learning-rate", 0.05)
    losses = {}
    for name, more in (("base", ()), ("lora", ("--adapter", "lora"))):
        status, out, err = tinylm(
            "evaluate", run, "--data", text, "--json", "-o", "evaluation.num_stories=2", *more
        )
        assert status == 0, err
        losses[name] = json.loads(out)["validation"]["loss"]
    assert losses["lora"] < losses["base"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "lorra"], "unknown method 'lorra'; did you mean lora"),
        (["-o", "rnk=3"], "did you mean rank"),
        (["-o", "rank=0"], "rank"),
        (["-o", "rank=99"], "rank 99: "),
        (["-o", "targets=[nothing]"], "'nothing'"),
        (["-o", "rank"], "-o"),
        (["--method", "full", "-o", "rank=2"], "leave it out with full"),
        (["--method", "prompt", "-o", "length=24"], "length 24"),
        (["--context-length", "20", "--method", "longlora", "-o", "rank=99"], "rank 99"),
        (["--steps", "0"], "--steps"),
        (["--learning-rate", "0"], "learning_rate = 0"),
        (["--learning-rate", "inf"], "learning_rate"),
        (["--method", "bottleneck", "-o", "targets=[unembedding]"], "past the bottleneck"),
        (["--method", "lora", "-o", "targets=[unembedding]", "-o", "dropout=0.1"], "dropout=0"),
        (["--data", "nowhere"], "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    tinylm: Command, run: Path, text: Path, more: list[str], message: str
) -> None:
    before = files(run)
    status, out, err = tinylm("finetune", run, "--data", text, "--steps", 2, *more)
    assert status != 0
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("tinylm: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in err
    assert files(run) == before


def test_a_finished_or_different_adapter_is_not_trained_over(
    tinylm: Command, run: Path, text: Path
) -> None:
    tune(tinylm, run, text)
    before = files(run)
    for more, message in (([], "finished"), (["-o", "rank=2"], "another settings.rank (8, now 2)")):
        status, out, err = tinylm("finetune", run, "--data", text, "--steps", 20, *more)
        assert (status, out) == (1, "")
        assert message in err
        assert "--name" in err
        assert files(run) == before


def test_adapters_are_found_by_name_or_refused(
    tinylm: Command, run: Path, text: Path, tmp_path: Path
) -> None:
    status, _, err = tinylm("generate", run, "x", "--adapter", "lora")
    assert status == 1
    assert err.endswith(f"there are: none, make one: tinylm finetune {run}\n")
    folder = tune(tinylm, run, text)
    status, _, err = tinylm("generate", run, "x", "--adapter", "lorra")
    assert status == 1
    assert "there are: lora" in err
    status, _, err = tinylm("generate", run, "x", "--adapter", folder, *GREEDY)
    assert status == 0, err
    pair = ["--clean", "a", "--corrupted", "b", "--answer", "c", "--wrong", "d"]
    inside = [["lens", run, "a b"], ["patch", run, *pair], ["attention", run]]
    for command in (["generate", run, "x"], ["evaluate", run], *inside):
        status, _, err = tinylm(*command, "--rank", 2)
        assert status == 1
        assert "name it with --adapter" in err
    status, _, err = tinylm("generate", run, "x", "--adapter", "lora", "--rank", 2)
    assert status == 1
    assert "one rank only" in err


def test_an_adapter_of_another_base_is_refused(
    tinylm: Command, run: Path, text: Path, tmp_path: Path
) -> None:
    folder = tune(tinylm, run, text)
    other = tune(tinylm, run, text, "full")
    for command, message in (
        (["generate", other, "x", "--adapter", folder], "was trained on the base"),
        (["merge", other, folder, "--out", "merged"], "is a model alone, without the settings"),
    ):
        status, out, err = tinylm(*command)
        assert (status, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "merged").exists()


def test_nothing_is_merged_into_a_folder_that_holds_something(
    tinylm: Command, run: Path, text: Path, tmp_path: Path
) -> None:
    tune(tinylm, run, text)
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged/mine").write_text("x")
    status, out, err = tinylm("merge", run, "lora", "--out", "merged")
    assert (status, out) == (1, "")
    assert "merged is not empty" in err
    assert files(tmp_path / "merged") == {"mine": b"x"}


def test_a_look_inside_with_an_adapter_is_one_at_the_adapted_model(
    tinylm: Command, run: Path, text: Path, tmp_path: Path
) -> None:
    folder = Path(tune(tinylm, run, text, "lora", "--learning-rate", 0.03))
    before = files(run)
    assert tinylm("merge", run, "lora", "--out", "merged")[0] == 0

    pair = ["--clean", "Lily saw the ball. The", "--corrupted", "Lily saw the kite. The"]
    pair += ["--answer", "ball", "--wrong", "kite", "--json"]
    plain, adapted, merged = (
        json.loads(tinylm("patch", *which, *pair)[1])
        for which in ([run], [run, "--adapter", "lora"], ["merged"])
    )
    assert abs(adapted["clean"] - plain["clean"]) > 0.01
    for key in ("stream", "heads", "estimates"):
        for way in ("denoising", "noising"):
            assert np.array(adapted[key][way]) == pytest.approx(
                np.array(merged[key][way]), abs=2e-3
            )

    read = ["lens", run, "The dog saw the cat.", "--adapter", folder]
    lm, config = adapted_model(LanguageModel.load(run), folder), load_config(run / "config.yaml")
    for more, translate in (([], None), (["--tuned"], tune_lens(lm, config, SilentConsole()))):
        status, out, err = tinylm(*read, *more)
        assert status == 0, err
        seen = lens(lm.trace("The dog saw the cat."), translate=translate)
        for value in seen.divergences[:-1, 0].mean(-1):
            assert f" {value:.3f} " in out
    assert files(run) == before  # the run keeps the tuned lens of its own model alone

    status, out, err = tinylm("attention", run, "The dog saw the cat.", "--adapter", "lora")
    assert status == 0, err
    *_, figure = out.split()
    assert Path(figure).parent == folder / "figures"
    after = files(run)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("adapters/lora/figures/") for name in after.keys() - before.keys())
    worth = [head["worth_told"] for head in attention(lm, config, SilentConsole())["heads"]]
    own = attention(LanguageModel.load(run), config, SilentConsole())["heads"]
    assert worth != [head["worth_told"] for head in own]
    for told in worth:
        assert re.findall(r"\d\.\d{4}", told)[0] in out, told
