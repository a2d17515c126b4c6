"""Beam search against exhaustive search, greedy decoding and itself."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.model.helpers import build_random
from tinylm.config import GenerationConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.generation.engine import Generated, SpecialIds, Stepper, generate, generate_steps
from tinylm.generation.strategies.beam import BeamSearch, _Candidate, _settle
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.registry import POSITIONS

SPECIAL = SpecialIds(pad=0, unk=1, sos=2, eos=3)
# Shorter than the context of 10, as long as it, and longer.
PROMPTS = [
    [2],
    [2, 9, 4, 13],
    [2, 5, 6, 7, 8, 9, 10, 11, 12, 13],
    [2, 20, 21, 22, 4, 5, 9, 9, 6, 14, 15, 17, 8],
]
MakeModel = Callable[..., DecoderLM]


def beam(**settings: object) -> GenerationConfig:
    values = {"strategy": "beam", "num_beams": 3, "max_new_tokens": 15}
    return GenerationConfig(**{**values, **settings})


def assert_same(result: Generated, expected: Generated, tolerance: float = 1e-9) -> None:
    for hypothesis, counterpart in zip(hypotheses(result), hypotheses(expected), strict=True):
        assert (hypothesis.ids, hypothesis.finished, hypothesis.slid) == (
            counterpart.ids,
            counterpart.finished,
            counterpart.slid,
        )
        assert hypothesis.score == pytest.approx(counterpart.score, abs=tolerance)
        assert hypothesis.log_probability == pytest.approx(
            counterpart.log_probability, abs=tolerance
        )


def hypotheses(best: Generated) -> list[Generated]:
    return [best, *best.alternatives]


def ending(model: DecoderLM, by: float) -> DecoderLM:
    """Make ``<eos>`` likelier or unlikelier."""
    with torch.no_grad():
        model.unembedding.bias[SPECIAL.eos] += by
    return model


# --- exhaustive search ---

WORDS = 5  # besides the special tokens


@torch.no_grad()
def every_text(
    model: DecoderLM, prompt: list[int], most: int, penalty: float, least: int
) -> list[tuple[float, float, list[int], bool]]:
    """Score each text that there is, read whole: (score, sum, ids, finished), best first."""
    words = range(4, 4 + WORDS)
    scored = []
    for length in range(1, most + 1):
        texts = [
            [*ids, SPECIAL.eos]
            for ids in itertools.product(words, repeat=length - 1)
            if length > least
        ]
        if length == most:
            texts += [list(ids) for ids in itertools.product(words, repeat=length)]
        if not texts:
            continue
        whole = torch.tensor([prompt + text for text in texts])
        log_p = model(whole[:, :-1]).log_softmax(-1).gather(2, whole[:, 1:, None])[:, :, 0]
        sums = log_p[:, len(prompt) - 1 :].sum(1).tolist()
        for text, total in zip(texts, sums, strict=True):
            finished = text[-1] == SPECIAL.eos
            ids = text[:-1] if finished else text
            scored.append((total / length**penalty, total, ids, finished))
    return sorted(scored, key=lambda text: -text[0])


@pytest.mark.parametrize("length_penalty", [-1.0, 0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_width_that_covers_the_space_finds_what_exhaustive_search_finds(
    seed: int, length_penalty: float
) -> None:
    """All texts of up to four tokens, 781 of them, in order and with their scores."""
    model = build_random(seed, vocab_size=4 + WORDS)
    with torch.no_grad():
        model.unembedding.weight.mul_(3)
    ending(model, seed / 2)
    most, least = 3 + seed % 2, seed // 3
    prompts = [[2], [2, 5, 7, 4], [2, 8, 8]]
    settings = beam(
        num_beams=1000,
        num_return=1000,
        max_new_tokens=most,
        min_new_tokens=least,
        length_penalty=length_penalty,
        early_stopping="never",
    )
    for prompt, best in zip(prompts, generate(model, prompts, settings, SPECIAL), strict=True):
        expected = every_text(model, prompt, most, length_penalty, least)
        results = hypotheses(best)
        assert len(results) == len(expected) == sum(5**i for i in range(least, most)) + 5**most
        assert [(text.ids, text.finished) for text in results] == [text[2:] for text in expected]
        assert [text.score for text in results] == pytest.approx([text[0] for text in expected])
        sums = [text.log_probability for text in results]
        assert sums == pytest.approx([text[1] for text in expected])


@pytest.mark.parametrize("early_stopping", ["full", "heuristic", "never"])
def test_a_wider_beam_than_there_are_words_returns_no_text_twice(early_stopping: str) -> None:
    """After the first step there are 5 hypotheses and not 8: the missing rows must stay dead."""
    model = ending(build_random(1, vocab_size=4 + WORDS), 1)
    settings = beam(
        num_beams=8, num_return=8, max_new_tokens=4, early_stopping=early_stopping, min_new_tokens=1
    )
    for best in generate(model, [[2], [2, 4, 6]], settings, SPECIAL):
        texts = {(tuple(hypothesis.ids), hypothesis.finished) for hypothesis in hypotheses(best)}
        assert len(texts) == 8
        assert all(
            hypothesis.score is not None and hypothesis.score > -1e3
            for hypothesis in hypotheses(best)
        )
    (best,) = generate(model, [[2]], beam(num_beams=8, num_return=8, max_new_tokens=1), SPECIAL)
    assert len(hypotheses(best)) == 6  # five words and <eos> are all that there is


def test_prompts_with_unequally_many_possible_words_stay_apart() -> None:
    """Words of probability 0 after one prompt leave it fewer hypotheses than its neighbour."""
    model = build_random(3, vocab_size=4 + WORDS)
    step = Stepper.logits

    def thinned(self: Stepper) -> Tensor:
        logits = step(self).clone()
        for row, text in enumerate(self.rows):
            if text[1] == 8:
                logits[row, 5:] = -math.inf
        return logits

    settings = beam(num_beams=4, num_return=4, max_new_tokens=3, early_stopping="never")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stepper, "logits", thinned)
        thin, wide = generate(model, [[2, 8], [2, 7]], settings, SPECIAL)
        (thin_alone,) = generate(model, [[2, 8]], settings, SPECIAL)
    (wide_alone,) = generate(model, [[2, 7]], settings, SPECIAL)
    assert_same(wide, wide_alone)
    assert_same(thin, thin_alone)
    ids = sorted((hypothesis.ids, hypothesis.finished) for hypothesis in hypotheses(thin))
    assert ids == [([], True), ([4], True), ([4, 4], True), ([4, 4, 4], False)]


# --- other searches ---


@pytest.mark.parametrize("positions", POSITIONS)
def test_one_beam_that_stops_at_its_first_end_is_greedy(
    small_model: MakeModel, positions: str
) -> None:
    ended = 0
    for seed in range(6):
        model = ending(small_model(seed, positions=positions).double(), seed % 3)
        settings = beam(num_beams=1, early_stopping="full")
        searched = generate(model, PROMPTS, settings, SPECIAL)
        greedy = generate(model, PROMPTS, beam(strategy="greedy"), SPECIAL)
        for result, expected in zip(searched, greedy, strict=True):
            assert (result.ids, result.finished, result.slid) == (
                expected.ids,
                expected.finished,
                expected.slid,
            )
            assert result.log_probability == pytest.approx(expected.log_probability, rel=1e-12)
            ended += result.finished
    assert 0 < ended < 24


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_cached_equals_uncached_and_a_batch_its_prompts_alone_beyond_the_context(
    small_model: MakeModel, positions: str, norm: str
) -> None:
    slid, ended = set(), set()
    for seed, early_stopping in enumerate(("full", "heuristic", "never")):
        model = small_model(seed, 1.0, positions=positions, norm_placement=norm).double()
        ending(model, seed)
        settings = beam(early_stopping=early_stopping, num_beams=4, num_return=4)
        batch = generate(model, PROMPTS, settings, SPECIAL)
        plain = generate(model, PROMPTS, settings, SPECIAL, use_cache=False)
        for prompt, result, uncached in zip(PROMPTS, batch, plain, strict=True):
            assert_same(result, uncached)
            (alone,) = generate(model, [prompt], settings, SPECIAL)
            assert_same(result, alone)
            slid |= {hypothesis.slid for hypothesis in hypotheses(result)}
            ended |= {hypothesis.finished for hypothesis in hypotheses(result)}
    assert slid == ended == {True, False}


def test_a_wider_beam_finds_likelier_texts_than_greedy(small_model: MakeModel) -> None:
    """Not always, but clearly on the whole; with fixed length every score is a sum."""
    gains = []
    for seed in range(10):
        model = ending(small_model(seed, sharpness=2.0), -1e4)
        settings = beam(num_beams=8, max_new_tokens=8, length_penalty=0.0)
        searched = generate(model, PROMPTS, settings, SPECIAL)
        greedy = generate(model, PROMPTS, beam(strategy="greedy", max_new_tokens=8), SPECIAL)
        for result, baseline in zip(searched, greedy, strict=True):
            gains.append(result.log_probability - baseline.log_probability)
    assert sum(gain > -1e-4 for gain in gains) > 36
    assert sum(gain > 0.1 for gain in gains) > 10


# --- scores and rules ---


@pytest.mark.parametrize("length_penalty", [-0.5, 0.0, 0.7, 1.0])
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.4])
def test_scores_and_log_probabilities_are_what_they_say(
    small_model: MakeModel, length_penalty: float, repetition_penalty: float
) -> None:
    """The sum is the model's own; the score divides it, penalised, by the length with <eos>."""
    model = ending(small_model(5, context_length=40).double(), 2)
    settings = beam(
        num_beams=6,
        num_return=6,
        length_penalty=length_penalty,
        repetition_penalty=repetition_penalty,
        max_new_tokens=6,
    )
    results = generate(model, PROMPTS, settings, SPECIAL)
    finished = {hypothesis.finished for best in results for hypothesis in hypotheses(best)}
    assert finished == {True, False}
    for prompt, best in zip(PROMPTS, results, strict=True):
        scores = [hypothesis.score for hypothesis in hypotheses(best)]
        assert scores == sorted(scores, reverse=True)
        assert not any(hypothesis.alternatives for hypothesis in best.alternatives)
        for hypothesis in hypotheses(best):
            new = hypothesis.ids + [SPECIAL.eos] * hypothesis.finished
            text = prompt + new
            with torch.no_grad():
                log_p = model(torch.tensor([text[:-1]]))[0].log_softmax(-1)
            own = penalised = 0.0
            for place in range(len(prompt), len(text)):
                value = float(log_p[place - 1, text[place]])
                own += value
                seen = text[place] in text[:place]
                penalised += value * repetition_penalty if seen else value
            assert hypothesis.log_probability == pytest.approx(own, rel=1e-9)
            assert hypothesis.score == pytest.approx(
                penalised / len(new) ** length_penalty, rel=1e-9
            )


