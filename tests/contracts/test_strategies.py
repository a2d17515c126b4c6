"""What every decoding strategy must hold."""

from collections.abc import Callable

import pytest
import torch

from tinylm.config import GenerationConfig
from tinylm.generation.engine import SpecialIds, generate, generate_steps
from tinylm.model.decoder import DecoderLM
from tinylm.registry import STRATEGIES

SPECIAL = SpecialIds(pad=0, unk=1, sos=2, eos=3)
PROMPTS = [[2], [2, 9, 4, 13, 5], [2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]]
MakeModel = Callable[..., DecoderLM]

pytestmark = pytest.mark.parametrize("strategy", STRATEGIES)


def config(strategy: str, **settings: object) -> GenerationConfig:
    return GenerationConfig(**{"strategy": strategy, "max_new_tokens": 14, "seed": 1, **settings})


def test_cached_equals_uncached(small_model: MakeModel, strategy: str) -> None:
    for seed in range(3):
        model = small_model(seed)
        cached = generate(model, PROMPTS, config(strategy), SPECIAL)
        plain = generate(model, PROMPTS, config(strategy), SPECIAL, use_cache=False)
        assert [one.ids for one in cached] == [one.ids for one in plain]


def test_the_same_seed_gives_the_same_text(small_model: MakeModel, strategy: str) -> None:
    model = small_model(5)
    once = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert generate(model, PROMPTS, config(strategy), SPECIAL) == once


def test_the_first_row_is_the_prompt_alone(small_model: MakeModel, strategy: str) -> None:
    model = small_model(5)
    for prompt in PROMPTS:
        batch = generate(model, [prompt, *PROMPTS], config(strategy), SPECIAL)
        (alone,) = generate(model, [prompt], config(strategy), SPECIAL)
        assert batch[0].ids == alone.ids


def test_forbidden_tokens_are_never_chosen(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[:3] += 50
    texts = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert not {0, 1, 2, 3} & {token for one in texts for token in one.ids}


def test_the_maximum_length_and_the_end_are_kept(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = -1e4
    texts = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert [(len(one.ids), one.finished) for one in texts] == [(14, False)] * 3
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = 1e4
    texts = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert [(len(one.ids), one.finished) for one in texts] == [(0, True)] * 3


def test_the_repetition_penalty_applies(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias += 100
        model.unembedding.bias[SPECIAL.eos] = -1e4
    settings = config(strategy, repetition_penalty=1e6)
    for one in generate(model, PROMPTS[:2], settings, SPECIAL):
        assert len(set(one.ids)) == 14


def test_streaming_yields_the_same_text(small_model: MakeModel, strategy: str) -> None:
    model = small_model(5)
    texts: list[list[int]] = [[] for _ in PROMPTS]
    for pairs in generate_steps(model, PROMPTS, config(strategy), SPECIAL):
        for prompt, token in pairs:
            texts[prompt].append(token)
    assert texts == [one.ids for one in generate(model, PROMPTS, config(strategy), SPECIAL)]


def test_log_probability_is_negative_and_finite(small_model: MakeModel, strategy: str) -> None:
    for one in generate(small_model(5), PROMPTS, config(strategy), SPECIAL):
        assert -1e4 < one.log_probability < 0


def test_a_chooser_leaves_its_logits_alone(strategy: str) -> None:
    chooser = STRATEGIES.load(strategy)(config(strategy, repetition_penalty=1.3, top_k=3), 2)
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    seen = torch.zeros(2, 9, dtype=torch.bool)
    ids = chooser.choose(logits, seen, 0, torch.tensor([0, 1]))
    assert ids.shape == (2,)
    assert ids.dtype == torch.int64
    assert torch.equal(logits, before)
