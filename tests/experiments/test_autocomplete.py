"""The experiment on next-token prediction, made small, and each of its parts by other means."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tinylm.config import GenerationConfig, RunConfig, load_config
from tinylm.data.corpora.skill_grammar import TASKS
from tinylm.data.corpora.skill_grammar.holders import HAND_OVERS, PEOPLE
from tinylm.errors import ConfigError
from tinylm.experiments.autocomplete import measure, state
from tinylm.experiments.autocomplete.section import chain_comment
from tinylm.experiments.autocomplete.settings import AutocompleteExperiment
from tinylm.experiments.autocomplete.trainings import (
    Trained,
    accuracies,
    asked,
    curve,
    main_variant,
    right_answers,
    train,
    variants,
)
from tinylm.experiments.context import Context
from tinylm.generation.engine import generate
from tinylm.interpretability.trace import trace
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.model.base import build

SETTINGS = AutocompleteExperiment(
    items=400, fewer_items=(150,), smaller=(8,), hidden_size=16, num_layers=2, num_heads=2, steps=6,
    batch_size=4, points=3, held_out=6, stories=40, patched=6, seeds=2,
)  # fmt: skip


def context_of(folder: Path, settings: AutocompleteExperiment) -> Context:
    config = load_config(overrides=[f"data.cache_folder={folder / 'cache'}", "training.threads=1"])
    experiments = replace(config.experiments, autocomplete=settings)
    made: RunConfig = replace(config, experiments=experiments)
    return Context(folder / "run", made)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return context_of(tmp_path_factory.mktemp("autocomplete"), SETTINGS)


@pytest.fixture(scope="module")
def trained(context: Context) -> Trained:
    return train(context, main_variant(SETTINGS), 5, 3)


def test_it_is_json_with_a_value_each_seed(context: Context) -> None:
    result = json.loads(json.dumps(measure.run(context), allow_nan=False))
    assert len(result["trainings"]) == len(variants(SETTINGS)) == 4
    assert [task["name"] for task in result["tasks"]] == list(TASKS)
    assert [point["step"] for point in result["curve"]] == [[2, 2], [4, 4], [6, 6]]
    for row in (*result["trainings"], *result["curve"]):
        for kind in ("trained", "new", "withheld"):
            assert row["accuracy"][kind].keys() == TASKS.keys()
            assert all(len(shares) == 2 for shares in row["accuracy"][kind].values())
    assert result["curve"][-1]["accuracy"] == result["trainings"][0]["accuracy"]
    assert [row["layer"] for row in result["reading"]] == [[0, 0], [1, 1], [2, 2]]
    assert [row["layer"] for row in result["exchange"]["layers"]] == [[0, 0], [1, 1], [2, 2]]
    for way in ("mixed", "alone", "head"):
        assert result["heads"][way].keys() == {"new", "withheld"}
    assert not (context.folder / "autocomplete").exists()  # trainings are deleted


def test_what_is_said_of_the_chain_follows_from_the_seeds() -> None:
    def said(at_once: list[float], chain: list[float]) -> str:
        withheld = {"rules": at_once, "rules-chain": chain}
        return chain_comment({"trainings": [{"accuracy": {"withheld": withheld}}]})

    higher = said([0.1, 0.12, 0.11], [0.98, 0.99, 1.0])
    assert "11\u202f% (9–13) are right at once, 99\u202f% (97–100) with the chain" in higher
    assert "which is higher. Each colour of the chain is one step from the one before" in higher
    assert "which is lower. Writing the chain" in said([0.98, 0.99, 1.0], [0.1, 0.12, 0.11])
    apart = said([0.1, 0.9, 0.4], [0.5, 0.5, 0.5])
    assert "not measurably different. The trainings do not tell" in apart
    assert "could not be measured. One seed has no interval" in said([0.1], [0.9])
    assert chain_comment({"trainings": [{"accuracy": {"withheld": {"sum": [0.1]}}}]}) == ""


def test_variants_change_one_setting_each() -> None:
    main, *others = variants(SETTINGS)
    for other in others:
        different = [name for name in vars(main) if getattr(main, name) != getattr(other, name)]
        assert len(different) == 1
    assert (
        len(variants(replace(SETTINGS, fewer_items=(400,), smaller=(16,), more_withheld=0.1))) == 1
    )


def test_heads_that_cannot_be_turned_are_refused() -> None:
    for change in ({"num_heads": 16}, {"smaller": (2,)}):
        with pytest.raises(ConfigError, match=r"experiments\.autocomplete\.num_heads = .* even"):
            variants(replace(SETTINGS, **change))


def test_a_task_without_such_items_is_left_out(trained: Trained) -> None:
    lm, items = trained.model(), trained.corpus.held_out("copy", 3)
    shares = accuracies(lm, {"new": {"sum": [], "copy": items}})
    assert shares["new"].keys() == {"copy"}
    rows = [{"new": {"sum": 0.5, "copy": 0.1}}, {"new": {"copy": 0.2}}]
    assert measure._by_seed(rows) == {"new": {"copy": [0.1, 0.2]}}


def test_kinds_of_items_are_what_they_are_called(trained: Trained) -> None:
    items = asked(trained.corpus, 8)
    texts = set(trained.corpus.train())
    for task in TASKS:
        assert {item.text for item in items["trained"][task]} <= texts
        for kind in ("new", "withheld"):
            assert not {item.text for item in items[kind][task]} & texts
            assert all(item.task == task for item in items[kind][task])


def test_right_answers_are_those_that_are_generated(trained: Trained) -> None:
    lm = trained.model()
    items = {task: trained.corpus.held_out(task, 4) for task in ("sum", "copy")}
    right = right_answers(lm, items)
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=12)
    for task, chosen in items.items():
        prompts = [[2, *lm.tokenizer.encode(item.prompt)] for item in chosen]
        made = generate(lm.model, prompts, greedy, SPECIAL_IDS)
        wanted = [lm.tokenizer.encode(item.answer) for item in chosen]
        texts = [text.ids == ids and text.finished for text, ids in zip(made, wanted, strict=True)]
        assert right[task] == texts


def test_the_curve_ends_with_the_model(trained: Trained) -> None:
    items = asked(trained.corpus, 3)
    rows = curve(trained, items)
    assert [row["step"] for row in rows] == [2, 4, 6]


def told(lm: LanguageModel, trained: Trained, count: int = 30) -> state.ReadStories:
    return state.read(lm, state.stories(trained.corpus, count, 0))


def test_a_story_is_read_at_its_full_stops(trained: Trained) -> None:
    lm = trained.model()
    some = told(lm, trained, 10)
    [stop] = lm.tokenizer.encode(".")
    texts = set(trained.corpus.train())
    for each, ids, places in zip(some.courses, some.ids, some.stops.tolist(), strict=True):
        assert each.item.text not in texts
        assert [ids[place] for place in places] == [stop] * (2 + HAND_OVERS)
        assert lm.tokenizer.decode(ids[places[-1] + 1 :]).startswith("Who has the")
    names = state.at_stops(lm.model, some)
    whole = trace(lm.model, [some.ids[3]])
    for name, values in names.items():
        assert values.shape == (10, HAND_OVERS, 16)
        expected = whole[name][0, some.stops[3, -HAND_OVERS:]]
        assert torch.allclose(values[3], expected, atol=1e-5)


def test_a_holder_that_is_written_into_the_stream_is_read(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And labels that hang on the sentence are not."""
    lm = trained.model()
    some = told(lm, trained, 200)
    after = range(1, HAND_OVERS + 1)
    holders = torch.tensor(
        [[PEOPLE.index(each.holder("ball", k)) for k in after] for each in some.courses]
    )

    def written(model: Any, _: Any) -> dict[str, torch.Tensor]:
        true = torch.nn.functional.one_hot(holders, len(PEOPLE)).float()
        return {"known": true if model is lm.model else torch.zeros_like(true)}

    monkeypatch.setattr(state, "at_stops", written)
    [row] = state.readings(lm, build(lm.model.built), some, 0)
    assert row["all"] == row["unnamed"] == 1
    assert row["control"] < 0.5
    assert row["untrained"] < 0.3


