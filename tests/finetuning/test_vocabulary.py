"""A vocabulary that grows: old words keep their ids and what they mean."""

from __future__ import annotations

import pytest
import torch

from tests.training.tiny import TEXTS, tiny_model, tiny_tokenizer
from tinylm.errors import AdapterError, ConfigError
from tinylm.finetuning.adapters import attach
from tinylm.finetuning.lora import Lora
from tinylm.finetuning.vocabulary import with_vocabulary
from tinylm.tokenizers.bytes import BytesTokenizer
from tinylm.tokenizers.word import WordSettings, WordTokenizer


@pytest.mark.parametrize("tied", [False, True])
def test_old_logits_are_what_they_were_and_new_ones_their_mean(tied: bool) -> None:
    model = tiny_model(tie_embeddings=tied).eval()
    size = model.config.vocab_size or 0
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    grown = with_vocabulary(model, size + 3)
    assert torch.equal(torch.random.get_rng_state(), state)  # nothing is drawn
    ids = torch.arange(4, 12)[None]
    with torch.no_grad():
        before = model.unembed(model.residual(ids))
        after = grown.unembed(grown.residual(ids))
    torch.testing.assert_close(after[..., :size], before, rtol=0, atol=1e-6)
    mean = before.mean(-1, keepdim=True).expand(-1, -1, 3)
    torch.testing.assert_close(after[..., size:], mean, rtol=1e-4, atol=1e-5)
    assert grown.config.vocab_size == size + 3
    assert not grown.training
    assert (grown.unembedding.weight is grown.embedding.weight) == tied


def test_what_cannot_grow_is_refused() -> None:
    model = tiny_model()
    size = model.config.vocab_size or 0
    assert with_vocabulary(model, size) is model
    with pytest.raises(AdapterError, match="smaller"):
        with_vocabulary(model, size - 1)
    adapted = attach(model, "lora", Lora.Settings(rank=2))
    with pytest.raises(AdapterError, match="tinylm merge RUN"):
        with_vocabulary(adapted, size + 1)


def test_more_words_come_after_all_others_and_are_written_in_lower_case() -> None:
    tokenizer = tiny_tokenizer()
    grown = tokenizer.with_words(["dialogue", "cat", "dialogue", "tale"])
    assert grown.words == [*tokenizer.words, "dialogue", "tale"]
    assert grown.decode(grown.encode("The cat and the tale. Dialogue")) == (
        "The cat and the tale. Dialogue"
    )
    assert tokenizer.with_words(["cat"]) is tokenizer
    assert tokenizer.unknown_words(["the cat! a tale, a tale"])["tale"] == 2
    assert "cat" not in tokenizer.unknown_words(["the cat"])


def test_a_setting_names_more_words() -> None:
    tokenizer = tiny_tokenizer()
    settings = WordSettings(min_frequency=1, max_size=30, more_words=("tale", "cat", "dialogue"))
    trained = WordTokenizer.train(TEXTS, settings)
    assert trained.fingerprint() == tokenizer.with_words(["tale", "dialogue"]).fingerprint()
    assert trained.vocab_size <= WordTokenizer.largest_vocabulary(settings) == 33
    for wrong in ("two words", "Tale", "", '"'):
        with pytest.raises(ConfigError, match="more_words"):
            WordTokenizer.train(TEXTS, WordSettings(min_frequency=1, more_words=(wrong,)))


def test_bytes_know_every_word() -> None:
    tokenizer = BytesTokenizer()
    assert tokenizer.with_words(["tale"]) is tokenizer
    assert not tokenizer.unknown_words(["a tale"])
