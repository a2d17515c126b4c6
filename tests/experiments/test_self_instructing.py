"""Self-Instruct, step after step: counts, files, and that an interrupted one ends with the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.alignment.self_instruct.writers import Scripted
from tinylm.alignment.self_instruct.filters import INSTANCE_FILTERS, INSTRUCTION_FILTERS
from tinylm.alignment.self_instruct.records import Instance, read_tasks
from tinylm.alignment.self_instruct.rouge import f1, words
from tinylm.config.self_instruct import SelfInstructConfig
from tinylm.errors import AlignmentError, ConfigError
from tinylm.experiments import self_instructing
from tinylm.experiments.context import SilentConsole
from tinylm.experiments.self_instructing import FILES, FOLLOWING, Asked, Made, make_set
from tinylm.folders import temporary

SEEDS = (
    Instance("Tell me a story of the sea.", "", "Once there was a sea."),
    Instance("Is this true or not?", "It rains.", "yes", True),
    Instance("Is this true or not?", "It snows.", "no", True),
)
ASKED = Asked(SEEDS, 12, SelfInstructConfig(written_at_once=5, most_rounds=20), 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def made_in(folder: Path, writer: Scripted, asked: Asked = ASKED) -> Made:
    folder.mkdir(exist_ok=True)
    return make_set(folder, writer, asked, SilentConsole())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    """An uninterrupted one: its folder, and what came of it."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, made_in(folder, Scripted())


