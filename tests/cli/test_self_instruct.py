"""``tinylm instruct`` and ``tinylm self-instruct``: runs that are tuned, killed, and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.alignment.self_instruct.server import running
from tests.alignment.self_instruct.writers import Scripted
from tests.cli.conftest import Command
from tests.training.tiny import tiny_run
from tinylm.alignment.self_instruct.writer import Request
from tinylm.config import load_config
from tinylm.experiments import own_training, self_instructing
from tinylm.experiments.context import run_experiment
from tinylm.language_model import LanguageModel

KEY = "sk-secret-0123456789"
INSTRUCT = ("--number", 14, "--steps", 2, "--batch-size", 4)
SMALL = ("--number", 4, "--steps", 2)
SMALL = (*SMALL, "-o", "most_rounds=2", "-o", "written_at_once=4", "-o", "held_out=7")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A story run whose context has room for an instruction and a story."""
    folder = tmp_path_factory.mktemp("instruct")
    settings = ("model.context_length=112", "training.max_steps=2", "training.learning_rate=1e-2")
    context = tiny_run(folder / "run", folder / "cache", *settings)
    run_experiment("training", context)
    return context.folder


@pytest.fixture(scope="module")
def tuned(plain: Path) -> Path:
    return plain.parent / "tuned"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix in (".jsonl", ".json", ".yaml", ".safetensors")
        if path.name not in ("metrics.jsonl", "training.json", "manifest.json")
    }


def test_a_run_is_tuned_and_is_a_run_like_any_other(
    tinylm: Command, plain: Path, tuned: Path
) -> None:
    status, out, err = tinylm("instruct", plain, "--out", tuned, *INSTRUCT)
    assert (status, out) == (0, f"{tuned}\n"), err
    assert "new words" in err
    record = json.loads((tuned / "compression.json").read_text())
    words = record["details"]["new_words"]
    assert {"task", "output"} <= set(words)
    config: Any = load_config(tuned / "config.yaml")
    assert list(config.tokenizer.more_words) == words
    lm = LanguageModel.load(tuned)
    assert lm.tokenizer.unknown_words(["Task: write\nOutput:"]).total() == 0
    old = LanguageModel.load(plain)
    assert lm.model.config.vocab_size == old.tokenizer.vocab_size + len(words)
    # Its text gives the tokenizer that its checkpoint holds: it can be a teacher, for example.
    arguments = ("--out", "student", "--steps", "1", "-o", "model.hidden_size=8")
    status, _, err = tinylm("distill", tuned, *arguments)
    assert status == 0, err
    status, _, err = tinylm("evaluate", tuned)
    assert status == 0, err


