"""The README and the documents say what is so: their code runs, their commands and links exist."""

from __future__ import annotations

import itertools
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tinylm.cli import app
from tinylm.config import PRESETS, RunConfig, field_help, to_dict
from tinylm.registry import EXPERIMENTS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text("utf-8"), flags=re.DOTALL)


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_example_runs_and_is_short(tmp_path: Path, tiny_run: Path) -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quick").symlink_to(tiny_run)
    printed = python(code, tmp_path)
    assert printed.startswith("Once upon a time")
    assert re.search(r"^perplexity \d+\.\d", printed, flags=re.MULTILINE)


def test_the_examples_of_the_model_run_one_after_the_other(tmp_path: Path) -> None:
    printed = python("\n".join(blocks(ROOT / "docs/model.md", "python")), tmp_path)
    assert "torch.Size([2, 8, 10, 10])" in printed


def test_the_gradient_of_the_families_is_that_of_the_formula(tmp_path: Path) -> None:
    printed = python("\n".join(blocks(ROOT / "docs/families.md", "python")), tmp_path)
    attention, said = printed.split("autograd")
    assert said.split() == ["True", "formula", "True"]
    assert "context [0.8, 0.5, 0.0]\n" in attention
    assert f"```\n{attention}```" in (ROOT / "docs/families.md").read_text("utf-8")


def test_the_example_of_the_techniques_shows_that_less_is_kept(tmp_path: Path) -> None:
    printed = python("\n".join(blocks(ROOT / "docs/techniques.md", "python")), tmp_path)
    plain, recomputed = (int(number) for number in re.findall(r"kept (\d+)", printed))
    assert recomputed < plain / 4


def test_the_example_of_fine_tuning_merges_and_comes_back(tmp_path: Path) -> None:
    printed = python("\n".join(blocks(ROOT / "docs/finetuning.md", "python")), tmp_path)
    assert "merged True" in printed
    assert "base True" in printed


def test_the_examples_of_interpretability_run_one_after_the_other(
    tmp_path: Path, tiny_run: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quick").symlink_to(tiny_run)
    code = blocks(ROOT / "docs/interpretability.md", "python")
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 10 for block in code)
    printed = python("\n".join(code), tmp_path)
    assert re.search(r"^1 feed-forward .* 0\.000 nats from the end$", printed, re.MULTILINE)
    for lens in ("logit lens", "tuned lens"):
        assert re.search(rf"^{lens} \d\.\d\d nats from the end in the mean$", printed, re.MULTILINE)
    for source in ("zeros", "means", "another text"):
        assert re.search(rf"^{source} +tensor\(\[", printed, re.MULTILINE)
    assert "dict_keys(['layers.0.input', 'layers.0.middle'])" in printed
    assert re.search(r"^\d+ of \d+ edges$", printed, re.MULTILINE)
    assert "dict_keys(['ablation', 'alone', 'attribution patching', 'Taylor'])" in printed
    ((parts, logits),) = re.findall(
        r"^sum (.+), difference of the logits (.+)$", printed, re.MULTILINE
    )
    assert abs(float(parts) - float(logits)) < 1e-3


