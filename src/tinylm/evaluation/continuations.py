"""Validation stories continued from their first tokens, and measured against the true text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.config import EvaluationConfig, GenerationConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import PairRows
from tinylm.errors import DataError
from tinylm.evaluation.bleu import bleu, bleu_result
from tinylm.evaluation.diversity import distinct, repetition, share_of
from tinylm.evaluation.perplexity import sequence_mean_perplexity, token_weighted_perplexity
from tinylm.evaluation.text_sets import TextSet, differences
from tinylm.generation.engine import Generated, SpecialIds, generate
from tinylm.generation.scoring import token_log_probabilities
from tinylm.generation.streams import equal_before
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer


@dataclass(frozen=True)
class StoryPrompts:
    """The beginnings of validation stories and their true continuations, without ``<eos>``."""

    prompts: list[list[int]]
    """``<sos>`` and the first tokens of each story."""
    true: list[list[int]]
    """The true continuation, cut to the most tokens that may be generated."""
    true_finished: list[bool]
    """Whether the story ends within the cut."""
    most: int
    """Tokens that may be generated."""
    whole: bool = False
    """Whether each continuation stands for all of the true one, such as a target."""

    def continued(self, generated: Sequence[Generated]) -> Continuations:
        """Join them with a model's continuations."""
        return Continuations(
            prompts=self.prompts,
            generated=[continuation.ids for continuation in generated],
            finished=[continuation.finished for continuation in generated],
            true=self.true,
            true_finished=self.true_finished,
            whole=self.whole,
            most=self.most,
        )


@dataclass(frozen=True)
class Continuations:
    """Prompts with the model's and the true continuations; ids without ``<eos>``."""

    prompts: list[list[int]]
    generated: list[list[int]]
    finished: list[bool]
    """Whether the model ended its text by ``<eos>``."""
    true: list[list[int]]
    true_finished: list[bool]
    whole: bool = False
    """Whether they are compared with all of the true ones, and not with as much of these."""
    most: int = 0
    """Tokens that could be generated."""


def story_prompts(
    validation: TokenFile, config: EvaluationConfig, context_length: int
) -> StoryPrompts:
    """Return the beginnings of stories spread evenly over the validation split.

    Of pairs they are the sources, and what is true is the target, whole.

    Raises:
        DataError: if no story is longer than the prompt, or the prompt fills the context; if no
            pair fits into the context.
    """
    if validation.pairs is not None:
        return _sources(validation, validation.pairs[:, 0], config, context_length)
    length = config.prompt_tokens + 1  # with <sos>
    # The last new token need not be read, so sequences of context + 1 tokens fit.
    most = config.max_new_tokens or context_length + 1 - length
    if most < 1:
        raise DataError(
            f"evaluation.prompt_tokens = {config.prompt_tokens} leaves no room in "
            f"model.context_length = {context_length}"
        )
    ends = np.append(validation.starts[1:], validation.header.num_tokens)
    long_enough = np.flatnonzero(ends - validation.starts > length + 1)
    if len(long_enough) == 0:
        raise DataError(
            f"{validation.path}: no story has more than evaluation.prompt_tokens = "
            f"{config.prompt_tokens} tokens: lower that setting, or give longer stories"
        )
    count = min(config.num_stories, len(long_enough))
    chosen = long_enough[np.linspace(0, len(long_enough) - 1, count).round().astype(int)]
    stories = [validation.story(int(index)).tolist() for index in chosen]
    rests = [story[length:-1] for story in stories]
    return StoryPrompts(
        prompts=[story[:length] for story in stories],
        true=[rest[:most] for rest in rests],
        true_finished=[len(rest) < most for rest in rests],
        most=most,
    )


def _sources(
    validation: TokenFile,
    given: npt.NDArray[np.int64],
    config: EvaluationConfig,
    context_length: int,
) -> StoryPrompts:
    """Return sources of pairs that fit into the context, with room for the longest target."""
    fitting = PairRows(validation, context_length).texts
    count = min(config.num_stories, len(fitting))
    chosen = fitting[np.linspace(0, len(fitting) - 1, count).round().astype(int)]
    rows = [(validation.story(int(index)).tolist(), int(given[index])) for index in chosen]
    true = [row[first:-1] for row, first in rows]
    return StoryPrompts(
        prompts=[row[:first] for row, first in rows],
        true=true,
        true_finished=[True] * count,
        most=config.max_new_tokens or max(map(len, true)) + 1,
        whole=True,
    )


def continue_stories(
    model: GenerativeModel,
    validation: TokenFile,
    config: EvaluationConfig,
    progress: Callable[[float], None] = lambda share: None,
) -> Continuations:
    """Sample a continuation of stories spread evenly over the validation split.

    ``progress`` is called with the share of the work that is done.

    Raises:
        DataError: if no story is longer than the prompt, or the prompt fills the context.
    """
    prompts = story_prompts(validation, config, model.config.context_length)
    settings = GenerationConfig(
        max_new_tokens=prompts.most,
        temperature=config.temperature,
        top_p=config.top_p,
        allow_unk=True,
        seed=config.seed,
    )
    return prompts.continued(
        generate_in_batches(model, prompts.prompts, settings, config.batch_size, progress)
    )