def test_pairs_end_alike_and_differ_in_their_answers(trained: Trained) -> None:
    courses = state.stories(trained.corpus, 60, 1)
    pairs = state.pairs_of(courses, 20)
    assert pairs
    for i, j in pairs:
        first, second = courses[i], courses[j]
        assert first.asked == second.asked == first.hand_overs[-1].object_
        assert second.hand_overs[-1].object_ == first.asked
        assert first.asked not in (first.hand_overs[-2].object_, second.hand_overs[-2].object_)
        assert first.item.answer != second.item.answer


def test_exchanges_follow_a_model_that_reads_the_last_sentence(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run with replaced activations, beside the text that was changed itself."""
    lm = trained.model()
    some = told(lm, trained, 60)
    pairs = state.pairs_of(some.courses, 5)
    # Whatever the model says counts as the right answer, so that every pair is used.
    real = trace

    def right(model: Any, texts: Any, **options: Any) -> Any:
        made = real(model, texts, **options)
        for row, ids in enumerate(texts):
            place = [list(each) for each in some.ids].index(list(ids))
            each = some.courses[place]
            made.logits[row, -1, some.people[PEOPLE.index(each.holder(each.asked))]] = 99.0
        return made

    monkeypatch.setattr(state, "trace", right)
    result = state.exchanges(lm, some, 5)
    assert result["pairs"] == len(pairs) == 5
    embedded = result["layers"][0]
    follows = 0
    for i, j in pairs:
        stops = some.stops[i].tolist()
        changed = list(some.ids[i])
        span = slice(stops[-2] + 1, stops[-1] + 1)
        changed[span] = some.ids[j][span]
        likeliest = int(real(lm.model, [changed]).logits[0, -1].argmax())
        other = some.courses[j]
        follows += likeliest == int(some.people[PEOPLE.index(other.holder(other.asked))])
    assert embedded["last"] == pytest.approx(follows / 5)


def test_the_same_seed_tells_the_same_stories(trained: Trained) -> None:
    texts = [[each.item.text for each in state.stories(trained.corpus, 5, 3)] for _ in range(2)]
    assert texts[0] == texts[1]
    random.seed(0)
    assert len(set(texts[0])) == 5