def test_every_step_leaves_a_file(whole: tuple[Path, Made]) -> None:
    folder, made = whole
    assert set(contents(folder)) == {*FILES} - {FOLLOWING}
    lines = {
        path.stem: [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for path in folder.glob("*.jsonl")
    }
    kept = [line["instruction"] for line in lines["instructions"] if line["refused"] is None]
    assert len(kept) == 12
    known = [each.instruction for each in SEEDS]
    for each in kept:
        assert all(f1(words(each), words(other)) <= 0.7 for other in known)
        known.append(each)
    assert [line["instruction"] for line in lines["classification"]] == kept
    assert [line["instruction"] for line in lines["drafts"]] == kept
    assert all(set(line["shown"]) <= set(known) for line in lines["instructions"])
    through = [line for line in lines["instances"] if line["refused"] is None]
    assert [line["from"] for line in lines["set"]] == ["seed"] * 3 + ["made"] * len(through)
    assert through
    assert read_tasks(folder / "set.jsonl", "made")[3:] == list(made.tasks[3:])


def test_the_counts_add_up(whole: tuple[Path, Made]) -> None:
    folder, made = whole
    counts = json.loads((folder / "counts.json").read_text())
    assert counts == made.counts
    for name, filters in (("instructions", INSTRUCTION_FILTERS), ("instances", INSTANCE_FILTERS)):
        part = counts[name]
        assert tuple(part["refused"]) == filters
        assert part["written"] == part["kept"] + sum(part["refused"].values())
        assert 0 < part["kept"] < part["written"]
    assert counts["classification"]["yes"] + counts["classification"]["no"] == 12
    assert counts["set"] == {"seed": 3, "made": counts["instances"]["kept"]}


def test_one_that_is_interrupted_anywhere_ends_with_the_same_files(
    whole: tuple[Path, Made], tmp_path: Path
) -> None:
    writer = Scripted()
    made_in(tmp_path / "count", writer)
    for stop in range(0, len(writer.prompts), 3):
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            made_in(folder, Scripted(stop))
        again = Scripted()
        made_in(folder, again)
        assert contents(folder) == contents(whole[0])
        assert len(again.prompts) >= len(writer.prompts) - stop
        assert len(again.prompts) <= len(writer.prompts) - stop + 4  # of a broken round


def test_what_is_done_is_not_asked_again(whole: tuple[Path, Made], tmp_path: Path) -> None:
    made_in(tmp_path / "it", Scripted())
    again = Scripted()
    made_in(tmp_path / "it", again)
    assert again.prompts == []


@pytest.mark.parametrize("name", ["drafts.jsonl", "classification.jsonl", "instances.jsonl"])
def test_a_step_whose_file_is_deleted_is_done_again(
    name: str, whole: tuple[Path, Made], tmp_path: Path
) -> None:
    made_in(tmp_path / "it", Scripted())
    (tmp_path / "it" / name).unlink()
    made_in(tmp_path / "it", Scripted())
    assert contents(tmp_path / "it") == contents(whole[0])


def test_another_seed_gives_another_set(whole: tuple[Path, Made], tmp_path: Path) -> None:
    other = made_in(tmp_path / "it", Scripted(), replace(ASKED, seed=4))
    assert other.tasks != whole[1].tasks


def test_a_folder_that_was_begun_otherwise_is_refused(tmp_path: Path) -> None:
    made_in(tmp_path / "it", Scripted())
    before = contents(tmp_path / "it")
    for asked, what in (
        (replace(ASKED, seed=4), "seed"),
        (replace(ASKED, number=13), "number"),
        (replace(ASKED, settings=replace(ASKED.settings, most_similar=0.6)), "most_similar"),
        (replace(ASKED, seeds=SEEDS[:2]), "seeds"),
    ):
        with pytest.raises(ConfigError, match=f"begun with another .*{what}"):
            made_in(tmp_path / "it", Scripted(), asked)
    assert contents(tmp_path / "it") == before


@pytest.mark.parametrize("name", ["instructions", "classification", "drafts"])
@pytest.mark.parametrize("damage", ["{}\n", '{"round": ', "\xff\n", '"text"\n'])
def test_a_damaged_file_is_one_line(name: str, damage: str, tmp_path: Path) -> None:
    folder = tmp_path / "it"
    made_in(folder, Scripted())
    path = folder / f"{name}.jsonl"
    path.write_bytes(path.read_bytes() + damage.encode("latin-1"))
    with pytest.raises(AlignmentError) as problem:
        made_in(folder, Scripted())
    message = str(problem.value)
    assert f"{name}.jsonl, line " in message
    assert "delete it" in message or "not UTF-8" in message
    assert "\n" not in message


def test_lines_of_other_instructions_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "it"
    made_in(folder, Scripted())
    path = folder / "classification.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[1:]), "utf-8")
    with pytest.raises(AlignmentError, match=r"classification.jsonl, line 1: is of another"):
        made_in(folder, Scripted())


def test_a_writer_that_repeats_itself_is_told_and_not_waited_for(tmp_path: Path) -> None:
    console = SilentConsole()
    (tmp_path / "it").mkdir()
    asked = replace(ASKED, number=5000, settings=replace(ASKED.settings, most_rounds=3))
    made = make_set(tmp_path / "it", Scripted(), asked, console)
    assert 0 < made.counts["instructions"]["kept"] < 30
    assert "of 5,000 instructions are kept after 3 rounds" in console.warnings[0]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    console = SilentConsole()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "notes.txt").write_text("mine")
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    half = tmp_path / "half"
    half.mkdir()
    (half / "set.jsonl").write_text("")
    for folder in (strange, run, run / "inside", half, strange / "notes.txt"):
        with (
            pytest.raises(ConfigError, match="give --out"),
            self_instructing.folder_of(folder, console),
        ):
            pass
    with self_instructing.folder_of(tmp_path / "new", console):
        pass


@pytest.mark.parametrize("name", ["self-instruct.json", "instructions.jsonl", "set.jsonl"])
def test_what_a_killed_command_left_of_a_file_is_no_obstacle(
    name: str, whole: tuple[Path, Made], tmp_path: Path
) -> None:
    folder = tmp_path / "it"
    made_in(folder, Scripted())
    for later in FILES[FILES.index(name) :]:
        (folder / later).unlink(missing_ok=True)
    temporary(folder / name).write_text("hal")
    with self_instructing.folder_of(folder, SilentConsole()):
        made_in(folder, Scripted())
    assert contents(folder) == contents(whole[0])