def generate_in_batches(
    model: GenerativeModel,
    prompts: Sequence[list[int]],
    settings: GenerationConfig,
    batch_size: int,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Generated]:
    """Continue prompts, ``batch_size`` at a time, with the same result as in one batch.

    ``progress`` is called with the share of the work that is done.
    """
    special = SpecialIds(pad=PAD_ID, sos=SOS_ID, eos=EOS_ID, unk=UNK_ID)
    numbers = equal_before(prompts)
    generated: list[Generated] = []
    for first in range(0, len(prompts), batch_size):
        batch = slice(first, first + batch_size)
        rows = len(prompts[batch])

        def stepped(steps: int, first: int = first, rows: int = rows) -> None:
            progress((first + rows * steps / settings.max_new_tokens) / len(prompts))

        generated += generate(
            model, prompts[batch], settings, special, numbers=numbers[batch], progress=stepped
        )
        progress((first + rows) / len(prompts))
    return generated


def continuation_text(tokenizer: Tokenizer, prompt: list[int], ids: list[int]) -> str:
    """Return the text of ``ids`` as it stands after the prompt."""
    return tokenizer.decode(prompt + ids)[len(tokenizer.decode(prompt)) :].strip()


def compared_texts(tokenizer: Tokenizer, texts: Continuations) -> tuple[list[str], list[str]]:
    """Return what BLEU compares: the generated texts, and the true ones cut to their lengths.

    Those of pairs are not cut.
    """
    cut = [
        true if texts.whole else true[: len(ids)]
        for true, ids in zip(texts.true, texts.generated, strict=True)
    ]
    generated, true = (
        [continuation_text(tokenizer, *pair) for pair in zip(texts.prompts, rests, strict=True)]
        for rests in (texts.generated, cut)
    )
    return generated, true


def measure_continuations(
    model: GenerativeModel, tokenizer: Tokenizer, texts: Continuations, config: EvaluationConfig
) -> dict[str, Any]:
    """Return perplexity, BLEU, diversity and the texts of continued stories.

    Perplexities are those of the model itself, at temperature 1, of the continuation given the
    prompt, its ``<eos>`` included. BLEU compares with the true continuation cut to the length of
    the generated one; ``texts`` holds all of both, from which it can be computed again.
    ``differences`` are those of the generated texts from the true ones, with their intervals.
    """

    def score(continuations: list[list[int]], finished: list[bool]) -> list[list[float]]:
        whole = [
            prompt + ids + [EOS_ID] * end
            for prompt, ids, end in zip(texts.prompts, continuations, finished, strict=True)
        ]
        given = [len(prompt) for prompt in texts.prompts]
        scores = token_log_probabilities(model, whole, config.batch_size, given)
        return [
            values[len(prompt) - 1 :] for prompt, values in zip(texts.prompts, scores, strict=True)
        ]

    generated_scores = score(texts.generated, texts.finished)
    true_scores = score(texts.true, texts.true_finished)
    hypotheses, references = compared_texts(tokenizer, texts)
    scores = bleu(hypotheses, references)
    pairs = {"generated": texts.generated, "true": texts.true}
    sets = {
        name: TextSet(ids, [sum(text) for text in scored], [len(text) for text in scored])
        for (name, ids), scored in zip(pairs.items(), (generated_scores, true_scores), strict=True)
    }
    return {
        "num_stories": len(texts.prompts),
        "prompt_tokens": config.prompt_tokens,
        "max_new_tokens": texts.most,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "seed": config.seed,
        "perplexity": {
            name: {
                "token_weighted": token_weighted_perplexity(values),
                "sequence_mean": sequence_mean_perplexity(values),
            }
            for name, values in (("generated", generated_scores), ("true", true_scores))
        },
        "bleu": bleu_result(scores, hypotheses, references),
        "differences": {
            measure: of["generated"]["true"]
            for measure, of in differences(sets).items()
            if measure != "bleu"
        },
        "distinct": {
            name: {str(n): distinct(ids, n) for n in (1, 2, 3)} for name, ids in pairs.items()
        },
        "unk_rate": {name: share_of(ids, UNK_ID) for name, ids in pairs.items()},
        "repetition": {name: repetition(ids) for name, ids in pairs.items()},
        "texts": [
            {
                "prompt": tokenizer.decode(texts.prompts[i]),
                "generated": hypotheses[i],
                "true": references[i],
                "bleu": scores.sentences[i],
                "perplexity": token_weighted_perplexity([generated_scores[i]]),
            }
            for i in range(len(hypotheses))
        ],
    }