def test_a_tuning_that_is_broken_off_goes_on_bit_for_bit(
    tinylm: Command, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out(name: str) -> tuple[Any, ...]:
        return ("instruct", plain, "--out", tmp_path / name, *INSTRUCT)

    assert tinylm(*out("whole"))[0] == 0

    class Broken(own_training.Trainer):
        def _take_step(self) -> bool:
            if self.step == 1:
                raise KeyboardInterrupt
            return super()._take_step()

    with monkeypatch.context() as patch:
        patch.setattr(own_training, "Trainer", Broken)
        assert tinylm(*out("broken"))[0] != 0
    assert (tmp_path / "broken/instruct.json").exists()
    status, _, err = tinylm(*out("broken"), "--seed", 1)
    assert (status, "begun with another" in err) == (1, True)
    assert tinylm(*out("broken"))[0] == 0
    assert files(tmp_path / "whole").keys() == files(tmp_path / "broken").keys()
    for name, content in files(tmp_path / "whole").items():
        if name.endswith(".safetensors"):
            assert content == files(tmp_path / "broken")[name], name


def test_a_model_writes_what_it_is_tuned_on(
    tinylm: Command, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, printed, err = tinylm("self-instruct", tuned, "--out", "whole", *SMALL)
    assert status == 0, err
    assert "resulting set: 32 seed tasks and" in err
    assert printed.splitlines()[-1] == "whole/run"
    assert printed.splitlines()[-2].startswith("all ")
    following = json.loads(Path("whole/following.json").read_text())
    assert [row["kind"] for row in following["shares"]][-1] == "all"
    assert following["shares"][-1]["count"] == 7
    assert LanguageModel.load("whole/run").generate("Task: tell me a story.\nOutput:")

    def broken(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    for name in ("_judgements", "_drafts", "folder_of"):
        with monkeypatch.context() as patch:
            patch.setattr(self_instructing, name, broken)
            tinylm("self-instruct", tuned, "--out", "again", *SMALL)
    status, again, err = tinylm("self-instruct", tuned, "--out", "again", *SMALL)
    assert (status, again) == (0, printed.replace("whole", "again")), err
    whole = files(tmp_path / "whole")
    assert whole.keys() == files(tmp_path / "again").keys()
    for name, content in files(tmp_path / "again").items():
        if name != "run/compression.json":
            assert content == whole[name], name
    status, _, err = tinylm("self-instruct", tuned, "--out", "again", *SMALL, "--steps", 3)
    assert (status, "tuned with other settings" in err) == (1, True)


def test_an_endpoint_writes_for_a_run(
    tinylm: Command, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def answer(body: dict[str, Any]) -> str:
        request = Request(1, 1.0, 1.0, len(server.requests))
        return Scripted().write([body["messages"][0]["content"]], request)[0].text

    with running() as server:
        server.answers = answer
        options = ("--endpoint", server.url, "--model", "small", "--key-variable", "MY_KEY", *SMALL)
        status, out, err = tinylm("self-instruct", plain, "--out", "it", *options)
        assert status == 0, err
        assert all(each[1]["Authorization"] == f"Bearer {KEY}" for each in server.requests)
        asked = len(server.requests)
        shutil.rmtree("it/run")
        assert tinylm("self-instruct", plain, "--out", "it", *options)[0] == 0
        assert len(server.requests) == asked  # what was written is not asked for again
    for path in Path("it").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes()
    assert KEY not in out + err


def test_an_endpoint_that_is_gone_is_one_line_and_nothing_is_lost(
    tinylm: Command, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinylm.alignment.self_instruct.endpoint.FIRST_WAIT", 0.0)
    with running() as server:
        url = server.url
    options = ("--endpoint", url, "--model", "small", *SMALL)
    status, out, err = tinylm("self-instruct", plain, "--out", "it", *options)
    assert (status, out) == (1, "")
    assert "cannot be reached" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert {path.name for path in Path("it").iterdir()} >= {"self-instruct.json", "seeds.jsonl"}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("-o", "least_words=200"), "-o least_words=200: no instruction has so many words and"),
        (("--model", "x"), "--model is about --endpoint"),
        (("--key-variable", "X"), "--key-variable is about --endpoint"),
        (("--completions",), "--completions is about --endpoint"),
        (("--endpoint", "http://localhost:1/v1"), "give --model as well"),
        (("--endpoint", "localhost", "--model", "x"), "no address of http"),
        (
            ("--endpoint", "http://localhost:1/v1", "--model", "x", "--key-variable", "NO_SUCH"),
            "the environment has no such variable",
        ),
        (
            ("--endpoint", "http://localhost:1/v1", "--model", "x", "--writer", "run"),
            "leave one of them out",
        ),
        (("-o", "most_similar=2"), "most_similar"),
        (("-o", "following_temperature=1", "-o", "held_out=0"), "following_temperature"),
        (("-o", "shown=3"), "unknown key shown"),
        (("--seeds", "no.jsonl"), "no.jsonl"),
    ],
)
def test_options_that_cannot_be_are_one_line(
    options: tuple[str, ...], what: str, tinylm: Command, plain: Path
) -> None:
    status, out, err = tinylm("self-instruct", plain, "--out", "it", *options)
    assert (status, out) == (1, "")
    assert what in err
    assert len(err.strip().splitlines()) == 1
    assert not Path("it").exists()


def test_a_run_with_a_short_context_is_refused(tinylm: Command, tmp_path: Path) -> None:
    context = tiny_run(tmp_path / "run", tmp_path / "cache", "training.max_steps=1")
    run_experiment("training", context)
    for command in ("instruct", "self-instruct"):
        status, _, err = tinylm(command, context.folder, "--out", tmp_path / "it")
        assert status == 1
        assert "longer context" in err
    assert not (tmp_path / "it/run").exists()


def test_tasks_of_a_file_are_learned(tinylm: Command, plain: Path, tmp_path: Path) -> None:
    rows = [{"instruction": f"Say {i} cats.", "output": "The cat ran."} for i in range(6)]
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = ("instruct", plain, "--tasks", path, "--out", "it")
    status, _, err = tinylm(*arguments, "--number", 3)
    assert (status, "--number is about" in err) == (1, True)
    status, _, err = tinylm(*arguments)
    assert status == 0, err
    details = json.loads(Path("it/compression.json").read_text())["details"]
    assert details["examples"] == {"of": str(path), "train": 5, "held_out": 1}
    assert details["steps"] == 3  # epochs of one step each
    path.write_text(json.dumps(rows[0]))
    status, _, err = tinylm(*arguments[:4], "--out", "other")
    assert (status, "one instruction alone" in err) == (1, True)
