"""Continuations of validation stories: what is asked, and that the numbers are of these texts."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import sacrebleu
import torch

from tinylm.config import EvaluationConfig
from tinylm.data.token_files import TokenFile, write_token_file
from tinylm.errors import DataError
from tinylm.evaluation.continuations import (
    Continuations,
    continue_stories,
    measure_continuations,
)
from tinylm.generation.scoring import token_log_probabilities
from tinylm.model.decoder import DecoderLM
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.tokenizers.word import WordTokenizer

MakeModel = Callable[..., DecoderLM]
TOKENIZER = WordTokenizer("abcdefghijklmnopqr.")
# Lengths 3, 2, then 4 to 13: a prompt of three tokens leaves nothing of the first two.
STORIES = ["a b c", "b c", *(" ".join("abcdefghijklmnopqr"[i : i + 4 + 2 * i]) for i in range(7))]


@pytest.fixture
def validation(tmp_path: Path) -> TokenFile:
    path = tmp_path / "validation.tokens"
    write_token_file(path, STORIES, TOKENIZER, "by-hand", "validation")
    return TokenFile(path)


@pytest.fixture
def model(small_model: MakeModel) -> DecoderLM:
    return small_model(5, sharpness=1.0, context_length=12)


def config(**settings: object) -> EvaluationConfig:
    return EvaluationConfig(**{"num_stories": 50, "prompt_tokens": 3, **settings})


def test_prompts_are_sos_and_the_first_tokens_of_stories_that_go_on(
    model: DecoderLM, validation: TokenFile
) -> None:
    texts = continue_stories(model, validation, config())
    framed = [[SOS_ID, *TOKENIZER.encode(story)] for story in STORIES[2:]]
    assert texts.prompts == [story[:4] for story in framed]
    # 12 + 1 - 4 new tokens fit: the last one need not be read.
    assert texts.true == [story[4:][:9] for story in framed]
    assert texts.true_finished == [len(story) - 4 < 9 for story in framed]
    assert set(texts.true_finished) == {True, False}
    assert max(map(len, texts.generated)) <= 9
    for ids, finished in zip(texts.generated, texts.finished, strict=True):
        assert finished == (len(ids) < 9)


def test_stories_are_spread_over_the_split(model: DecoderLM, validation: TokenFile) -> None:
    all_prompts = continue_stories(model, validation, config()).prompts
    some = continue_stories(model, validation, config(num_stories=3)).prompts
    assert some == [all_prompts[0], all_prompts[3], all_prompts[6]]


def test_the_texts_do_not_depend_on_the_batch_size(model: DecoderLM, validation: TokenFile) -> None:
    whole = continue_stories(model, validation, config())
    assert len({tuple(ids) for ids in whole.generated}) > 3
    for batch_size in (1, 3):
        assert continue_stories(model, validation, config(batch_size=batch_size)) == whole
    assert continue_stories(model, validation, config(seed=1)) != whole


def test_max_new_tokens_cuts_both_sides(model: DecoderLM, validation: TokenFile) -> None:
    texts = continue_stories(model, validation, config(max_new_tokens=2))
    assert {len(ids) for ids in texts.true} == {1, 2}
    assert texts.true_finished == [len(ids) < 2 for ids in texts.true]
    assert max(map(len, texts.generated)) <= 2


def test_impossible_requests_are_one_line(model: DecoderLM, validation: TokenFile) -> None:
    with pytest.raises(DataError, match=r"evaluation\.prompt_tokens = 12 leaves no room"):
        continue_stories(model, validation, config(prompt_tokens=12))
    with pytest.raises(DataError, match=r"no story has more than evaluation\.prompt_tokens = 13"):
        continue_stories(model, validation, replace(config(), prompt_tokens=13, max_new_tokens=1))


def own_log_probabilities(
    model: DecoderLM, prompt: list[int], ids: list[int], finished: bool
) -> list[float]:
    """Of the continuation alone, one forward pass a token."""
    whole = prompt + ids + [EOS_ID] * finished
    log_probabilities = []
    for place in range(len(prompt), len(whole)):
        with torch.no_grad():
            logits = model(torch.tensor([whole[:place]]))[0, -1]
        log_probabilities.append(float(logits.double().log_softmax(-1)[whole[place]]))
    return log_probabilities


def test_measures_are_those_of_the_continuations(model: DecoderLM, validation: TokenFile) -> None:
    settings = config(batch_size=2)
    texts = continue_stories(model, validation, settings)
    result = measure_continuations(model, TOKENIZER, texts, settings)
    assert json.loads(json.dumps(result)) == result
    assert (result["num_stories"], result["prompt_tokens"], result["max_new_tokens"]) == (7, 3, 9)
    for name, continuations, finished in (
        ("generated", texts.generated, texts.finished),
        ("true", texts.true, texts.true_finished),
    ):
        scores = [
            own_log_probabilities(model, *row)
            for row in zip(texts.prompts, continuations, finished, strict=True)
        ]
        everything = [value for row in scores for value in row]
        weighted = math.exp(-sum(everything) / len(everything))
        own = [math.exp(-sum(row) / len(row)) for row in scores]
        perplexities = result["perplexity"][name]
        assert perplexities["token_weighted"] == pytest.approx(weighted, rel=1e-4)
        assert perplexities["sequence_mean"] == pytest.approx(sum(own) / len(own), rel=1e-4)


def test_bleu_compares_with_the_truth_cut_to_the_generated_length(model: DecoderLM) -> None:
    def ids(text: str) -> list[int]:
        return TOKENIZER.encode(text)

    texts = Continuations(
        prompts=[[SOS_ID, *ids("a b")], [SOS_ID, *ids("c d .")]],
        generated=[ids("c d e f g"), ids("h p j k")],
        finished=[True, True],
        true=[ids("c d e f h p j"), ids("h p l k m")],
        true_finished=[True, False],
    )
    result = measure_continuations(model, TOKENIZER, texts, config())
    # Each continuation as the text has it: a capital only where a sentence starts.
    hypotheses, references = ["c d e f g", "H p j k"], ["c d e f h", "H p l k"]
    assert [text["generated"] for text in result["texts"]] == hypotheses
    assert [text["true"] for text in result["texts"]] == references
    assert result["bleu"]["corpus"] == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert result["bleu"]["signature"].startswith("nrefs:1|case:mixed|eff:no")
    assert result["distinct"]["generated"] == {"1": 1.0, "2": 1.0, "3": 1.0}  # nine words, all new
    assert result["distinct"]["true"]["1"] == pytest.approx(10 / 12)  # h and p twice
    assert result["repetition"] == {"generated": 0.0, "true": 0.0}
    assert result["unk_rate"] == {"generated": 0.0, "true": 0.0}


def test_an_immediate_end_is_measured_too(model: DecoderLM) -> None:
    texts = Continuations([[SOS_ID, 4]], [[]], [True], [[5, 6]], [True])
    result = measure_continuations(model, TOKENIZER, texts, config())
    (end,) = own_log_probabilities(model, [SOS_ID, 4], [], True)
    assert result["perplexity"]["generated"]["token_weighted"] == pytest.approx(
        math.exp(-end), rel=1e-4
    )
    assert result["bleu"]["corpus"] == 0


def test_scores_agree_with_generation(model: DecoderLM, validation: TokenFile) -> None:
    texts = continue_stories(model, validation, config())
    whole = [
        prompt + ids + [EOS_ID] * end
        for prompt, ids, end in zip(texts.prompts, texts.generated, texts.finished, strict=True)
    ]
    assert all(len(row) <= 13 for row in whole)  # so one window holds them
    assert all(
        math.isfinite(value) for row in token_log_probabilities(model, whole) for value in row
    )


def test_the_share_that_is_told_grows_to_the_whole(model: DecoderLM, validation: TokenFile) -> None:
    shares: list[float] = []
    continue_stories(model, validation, config(batch_size=3), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert {round(7 * share, 6) for share in shares} >= {3, 6, 7}  # the batches
    assert len(shares) > 9  # and steps between them
