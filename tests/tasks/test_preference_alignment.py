"""What preference methods make of rankings: texts, masks, the start, and what is measured."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.alignment.log_probabilities import Text, token_log_probabilities
from tinylm.alignment.measuring import Measured
from tinylm.alignment.start_sums import StartSums
from tinylm.data.preferences import Preferences, Ranking
from tinylm.errors import AlignmentError
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ALIGNMENTS
from tinylm.tasks.alignment.base import Aim, Alignment
from tinylm.tasks.alignment.kto import Judged, judged, mismatched
from tinylm.tasks.alignment.preference import compared
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID

PAIRED = ("dpo", "ipo", "simpo")
METHODS = (*PAIRED, "kto")
A, B = (SOS_ID, 4, 5), (SOS_ID, 6)
RANKINGS = (
    Ranking(A, ((7, 8, EOS_ID), (9, EOS_ID)), (0, 1)),
    Ranking(B, ((7, EOS_ID), (8, 9, 10, EOS_ID), (10, 11)), (1, 0, 2)),
    Ranking(B, ((4, 5, EOS_ID), (5, EOS_ID), (5, 5, EOS_ID)), (0, 1, 1)),
)
UNREWARDED = Measured([], [], [])
TIED = Ranking(A, ((7, EOS_ID), (8, EOS_ID)), (0, 0))


def start_model(**settings: Any) -> DecoderLM:
    return tiny_model(seed=3, context_length=8, **settings).double()


def policy_model() -> DecoderLM:
    """Another one than the start."""
    return tiny_model(seed=5, context_length=8).double()


def task(
    name: str,
    start: DecoderLM | None = None,
    train: tuple[Ranking, ...] = RANKINGS,
    validation: tuple[Ranking, ...] = RANKINGS,
    **own: Any,
) -> Any:
    method: type[Alignment[Any]] = ALIGNMENTS.load(name)
    aim = Aim(
        start=start or start_model(),
        settings=method.Settings(**own),
        tokenizer=tiny_tokenizer(),
        prompts=[list(A)],
        held_out=[list(A)],
        most=4,
        reward=None,
        preferences=Preferences(train, validation, "made"),
        source="made",
        seed=0,
        batch_size=2,
    )
    return method(aim)


def everything(made: Any) -> Any:
    return made.batch(np.arange(len(made)))


def by_itself(model: DecoderLM, text: Text) -> list[float]:
    """Log-probabilities of a response's tokens, of one text at a time, without any padding."""
    prompt, response = text
    ids = torch.tensor([[*prompt, *response]])
    with torch.no_grad():
        logits = model.unembed(model.residual(ids[:, :-1]))[0]
    logits[:, [PAD_ID, SOS_ID]] = -math.inf  # what no response can hold
    of_all = logits.log_softmax(-1)
    places = range(len(prompt) - 1, ids.shape[1] - 1)
    return [float(of_all[place, ids[0, place + 1]]) for place in places]


def expected_loss(name: str, model: DecoderLM, start: DecoderLM, made: Any) -> float:
    """The summed loss of the rankings, one text after the other, in Python's numbers."""
    settings = made.settings

    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    def ratio(text: Text) -> float:
        return sum(by_itself(model, text)) - sum(by_itself(start, text))

    total = 0.0
    for ranking in RANKINGS:
        losses = []
        for i, j in ranking.pairs():
            w, lo = ((ranking.prompt, ranking.responses[each]) for each in (i, j))
            if name == "dpo":
                losses.append(softplus(-settings.beta * (ratio(w) - ratio(lo))))
            elif name == "ipo":
                by = [1, 1] if settings.over_tokens == "sum" else [len(w[1]), len(lo[1])]
                difference = ratio(w) / by[0] - ratio(lo) / by[1]
                losses.append((difference - 1 / (2 * settings.beta)) ** 2)
            else:
                means = [sum(p) / len(p) for p in (by_itself(model, t) for t in (w, lo))]
                losses.append(softplus(settings.gamma - settings.beta * (means[0] - means[1])))
        total += sum(losses) / len(losses)
    return total


