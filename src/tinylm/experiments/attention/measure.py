"""The attention experiment: what every head does over many stories, and a few sentences drawn.

What a head is called and what it is worth come from validation stories; the sentences show it. The
result holds the sentences' attention weights themselves, so that figures are drawn from it alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from tinylm.config import RunConfig
from tinylm.data.corpora import open_corpus
from tinylm.experiments.attention.example_sentences import (
    ExampleSentence,
    choose_sentences,
    returning_word,
)
from tinylm.experiments.context import Console, Context, tell_fewer, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.interpretability.attention_maps import (
    SentenceAttention,
    analyse,
    strongest_link,
)
from tinylm.interpretability.head_ablation import HeadWorth, head_worth
from tinylm.interpretability.head_measures import HeadMeasure, measure_heads
from tinylm.interpretability.head_roles import describe, describe_worth, role
from tinylm.interpretability.places import is_punctuation
from tinylm.language_model import LanguageModel
from tinylm.printable import in_line
from tinylm.report.formatting import head_name
from tinylm.tokenizers.base import SOS, SOS_ID, Tokenizer
from tinylm.training.precision import resolve_device

NAMED = "named by the reader"
"""Why a sentence is drawn that was not chosen by the rule."""
_DECIMALS = 4  # of a weight in the result: what a figure can show, a fifth of the bytes


def run(context: Context) -> dict[str, Any]:
    """Measure the heads of the run's best checkpoint, and draw the report's sentences.

    Raises:
        CheckpointError: if there is none.
        DataError: if the corpus cannot be used.
    """
    config = context.config
    lm = LanguageModel.load(context.folder, resolve_device(config.training.device))
    named = config.report.attention_sentences
    return attention(lm, config, context.console, named)


def attention(
    lm: LanguageModel, config: RunConfig, console: Console, named: Sequence[str] = ()
) -> dict[str, Any]:
    """Measure every head on validation stories, and the attention of a few sentences.

    Args:
        lm: the model.
        config: of the corpus, and how many stories.
        console: where progress is shown.
        named: sentences to draw; empty: those of the validation split that the rule chooses.

    Returns:
        ``heads`` (role, shares, worth of each), ``sentences`` (words and weights), and the names of
        the figures that ``tinylm.report`` draws from them.

    Raises:
        DataError: if the corpus cannot be used.
        GenerationError: if a sentence is empty or longer than the context.
    """
    if named:
        examples = [ExampleSentence(text, NAMED) for text in named]
    else:
        examples = choose_sentences(
            open_corpus(config.data).validation(), lm.tokenizer, lm.model.config.context_length
        )
    with threads(config.training.threads):
        drawn = draw_sentences(lm, examples)
        texts = _stories(lm, config, console)
        heads = lm.model.config.num_layers * lm.model.config.num_heads
        with console.task("Measuring the heads", len(texts)) as done:
            measures = measure_heads(lm.model, texts, punctuation_types(lm.tokenizer), done)
        with console.task("Switching heads off", heads) as done:
            worth = head_worth(lm.model, texts, done)
    return {**heads_result(measures, worth, lm.tokenizer), "stories": len(texts), **drawn}


def punctuation_types(tokenizer: Tokenizer) -> torch.Tensor:
    """Return which types are punctuation marks, (vocab), bool."""
    return torch.tensor([is_punctuation(tokenizer.token(i)) for i in range(tokenizer.vocab_size)])


def _stories(lm: LanguageModel, config: RunConfig, console: Console) -> list[list[int]]:
    """Return validation stories, spread evenly over the split, each cut to the context."""
    validation = encoded_split(config.data, lm.tokenizer, "validation", console)
    wanted = config.experiments.attention.stories
    tell_fewer(console, "experiments.attention.stories", wanted, len(validation))
    number = min(wanted, len(validation))
    chosen = np.linspace(0, len(validation) - 1, number).round().astype(int)
    length = lm.model.config.context_length
    return [validation.story(int(i))[:length].tolist() for i in chosen]


def heads_result(
    measures: Iterable[HeadMeasure], worth: HeadWorth, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Return measured heads as what is kept of them."""

    def spell(token: int) -> str:
        return in_line(tokenizer.token(token))

    def row(head: HeadMeasure) -> dict[str, Any]:
        named = role(head.shares)
        value = worth.heads[head.layer, head.head]
        return {
            "layer": head.layer,
            "head": head.head,
            "role": named.name,
            "second": named.second_name,
            "interpretation": describe(head, spell),
            "shares": {name: asdict(share) for name, share in head.shares.items()},
            "distance": head.distance,
            "even_distance": head.even_distance,
            "entropy": head.entropy,
            "favourites": [
                [spell(favourite.token), favourite.factor] for favourite in head.favourites
            ],
            "worth": value.as_result(),
            "worth_told": describe_worth(value),
        }

    together = worth.without_idle
    return {
        "loss": worth.loss,
        "heads": [row(head) for head in measures],
        "idle": [head_name(*head) for head in worth.idle],
        "without_idle": None if together is None else together.as_result(),
    }


