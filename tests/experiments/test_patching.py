"""The patching experiment: its means are those of single patches, over the pairs that are right."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tinylm.data.pairs import BEHAVIOURS, encode_pair, readable_pairs
from tinylm.errors import DataError
from tinylm.experiments.context import Context, SilentConsole
from tinylm.experiments.patching.measure import GIVEN, LEAST_RIGHT, patching, run
from tinylm.experiments.patching.settings import PatchingExperiment
from tinylm.interpretability.attribution_patching import agreement, attributions
from tinylm.interpretability.pair_runs import TokenPair, run_pair
from tinylm.interpretability.patching import Site, patched, sweep
from tinylm.language_model import LanguageModel
from tinylm.measurement import mean
from tinylm.tokenizers.bytes import BytesTokenizer


def with_settings(context: Context, **settings: Any) -> Context:
    experiments = replace(context.config.experiments, patching=PatchingExperiment(**settings))
    return replace(context, config=replace(context.config, experiments=experiments))


def told_apart(lm: LanguageModel, clean: str, corrupted: str) -> dict[str, str] | None:
    """A pair with two words of the vocabulary that the model ranks in another order after each."""
    ids = [[2, *lm.tokenizer.encode(text)] for text in (clean, corrupted)]
    with torch.no_grad():
        first, second = lm.model(torch.tensor(ids))[:, -1, 4:].double()
    gains = first[:, None] - first[None]
    losses = second[None] - second[:, None]
    best = int(torch.minimum(gains, losses).argmax())
    answer, wrong = divmod(best, len(first))
    words = [lm.tokenizer.token(i + 4) for i in (answer, wrong)]
    if min(float(gains[answer, wrong]), float(losses[answer, wrong])) < 0.002:
        return None
    if any(len(lm.tokenizer.encode(word)) != 1 for word in words):
        return None
    return {"clean": clean, "corrupted": corrupted, "answer": words[0], "wrong": words[1]}


def test_a_user_s_pairs_are_measured_as_single_patches(
    tiny_context: Context, tiny_lm: LanguageModel, tmp_path: Path
) -> None:
    texts = [
        (f"{name} {verb} the", f"{other} {verb} the")
        for name, other in (("Lily", "Tom"), ("Anna", "Ben"), ("Tom", "Anna"), ("Ben", "Lily"))
        for verb in ("saw", "had", "took", "found")
    ]
    rows = [row for clean, corrupted in texts if (row := told_apart(tiny_lm, clean, corrupted))]
    assert len(rows) >= LEAST_RIGHT
    turned = {**rows[0], "answer": rows[0]["wrong"], "wrong": rows[0]["answer"]}
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [turned, *rows]))
    result = run(with_settings(tiny_context, pairs_path=str(path)))
    assert json.loads(json.dumps(result)) == result
    (behaviour,) = result["behaviours"]
    assert behaviour["name"] == GIVEN
    assert (behaviour["pairs"], behaviour["right"]) == (len(rows) + 1, len(rows))

    pairs = [encode_pair(_pair(row), tiny_lm.tokenizer) for row in rows]
    runs = [
        run_pair(tiny_lm.model, TokenPair(pair.clean, pair.corrupted, pair.answer, pair.wrong))
        for pair in pairs
    ]
    names = ["layers.0.attention.mixed", "layers.0.feed_forward.output"]
    for way in ("denoising", "noising"):
        start = 0.0 if way == "denoising" else 1.0
        sign = 1 if way == "denoising" else -1

        def close(expected: list[float], kept: list[float]) -> bool:
            return kept == pytest.approx(mean(expected).as_result(), abs=2e-4)

        head = [
            sign * (float(sweep(each, way, names[:1], by_position=False)[names[0]][1]) - start)
            for each in runs
        ]
        assert close(head, behaviour[way]["heads"][1])
        middle, compared = [], []
        for each in runs:
            base, source = each.base_and_source(way)
            sites = [Site("layers.0.middle", i) for i in range(2, each.length - 1)]
            value = each.normalised(patched(base, source, [sites]))
            middle.append(sign * (float(value) - start))
            compared.append(agreement(attributions(each, way, names), sweep(each, way, names), way))
        assert each.first_changed == 1
        assert close(middle, behaviour[way]["stream"][3 * 1 + 1])
        assert close([each.correlation for each in compared], behaviour[way]["correlation"][0])
        example = torch.tensor(behaviour["example"][way]["stream"])
        assert example.shape == (3, runs[0].length)
        assert bool((example[:, 0] == 0).all())  # nothing before the first changed token
        assert float(example[0, 1]) == pytest.approx(1, abs=1e-3)
        assert float(example[2, -1]) == pytest.approx(1, abs=1e-3)


def _pair(row: dict[str, str]) -> Any:
    from tinylm.data.pairs import PromptPair

    return PromptPair(**row)


def test_the_grammar_s_behaviours_are_asked(tiny_context: Context, tiny_lm: LanguageModel) -> None:
    context = with_settings(tiny_context, pairs=3, seed=5)
    result = patching(tiny_lm, context.config, SilentConsole())
    context_length = tiny_lm.model.config.context_length
    readable = {
        name: readable_pairs(name, 5, 3, tiny_lm.tokenizer, context_length) for name in BEHAVIOURS
    }
    assert any(readable.values())
    asked = [(each["name"], each["pairs"]) for each in result["behaviours"]]
    assert asked == [(name, len(pairs)) for name, pairs in readable.items() if pairs]
    for behaviour in result["behaviours"]:
        assert behaviour["prompt"] == readable[behaviour["name"]][0][0].clean
        assert "example" not in behaviour  # of three pairs no interval is of use


def test_a_model_that_reads_none_of_the_prompts_is_told(
    tiny_context: Context, tiny_lm: LanguageModel
) -> None:
    other = LanguageModel(tiny_lm.model, BytesTokenizer())
    with pytest.raises(
        DataError, match=r"none of the story grammar's prompts .*patching\.pairs_pa"
    ):
        patching(other, tiny_context.config, SilentConsole())