@pytest.mark.parametrize(
    ("name", "own"),
    [("dpo", {"beta": 0.7}), ("ipo", {}), ("ipo", {"over_tokens": "sum"}), ("simpo", {})],
)
def test_the_loss_of_rankings_is_that_of_their_texts_one_by_one(
    name: str, own: dict[str, Any]
) -> None:
    start, model = start_model(), policy_model()
    made = task(name, start, **own)
    loss, count = made.loss(model, everything(made))
    assert count == len(RANKINGS)
    expected = expected_loss(name, model, start, made)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
    # A validation says the same as a mean, though it reads two rankings at a time.
    mean = expected / len(RANKINGS)
    assert made.held_out_loss(model, UNREWARDED) == pytest.approx(mean, rel=1e-9)
    held_out = dict(made.held_out_measures())
    assert held_out.pop("preference loss") == pytest.approx(mean)
    assert held_out == pytest.approx(made.measures())


def test_kto_takes_responses_and_a_baseline_of_mismatched_ones() -> None:
    start, model = start_model(), policy_model()
    made = task("kto", start, beta=0.3, desirable_weight=1.5, undesirable_weight=0.5)

    def ratio(text: Text) -> float:
        return sum(by_itself(model, text)) - sum(by_itself(start, text))

    others = mismatched(made.examples, 9)
    baseline = max(0.0, sum(map(ratio, others)) / len(others))
    assert baseline > 0  # else the test would not see it
    expected = 0.0
    for example in made.examples:
        gain = made.settings.beta * (ratio(example.text) - baseline)
        weight, sign = (1.5, 1) if example.desirable else (0.5, -1)
        expected += weight * (1 - 1 / (1 + math.exp(-sign * gain)))
    loss, count = made.loss(model, everything(made))
    assert count == len(made.examples)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-9)
    assert made.measures()["baseline"] == pytest.approx(baseline, rel=1e-9)
    assert made.held_out_loss(model, UNREWARDED) == pytest.approx(expected / count, rel=1e-9)
    held_out = dict(made.held_out_measures())
    assert held_out.pop("preference loss") == pytest.approx(expected / count)
    assert held_out == pytest.approx(made.measures())