def test_no_hypothesis_holds_a_forbidden_token(small_model: MakeModel) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias[[SPECIAL.pad, SPECIAL.sos, SPECIAL.unk]] += 3
    settings = beam(num_beams=6, num_return=6)
    for allow_unk, allowed in ((False, set()), (True, {SPECIAL.unk})):
        results = generate(
            model, PROMPTS, beam(num_beams=6, num_return=6, allow_unk=allow_unk), SPECIAL
        )
        made = {i for best in results for hypothesis in hypotheses(best) for i in hypothesis.ids}
        assert made & {SPECIAL.pad, SPECIAL.sos, SPECIAL.unk, SPECIAL.eos} == allowed
    # Nothing is renormalised: what forbidden tokens would have had counts against the others.
    best = generate(model, PROMPTS[:1], settings, SPECIAL)[0]
    with torch.no_grad():
        log_p = model(torch.tensor([PROMPTS[0]]))[0, -1].log_softmax(-1)
    (short,) = generate(model, PROMPTS[:1], beam(max_new_tokens=1), SPECIAL)
    assert short.log_probability == pytest.approx(float(log_p[3:].max()), abs=1e-5)
    assert best.log_probability < float(log_p[3:].max())


@pytest.mark.parametrize("least", [1, 4, 15, 20])
def test_no_hypothesis_ends_before_it_may(small_model: MakeModel, least: int) -> None:
    model = ending(small_model(sharpness=1.0), 5)
    settings = beam(num_beams=5, num_return=5, min_new_tokens=least)
    shortest = []
    for best in generate(model, PROMPTS, settings, SPECIAL):
        for hypothesis in hypotheses(best):
            assert len(hypothesis.ids) >= min(least, 15)
            assert hypothesis.finished == (len(hypothesis.ids) < 15)
            shortest.append(len(hypothesis.ids))
    assert min(shortest) == min(least, 15)