def test_the_examples_of_compression_run_one_after_the_other(
    tmp_path: Path, tiny_run: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quick").symlink_to(tiny_run)
    code = blocks(ROOT / "docs/compression.md", "python")
    assert all(len([line for line in block.splitlines() if line.strip()]) <= 10 for block in code)
    printed = python("\n".join(code), tmp_path)
    smaller, total = re.findall(r"^([\d,]+) of ([\d,]+)$", printed, re.MULTILINE)[0]
    assert int(smaller.replace(",", "")) < int(total.replace(",", ""))
    assert re.search(r"'layers\.0\.attention\.output': '\d+% is 0'", printed)
    ((nearest, gptq),) = re.findall(
        r"^logits move by (\S+) of their square, by GPTQ (\S+)$", printed, re.MULTILINE
    )
    assert 0 < float(gptq) < float(nearest)
    assert re.search(r"^validation perplexity \d+\.\d\d$", printed, re.MULTILINE)
    (student,) = re.findall(r"^LanguageModel\(([\d,]+) parameters", printed, re.MULTILINE)
    assert int(student.replace(",", "")) < int(total.replace(",", ""))


def commands() -> list[str]:
    in_documents = []
    for path in DOCUMENTS:
        in_documents += re.findall(r"`(tinylm [a-z][^`]*)`", path.read_text("utf-8"))
        lines = [line for block in blocks(path, "sh") for line in block.splitlines()]
        in_documents += [line for line in lines if line.startswith("tinylm ")]
    return sorted(set(in_documents))


def test_commands_are_found() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line: str) -> None:
    group = typer.main.get_command(app)
    _, *words = shlex.split(line)
    if words[0].startswith("-"):
        return
    assert words[0] in group.commands, line  # type: ignore[attr-defined]
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    if words[1:] and words[1] in (inner := getattr(command, "commands", {})):
        command = inner[words[1]]
    options = {name for parameter in command.params for name in parameter.opts}
    for before, word in itertools.pairwise(words):
        if word.startswith("-"):
            assert word in options | {"--help"}, line
        if before == "--preset":
            assert word in PRESETS, line
    if words[0] == "experiment" and len(words) > 1 and not words[1].startswith("-"):
        assert words[1] in EXPERIMENTS, line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
        assert (path.parent / target).exists(), target


PACKAGE = ROOT / "src/tinylm"
IGNORED = {line.strip("/") for line in (ROOT / ".gitignore").read_text("utf-8").splitlines()}
"""What runs leave: whether it is there says nothing about a document."""


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_folders_that_are_named_exist(path: Path) -> None:
    """Those of the project: what a run leaves, and NAME in capitals, are the reader's."""
    for name in re.findall(r"`([\w.-]+/[\w./-]*)`", path.read_text("utf-8")):
        first = name.partition("/")[0]
        roots = [root for root in (ROOT, PACKAGE) if (root / first).exists()]
        if first in IGNORED:
            continue
        if roots and not re.search(r"\b[A-Z]{3,}\b", name):
            assert any((root / name).exists() for root in roots), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_modules_and_settings_that_are_named_exist(path: Path) -> None:
    for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", path.read_text("utf-8")):
        if name.endswith(".py"):
            assert (path.parent / name).exists() or (PACKAGE / name).exists(), name
        if Path(name).suffix in (".json", ".pdf", ".py", ".yaml"):
            continue
        first = name.removeprefix("tinylm.").partition(".")[0]
        if name.startswith("tinylm.") or hasattr(RunConfig(), first) or (PACKAGE / first).is_dir():
            assert is_setting(name) or is_code(name), name


def is_setting(name: str) -> bool:
    if name in dict(field_help()):  # of a tokenizer that is not the default too
        return True
    value: Any = to_dict(RunConfig())
    for key in name.split("."):
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def is_code(name: str) -> bool:
    try:
        pkgutil.resolve_name(f"tinylm.{name.removeprefix('tinylm.')}")
    except (ImportError, AttributeError):
        return False
    return True


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for path in DOCUMENTS:
        for target in re.findall(
            r"\bmake (report|test|format|bench|lock|clean)\b", path.read_text("utf-8")
        ):
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_lock_pins_every_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = {
        re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower()
        for line in lock.splitlines()
        if line and not line.startswith("#")
    }
    assert all("==" in line for line in lock.splitlines() if line and not line.startswith("#"))
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    for group in ("dependencies", "dev"):
        (listed,) = re.findall(rf"^{group} = \[\n(.*?)^\]", text, flags=re.MULTILINE | re.DOTALL)
        for name in re.findall(r'"([A-Za-z0-9_.-]+)', listed):
            assert re.sub(r"[-_.]+", "-", name).lower() in pinned, name
    assert "torch==2.13.0\n" in lock