@pytest.mark.parametrize(
    ("name", "first"), [("dpo", math.log(2)), ("ipo", 1 / (2 * 0.1) ** 2), ("kto", 0.5)]
)
def test_the_first_loss_is_known(name: str, first: float) -> None:
    plain = {"desirable_weight": 1.0} if name == "kto" else {}
    made = task(name, start_model(dropout=0.5), beta=0.1, **plain)
    loss, count = made.loss(start_model(), everything(made))
    assert float(loss.detach()) / count == pytest.approx(first, rel=1e-9)
    measures = made.measures()
    assert measures["margin"] == pytest.approx(0, abs=1e-9)
    assert measures["chosen"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_the_start_is_read_once_without_dropout_and_gets_no_gradient(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, model = start_model(dropout=0.5), policy_model()
    made = task(name, start)
    start.train()  # whatever mode it is in
    steps: list[float] = []
    if made.texts_to_read:
        made.read_texts(steps.append)
        assert steps[-1] == made.texts_to_read == len(made.start_sums)
    monkeypatch.setattr(StartSums, "compute", lambda *_: pytest.fail("it is read again"))
    for _ in range(2):
        loss, _ = made.loss(model, everything(made))
        loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in start.parameters())
    assert any(p.grad is not None for p in model.parameters())
    if not made.texts_to_read:
        assert made.tensors() == {}
        return
    eval_start = deepcopy(start).eval()
    for text, place in made.start_sums.places.items():
        expected = sum(by_itself(eval_start, text))
        assert float(made.start_sums.sums[place]) == pytest.approx(expected, rel=1e-9)
    # What a checkpoint has of it is taken, and only if it is of these texts.
    again = task(name, start)
    again.restore(made.state(), made.tensors())
    assert torch.equal(again.start_sums.sums, made.start_sums.sums)
    again = task(name, start)
    again.restore(made.state(), {"start": torch.zeros(1)})
    assert again.start_sums.sums is None


@pytest.mark.parametrize("name", METHODS)
def test_mistakes_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the references above would see: each mistake changes the loss by more than rounding."""
    start, model = start_model(), policy_model()
    made = task(name, start)
    batch = everything(made)
    right = float(made.loss(model, batch)[0].detach())
    module = "kto" if name == "kto" else "preference"
    path = f"tinylm.tasks.alignment.{module}.token_log_probabilities"

    def means(model: DecoderLM, rows: Any) -> Tensor:
        of_tokens = token_log_probabilities(model, rows)
        return of_tokens / (rows.labels >= 0).sum(1, keepdim=True)

    def without_mask(model: DecoderLM, rows: Any) -> Tensor:
        labels = torch.cat([rows.ids[:, 1:], rows.labels[:, -1:]], 1)
        return token_log_probabilities(
            model, replace(rows, labels=labels.where(labels != -100, 4)), never=()
        )

    for wrong in (means, without_mask):
        with monkeypatch.context() as patched:
            patched.setattr(path, wrong)
            assert float(made.loss(model, batch)[0].detach()) != pytest.approx(right, rel=1e-4)
    if name != "simpo":  # policy and start exchanged; SimPO has no start
        exchanged = task(name, model)
        loss = exchanged.loss(start, everything(exchanged))[0]
        assert float(loss.detach()) != pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_where_a_reward_is_known_the_best_is_what_earns_most(name: str) -> None:
    made = task(name)
    assert made.held_out_loss(policy_model(), Measured([], [0.25, 0.75], [])) == -0.5


def test_good_responses_weigh_as_much_as_bad_ones_unless_it_is_said() -> None:
    made = task("kto")
    good = sum(example.desirable for example in made.examples)
    bad = len(made.examples) - good
    assert (good, bad) == (3, 4)
    desirable, undesirable = made.weights
    assert desirable * good == pytest.approx(undesirable * bad)
    assert task("kto", undesirable_weight=2.0).weights == (pytest.approx(8 / 3), 2.0)
    assert task("kto", desirable_weight=0.5).weights == (0.5, 1.0)


def test_pairs_and_judgements_of_a_ranking() -> None:
    first, second, third = compared([*RANKINGS, TIED])
    assert first.pairs == ((0, 1),)
    assert second.pairs == ((0, 2), (1, 0), (1, 2))
    assert third.pairs == ((0, 1), (0, 2))
    batch = task("dpo").batch(np.array([1, 2]))
    assert batch.rows.ids.shape[0] == 6  # each response once
    assert batch.better.tolist() == [0, 1, 1, 3, 3]
    assert batch.worse.tolist() == [2, 0, 2, 4, 5]
    assert batch.weights.tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)
    # A response that wins as often as it loses is neither good nor bad.
    assert [each.desirable for each in judged([*RANKINGS, TIED])] == [
        *(True, False),
        *(True, False),
        *(True, False, False),
    ]


@given(
    st.lists(st.tuples(st.integers(4, 9), st.integers(4, 9)), min_size=2, max_size=40),
    st.integers(3, 6),
)
@settings(max_examples=60)
def test_a_mismatched_response_answers_another_prompt(
    words: list[tuple[int, int]], room: int
) -> None:
    examples = [Judged(((SOS_ID, a), (b, i + 10, EOS_ID)), True) for i, (a, b) in enumerate(words)]
    others = mismatched(examples, room)
    assert [prompt for prompt, _ in others] == [example.text[0] for example in examples]
    whole = sorted(example.text[1][: room - 2] for example in examples)
    assert sorted(response for _, response in others) == whole  # each once
    # Pairs of a ranking follow each other, so that a move by one would not do.
    paired = [Judged(((SOS_ID, i // 2), (i + 10, EOS_ID)), i % 2 == 0) for i in range(8)]
    by_response = {example.text[1]: example.text[0] for example in paired}
    assert all(by_response[response] != prompt for prompt, response in mismatched(paired, 9))


@pytest.mark.parametrize("name", METHODS)
def test_preferences_without_a_preference_are_refused(name: str) -> None:
    with pytest.raises(AlignmentError, match="no training ranking has two responses of which one"):
        task(name, train=(TIED,))
    with pytest.raises(AlignmentError, match="no validation ranking"):
        task(name, validation=(TIED,))
