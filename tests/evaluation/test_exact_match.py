"""Exact match, held equal to generating greedily and comparing."""

from __future__ import annotations

import pytest
import torch

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.errors import DataError
from tinylm.evaluation.exact_match import Question, exact_matches, question
from tinylm.generation.engine import SpecialIds, generate
from tinylm.language_model import SPECIAL_IDS
from tinylm.model.base import GenerativeModel, build
from tinylm.tokenizers.bytes import BytesTokenizer
from tinylm.tokenizers.word import WordTokenizer


def model_of(seed: int, favoured: int | None = None) -> GenerativeModel:
    torch.manual_seed(seed)
    model = build(ModelConfig(vocab_size=9, context_length=16, num_layers=2, num_heads=2,
                              hidden_size=8, dropout=0.3))  # fmt: skip
    with torch.no_grad():
        model.unembedding.weight.mul_(3)
        if favoured is not None:  # so that texts end, or <unk> is the likeliest token
            model.unembedding.bias[favoured] += 12
    return model.train()


def greedy(model: GenerativeModel, asked: list[Question], special: SpecialIds) -> list[bool]:
    """By generation, one question after the other."""
    right = []
    for each in asked:
        config = GenerationConfig(
            strategy="greedy", max_new_tokens=len(each.answer), linear="plain"
        )
        [made] = generate(model, [each.prompt], config, special, use_cache=False)
        right.append(made.finished and [*made.ids, special.eos] == list(each.answer))
    return right


@pytest.mark.parametrize("favoured", [None, 1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_greedy_generation_says(seed: int, favoured: int | None) -> None:
    model = model_of(seed, favoured)
    generator = torch.Generator().manual_seed(seed)
    asked = []
    for length in (1, 3, 5, 2, 7):
        prompt = [2, *torch.randint(4, 9, (length,), generator=generator).tolist()]
        config = GenerationConfig(strategy="greedy", max_new_tokens=6, linear="plain")
        [made] = generate(model, [prompt], config, SPECIAL_IDS, use_cache=False)
        for answer in (made.ids, made.ids[:-1], [*made.ids[:-1], 4], [5, *made.ids[1:]], []):
            asked.append(Question(prompt, [*answer, 3]))
    expected = greedy(model, asked, SPECIAL_IDS)
    assert exact_matches(model, asked, SPECIAL_IDS) == expected
    assert model.training  # put back
    if favoured == 3:
        assert any(expected)
    assert not all(expected)


def test_a_question_has_the_tokens_of_the_whole_text() -> None:
    text = "Sum: 2 + 3 = 5."
    words = WordTokenizer.train([text], WordTokenizer.Settings(min_frequency=1))
    for tokenizer in (words, BytesTokenizer()):
        made = question("Sum: 2 + 3 =", "5.", tokenizer, SPECIAL_IDS)
        assert [*made.prompt, *made.answer] == [2, *tokenizer.encode(text), 3]
        assert list(made.prompt) == [2, *tokenizer.encode("Sum: 2 + 3 =")]


def test_a_prompt_that_is_cut_otherwise_is_refused() -> None:
    words = WordTokenizer.train(["it 's fine it"], WordTokenizer.Settings(min_frequency=1))
    with pytest.raises(DataError, match="has other tokens where its answer follows"):
        question("fine -", "- it", _Joining(words), SPECIAL_IDS)


class _Joining:
    """Joins two hyphens, as a tokenizer with merges would."""

    def __init__(self, inner: WordTokenizer) -> None:
        self.inner = inner

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[9] if "- -" in text else [4, 5] for text in texts]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match=r"a question of 18 tokens .* model.context_length = 16"):
        exact_matches(model_of(0), [Question([2] * 9, [4] * 9)], SPECIAL_IDS)
    assert exact_matches(model_of(0), [Question([2] * 9, [0] * 8)], SPECIAL_IDS) == [False]
    assert exact_matches(model_of(0), [], SPECIAL_IDS) == []
