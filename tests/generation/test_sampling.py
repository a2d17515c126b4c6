"""Draws against the exact distribution, by chi-square; a wrong sampler must be rejected."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from tinylm.config import GenerationConfig
from tinylm.generation.engine import SpecialIds, generate
from tinylm.generation.strategies.sampling import Sampling, draw, filtered_logits
from tinylm.model.decoder import DecoderLM

DRAWS = 20_000
REJECTED = 1e-6
ACCEPTED = 1e-3
LOGITS = torch.tensor([2.1, -0.4, 0.3, 1.2, -1.5, 0.9, 0.2, -3.0])
SEEN = [0, 4]

SETTINGS = {
    "plain": {},
    "cold": {"temperature": 0.6},
    "hot": {"temperature": 1.7},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.2},
    "penalty": {"repetition_penalty": 1.8},
    "all": {
        "temperature": 1.3,
        "top_k": 6,
        "top_p": 0.9,
        "min_p": 0.05,
        "repetition_penalty": 1.5,
    },
}


def config(**settings: float) -> GenerationConfig:
    return GenerationConfig(**{"temperature": 1.0, "top_p": 1.0, **settings})


def exact(settings: GenerationConfig, logits: Tensor = LOGITS) -> list[float]:
    """The distribution by its definitions, in plain Python, sharing no code with the filters."""
    values = [float(value) for value in logits]
    for i in SEEN:
        positive = values[i] > 0
        values[i] *= 1 / settings.repetition_penalty if positive else settings.repetition_penalty
    weights = [math.exp(value / settings.temperature) for value in values]
    order = sorted(range(len(weights)), key=lambda i: -weights[i])
    if settings.top_k:
        order = order[: settings.top_k]
    total, mass, nucleus = sum(weights[i] for i in order), 0.0, []
    for i in order:
        nucleus.append(i)
        mass += weights[i] / total
        if mass >= settings.top_p:
            break
    stay = [i for i in nucleus if weights[i] >= settings.min_p * weights[order[0]]]
    total = sum(weights[i] for i in stay)
    return [weights[i] / total if i in stay else 0.0 for i in range(len(weights))]


def p_value(counts: Sequence[int], expected: Sequence[float]) -> float:
    """Chi-square; a token that must not occur and does is impossible, not unlikely."""
    if any(count and not p for count, p in zip(counts, expected, strict=True)):
        return 0.0
    pairs = [(c, p) for c, p in zip(counts, expected, strict=True) if p > 0]
    total = sum(counts)
    return float(stats.chisquare([c for c, _ in pairs], [p * total for _, p in pairs]).pvalue)


def counts_of(tokens: Tensor) -> list[int]:
    return torch.bincount(tokens, minlength=len(LOGITS)).tolist()


def drawn(settings: GenerationConfig, steps: int = 1) -> list[int]:
    """Draw from LOGITS in many rows at once."""
    rows = DRAWS // steps
    sampler = Sampling(settings)
    seen = torch.zeros(rows, len(LOGITS), dtype=torch.bool)
    seen[:, SEEN] = True
    logits = LOGITS.expand(rows, -1)
    samples = [sampler.choose(logits, seen, torch.arange(rows)) for _ in range(steps)]
    return counts_of(torch.cat(samples))


@pytest.mark.parametrize("name", SETTINGS)
def test_draws_follow_the_exact_distribution(name: str) -> None:
    settings = config(**SETTINGS[name])
    assert p_value(drawn(settings), exact(settings)) > ACCEPTED


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "plain"])
def test_the_test_rejects_a_sampler_that_forgets_a_filter(name: str) -> None:
    wanted = exact(config(**SETTINGS[name]))
    assert p_value(drawn(config()), wanted) < REJECTED
    for forgotten in SETTINGS[name]:
        settings = {key: value for key, value in SETTINGS[name].items() if key != forgotten}
        if exact(config(**settings)) != wanted:
            assert p_value(drawn(config(**settings)), wanted) < REJECTED


def test_the_test_rejects_a_slightly_wrong_temperature() -> None:
    assert p_value(drawn(config(temperature=1.1)), exact(config())) < REJECTED


def test_one_row_drawn_many_times_follows_it_too() -> None:
    assert p_value(drawn(config(), steps=2_000), exact(config())) > ACCEPTED


def test_rows_and_steps_are_independent() -> None:
    rows = 6_000
    sampler = Sampling(config())
    logits, seen = torch.zeros(rows, 4), torch.zeros(rows, 4, dtype=torch.bool)
    first, second = (sampler.choose(logits, seen, torch.arange(rows)) for _ in range(2))
    other = Sampling(config(seed=1)).choose(logits, seen, torch.arange(rows))
    for a, b in ((first, second), (first[:-1], first[1:]), (first, other)):
        table = torch.bincount(4 * a + b, minlength=16).reshape(4, 4).numpy()
        assert stats.chi2_contingency(table).pvalue > ACCEPTED


def test_a_row_of_one_seed_is_no_row_of_the_next() -> None:
    logits, seen = torch.zeros(8, 1000), torch.zeros(8, 1000, dtype=torch.bool)

    def rows(seed: int) -> set[tuple[int, ...]]:
        sampler = Sampling(config(seed=seed))
        steps = [sampler.choose(logits, seen, torch.arange(8)) for _ in range(6)]
        return {tuple(row) for row in torch.stack(steps, 1).tolist()}

    assert len(rows(0) | rows(1) | rows(2)) == 24


def test_filters_equal_transformers_in_its_own_order() -> None:
    values = SETTINGS["all"]
    theirs = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(values["repetition_penalty"]),
            TemperatureLogitsWarper(values["temperature"]),
            TopKLogitsWarper(int(values["top_k"])),
            TopPLogitsWarper(values["top_p"]),
            MinPLogitsWarper(values["min_p"]),
        ]
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        logits = 3 * torch.randn(4, 40, generator=generator, dtype=torch.float64)
        ids = torch.randint(40, (4, 6), generator=generator)
        seen = torch.zeros(4, 40, dtype=torch.bool).scatter(1, ids, True)
        ours = filtered_logits(config(**values), logits, seen).softmax(-1)
        torch.testing.assert_close(ours, theirs(ids, logits.clone()).softmax(-1))


def test_a_draw_inverts_the_cumulative_distribution() -> None:
    p = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]], dtype=torch.float64)
    for uniform, token in ((0.0, 1), (0.4999, 1), (0.5, 3), (1 - 2**-24, 3)):
        assert draw(p, torch.tensor([uniform])).tolist() == [token]


def test_a_draw_never_leaves_the_support_where_rounding_lacks_mass() -> None:
    p = torch.full((1, 1000), 1 / 1000, dtype=torch.float64) * (1 - 1e-9)
    p[0, 900:] = 0
    assert draw(p, torch.tensor([1 - 2**-24])).item() == 899


def test_temperature_zero_is_greedy_and_keeps_the_penalty() -> None:
    seen = torch.zeros(1, len(LOGITS), dtype=torch.bool)
    rows = torch.tensor([0])
    assert Sampling(config(temperature=0)).choose(LOGITS[None], seen, rows).item() == 0
    seen[0, 0] = True
    penalised = Sampling(config(temperature=0, repetition_penalty=4))
    assert penalised.choose(LOGITS[None], seen, rows).item() == 3


def test_a_huge_length_costs_nothing_before_it_is_used() -> None:
    sampler = Sampling(config(max_new_tokens=10**15))
    seen = torch.zeros(1, len(LOGITS), dtype=torch.bool)
    assert sampler.choose(LOGITS[None], seen, torch.tensor([0])).item() in range(len(LOGITS))


def test_the_engine_samples_the_models_own_distribution(
    small_model: Callable[..., DecoderLM],
) -> None:
    """From logits to text: 4,000 rows of one prompt, without the forbidden tokens."""
    model = small_model(sharpness=1.0)
    special = SpecialIds(pad=0, unk=1, sos=2, eos=3)
    rows = 4_000
    settings = config(max_new_tokens=1, seed=5)
    texts = generate(model, [[2, 7, 11]] * rows, settings, special)
    tokens = [text.ids[0] if text.ids else special.eos for text in texts]
    counts = torch.bincount(torch.tensor(tokens), minlength=23).tolist()
    with torch.no_grad():
        p = model(torch.tensor([[2, 7, 11]]))[0, -1].double().softmax(-1)
    p[[0, 1, 2]] = 0
    assert p_value(counts, (p / p.sum()).tolist()) > ACCEPTED
    assert p_value(counts, p.roll(1).div(p.sum()).tolist()) < REJECTED
