import pytest
import torch

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.interpretability.attention_maps import (
    Link,
    SentenceAttention,
    analyse,
    attention_patterns,
    strongest_link,
)
from tinylm.model.decoder import DecoderLM
from tinylm.report.formatting import head_name

WORDS = ["<sos>", "the", "dog", ",", "the", "cat", ",", "the", "dog", "."]
IDS = [2, 10, 11, 5, 10, 12, 5, 10, 11, 6]
SEQ = len(IDS)


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


def test_analyse_keeps_words_and_every_weight(model: DecoderLM) -> None:
    sentence = analyse(model, IDS, WORDS)
    assert sentence.words == tuple(WORDS) and sentence.ids == tuple(IDS)
    assert torch.equal(sentence.patterns, attention_patterns(model, IDS))


def test_heads_are_counted_from_one() -> None:
    assert head_name(0, 2) == "1.3"


def test_the_strongest_link_is_of_words_that_are_no_neighbours() -> None:
    patterns = torch.zeros(2, 2, 6, 6)
    patterns[0, 0, 5, 0] = 0.99  # on the first token
    patterns[0, 1, 4, 3] = 0.98  # on the neighbour
    patterns[1, 0, 3, 3] = 0.97  # on itself
    patterns[1, 1, 2, 5] = 0.96  # in the future, which no pattern has
    patterns[1, 0, 4, 2] = 0.40
    patterns[0, 1, 5, 2] = 0.30
    sentence = SentenceAttention(tuple("abcdef"), tuple(range(6)), patterns)
    assert strongest_link(sentence) == Link(1, 0, 4, 2, pytest.approx(0.4))
    short = SentenceAttention(tuple("abc"), (0, 1, 2), patterns[..., :3, :3])
    assert strongest_link(short) is None
