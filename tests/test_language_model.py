"""``LanguageModel``: text in, text out."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import tinylm
from tinylm.config import GenerationConfig, ModelConfig
from tinylm.errors import CheckpointError, ConfigError, GenerationError
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID
from tinylm.tokenizers.bytes import BytesTokenizer

CONTEXT = 24


@pytest.fixture
def endless(tiny_run: Path) -> LanguageModel:
    """The tiny model, made unable to end a text."""
    lm = LanguageModel.load(tiny_run)
    with torch.no_grad():
        lm.model.unembedding.bias[EOS_ID] = -1e4
    return lm


def test_it_is_the_packages_front_door(tiny_run: Path) -> None:
    lm = tinylm.LanguageModel.load(str(tiny_run))
    assert str(lm.generate("Once upon a time")).startswith("Once upon a time")


def test_the_text_is_the_prompt_as_written_and_what_follows(tiny_lm: LanguageModel) -> None:
    for prompt in ("Once upon a time", "ONCE  upon a\ntime ", "Tom said,", 'The dog said, "'):
        result = tiny_lm.generate(prompt, max_new_tokens=8, seed=3)
        assert result.prompt == prompt
        assert result.text.startswith(prompt.rstrip())
        assert result.text != prompt.rstrip()
        assert str(result) == result.text
        again = tiny_lm.tokenizer.encode(result.text)
        assert again == tiny_lm.tokenizer.encode(prompt) + result.ids


def test_settings_are_those_of_the_config_with_single_ones_on_top(tiny_lm: LanguageModel) -> None:
    base = GenerationConfig(seed=4, max_new_tokens=9)
    both = tiny_lm.generate("The cat", base, temperature=1.5)
    assert both == tiny_lm.generate("The cat", replace(base, temperature=1.5))
    assert both != tiny_lm.generate("The cat", base, temperature=0.1)
    assert len(tiny_lm.generate("The cat", base, max_new_tokens=3, strategy="greedy").ids) <= 3


def test_seeds_repeat_and_differ(tiny_lm: LanguageModel) -> None:
    texts = [tiny_lm.generate("One day", seed=seed, max_new_tokens=12).text for seed in range(5)]
    assert len(set(texts)) == 5
    assert tiny_lm.generate("One day", seed=3, max_new_tokens=12).text == texts[3]


def test_batches_of_prompts_of_different_lengths(tiny_lm: LanguageModel) -> None:
    prompts = ["Once upon a time", "", "The dog", "Tom and the cat saw a big red ball in the park."]
    greedy = tiny_lm.generate(prompts, strategy="greedy", max_new_tokens=30)
    assert [result.prompt for result in greedy] == prompts
    for prompt, result in zip(prompts, greedy, strict=True):
        alone = tiny_lm.generate(prompt, strategy="greedy", max_new_tokens=30)
        assert (result.text, result.ids, result.notes) == (alone.text, alone.ids, alone.notes)
    sampled = tiny_lm.generate(prompts, max_new_tokens=30, seed=7)
    assert sampled[0].text == tiny_lm.generate(prompts[0], max_new_tokens=30, seed=7).text
    assert isinstance(tiny_lm.generate(["one"], max_new_tokens=2), list)


@pytest.mark.parametrize("prompt", ["", "  \n "])
def test_an_empty_prompt_starts_a_story(endless: LanguageModel, prompt: str) -> None:
    result = endless.generate(prompt, max_new_tokens=6)
    assert len(result.ids) == 6
    given = endless.tokenizer.encode(prompt)
    assert result.text == endless.tokenizer.decode(given + result.ids)
    assert result.text.strip()[0].isupper() or not result.text.strip()[0].isalpha()
    assert result.notes == []


def test_unknown_words_are_kept_in_the_text_and_named(endless: LanguageModel) -> None:
    result = endless.generate("The zyxwv saw Qqqq, and the zyxwv ran", max_new_tokens=5)
    assert result.text.startswith("The zyxwv saw Qqqq, and the zyxwv ran")
    (note,) = result.notes
    assert note == "not in the vocabulary, read as <unk>: zyxwv, Qqqq,"
    assert UNK_ID not in result.ids


def test_unk_is_an_answer_only_if_allowed(tiny_run: Path) -> None:
    lm = LanguageModel.load(tiny_run)
    with torch.no_grad():
        lm.model.unembedding.bias[UNK_ID] = 100
    assert UNK_ID not in lm.generate("The dog", max_new_tokens=5).ids
    allowed = lm.generate("The dog", max_new_tokens=5, allow_unk=True)
    assert allowed.ids == [UNK_ID] * 5
    assert allowed.text == "The dog" + " <unk>" * 5


def test_a_prompt_longer_than_the_context_slides_and_says_so(endless: LanguageModel) -> None:
    words = ["the", "dog", "and", "the", "cat"] * 8
    result = endless.generate(" ".join(words), max_new_tokens=10, strategy="greedy")
    assert result.notes == [
        "the prompt has 41 tokens, <sos> included, and the context 24: "
        "a sliding window of the last 24 is seen"
    ]
    ids = endless.tokenizer.encode(" ".join(words))
    assert UNK_ID not in ids
    for token in result.ids:
        with torch.no_grad():
            logits = endless.model(torch.tensor([ids[-CONTEXT:]]))[0, -1]
        logits[:3] = -torch.inf
        assert token == int(logits.argmax())
        ids.append(token)


@pytest.mark.parametrize(("prompt_tokens", "new", "slides"), [(4, 20, False), (4, 21, True)])
def test_sliding_is_told_exactly_when_it_happens(
    endless: LanguageModel, prompt_tokens: int, new: int, slides: bool
) -> None:
    prompt = " ".join(["the", "dog", "saw", "the"][:prompt_tokens])
    result = endless.generate(prompt, max_new_tokens=new)
    assert len(result.ids) == new
    note = ["beyond 24 tokens the model sees a sliding window of the last 24"]
    assert result.notes == (note if slides else [])


def test_notes_agree_with_the_engine_also_when_the_model_ends_the_text(
    tiny_run: Path,
) -> None:
    lm = LanguageModel.load(tiny_run)
    with torch.no_grad():
        lm.model.unembedding.bias[EOS_ID] += 1.5
    lengths = set()
    for seed in range(150):
        result = lm.generate("the dog saw the", seed=seed, temperature=1.0, max_new_tokens=26)
        predicted = len(result.ids) + result.finished
        lengths.add((predicted, result.finished))
        # <sos>, four words and all predicted tokens but the last were read.
        assert bool(result.notes) == (1 + 4 + predicted - 1 > CONTEXT)
    assert any(finished for _, finished in lengths)
    assert any(not finished for _, finished in lengths)


def test_streaming_gives_the_same_text_piece_by_piece(tiny_lm: LanguageModel) -> None:
    for prompt in ("", "Once upon a time", 'Tom said, "'):
        whole = tiny_lm.generate(prompt, seed=5, max_new_tokens=40)
        pieces = list(tiny_lm.stream(prompt, seed=5, max_new_tokens=40))
        assert tiny_lm.begun(prompt) + "".join(pieces) == whole.text
        assert len(pieces) == len(whole.ids)
        assert all(pieces)


def test_streaming_does_not_wait(endless: LanguageModel) -> None:
    stream = endless.stream("Once", max_new_tokens=10**12)
    assert len([next(stream) for _ in range(3)]) == 3


def test_beam_search_returns_the_next_best_texts_too(tiny_lm: LanguageModel) -> None:
    settings = {"strategy": "beam", "num_beams": 4, "num_return": 3, "max_new_tokens": 12}
    for result in tiny_lm.generate(["The dog", "Once upon a"], length_penalty=0.5, **settings):
        texts = [result, *result.alternatives]
        assert len({hypothesis.text for hypothesis in texts}) == 3
        scores = [hypothesis.score for hypothesis in texts]
        assert scores == sorted(scores, reverse=True)
        for hypothesis in texts:
            assert hypothesis.prompt == result.prompt
            assert hypothesis.text.startswith(result.prompt)
            length = len(hypothesis.ids) + hypothesis.finished
            assert hypothesis.score == pytest.approx(
                hypothesis.log_probability / math.sqrt(length), rel=1e-6
            )
        assert not any(hypothesis.alternatives for hypothesis in result.alternatives)
    best = tiny_lm.generate("The dog", length_penalty=0.5, **{**settings, "num_return": 1})
    assert best.alternatives == []
    pieces = list(tiny_lm.stream("The dog", length_penalty=0.5, **settings))
    assert "The dog" + "".join(pieces) == best.text
    assert len(pieces) == len(best.ids)
    sampled = tiny_lm.generate("The dog", max_new_tokens=3)
    assert (sampled.score, sampled.alternatives) == (None, [])


def test_score_is_the_sum_over_all_tokens_and_the_end(tiny_lm: LanguageModel) -> None:
    text = "Once upon a time there was a dog."
    ids = [SOS_ID, *tiny_lm.tokenizer.encode(text), EOS_ID]
    with torch.no_grad():
        logits = tiny_lm.model(torch.tensor([ids[:-1]]))[0].double()
    expected = float(logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]].sum())
    score = tiny_lm.score(text)
    assert score.num_tokens == len(ids) - 1
    assert score.log_probability == pytest.approx(expected, rel=1e-5)
    assert score.perplexity == pytest.approx(math.exp(-expected / (len(ids) - 1)), rel=1e-5)


def test_a_story_is_likelier_than_its_words_in_disorder(tiny_lm: LanguageModel) -> None:
    story = tiny_lm.score("Once upon a time there was a dog.").perplexity
    assert story < tiny_lm.score("dog a was there time a upon once.").perplexity
    assert tiny_lm.score("").num_tokens == 1


def test_score_of_a_long_text_and_in_training_mode(tiny_run: Path) -> None:
    lm = LanguageModel.load(tiny_run)
    text = "the dog saw the cat. " * 20
    score = lm.score(text)
    assert score.num_tokens == 6 * 20 + 1
    lm.model.train()
    assert lm.score(text) == score
    assert lm.model.training


def test_generation_and_score_agree(endless: LanguageModel) -> None:
    result = endless.generate("The dog", max_new_tokens=15, seed=3)
    given = endless.score("The dog").log_probability
    with_end = endless.score(result.text).log_probability
    ids = [SOS_ID, *endless.tokenizer.encode("The dog")]
    with torch.no_grad():
        ends = [
            float(endless.model(torch.tensor([row]))[0, -1].log_softmax(-1)[EOS_ID])
            for row in (ids, ids + result.ids)
        ]
    assert result.log_probability == pytest.approx(
        (with_end - ends[1]) - (given - ends[0]), rel=1e-3, abs=0.1
    )


def test_what_was_saved_is_loaded_by_the_same_name(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    path = tiny_lm.save(tmp_path / "mine")
    again = LanguageModel.load(tmp_path / "mine")
    assert again.source is not None
    assert again.source.resolve() == path.resolve()
    assert again.score("The cat.") == tiny_lm.score("The cat.")


def test_it_tells_what_it_is(tiny_lm: LanguageModel) -> None:
    assert "LanguageModel" in dir(tinylm)
    assert set(tinylm.__all__) <= set(dir(tinylm))
    size = tiny_lm.model.parameter_counts()["total"]
    beginning = (
        f"LanguageModel({size:,} parameters, vocabulary of {tiny_lm.tokenizer.vocab_size:,}, "
    )
    assert repr(tiny_lm) == f"{beginning}context of {CONTEXT}, {str(tiny_lm.source)!r})"
    assert (
        repr(LanguageModel(tiny_lm.model, tiny_lm.tokenizer)) == f"{beginning}context of {CONTEXT})"
    )


class Characters:
    """A tokenizer that loses nothing: an id a character."""

    vocab_size = 4 + 128

    def encode(self, text: str) -> list[int]:
        return [4 + ord(character) for character in text]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [self.encode(text) for text in texts]

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(i - 4) for i in ids if i >= 4)


@pytest.mark.parametrize("prompt", ["a ", "a b \n", "a\n\n", "a", "", " ", " \n "])
def test_a_prompt_reaches_the_tokenizer_as_typed(
    small_model: Callable[..., DecoderLM], prompt: str
) -> None:
    tokenizer = Characters()
    lm = LanguageModel(small_model(vocab_size=tokenizer.vocab_size), cast(Any, tokenizer))
    result = lm.generate(prompt, max_new_tokens=5, seed=1)
    assert result.ids
    assert result.text == prompt + tokenizer.decode(result.ids)
    assert lm.begun(prompt) + "".join(lm.stream(prompt, max_new_tokens=5, seed=1)) == result.text


def test_a_paragraph_break_at_the_end_of_a_prompt_is_kept(tiny_lm: LanguageModel) -> None:
    assert UNK_ID not in tiny_lm.tokenizer.encode("\n\n")
    result = tiny_lm.generate("The dog ran.\n\n", max_new_tokens=4)
    assert result.text.startswith("The dog ran.\n\n")
    assert tiny_lm.generate("The dog ran.  ", max_new_tokens=4).text.startswith("The dog ran.")


def test_save_and_load(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    path = tiny_lm.save(tmp_path / "mine")
    again = LanguageModel.load(path)
    assert again.source == path
    assert again.generate("The cat", seed=1) == tiny_lm.generate("The cat", seed=1)
    assert again.score("The cat.") == tiny_lm.score("The cat.")


@pytest.mark.parametrize("prompt", [None, 3, b"x", [None], ["a", 3]])
def test_what_is_no_text_is_told(tiny_lm: LanguageModel, prompt: Any) -> None:
    with pytest.raises(GenerationError, match="expected text, or a list of texts, not "):
        tiny_lm.generate(prompt)
    for text in (prompt, ["a", "b"]):  # several texts have no one score
        with pytest.raises(GenerationError, match="expected one text, not "):
            tiny_lm.score(text)


def test_errors_are_one_line_that_say_what_to_do(tiny_lm: LanguageModel, tmp_path: Path) -> None:
    for call, kind, text in (
        (lambda: tiny_lm.generate([]), GenerationError, "give at least one prompt"),
        (lambda: tiny_lm.generate("a", temprature=1), ConfigError, "did you mean temperature"),
        (
            lambda: tiny_lm.generate("a", top_p=0),
            ConfigError,
            "generate: top_p = 0: must be greater",
        ),
        (lambda: tiny_lm.generate("a", strategy="beem"), ConfigError, "unknown decoding strategy"),
        (lambda: next(tiny_lm.stream("a", top_k=-1)), ConfigError, "generate: top_k = -1"),
        (
            lambda: tiny_lm.generate("a", strategy="beam", num_beams=2, num_return=3),
            ConfigError,
            "generation.num_return = 3 is more than generation.num_beams = 2",
        ),
        (lambda: LanguageModel.load(tmp_path), CheckpointError, "holds no checkpoint"),
        (lambda: LanguageModel.load(tmp_path / "no"), CheckpointError, "does not exist"),
    ):
        with pytest.raises(kind) as error:
            call()
        assert text in str(error.value)
        assert "\n" not in str(error.value)


def test_a_prompt_keeps_its_last_space_where_the_tokenizer_does() -> None:
    tokenizer = BytesTokenizer()
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=8, num_heads=2, num_layers=1, positions="alibi"
    )
    lm = LanguageModel(DecoderLM(config).eval(), tokenizer)
    settings = GenerationConfig(strategy="greedy", max_new_tokens=3, min_new_tokens=3)
    read: list[list[int]] = []
    residual = lm.model.residual

    def reading(ids: torch.Tensor, **named: Any) -> torch.Tensor:
        read.append(ids[0].tolist())
        return residual(ids, **named)

    lm.model.residual = reading  # type: ignore[method-assign]
    for prompt in ("Zoë said ", "Zoë said", "a\n\n"):
        read.clear()
        (result,) = lm.generate([prompt], replace(settings, linear="plain"))
        assert read[0] == [2, *tokenizer.encode(prompt)]
        assert result.text.startswith(prompt)


def test_a_trace_has_the_words_of_its_tokens(tiny_lm: LanguageModel) -> None:
    traced = tiny_lm.trace(["Once upon a time", "The dog"])
    assert traced.words == (("<sos>", "once", "upon", "a", "time"), ("<sos>", "the", "dog"))
    assert traced.logits.shape[:2] == (2, 5)
    only = tiny_lm.trace("The dog", ["layers.0.attention.pattern"])
    assert list(only) == ["layers.0.attention.pattern"]


@pytest.mark.parametrize("strategy", ["greedy", "sampling"])
def test_the_trace_of_a_generation_is_that_of_its_text(
    endless: LanguageModel, strategy: str
) -> None:
    settings: dict[str, Any] = {"strategy": strategy, "max_new_tokens": 8, "seed": 3}
    result, traced = endless.trace_generation("The dog", **settings)
    assert result.text == endless.generate("The dog", **settings).text
    read = [SOS_ID, *endless.tokenizer.encode("The dog"), *result.ids[:-1]]
    assert traced.ids.tolist() == [read]
    whole = endless.trace(endless.tokenizer.decode(read))
    assert whole.words == traced.words
    for name in ("final", "logits", "layers.0.attention.pattern", "layers.0.feed_forward.inner"):
        torch.testing.assert_close(traced[name], whole[name], rtol=1e-3, atol=1e-4)


def test_a_generation_that_cannot_be_traced_is_refused(tiny_lm: LanguageModel) -> None:
    with pytest.raises(ConfigError, match="strategy beam follows several texts"):
        tiny_lm.trace_generation("The dog", strategy="beam")
    with pytest.raises(GenerationError, match=f"the context is {CONTEXT}.*max_new_tokens = 22"):
        tiny_lm.trace_generation("The dog", max_new_tokens=30)
    for prompt in (None, ["The dog"], 5):
        with pytest.raises(GenerationError, match="expected one text, not "):
            tiny_lm.trace_generation(cast(str, prompt))