def test_texts_that_cannot_end_have_the_maximum_length(small_model: MakeModel) -> None:
    model = ending(small_model(), -1e4)
    for best in generate(model, PROMPTS, beam(num_return=3, length_penalty=0.5), SPECIAL):
        assert [(len(hypothesis.ids), hypothesis.finished) for hypothesis in hypotheses(best)] == [
            (15, False)
        ] * 3
        assert len({tuple(hypothesis.ids) for hypothesis in hypotheses(best)}) == 3
        assert best.score == pytest.approx(best.log_probability / math.sqrt(15), rel=1e-6)


def test_streaming_yields_the_winners_tokens_step_by_step(small_model: MakeModel) -> None:
    model = ending(small_model(5, sharpness=2.0), 2)
    settings = beam(num_beams=4, num_return=2)
    texts: list[list[int]] = [[] for _ in PROMPTS]
    for pairs in generate_steps(model, PROMPTS, settings, SPECIAL):
        assert len({prompt for prompt, _ in pairs}) == len(pairs)
        for prompt, token in pairs:
            texts[prompt].append(token)
    assert texts == [result.ids for result in generate(model, PROMPTS, settings, SPECIAL)]
    assert len({len(text) for text in texts}) > 1


def test_more_texts_than_beams_are_refused(small_model: MakeModel) -> None:
    with pytest.raises(ConfigError) as error:
        generate(small_model(), PROMPTS, beam(num_beams=2, num_return=3), SPECIAL)
    assert str(error.value) == (
        "generation.num_return = 3 is more than generation.num_beams = 2: "
        "return fewer hypotheses or keep more"
    )


