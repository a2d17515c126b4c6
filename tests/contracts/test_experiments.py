"""What every experiment must hold; a new one comes under these by its registry line."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.report import fixtures
from tinylm.config import to_dict
from tinylm.experiments.document.alone import document
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.experiments.experiment import CHECKPOINTS, IMAGES, WEIGHTS, Experiment
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import number, plain_text

pytestmark = pytest.mark.parametrize("name", EXPERIMENTS)
FUNCTIONS = ("measure", "section", "figures", "pages", "sentence", "abstract")


def experiment(name: str) -> Experiment:
    loaded: Experiment = EXPERIMENTS.load(name)
    return loaded


def test_its_object_is_whole(name: str) -> None:
    made = experiment(name)
    assert made.name == name
    assert made.chapter
    assert 20 < len(made.summary) < 75
    assert made.summary[-1].isalnum()
    for function in FUNCTIONS:
        place = getattr(made, function)
        assert place is None or callable(pkgutil.resolve_name(place)), function


def test_what_it_depends_on_is_a_setting_or_is_looked_at(name: str) -> None:
    for part in experiment(name).depends_on:
        value = to_dict(fixtures.config())
        if part not in (WEIGHTS, CHECKPOINTS, IMAGES):
            for key in part.split("."):
                value = value[key]


def test_its_example_survives_json_and_is_drawn_and_written(name: str) -> None:
    made = experiment(name)
    result = json.loads(json.dumps(fixtures.example(name)))
    drawn = dict(made.draw(result, fixtures.config()))
    assert bool(drawn) == (made.figures is not None)
    assert all(text.lower().startswith("<!doctype html>") for _, text in made.write(result))
    inputs = ReportInputs(fixtures.config(), {name: result}, Path("none"))
    assert bool(made.said(inputs)) == (made.sentence is not None)
    alone = document(inputs, name)
    assert alone.title
    numbering = number(alone.blocks, [alone.abstract])  # every reference leads somewhere
    assert "[[" not in plain_text(alone.abstract, numbering)


def test_without_a_result_it_says_nothing(name: str) -> None:
    inputs = ReportInputs(fixtures.config(), {}, Path("none"))
    assert experiment(name).blocks(inputs) == []
    assert experiment(name).said(inputs) == ""


def test_its_line_of_a_list_loads_neither_torch_nor_matplotlib(name: str) -> None:
    code = (
        f"import sys; from tinylm.registry import EXPERIMENTS; EXPERIMENTS.load({name!r}); "
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
