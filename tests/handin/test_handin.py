"""``tinylm handin``: the zip installs, its commands run as printed, nothing escapes."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import hatchling.build
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

import tinylm as package
from tests.cli.conftest import Command
from tinylm.config import RunConfig, load_config
from tinylm.errors import CheckpointError, ConfigError, TinylmError
from tinylm.experiments.results import read_result, write_result
from tinylm.handin import code, hand_in
from tinylm.handin.readme import CheckpointFile, Subject, escaped, readme
from tinylm.printable import in_line

SMALL = [
    *("experiments.kv_cache.length=16", "experiments.kv_cache.samples=2"),
    *("experiments.kv_cache.repeats=1", "experiments.beam_search.few_prompts=1"),
    *("experiments.beam_search.prompts=2", "experiments.beam_search.widths=[2]"),
    *("experiments.beam_search.repeats=1", "experiments.beam_search.max_new_tokens=4"),
    *("experiments.accumulation.windows=8", "experiments.accumulation.steps=[1, 2]"),
    *("experiments.accumulation.batch_size=4", "experiments.gradient_checkpointing.depths=[1]"),
    *("experiments.gradient_checkpointing.context_lengths=[8]",
      "experiments.gradient_checkpointing.segments=[1]"),
    *("experiments.gradient_checkpointing.repeats=1", "experiments.hyperparameters.steps=2"),
    *("experiments.hyperparameters.seeds=2", "experiments.hyperparameters.num_layers=[2]"),
    *("experiments.hyperparameters.num_heads=[1]",
      "experiments.hyperparameters.learning_rate_factors=[0.5]"),
    *("experiments.finetuning.steps=2", "experiments.attention.stories=4"),
]  # fmt: skip
TITLE = "A <b>title</b> [with](http://x.y) `marks` | & *more*"


@pytest.fixture(scope="module")
def reported(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with a report whose settings differ from the run's; tests must not change it."""
    from tinylm.experiments.context import SilentConsole, open_run, run_experiment
    from tinylm.experiments.document.build import build_report

    folder = tmp_path_factory.mktemp("handin") / "runs/tiny"
    shutil.copytree(tiny_run, folder, symlinks=True)
    settings = [*SMALL, "report.experiments=[data, training]", f"report.title={TITLE}"]
    context = open_run(folder, SilentConsole(), settings)
    for name in context.config.report.experiments:
        run_experiment(name, context)
    build_report(folder, context.config)
    return folder


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(reported, tmp_path / "runs/tiny", symlinks=True)


