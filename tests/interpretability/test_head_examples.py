"""A head's best examples, by all of its pairs in order."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.interpretability.planted import INDUCTION, planted_model, repeated_text
from tests.model.helpers import build_random
from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.head_examples import Measure, best_examples
from tinylm.interpretability.trace import trace
from tinylm.interpretability.weights import head_weights

TEXTS = [[2, 5, 9, 4, 5, 9], [2, 8, 6, 8, 6, 8, 6], [2], [2, 11, 9, 7]]


@pytest.mark.parametrize("by", ["weight", "written"])
@pytest.mark.parametrize("count", [1, 4, 500])
def test_they_are_the_largest_of_all_pairs_one_of_each_two_types(by: Measure, count: int) -> None:
    model, layer, head = build_random(), 1, 2
    every: list[tuple[float, int, int, int]] = []
    traced = trace(model, TEXTS)
    for number, text in enumerate(TEXTS):
        alone = traced.of(number)
        pattern = alone.pattern(layer)[0, head]
        written = alone[f"layers.{layer}.attention.value"][0, head]
        sizes = (written @ head_weights(model, layer)[head].output).norm(dim=1)
        size = pattern * sizes if by == "written" else pattern
        every += [
            (float(size[query, key]), number, query, key)
            for query in range(len(text))
            for key in range(1, query + 1)
        ]
    expected: dict[tuple[int, int], Any] = {}
    for value, number, query, key in sorted(every, reverse=True):
        expected.setdefault((TEXTS[number][query], TEXTS[number][key]), (value, number, query, key))
    rows = list(expected.values())[:count]
    ours = best_examples(model, TEXTS, layer, head, count, by)
    assert [(e.text, e.query, e.key) for e in ours] == [row[1:] for row in rows]
    assert [getattr(e, by) for e in ours] == pytest.approx([row[0] for row in rows], rel=1e-12)


def test_those_of_the_planted_induction_head_are_what_followed_the_same_token() -> None:
    texts = [repeated_text(8, seed) for seed in range(3)]
    examples = best_examples(planted_model(), texts, *INDUCTION, count=12, by="written")
    assert len(examples) == 12
    for example in examples:
        text = texts[example.text]
        assert text[example.key - 1] == text[example.query]
        assert example.weight > 0.99


def test_what_cannot_be_done_is_refused() -> None:
    model = build_random()
    with pytest.raises(ConfigError, match="there is no head 3"):
        best_examples(model, TEXTS, 0, 3)
    with pytest.raises(ConfigError, match="by weight or written, not by 'norm'"):
        best_examples(model, TEXTS, 0, 1, by="norm")  # type: ignore[arg-type]
    with pytest.raises(GenerationError, match="outside the vocabulary"):
        best_examples(model, [[2, 99]], 0, 1)
    progress: list[float] = []
    best_examples(model, TEXTS, 0, 0, progress=progress.append)
    assert progress == [1, 2, 3, 4]
    assert torch.is_grad_enabled()
