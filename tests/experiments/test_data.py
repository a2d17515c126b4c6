"""The data experiment: which stories stand in a window whole, counted one by one."""

from __future__ import annotations

from typing import Any

import pytest

from tinylm.config import DataConfig
from tinylm.data.windows import TokenWindows
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.data import measure as data
from tinylm.experiments.preparation import prepare_data
from tinylm.registry import EXPERIMENTS


@pytest.fixture(scope="module")
def result(tiny_context: Context) -> dict[str, Any]:
    result: dict[str, Any] = EXPERIMENTS.load("data").run(tiny_context)
    return result


@pytest.mark.parametrize("length", [24, 300])
def test_stories_in_windows_are_counted_one_by_one(tiny_context: Context, length: int) -> None:
    train = prepare_data(tiny_context.config, SilentConsole()).train
    windows = TokenWindows(train, length)
    # A window predicts the tokens behind its first input.
    predicted = [set(range(i * length + 1, (i + 1) * length + 1)) for i in range(len(windows))]
    fit = whole = 0
    for number, start in enumerate(train.starts.tolist()):
        tokens = len(train.story(number))
        fit += tokens <= length + 1
        inside = set(range(start + 1, start + tokens))
        whole += any(inside <= window for window in predicted[max(0, start // length - 1) :][:3])
    shares = data._in_windows(train, length)
    assert shares["fit_share"] == pytest.approx(fit / len(train))
    assert shares["whole_share"] == pytest.approx(whole / len(train))


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "stories"),
        ({"corpus": "letters", "path": "/x/y"}, "letters"),
        ({"corpus": "files", "path": "/data/TinyStories"}, "TinyStories"),
        ({"corpus": "files", "path": "/data/my stories.txt"}, "my stories"),
        ({"corpus": "files", "path": "a\x1b[2J\n"}, "a\ufffd[2J\\n"),
        ({"corpus": "files", "path": "/"}, "files"),
    ],
)
def test_a_corpus_has_the_name_of_its_folder(settings: dict[str, str], name: str) -> None:
    assert data.corpus_name(DataConfig(**settings)) == name


def test_the_result_has_what_the_section_tells(result: dict[str, Any]) -> None:
    assert result["windows"]["context_length"] == 24
    assert result["windows"]["whole_share"] <= result["windows"]["fit_share"]
    assert result["splits"]["train"]["stories"] == 200
