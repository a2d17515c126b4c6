from __future__ import annotations

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typst

from tests.report import fixtures
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.document.alone import document
from tinylm.experiments.document.build import assemble, build_report, incomplete
from tinylm.experiments.document.inputs import ReportInputs, load_inputs
from tinylm.reading import signed
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import (
    Figure,
    Heading,
    Table,
    inline_texts,
    number,
    plain_text,
    spans,
)
from tinylm.report.html import page


def text_of(results: dict[str, dict[str, Any]]) -> str:
    """Everything that the report says, as one plain text without figures."""
    inputs = ReportInputs(fixtures.config(), results, Path("none"), fixtures.ENVIRONMENT)
    document = assemble(inputs)
    html = page(document, inputs.folder)
    return re.sub(r"[ \n]+", " ", re.sub("<[^>]*>", "", html.partition("<body>")[2]))


def test_pdf_and_html_are_written(run_folder: Path) -> None:
    pdf = (run_folder / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    compiler = typst.Compiler(input=run_folder / "report.typ", root=run_folder)
    pages = compiler.compile(format="png", ppi=5)
    assert isinstance(pages, list) and len(pages) > 3
    assert (run_folder / "report.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert not [path for path in run_folder.iterdir() if path.name.endswith(".tmp")]
    figures = ("data", "architecture", "loss", "perplexity", "schedule", "kv-cache", "beam-search",
               "accumulation", "gradient-checkpointing", "efficiency", "finetuning",
               "finetuning-ranks")  # fmt: skip
    for name in figures:
        assert (run_folder / f"figures/{name}.svg").is_file()


def test_building_again_gives_the_same_bytes(run_folder: Path) -> None:
    written = [run_folder / f"report.{form}" for form in ("pdf", "html", "typ")]
    written += sorted((run_folder / "figures").iterdir())
    assert {path.suffix for path in written} >= {".svg", ".png"} and len(written) > 60
    before = [path.read_bytes() for path in written]
    paths = build_report(run_folder)
    assert set(paths) == {"pdf", "html", "typst"}
    for path, content in zip(written, before, strict=True):
        assert path.read_bytes() == content, path.name


def test_html_needs_nothing_but_itself(run_folder: Path) -> None:
    loads, ids, targets = [], [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            values = dict(attrs)
            ids.extend([values["id"]] if "id" in values else [])
            if tag == "a":
                targets.append(values["href"])
            elif "href" in values or "src" in values:
                loads.append(values.get("src") or values.get("href"))
            assert tag not in ("script", "link", "iframe")

    text = (run_folder / "report.html").read_text("utf-8")
    Reader().feed(text)
    assert loads and all(str(address).startswith("data:image/") for address in loads)
    assert len(set(ids)) == len(ids)
    inner = {str(target)[1:] for target in targets if str(target).startswith("#")}
    assert inner <= set(ids)
    assert set(re.findall(r"url\((.{5})", text)) == {"data:"} and "@import" not in text


@pytest.mark.parametrize("missing", EXPERIMENTS)
def test_a_missing_experiment_leaves_its_section_out(missing: str) -> None:
    results = fixtures.results()
    full = headings(results)
    del results[missing]
    sections = {"training": {"training", "architecture"}}.get(missing, {missing})
    assert full - headings(results) == {f"sec:{name}" for name in sections}
    text_of(results)  # no reference leads to what is not there


def headings(results: dict[str, dict[str, Any]]) -> set[str]:
    inputs = ReportInputs(fixtures.config(), results, Path("none"))
    blocks = assemble(inputs).blocks
    return {block.key for block in blocks if isinstance(block, Heading) and block.level == 1}


def test_sections_follow_the_registry() -> None:
    inputs = ReportInputs(fixtures.config(), fixtures.results(), Path("none"))
    blocks = assemble(inputs).blocks
    keys = [block.key for block in blocks if isinstance(block, Heading) and block.level == 1]
    sections = ["sec:task"]
    for name in EXPERIMENTS:
        sections += ["sec:architecture"] if name == "training" else []
        sections.append(f"sec:{name}")
    sections.append("sec:reproduction")
    assert keys == [*sections, "sec:references", "sec:configuration"]


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("data.splits.train.stories", 12_345, "12,345"),
        ("data.types_seen", 7_777, "7,777"),
        ("training.best.perplexity", 3.217, "3.217"),
        ("training.best.step", 4_321, "4,321"),
        ("training.unigram_perplexity", 377.4, "377"),
        ("training.parameters.total", 7_654_321, "7,654,321"),
        ("training.seconds_training", 4_567.0, "1\u00a0h 16\u00a0min"),
        ("evaluation.validation.bits_per_byte", 0.654, "0.654"),
        ("evaluation.bleu.corpus", 13.57, "13.57"),
        ("evaluation.repetition.generated", 0.0876, "8.8\u202f%"),
        ("evaluation.distinct.true.2", 0.4321, "0.432"),
        ("samples.reference.distinct_1", 0.5679, "0.568"),
        ("samples.settings.1.metrics.perplexity", 5.55, "5.55"),
        ("attention.heads.3.distance", 66.7, "66.7"),
        ("attention.seconds", 754.0, "12\u00a0min 34\u00a0s"),
    ],
)
def test_a_changed_number_changes_the_text(path: str, value: float, shown: str) -> None:
    results = fixtures.results()
    assert shown not in text_of(results)
    changed = copy.deepcopy(results)
    *parents, last = path.split(".")
    place: Any = changed
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    assert last in place
    place[last] = value
    assert shown in text_of(changed)


def test_every_reference_and_number_is_resolved() -> None:
    inputs = ReportInputs(fixtures.config(), fixtures.results(), Path("none"))
    document = assemble(inputs)
    numbering = number(document.blocks, [document.abstract])
    assert "[[" not in plain_text(document.abstract, numbering)
    assert {"vaswani2017", "kingma2015", "ba2016", "papineni2002"} <= set(numbering.cited)


def test_the_text_names_every_figure_and_table(run_folder: Path) -> None:
    whole = load_inputs(run_folder)
    alone = [
        document(replace(whole, results={name: result}), name)
        for name, result in whole.results.items()
    ]
    undrawn = replace(whole, folder=Path("none"))
    for made in [assemble(whole), assemble(undrawn), *alone]:
        named: set[str] = set()
        for block in made.blocks:  # a table may be named in the note of another
            own = {span.text for text in inline_texts(block) for span in spans(text)}
            named |= own - {getattr(block, "key", "")}
        keys = {block.key for block in made.blocks if isinstance(block, (Figure, Table))}
        assert keys <= named, keys - named


def test_unusable_folders_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: cannot be read \(No such file"):
        load_inputs(tmp_path)
    fixtures.write_run(tmp_path, {})
    with pytest.raises(DataError, match="no results"):
        build_report(tmp_path)
    for content, match in (
        ("{", "not JSON"),
        ("[]", "expected keys"),
        ("{}", "carries no checksum; measure it again"),
        (json.dumps(signed({})), "again"),
        (json.dumps(signed({"best": 1}) | {"best": 2}), "has changed since it was written"),
    ):
        (tmp_path / "results/training.json").write_text(content, "utf-8")
        with pytest.raises(DataError, match=match) as error:
            build_report(tmp_path)
        assert "\n" not in str(error.value)
    (tmp_path / "config.yaml").write_text("modle: {}", "utf-8")
    with pytest.raises(ConfigError, match="model"):
        load_inputs(tmp_path)


@pytest.mark.parametrize("value", [0.25, None, []])
def test_a_damaged_result_that_vouches_for_itself_is_told_with_its_section(
    tmp_path: Path, value: object
) -> None:
    results = fixtures.results()
    results["evaluation"]["texts"][0]["true"] = value
    fixtures.write_run(tmp_path, results)
    inputs = load_inputs(tmp_path)
    with pytest.raises(DataError, match="cannot be made into section 'evaluation' of the report"):
        assemble(inputs)
    long = incomplete(inputs, "a figure", ValueError("x" * 10_000))
    assert len(long) < 300 + len(str(tmp_path))


def test_a_file_outside_the_run_is_no_figure(tmp_path: Path) -> None:
    (tmp_path / "secret.svg").write_text("x", "utf-8")
    run = tmp_path / "run"
    run.mkdir()
    inputs = ReportInputs(fixtures.config(), {}, run)
    assert not inputs.has_figure("../secret.svg")


def test_the_date_is_that_of_the_results(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert int(load_inputs(run_folder).date.timestamp()) == fixtures.WRITTEN
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    assert load_inputs(run_folder).date.year == 2001


def test_commands_can_be_given(run_folder: Path) -> None:
    assert load_inputs(run_folder, commands=["make it"]).commands == ["make it"]
    assert json.dumps(load_inputs(run_folder).commands).count("tinylm") >= 2
