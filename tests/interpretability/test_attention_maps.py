import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.interpretability.attention_maps import (
    ROLES,
    Link,
    analyse,
    attention_patterns,
    head_name,
    interpret,
    role,
    strongest_link,
)
from tinylm.interpretability.head_descriptors import (
    HeadDescriptors,
    aggregate,
    describe_head,
    is_punctuation,
    uniform_baseline,
)
from tinylm.model.decoder import DecoderLM

WORDS = ["<sos>", "the", "dog", ",", "the", "cat", ",", "the", "dog", "."]
IDS = [2, 10, 11, 5, 10, 12, 5, 10, 11, 6]
MARKS = [is_punctuation(word) for word in WORDS]
SEQ = len(IDS)
MEAN_UNIFORM = sum(1 / (i + 1) for i in range(1, SEQ)) / (SEQ - 1)


def one_hot(keys: list[int]) -> Tensor:
    pattern = torch.zeros(len(keys), len(keys))
    pattern[torch.arange(len(keys)), torch.tensor(keys)] = 1
    return pattern


def same_word_keys() -> list[int]:
    """The latest earlier occurrence of the same word, else the first token."""
    return [max((j for j in range(i) if IDS[j] == IDS[i]), default=0) for i in range(SEQ)]


def punctuation_keys() -> list[int]:
    return [max((j for j in range(i) if MARKS[j]), default=0) for i in range(SEQ)]


def uniform(seq: int) -> Tensor:
    ones = torch.ones(seq, seq, dtype=torch.float64).tril()
    return ones / ones.sum(1, keepdim=True)


def describe(pattern: Tensor) -> HeadDescriptors:
    return describe_head(pattern, IDS, MARKS)


BASELINE = uniform_baseline(IDS, MARKS)


def numbers_nearly_equal(one: HeadDescriptors, other: HeadDescriptors) -> None:
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert left == (right if right is None else pytest.approx(right, abs=1e-9)), field.name


def test_identity_head() -> None:
    d = describe(torch.eye(SEQ))
    assert d.queries == 9
    assert (d.self_share, d.mean_distance, d.entropy, d.entropy_bits) == (1, 0, 0, 0)
    assert (d.previous, d.first, d.same_word, d.punctuation) == (0, 0, 0, 0)


def test_previous_token_head() -> None:
    d = describe(one_hot([0, *range(SEQ - 1)]))
    assert (d.previous, d.mean_distance, d.self_share, d.entropy) == (1, 1, 0, 0)
    assert d.first == pytest.approx(1 / 9)  # query 1, whose previous token is the first
    assert d.same_word == 0
    # Queries 4 to 9 have a mark before them; it is the previous token of 4 and 7.
    assert d.punctuation == pytest.approx(2 / 6)
    assert d.punctuation_queries == 6


def test_first_token_head() -> None:
    d = describe(one_hot([0] * SEQ))
    assert (d.first, d.self_share, d.same_word, d.punctuation) == (1, 0, 0, 0)
    assert d.previous == pytest.approx(1 / 9)
    assert d.mean_distance == pytest.approx(5)  # the mean of 1 to 9


def test_same_word_head() -> None:
    d = describe(one_hot(same_word_keys()))
    # the (4), the (7), dog (8); the comma at 6 repeats one, but is no word.
    assert (d.same_word, d.same_word_queries) == (1, 3)


def test_every_earlier_occurrence_counts() -> None:
    pattern = torch.eye(SEQ)
    pattern[7] = 0
    pattern[7, 1], pattern[7, 4], pattern[7, 7] = 0.25, 0.5, 0.25
    assert describe(pattern).same_word == pytest.approx(0.75 / 3)


def test_punctuation_head_leaves_out_the_mark_itself() -> None:
    assert describe(one_hot(punctuation_keys())).punctuation == 1
    assert describe(torch.eye(SEQ)).punctuation == 0


def test_uniform_head_by_formula() -> None:
    d = describe(uniform(SEQ))
    assert d.mean_distance == pytest.approx(SEQ / 4)
    assert d.entropy == pytest.approx(1)
    assert d.entropy_bits == pytest.approx(sum(math.log2(i + 1) for i in range(1, SEQ)) / 9)
    assert d.previous == pytest.approx(MEAN_UNIFORM)
    assert d.first == pytest.approx(MEAN_UNIFORM)
    assert d.self_share == pytest.approx(MEAN_UNIFORM)
    assert d.same_word == pytest.approx((1 / 5 + 2 / 8 + 1 / 9) / 3)
    assert d.punctuation == pytest.approx((1 / 5 + 1 / 6 + 1 / 7 + 2 / 8 + 2 / 9 + 2 / 10) / 6)


