"""A text that is smaller than the settings: experiments take what there is, and say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tinylm.config import load_config
from tinylm.experiments.beam_search import measure as beam_search
from tinylm.experiments.context import Context, SilentConsole, open_run, tell_fewer
from tinylm.experiments.training.measure import _warn_of_few_steps


@pytest.mark.parametrize(("there", "told"), [(50, 0), (51, 0), (49, 1)])
def test_fewer_texts_are_told(there: int, told: int) -> None:
    console = SilentConsole()
    tell_fewer(console, "evaluation.num_stories", 50, there)
    assert console.notes == ["evaluation.num_stories = 50: there are 49 that fit, all of them are "
                             "taken"] * told  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        # 400 windows in batches of 32 are 13 steps.
        (["training.epochs=3"], "are 39 steps on this text, few to learn in: "
                                "-o training.epochs=16 takes 208"),
        (["training.epochs=16"], ""),
        (["training.max_steps=3"], ""),
        (["training.epochs=3", "training.accumulation_steps=13"], "-o training.epochs=200 takes"),
    ],
)  # fmt: skip
def test_few_steps_are_told(settings: list[str], told: str, tmp_path: Path) -> None:
    console = SilentConsole()
    context = Context(tmp_path, load_config(preset="assignment", overrides=settings), console)
    for _ in range(2):
        _warn_of_few_steps(context, 400)
    assert len(console.warnings) == bool(told)
    assert told in " ".join(console.warnings)


@pytest.mark.parametrize(
    ("few", "many", "sizes", "told"),
    [(5, 50, [5, 20], True), (30, 50, [20], True), (1, 20, [1, 20], False), (3, 2, [2, 3], False)],
)
def test_beam_search_never_measures_the_same_prompts_twice(
    tiny_run: Path, few: int, many: int, sizes: list[int], told: bool
) -> None:
    settings = {"few_prompts": few, "prompts": many, "widths": "[2]", "repeats": 1,
                "max_new_tokens": 3}  # fmt: skip
    overrides = [f"experiments.beam_search.{key}={value}" for key, value in settings.items()]
    console = SilentConsole()
    result = beam_search.run(open_run(tiny_run, console, overrides))
    assert [comparison["num_prompts"] for comparison in result["comparisons"]] == sizes
    assert len(result["n_best"]["hypotheses"]) == 2
    notes = [note for note in console.notes if note.startswith("experiments.beam_search.prompts")]
    assert len(notes) == told
