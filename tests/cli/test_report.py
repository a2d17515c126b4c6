"""``tinylm report``: what is asked for is what is run, printed, and made again by its commands."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinylm.config import load_config
from tinylm.registry import EXPERIMENTS

Command = Callable[..., tuple[int, str, str]]
QUICK = "data,training,evaluation"
MEASURED = {
    "weights", "checkpoints", "checksum", "environment", "seconds", "seconds_training",
    "tokens_per_second", "peak_resident_bytes",
}  # fmt: skip
"""What time and place decide, in a result; checkpoints hold how long training took."""


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, since the command writes into it."""
    return shutil.copytree(tiny_run, tmp_path / "runs/tiny", symlinks=True)


def listings(run: Path) -> list[str]:
    """The commands and the configuration that the report prints."""
    page = (run / "report.html").read_text("utf-8")
    return [html.unescape(text) for text in re.findall(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)]


def printed(run: Path) -> dict[str, Any]:
    """The configuration that the report prints."""
    values: dict[str, Any] = yaml.safe_load(re.sub("<[^>]*>", "", listings(run)[-1]))
    return values


def sections(run: Path) -> set[str]:
    return set(re.findall(r'id="sec-([\w-]+)"', (run / "report.html").read_text("utf-8")))


def test_overrides_are_what_is_used_and_what_is_printed(tinylm: Command, run: Path) -> None:
    before = (run / "config.yaml").read_bytes()
    settings = ("report.author=Ada Lovelace: A*", "report.title=On stories", "evaluation.seed=7",
                "evaluation.num_stories=3", "experiments.accumulation.windows=512")  # fmt: skip
    options = [part for setting in settings for part in ("-o", setting)]
    status, _, err = tinylm("report", "--run", run, "--experiments", QUICK, *options)
    assert status == 0, err
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "Ada Lovelace: A*" in page and "On stories" in page
    assert "of 3 validation stories were continued" in page
    assert "7 for the continuations" in page
    used = printed(run)
    assert used["report"]["author"] == "Ada Lovelace: A*"
    assert used["report"]["experiments"] == QUICK.split(",")
    assert used["evaluation"] | {"num_stories": 3, "seed": 7} == used["evaluation"]
    assert used["experiments"]["accumulation"]["windows"] == 512
    assert used["training"]["precision"] in ("fp32", "bf16")  # as resolved
    assert (run / "config.yaml").read_bytes() == before


def test_only_what_was_named_has_a_section(tinylm: Command, run: Path) -> None:
    (run / "results/samples.json").write_text('{"settings": []}', "utf-8")
    status, _, err = tinylm("report", "--run", run, "--experiments", "training, data")
    assert status == 0, err
    assert {"data", "training", "architecture", "reproduction"} <= sections(run)
    assert not {"evaluation", "samples"} & sections(run)
    assert "sec:evaluation" not in (run / "report.typ").read_text("utf-8")
    assert tinylm("report", "--run", run, "--experiments", "evaluation")[0] == 0
    assert "evaluation" in sections(run) and "training" not in sections(run)


def test_the_printed_commands_make_the_same_report(tinylm: Command, run: Path) -> None:
    options = ("-o", "report.author=Ada's", "-o", "evaluation.num_stories=3")
    status, _, err = tinylm("report", "--run", run, "--experiments", QUICK, *options)
    assert status == 0, err
    commands = re.sub("<[^>]*>", "", listings(run)[0]).splitlines()
    assert len(commands) == 2
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "tinylm"
        status, _, err = tinylm(*words)
        assert status == 0, err
    again = run.with_name("tiny-again")
    for name in QUICK.split(","):
        first, second = (measured(folder / f"results/{name}.json") for folder in (run, again))
        assert first == second, name
    assert printed(run) == printed(again)
    assert sections(run) == sections(again)


def measured(path: Path) -> Any:
    """A result without what time and place decide."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items() if key not in MEASURED}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return plain(json.loads(path.read_text("utf-8")))


@pytest.mark.parametrize(
    "made",
    [("quantize", "--bits", 4), ("prune", "--share", 0.5), ("merge", "lora")],
    ids=lambda made: made[0],
)
def test_a_run_that_was_made_of_another_is_reported_and_handed_in(
    tinylm: Command, run: Path, made: tuple[object, ...]
) -> None:
    """Without the training that it never had, and without commands that make another model."""
    if made[0] == "merge":
        assert tinylm("finetune", run, "--data", "letters", "--steps", 2)[0] == 0
    status, _, err = tinylm(made[0], run, *made[1:], "--out", "small")
    assert status == 0, err
    few = ("-o", "evaluation.num_stories=3")
    status, _, err = tinylm("report", "--run", "small", "--experiments", QUICK, *few)
    assert status == 0, err
    assert "— training is left out: small was made of another run" in err
    small = Path("small")
    assert {"data", "evaluation", "reproduction"} <= sections(small)
    assert not {"training", "commands"} & sections(small)
    assert "tinylm train" not in (small / "report.html").read_text("utf-8")
    status, _, err = tinylm("handin", small, "--entry", "mine")
    assert status == 0, err
    with zipfile.ZipFile("mine.zip") as archive:
        text = archive.read("mine/README.md").decode()
    assert "tinylm train" not in text and "tinylm report" not in text
    assert "tinylm evaluate runs/mine" in text


def test_all_are_the_registrys(tinylm: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinylm.experiments import context
    from tinylm.experiments.document import build

    wanted: list[str] = []
    monkeypatch.setattr(context, "run_experiment", lambda name, *_: wanted.append(name))
    monkeypatch.setattr(build, "build_report", lambda folder, config: {})
    assert tinylm("report", "--run", run, "--experiments", "all")[0] == 0
    assert wanted == list(EXPERIMENTS)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--experiments", "data,kv-cash"), "unknown experiment 'kv-cash'; did you mean kv-cache"),
        (("--experiments", ""), "unknown experiment ''"),
        (("--experiments", "data", "-o", "report.experiments=[data]"), "leave one out"),
        (("-o", "training.learning_rate=1"), "-o training.learning_rate=1"),
    ],
)
def test_what_cannot_be_is_one_line(
    tinylm: Command, run: Path, args: tuple[str, ...], message: str
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    status, out, err = tinylm("report", "--run", run, *args)
    assert status != 0 and out == "" and message in err and len(err.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_the_command_that_a_refusal_prints_can_be_run(tinylm: Command, run: Path) -> None:
    _, _, err = tinylm("report", "--run", run, "-o", "training.max_steps=31")
    command = err.strip().partition("with other ones: ")[2]
    status, _, err = tinylm(*shlex.split(command)[1:])
    assert status == 0, err
    assert load_config(run / "config.yaml").training.max_steps == 31
