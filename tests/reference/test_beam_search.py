"""Beam search against transformers' own, with the same weights, on 100 random models.

Hypotheses are compared in their order, with their scores. transformers rounds logits to float32 and
ours stay in float64, so that scores differ by rounding only.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tests.model.helpers import build_random
from tests.reference.test_gpt2 import AS_GPT2, as_ours, name_pairs
from tinylm.config import GenerationConfig
from tinylm.generation.engine import Generated, SpecialIds, generate
from tinylm.model.decoder import DecoderLM

SPECIAL = SpecialIds(pad=0, unk=1, sos=2, eos=3)
VOCAB = 14
EARLY_STOPPING: dict[str, bool | str] = {"full": True, "heuristic": False, "never": "never"}
Found = list[list[tuple[list[int], bool, float]]]
"""For each prompt its hypotheses, best first: ids without ``<eos>``, ended by it, score."""


class Case(NamedTuple):
    """A random model, its prompts and its settings."""

    model: DecoderLM
    prompts: list[list[int]]
    settings: dict[str, Any]


@cache
def their_model() -> GPT2LMHeadModel:
    """A GPT-2 whose weights every case overwrites."""
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=24,
        n_embd=8,
        n_layer=1,
        n_head=2,
        activation_function="gelu_new",
        bos_token_id=SPECIAL.sos,
        eos_token_id=SPECIAL.eos,
        pad_token_id=SPECIAL.pad,
    )
    return GPT2LMHeadModel(config).double().eval()


def random_case(seed: int) -> Case:
    draw = random.Random(seed)
    model = build_random(
        seed,
        vocab_size=VOCAB,
        context_length=24,
        num_layers=1,
        num_heads=2,
        hidden_size=8,
        **AS_GPT2,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.mul_(draw.uniform(0.5, 1.5) if name == "embedding.weight" else 1.5)
        # Tied weights leave no bias that would make <eos> likelier.
        end = model.embedding.weight[SPECIAL.eos]
        model.get_parameter("final_norm.bias").add_(draw.uniform(1, 4) * end / end.norm() ** 2)
    prompts = [
        [SPECIAL.sos, *(draw.randrange(4, VOCAB) for _ in range(draw.randrange(7)))]
        for _ in range(draw.randint(1, 3))
    ]
    most = draw.choice([1, 3, 8, 16, 16, 16])
    settings = {
        "num_beams": draw.randint(2, 6),
        "max_new_tokens": most,
        "length_penalty": draw.choice([-1.5, -0.4, 0.0, 0.6, 1.0, 1.0, 2.0, 3.0]),
        "repetition_penalty": draw.choice([1.0, 1.0, 1.0, 1.3, 0.8]),
        "min_new_tokens": min(most, draw.choice([0, 0, 0, 1, 3])),
        "allow_unk": draw.random() < 0.2,
    }
    return Case(model, prompts, settings)


def ours(case: Case, early_stopping: str, use_cache: bool = True) -> Found:
    config = GenerationConfig(
        strategy="beam",
        early_stopping=early_stopping,
        num_return=case.settings["num_beams"],
        **case.settings,
    )
    results = generate(case.model, case.prompts, config, SPECIAL, use_cache)
    return [[as_found(hypothesis) for hypothesis in (best, *best.alternatives)] for best in results]


def as_found(hypothesis: Generated) -> tuple[list[int], bool, float]:
    assert hypothesis.score is not None
    return hypothesis.ids, hypothesis.finished, hypothesis.score


def theirs(case: Case, early_stopping: str) -> Found:
    gpt2 = their_model()
    parameters = dict(gpt2.named_parameters())
    with torch.no_grad():
        for our_name, their_name in name_pairs(1).items():
            weight = as_ours(their_name, parameters[their_name])
            weight.copy_(case.model.get_parameter(our_name))
    longest = max(map(len, case.prompts))
    width = case.settings["num_beams"]
    suppressed = [SPECIAL.pad, SPECIAL.sos] + [SPECIAL.unk] * (not case.settings["allow_unk"])
    output = gpt2.generate(
        torch.tensor([[SPECIAL.pad] * (longest - len(prompt)) + prompt for prompt in case.prompts]),
        attention_mask=torch.tensor(
            [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in case.prompts]
        ),
        do_sample=False,
        num_beams=width,
        num_return_sequences=width,
        early_stopping=EARLY_STOPPING[early_stopping],
        suppress_tokens=suppressed,
        return_dict_in_generate=True,
        output_scores=True,
        **{
            key: value
            for key, value in case.settings.items()
            if key not in ("allow_unk", "num_beams")
        },
    )
    rows = []
    for row, score in zip(
        output.sequences[:, longest:].tolist(), output.sequences_scores.tolist(), strict=True
    ):
        ended = SPECIAL.eos in row
        rows.append((row[: row.index(SPECIAL.eos)] if ended else row, ended, score))
    return [rows[i : i + width] for i in range(0, len(rows), width)]


def assert_same(result: Found, expected: Found) -> None:
    assert [[hypothesis[:2] for hypothesis in rows] for rows in result] == [
        [hypothesis[:2] for hypothesis in rows] for rows in expected
    ]
    for rows, others in zip(result, expected, strict=True):
        assert [hypothesis[2] for hypothesis in rows] == pytest.approx(
            [hypothesis[2] for hypothesis in others], rel=2e-6, abs=2e-5
        )


@pytest.mark.parametrize("early_stopping", EARLY_STOPPING)
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_the_n_best_and_their_scores_equal_transformers(first: int, early_stopping: str) -> None:
    for seed in range(first, first + 10):
        case = random_case(seed)
        expected = theirs(case, early_stopping)
        assert_same(ours(case, early_stopping), expected)
        if early_stopping == "heuristic" and seed % 5 == 0:
            assert_same(ours(case, early_stopping, use_cache=False), expected)


def test_the_cases_could_tell_a_wrong_search() -> None:
    """Texts end and do not, searches stop early, and the three ways to stop give other texts."""
    differ = {"full": 0, "never": 0}
    finished, stopped, branched = [0, 0], 0, 0
    for seed in range(100):
        case = random_case(seed)
        usual = ours(case, "heuristic")
        for other in differ:
            differ[other] += ids_of(ours(case, other)) != ids_of(usual)
        for rows in usual:
            for _, ended, _ in rows:
                finished[ended] += 1
            lengths = [len(ids) + ended for ids, ended, _ in rows]
            stopped += max(lengths) < case.settings["max_new_tokens"]
            branched += len({tuple(ids[:1]) for ids, _, _ in rows}) > 1
    assert differ["full"] > 10
    assert differ["never"] > 10
    assert min(finished) > 150
    assert stopped > 50
    assert branched > 100


def ids_of(result: Found) -> list[list[list[int]]]:
    return [[ids for ids, _, _ in rows] for rows in result]