def test_no_repetition_and_no_mark_is_none() -> None:
    d = uniform_baseline([1, 2, 3], [False, False, True])
    assert (d.same_word, d.same_word_queries) == (None, 0)
    assert (d.punctuation, d.punctuation_queries) == (None, 0)


sentences = st.lists(st.integers(0, 4), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(ids=sentences, seed=st.integers(0, 2**31))
def test_ranges(ids: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    seq = len(ids)
    scores = 4 * torch.randn(seq, seq, generator=generator)
    pattern = scores.masked_fill(torch.ones(seq, seq).triu(1).bool(), -1e9).softmax(-1)
    marks = [i == 0 for i in ids]
    d = describe_head(pattern, ids, marks)
    baseline = uniform_baseline(ids, marks)
    shares = [d.previous, d.first, d.self_share, d.entropy]
    shares += [share for share in (d.same_word, d.punctuation) if share is not None]
    assert all(-1e-6 <= share <= 1 + 1e-6 for share in shares)
    assert 0 <= d.mean_distance <= seq - 1
    assert d.entropy_bits <= baseline.entropy_bits + 1e-6
    assert (d.same_word is None) == (d.same_word_queries == 0) == (baseline.same_word is None)
    assert role(d, baseline) in ROLES
    sentence = interpret(d, baseline)
    assert sentence.endswith(".") and "%" in sentence and ". " not in sentence


@settings(max_examples=40, deadline=None)
@given(ids=sentences)
def test_uniform_pattern_is_the_baseline(ids: list[int]) -> None:
    marks = [i == 0 for i in ids]
    baseline = uniform_baseline(ids, marks)
    numbers_nearly_equal(describe_head(uniform(len(ids)), ids, marks), baseline)
    assert role(baseline, baseline) == "broad"


ARCHETYPES = {
    "itself": torch.eye(SEQ),
    "previous word": one_hot([0, *range(SEQ - 1)]),
    "first token": one_hot([0] * SEQ),
    "same word": one_hot(same_word_keys()),
    "punctuation": one_hot(punctuation_keys()),
    "broad": uniform(SEQ).float(),
}


@pytest.mark.parametrize("label", ARCHETYPES)
def test_archetypes_are_recognised(label: str) -> None:
    blurred = 0.8 * ARCHETYPES[label] + 0.2 * uniform(SEQ)
    d = describe(blurred)
    assert role(d, BASELINE) == label
    shares = {
        "itself": (d.self_share, BASELINE.self_share),
        "previous word": (d.previous, BASELINE.previous),
        "first token": (d.first, BASELINE.first),
        "same word": (d.same_word, BASELINE.same_word),
        "punctuation": (d.punctuation, BASELINE.punctuation),
        "broad": (d.entropy,),
    }
    sentence = interpret(d, BASELINE)
    for share in shares[label]:
        assert share is not None
        assert f"{100 * share:.0f}\u00a0%" in sentence


def test_sentences_name_the_place() -> None:
    def sentence(label: str, first: str = "<sos>") -> str:
        return interpret(describe(ARCHETYPES[label]), BASELINE, first)

    assert sentence("previous word").startswith("Looks mostly at the previous word (100\u00a0%")
    assert sentence("first token", "Once").startswith("Rests on Once (100\u00a0%")
    assert sentence("same word").startswith("Finds earlier occurrences of the same word")
    assert "looks at <sos> too (56\u00a0%)" in sentence("same word")
    assert sentence("broad").startswith("Spreads evenly over the past (entropy 100\u00a0%")


def test_local_and_mixed() -> None:
    local = torch.zeros(SEQ, SEQ)
    for i in range(SEQ):
        seen = range(max(0, i - 3), i + 1)
        for j in seen:
            local[i, j] = 1 / len(seen)
    d = describe(local)
    assert d.mean_distance <= 0.6 * BASELINE.mean_distance
    assert role(d, BASELINE) == "local"
    assert f"{d.mean_distance:.1f} tokens" in interpret(d, BASELINE)

    middle = one_hot([max(0, i // 2) if i > 3 else i // 2 for i in range(SEQ)])
    d = describe(0.7 * middle + 0.3 * uniform(SEQ))
    assert role(d, BASELINE) == "mixed"
    assert "entropy" in interpret(d, BASELINE)


def test_one_repetition_gives_no_role() -> None:
    ids = [0, 1, 2, 3, 1]
    marks = [False] * 5
    d = describe_head(one_hot([0, 0, 0, 0, 1]), ids, marks)
    assert (d.same_word, d.same_word_queries) == (1, 1)
    assert role(d, uniform_baseline(ids, marks)) == "first token"


def test_aggregate_is_the_mean_over_all_queries() -> None:
    first = describe_head(torch.eye(3), [1, 1, 1], [False] * 3)
    second = describe_head(one_hot([0, 0, 1, 2, 3]), [1, 2, 3, 4, 5], [False] * 5)
    both = aggregate([first, second])
    assert both.queries == 6
    assert both.self_share == pytest.approx(2 / 6)
    assert both.previous == pytest.approx(4 / 6)
    assert (both.same_word, both.same_word_queries) == (0, 2)
    assert (both.punctuation, both.punctuation_queries) == (None, 0)
    numbers_nearly_equal(aggregate([first]), first)
    with pytest.raises(ValueError, match="no descriptors"):
        aggregate([])


def test_is_punctuation() -> None:
    marks = [".", ",", '"', "...", "—", "$", "<", "<>"]
    assert all(is_punctuation(word) for word in marks)
    words = ["dog", "7", "don't", "'s", "<sos>", "<unk>", "é", ""]
    assert not any(is_punctuation(word) for word in words)


def test_wrong_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        describe_head(torch.eye(3), IDS, MARKS)
    with pytest.raises(ValueError, match="sum to 1"):
        describe(torch.eye(SEQ) * 0.5)
    with pytest.raises(ValueError, match="later tokens"):
        describe(torch.eye(SEQ).flip(0))
    with pytest.raises(GenerationError, match="at least one word"):
        uniform_baseline([1], [False])


@pytest.fixture(scope="module")
def model() -> DecoderLM:
    torch.manual_seed(0)
    return DecoderLM(
        ModelConfig(
            vocab_size=20,
            context_length=16,
            num_layers=2,
            num_heads=3,
            hidden_size=30,
            ffn_size=40,
            dropout=0.5,
        )
    )


def test_patterns_are_causal_softmax_rows(model: DecoderLM) -> None:
    model.train()
    patterns = attention_patterns(model, IDS)
    assert model.training and all(module.training for module in model.modules())
    assert patterns.shape == (2, 3, SEQ, SEQ)
    assert patterns.dtype == torch.float32 and not patterns.requires_grad
    torch.testing.assert_close(patterns.sum(-1), torch.ones(2, 3, SEQ))
    assert (patterns.triu(1) == 0).all() and (patterns >= 0).all()
    assert torch.equal(patterns, attention_patterns(model, IDS))  # no dropout
    model.eval()
    attention_patterns(model, IDS)
    assert not model.training


def test_patterns_do_not_depend_on_later_words(model: DecoderLM) -> None:
    short = attention_patterns(model, IDS[:6])
    torch.testing.assert_close(attention_patterns(model, IDS)[..., :6, :6], short)


def test_bad_sentences_are_refused(model: DecoderLM) -> None:
    with pytest.raises(GenerationError, match="no tokens"):
        attention_patterns(model, [])
    with pytest.raises(GenerationError, match="outside the vocabulary"):
        attention_patterns(model, [2, 20])
    with pytest.raises(GenerationError, match="context_length"):
        attention_patterns(model, [2] * 17)
    with pytest.raises(GenerationError, match="at least one word"):
        analyse(model, [2], ["<sos>"])
    with pytest.raises(ValueError, match="not the same sentence"):
        analyse(model, IDS, WORDS[1:])


def test_analyse(model: DecoderLM) -> None:
    sentence = analyse(model, IDS, WORDS)
    assert sentence.words == tuple(WORDS) and sentence.ids == tuple(IDS)
    assert sentence.baseline == BASELINE
    for layer in range(2):
        for head in range(3):
            d = describe(sentence.patterns[layer, head])
            assert sentence.descriptors[layer][head] == d
            assert sentence.roles[layer][head] == role(d, BASELINE)
            assert sentence.interpretations[layer][head] == interpret(d, BASELINE)


def test_head_name() -> None:
    assert head_name(0, 2) == "layer 1, head 3"


def test_the_strongest_link_is_to_an_earlier_word_that_is_not_the_first() -> None:
    words = ["<sos>", "the", "girl", "ran", "."]
    pattern = torch.tensor(
        [
            [1.0, 0, 0, 0, 0],
            [0.1, 0.9, 0, 0, 0],
            [0.95, 0.03, 0.02, 0, 0],
            [0.1, 0.05, 0.15, 0.7, 0],
            [0.2, 0.1, 0.4, 0.2, 0.1],
        ]
    )
    link = strongest_link(pattern, words)
    assert link == Link(".", "girl", pytest.approx(0.4))
    assert strongest_link(pattern[:2, :2], words[:2]) is None


def test_a_mixed_head_is_told_by_its_strongest_link() -> None:
    middle = one_hot([max(0, i // 2) for i in range(SEQ)])
    d = describe(0.7 * middle + 0.3 * uniform(SEQ))
    text = interpret(d, BASELINE, link=Link("because", "girl", 0.93))
    assert text.endswith("most of all “because” at “girl” (93\u00a0%).")