def unpacked(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    (inner,) = folder.iterdir()
    return inner


def shell_blocks(text: str) -> list[list[str]]:
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


# --- what is in it ---


def test_the_same_run_gives_the_same_bytes(reported: Path, tmp_path: Path) -> None:
    first = hand_in(reported, "one", tmp_path / "a.zip")
    again = hand_in(reported, "one", tmp_path / "b.zip")
    content = first.path.read_bytes()
    assert content == again.path.read_bytes()
    assert first.num_bytes == len(content)
    hand_in(reported, "one", tmp_path / "a.zip")  # its own file may be written over
    assert (tmp_path / "a.zip").read_bytes() == content


def test_it_holds_code_report_results_and_configuration(reported: Path, tmp_path: Path) -> None:
    inner = unpacked(hand_in(reported, "mine", tmp_path / "x.zip").path, tmp_path / "out")
    assert inner.name == "mine"
    own = Path(package.__file__).parent
    for path in inner.joinpath("src/tinylm").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (own / path.relative_to(inner / "src/tinylm")).read_bytes()
    packed = {path.relative_to(inner / "src/tinylm") for path in inner.rglob("src/tinylm/**/*.py")}
    assert packed == {path.relative_to(own) for path in own.rglob("*.py")}
    for name in ("pyproject.toml", "requirements.lock", "Makefile", "LICENSE"):
        assert (inner / name).read_bytes() == (own.parents[1] / name).read_bytes()
    for name in ("report.pdf", "metrics.jsonl", "results/data.json", "results/training.json"):
        assert (inner / name).read_bytes() == (reported / name).read_bytes()
    config = load_config(inner / "config.yaml")
    assert config.experiments.kv_cache.length == 16  # as the report was made, not as the run was
    assert config.report.title == TITLE
    assert config.training == load_config(reported / "config.yaml").training
    text = (inner / "README.md").read_text("utf-8")
    for path in re.findall(r"\]\((src/[^)]+)\)", text):
        assert (inner / path).is_file(), path


def wheel(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> zipfile.ZipFile:
    monkeypatch.chdir(folder)
    out.mkdir()
    return zipfile.ZipFile(out / hatchling.build.build_wheel(str(out)))


@pytest.mark.parametrize("has_project", [True, False])
def test_it_can_be_installed(
    reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_project: bool
) -> None:
    if not has_project:  # as after `pip install tinylm`
        monkeypatch.setattr(code, "_is_ours", lambda path: False)
    inner = unpacked(hand_in(reported, "mine", tmp_path / "x.zip").path, tmp_path / "out")
    assert (inner / "Makefile").exists() == has_project
    with wheel(inner, tmp_path / "wheel", monkeypatch) as built:
        names = {name for name in built.namelist() if name.startswith("tinylm/")}
        assert names == {
            path.relative_to(inner / "src").as_posix()
            for path in inner.rglob("src/tinylm/**/*")
            if path.is_file()
        }
        (about,) = (name for name in built.namelist() if name.endswith("dist-info/METADATA"))
        text = built.read(about).decode()
        (points,) = (name for name in built.namelist() if name.endswith("entry_points.txt"))
        assert "tinylm = tinylm.cli:main" in built.read(points).decode()
    wanted = [line for line in metadata.requires("tinylm") or [] if "extra ==" not in line]
    requirements = re.findall(r"^Requires-Dist: (.*)$", text, re.MULTILINE)
    assert [line for line in requirements if "extra ==" not in line] == wanted
    assert f"Version: {package.__version__}\n" in text


def test_a_package_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", missing)
    with pytest.raises(ConfigError, match="tinylm is not installed"):
        code.project_of_installation()


# --- its commands ---


def test_its_commands_run_as_they_are_printed(
    tinylm: Command, reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = hand_in(reported, "A. Student's 1st", tmp_path / "x.zip")
    texts = {}
    for way in ("trained", "given"):
        inner = unpacked(written.path, tmp_path / way)
        monkeypatch.chdir(inner)
        install, checkpoint, *rest = shell_blocks((inner / "README.md").read_text("utf-8"))
        assert install == ["python3 -m venv .venv", ". .venv/bin/activate", "pip install ."]
        commands = [line for block in rest for line in block]
        assert len(commands) == 17
        if way == "given":
            shutil.copytree(written.checkpoint, inner / "checkpoint")
            subprocess.run(["sh", "-ec", "\n".join(checkpoint)], check=True, cwd=inner)
            sampled = next(line for line in commands if line.startswith("tinylm generate"))
            commands = [sampled, commands[-1]]
        for line in commands:
            program, *words = shlex.split(line)
            assert program == "tinylm"
            status, out, err = tinylm(*words)
            assert status == 0, (line, err)
            if words[0] == "generate":
                texts.setdefault(way, out)
    assert texts["given"] == texts["trained"]
    for name in ("data", "training"):  # nothing was measured again
        kept = inner / f"runs/A. Student's 1st/results/{name}.json"
        assert kept.read_bytes() == (reported / f"results/{name}.json").read_bytes()
    run = tmp_path / "trained" / "A. Student's 1st/runs/A. Student's 1st"
    for name in ("data", "training"):
        first, again = (read_result(at / f"results/{name}.json") for at in (reported, run))
        assert first is not None and again is not None
        assert first["from"] | {"checkpoints": 0} == again["from"] | {"checkpoints": 0}
    assert (run / "report.pdf").is_file()


def test_the_readme_names_the_place_or_the_address_of_the_checkpoint(
    reported: Path, tmp_path: Path
) -> None:
    def text(url: str | None) -> str:
        written = hand_in(reported, "mine", tmp_path / "x.zip", url)
        with zipfile.ZipFile(written.path) as archive:
            return archive.read("mine/README.md").decode()

    manifest = json.loads((reported / "checkpoints/best/manifest.json").read_text())
    unfilled, filled = text(None), text("https://example.org/a%20model?x=1&y=(2)")
    for content in (unfilled, filled):
        for name, digest in manifest["sha256"].items():
            assert f"| `{name}` | " in content and f"`{digest}`" in content
    step = (reported / "checkpoints/best").resolve().name
    assert f"the folder runs/tiny/checkpoints/{step}," in unfilled
    assert "To be filled in" in unfilled and "To be filled in" not in filled
    assert str(tmp_path.parent) not in unfilled.partition("## Commands")[0]
    assert "<https://example.org/a%20model?x=1&y=(2)>" in filled


# --- what the user wrote ---


def flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from flat(token.children or [])


@given(st.text())
def test_text_is_shown_as_it_is(text: str) -> None:
    (inline,) = MarkdownIt("gfm-like", {"linkify": False}).parseInline(f"x{escaped(text)}x")
    assert inline.children is not None
    assert {token.type for token in inline.children} <= {"text"}
    assert "".join(token.content for token in inline.children) == f"x{in_line(text)}x"


def test_no_address_becomes_a_link() -> None:
    text = "http://a.org WWW.b.org <c> me@d.org"
    assert escaped(text) == r"http\://a.org WWW\.b.org \<c\> me\@d.org"


def test_nothing_that_the_user_wrote_is_markdown() -> None:
    bad = "<script>alert(1)</script> [a](javascript:b) ![c](d) `e` | # f\n## g &amp; **h**"
    overrides = [
        *(f"report.title={json.dumps(bad)}", f"report.author={json.dumps(bad)}"),
        f"report.prompts={json.dumps([bad, 'It`s', 'Quoted: $(rm) ;'])}",
        "data.corpus=files",
        f"data.path={json.dumps('/a/<b>')}",
        "vectors.path=x.vec",
    ]
    subject = Subject(
        entry="an <i>entry</i> | `x` $(y)",
        config=load_config(overrides=overrides),
        text=bad,
        has_metrics=False,
        checkpoint="step-3",
        place=f"{bad}/step-3",
        files=(CheckpointFile("config.json", 3, "0" * 64),),
        url=None,
        version="1.0",
        is_locked=False,
    )
    text = readme(subject)
    tokens = [*flat(MarkdownIt("gfm-like", {"linkify": False, "html": True}).parse(text))]
    assert not [token for token in tokens if token.type in ("html_inline", "html_block", "image")]
    links = [token.attrs["href"] for token in tokens if token.type == "link_open"]
    assert all(str(link).startswith("src/tinylm/") for link in links)
    headings = [
        after.content for token, after in itertools.pairwise(tokens)
        if token.type == "heading_open"
    ]  # fmt: skip
    assert len(headings) == 4 + 13
    shown = [
        "".join(child.content for child in token.children or []) for token in tokens
        if token.type == "inline"
    ]  # fmt: skip
    assert sum(text.count(in_line(bad)) for text in shown) == 4  # title, author, place, text
    assert "tinylm generate 'runs/an <i>entry</i> | `x` $(y)' 'Quoted: $(rm) ;' " in text
    for needed in ("set `data.path`", "set `vectors.path`"):
        assert needed in text


def test_a_command_that_cannot_be_shown_is_refused() -> None:
    config = load_config(overrides=['experiments.finetuning.target="a\\nb"'])
    subject = Subject("x", config, None, True, "step-1", "p", (), None, "1", True)
    with pytest.raises(ConfigError, match="would hold a control character"):
        readme(subject)
    assert "letters" in readme(replace(subject, config=RunConfig()))


# --- what is refused ---


def change_result(run: Path) -> None:
    path = run / "results/training.json"
    result = read_result(path)
    assert result is not None
    write_result(path, result | {"seconds": 0.5})


def damage_checkpoint(run: Path) -> None:
    path = run / "checkpoints/best/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def damage_record(run: Path) -> None:
    path = run / "report.json"
    path.write_text(path.read_text().replace("pdf", "pdg"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda run: (run / "report.pdf").unlink(), ConfigError, "has no report.pdf: make it: "),
        (lambda run: (run / "report.pdf").write_bytes(b"%PDF"), ConfigError,
         "report.pdf has changed since"),
        (change_result, ConfigError, "results/training.json has changed since"),
        (lambda run: (run / "results/data.json").unlink(), ConfigError,
         "results/data.json has changed since"),
        (lambda run: (run / "report.json").unlink(), ConfigError, "by an earlier version"),
        (damage_record, TinylmError, "write the report again: tinylm report --run"),
        (lambda run: (run / "config.yaml").unlink(), ConfigError, "a model alone"),
        (damage_checkpoint, CheckpointError, "is damaged: model.safetensors has changed"),
        (lambda run: shutil.rmtree(run / "checkpoints"), CheckpointError, "holds no checkpoint"),
    ],
)  # fmt: skip
def test_what_cannot_be_handed_in(
    run: Path, change: Callable[[Path], object], error: type[TinylmError], message: str
) -> None:
    change(run)
    with pytest.raises(error) as refused:
        hand_in(run, "mine", run.parent / "mine.zip")
    assert message in str(refused.value) and str(refused.value).isprintable()
    assert not (run.parent / "mine.zip").exists()


def test_the_command_that_a_refusal_prints_makes_it_whole(tinylm: Command, run: Path) -> None:
    change_result(run)
    status, out, err = tinylm("handin", run, "--entry", "mine")
    assert (status, out) == (1, "") and len(err.splitlines()) == 1
    command = err.strip().partition("write it again: ")[2]
    status, _, err = tinylm(*shlex.split(command)[1:])
    assert status == 0, err
    status, out, err = tinylm("handin", run, "--entry", "mine")
    assert status == 0, err
    assert out == "mine.zip\n"
    assert re.search(r"mine\.zip: \d+ files, \d+\.\d\d MiB", err)
    assert "give its address with --checkpoint" in err


@pytest.mark.parametrize("entry", ["../x", "a/b", "..", "", "-o", "x\ny", ".x", "x" * 300])
def test_a_name_stays_in_its_folder(reported: Path, entry: str) -> None:
    with pytest.raises(ConfigError, match="--entry"):
        hand_in(reported, entry)


@pytest.mark.parametrize(
    "url",
    ["", "x", "file:///etc/passwd", "https://", "javascript:alert(1)", "https://a b.org/",
     "https://a.org/>x", "https://a.org/\nx", "https://me:secret@a.org/x", "https://é.org/",
     "https://[a.org/", f"https://a.org/{'x' * 2000}"],
)  # fmt: skip
def test_an_address_is_one_of_the_web(reported: Path, tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"--checkpoint .*: give an address that begins with"):
        hand_in(reported, "x", tmp_path / "x.zip", url)
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_made_is_left_alone(reported: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thesis.txt", "years of work")
    for content in (path.read_bytes(), b"", b"text", b"made by tinylm handin"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"is nothing that was handed in"):
            hand_in(reported, "mine", path)
        assert path.read_bytes() == content
    with pytest.raises(ConfigError, match="is a folder"):
        hand_in(reported, "mine", tmp_path)