def draw_sentences(lm: LanguageModel, examples: Sequence[ExampleSentence]) -> dict[str, Any]:
    """Return the attention of sentences, and the names of their figures.

    Raises:
        GenerationError: if a sentence is empty or longer than the context.
    """
    return as_result(examples, [_analyse(lm, example.text) for example in examples])


def as_result(
    examples: Sequence[ExampleSentence], analysed: Sequence[SentenceAttention]
) -> dict[str, Any]:
    """Return analysed sentences as what is kept of them."""
    return {
        "sentences": [
            {
                "text": example.text,
                "reason": example.reason,
                "words": list(sentence.words),
                "ids": list(sentence.ids),
                "patterns": [
                    [[[round(w, _DECIMALS) for w in row] for row in head] for head in layer]
                    for layer in sentence.patterns.tolist()
                ],
                "link": _link(sentence),
                "returning": _returning(example.text, sentence),
                "figures": {
                    "heatmaps": f"figures/attention-{i}-heatmaps.svg",
                    "lines": [
                        f"figures/attention-{i}-lines-layer-{layer + 1}.svg"
                        for layer in range(len(sentence.patterns))
                    ],
                },
            }
            for i, (example, sentence) in enumerate(zip(examples, analysed, strict=True), 1)
        ],
        "html": "figures/attention.html",
    }


def _link(sentence: SentenceAttention) -> dict[str, Any] | None:
    link = strongest_link(sentence)
    if link is None:
        return None
    return {
        "head": head_name(link.layer, link.head),
        "query": sentence.words[link.query],
        "key": sentence.words[link.key],
        "back": link.query - link.key,
        "weight": link.weight,
    }


def _returning(text: str, sentence: SentenceAttention) -> dict[str, Any] | None:
    """Return which head gives most weight to a word where it stood first, from where it returns."""
    word = returning_word(text)
    places = [i for i, token in enumerate(sentence.words) if token.lower() == word]
    if len(places) < 2:  # a tokenizer may cut it into pieces
        return None
    first, last = places[0], places[-1]
    weights = sentence.patterns[:, :, last, first]  # (layers, heads)
    layer, head = divmod(int(weights.argmax()), weights.shape[1])
    return {
        "word": sentence.words[first],
        "head": head_name(layer, head),
        "weight": float(weights[layer, head]),
        "even": 1 / (last + 1),
        "back": last - first,
    }


def _analyse(lm: LanguageModel, text: str) -> SentenceAttention:
    ids = [SOS_ID, *lm.tokenizer.encode(text)]
    words = [SOS, *(in_line(lm.tokenizer.token(i)) for i in ids[1:])]
    return analyse(lm.model, ids, words)
