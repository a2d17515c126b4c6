"""What every decoding strategy must hold."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.fast import loops
from tinylm.generation.engine import SpecialIds, Stepper, generate, generate_steps
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
        assert [result.ids for result in cached] == [result.ids for result in plain]


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
    assert not {0, 1, 2, 3} & {token for result in texts for token in result.ids}


def test_the_maximum_length_and_the_end_are_kept(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = -1e4
    texts = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert [(len(result.ids), result.finished) for result in texts] == [(14, False)] * 3
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = 1e4
    texts = generate(model, PROMPTS, config(strategy), SPECIAL)
    assert [(len(result.ids), result.finished) for result in texts] == [(0, True)] * 3


def test_the_repetition_penalty_applies(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias += 100
        model.unembedding.bias[SPECIAL.eos] = -1e4
    settings = config(strategy, repetition_penalty=1e6)
    for result in generate(model, PROMPTS[:2], settings, SPECIAL):
        assert len(set(result.ids)) == 14


def test_streaming_yields_the_same_text(small_model: MakeModel, strategy: str) -> None:
    model = small_model(5)
    texts: list[list[int]] = [[] for _ in PROMPTS]
    for pairs in generate_steps(model, PROMPTS, config(strategy), SPECIAL):
        for prompt, token in pairs:
            texts[prompt].append(token)
    assert texts == [result.ids for result in generate(model, PROMPTS, config(strategy), SPECIAL)]


def test_every_step_is_told(small_model: MakeModel, strategy: str) -> None:
    steps: list[int] = []
    settings = config(strategy, min_new_tokens=14)
    generate(small_model(5), PROMPTS, settings, SPECIAL, progress=steps.append)
    assert steps == list(range(1, 15))


def test_log_probability_is_negative_and_finite(small_model: MakeModel, strategy: str) -> None:
    for result in generate(small_model(5), PROMPTS, config(strategy), SPECIAL):
        assert -1e4 < result.log_probability < 0


def test_no_text_ends_before_it_may(small_model: MakeModel, strategy: str) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] = 1e4
    for least in (1, 5, 14, 20):
        texts = generate(model, PROMPTS, config(strategy, min_new_tokens=least), SPECIAL)
        expected = (min(least, 14), least < 14)
        assert [(len(result.ids), result.finished) for result in texts] == [expected] * 3


def test_a_vocabulary_without_words_is_refused(small_model: MakeModel, strategy: str) -> None:
    model = small_model(vocab_size=4)
    assert generate(model, [[2]], config(strategy), SPECIAL)[0].finished
    with pytest.raises(GenerationError, match="4 tokens leaves none that may be generated"):
        generate(model, [[2]], config(strategy, min_new_tokens=1), SPECIAL)


def test_it_is_a_chooser_or_a_searcher_and_only_a_search_has_scores(
    small_model: MakeModel, strategy: str
) -> None:
    made = STRATEGIES.load(strategy)(config(strategy))
    assert hasattr(made, "search") != hasattr(made, "choose")
    for result in generate(small_model(5), PROMPTS, config(strategy, num_return=2), SPECIAL):
        if hasattr(made, "search"):
            assert result.score is not None
            assert [alternative.score <= result.score for alternative in result.alternatives] == [
                True
            ]
        else:
            assert (result.score, result.alternatives) == (None, ())


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("top_p", [0.3, 1.0])
def test_a_chooser_that_goes_by_a_temperature_alone_does(
    strategy: str, temperature: float, penalty: float, top_p: float
) -> None:
    settings = config(
        strategy, temperature=temperature, repetition_penalty=penalty, top_k=0, top_p=top_p
    )
    made = STRATEGIES.load(strategy)(settings)
    if hasattr(made, "search"):
        assert not hasattr(made, "temperature_alone")
        return
    logits = torch.randn(200, 9, generator=torch.Generator().manual_seed(3))
    seen = torch.rand(200, 9, generator=torch.Generator().manual_seed(4)) < 0.5
    chosen = made.choose(logits, None if penalty == 1 else seen, torch.arange(200))
    assert torch.equal(chosen, logits.argmax(-1)) == (made.temperature_alone == 0)
    if made.temperature_alone is None or not loops.available():
        return
    if made.temperature_alone > 0:
        again = STRATEGIES.load(strategy)(settings)
        uniform = again.uniform(torch.arange(200))
        quick, log_probability = loops.choosing.drawn(logits, [], uniform, temperature)
    else:
        quick, log_probability = (best[:, 0] for best in loops.choosing.likeliest(logits, [], 1))
    assert torch.equal(quick, chosen)
    expected = logits.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
    torch.testing.assert_close(log_probability, expected)


def test_settings_without_effect_are_told_where_they_have_none(strategy: str) -> None:
    usual = config(strategy)
    made = STRATEGIES.load(strategy)
    names = {"top_k", "num_beams", "seed", "length_penalty", "min_p"} - set(made.uses(usual))
    assert names
    for name in names:
        assert made.where_unused(usual, name) == f"with generation.strategy = {strategy}"
    cold = config(strategy, temperature=0)
    for name in set(made.uses(usual)) - set(made.uses(cold)):
        assert made.where_unused(cold, name).startswith("at temperature 0")


def test_the_models_logits_are_left_alone(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    given: list[tuple[Tensor, Tensor]] = []
    step = Stepper.logits

    def kept(self: Stepper) -> Tensor:
        logits = step(self)
        given.append((logits, logits.clone()))
        return logits

    monkeypatch.setattr(Stepper, "logits", kept)
    settings = config(strategy, repetition_penalty=1.3, top_k=3, min_new_tokens=2)
    generate(small_model(5), PROMPTS, settings, SPECIAL)
    assert len(given) > 2
    assert all(torch.equal(logits, before) for logits, before in given)