@pytest.mark.parametrize("length_penalty", [-300.0, 300.0])
def test_a_power_of_the_length_that_overflows_is_refused(length_penalty: float) -> None:
    with pytest.raises(ConfigError, match=r"generation\.length_penalty = -?300\.0 makes"):
        BeamSearch(beam(length_penalty=length_penalty))


def test_logits_that_are_no_numbers_are_told(small_model: MakeModel) -> None:
    model = small_model()
    with torch.no_grad():
        model.unembedding.bias.fill_(math.nan)
    with pytest.raises(GenerationError, match="logits are not finite"):
        generate(model, PROMPTS, beam(), SPECIAL)


# --- work ---


def test_the_first_step_reads_one_row_a_prompt_and_prompts_that_are_done_leave(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []
    step = Stepper.logits

    def counted(self: Stepper) -> Tensor:
        batches.append([row[1] for row in self.rows])
        return step(self)

    model = ending(small_model(5, sharpness=2.0, context_length=40), 2.7)
    prompts = [[2, i] for i in range(4, 14)]
    monkeypatch.setattr(Stepper, "logits", counted)
    settings = beam(max_new_tokens=30, early_stopping="full")
    generate(model, prompts, settings, SPECIAL)
    together = [len(batch) for batch in batches]
    assert batches[0] == list(range(4, 14))
    assert together[1] == 30
    steps_alone = []
    for prompt in prompts:
        batches.clear()
        generate(model, [prompt], settings, SPECIAL)
        steps_alone.append(len(batches))
    assert len(set(steps_alone)) > 2
    for step_number, rows in enumerate(together[1:], 1):
        assert rows == 3 * sum(steps > step_number for steps in steps_alone)


def test_the_cache_is_allocated_once_for_all_beams(
    small_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[KVCache] = []
    create = KVCache.__init__

    def counted(self: KVCache, *args: object, **kwargs: object) -> None:
        create(self, *args, **kwargs)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(KVCache, "__init__", counted)
    model = ending(small_model(5, sharpness=2.0, context_length=40), 2.7)
    prompts = [[2, i] for i in range(4, 14)]
    generate(model, prompts, beam(max_new_tokens=30, early_stopping="full"), SPECIAL)
    (cache,) = made
    # 2 layers, 2 heads of 6, 4 bytes; neither spreading nor leaving changed the buffers.
    assert cache.num_bytes == 2 * 2 * (10 * 3) * 2 * 6 * 40 * 4
    assert cache.batch_size < 30


def candidate(row: int, token: int) -> _Candidate:
    return _Candidate(row, token, -float(token), -float(token))


def test_hypotheses_stay_in_their_rows_where_they_can() -> None:
    def settled(rows: list[int], width: int) -> list[tuple[int, int]]:
        candidates = _settle([candidate(row, i) for i, row in enumerate(rows)], width)
        return [(placed.row, placed.token) for placed in candidates if placed.total > -math.inf]

    assert settled([2, 0, 1], 3) == [(0, 1), (1, 2), (2, 0)]  # nothing moves
    assert settled([2, 2, 0], 3) == [(0, 2), (2, 1), (2, 0)]  # one branches into the free row
    assert settled([0, 0], 3) == [(0, 0), (0, 1)]
    assert settled([4, 0], 2) == [(0, 1), (4, 0)]  # fewer rows than before
    dead = _settle([candidate(1, 5)], 3)
    assert [placed.total for placed in dead] == [-math.inf, -5.0, -math.inf]
