"""What the page of `tinylm explore` shows: sentences and heads, measured at every kept step.

The steps are those of the run's snapshots, and that of its best checkpoint. All is measured in the
same way at each: the same sentences, the same repeated random tokens, the same prompts and seed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tinylm.checkpoint import damage, step_of
from tinylm.data.corpora import open_corpus
from tinylm.errors import DataError, GenerationError, shown
from tinylm.experiments.attention.example_sentences import choose_sentences
from tinylm.experiments.context import Console, Context, threads
from tinylm.experiments.exploring.answers import answered, described, nodes_of, questions
from tinylm.interpretability.attribution import logit_attribution
from tinylm.interpretability.circuits import Reading, composition
from tinylm.interpretability.head_scores import head_scores, repeated_tokens
from tinylm.interpretability.lens import NO_NEXT, READ, lens, place_label
from tinylm.interpretability.trace import Trace
from tinylm.language_model import SPECIAL_IDS, LanguageModel
from tinylm.model.base import refuse_without_attention
from tinylm.planning.limits import shown_bytes
from tinylm.printable import in_line
from tinylm.training.snapshots import snapshots_of
from tinylm.training.tracking import read_metrics

MOST_TOKENS = 40
"""Tokens of a sentence, ``<sos>`` included: more are not read in a map, and make a large page."""
_TOP = 3
"""Likeliest words that are kept at each place of the lens."""
_NEW_TOKENS = 40
_REPEATED, _TEXTS = 20, 16
"""Tokens that are repeated, and texts of them."""
_MOST_BYTES = 16_000_000
"""Estimated size from which steps are left out of the page."""
_TOKEN_BYTES = 700
"""About what lens and attribution take at a token and step of a small model."""
_CURVE = 300
"""Points of the training loss that a curve shows."""
READINGS: tuple[Reading, ...] = ("query", "key", "value")
SCORES = {
    "prefix_matching": "induction (prefix matching)",
    "copying": "copying",
    "previous_token": "previous token",
    "duplicate_token": "duplicate token",
    "first_token": "first token",
}
"""Fields of HeadScores, and how a reader knows them."""


def explored(
    context: Context, texts: Sequence[str] = (), pairs: Path | None = None
) -> dict[str, Any]:
    """Measure a run at every step that it kept.

    Args:
        context: of the run.
        texts: sentences of the reader; those that the corpus gives come after them.
        pairs: a file of pairs of prompts to ask; empty: those of the run's settings for the
            experiment ``patching``, or the story grammar's.

    Returns:
        What ``page.explore_html`` takes, as JSON values.

    Raises:
        CheckpointError: if the run has no checkpoint.
        DataError: if there is no sentence: none is given and the corpus cannot be used; or if the
            pairs cannot be used.
        GenerationError: if a sentence is empty or too long, or the context too short.
    """
    config = context.config
    if pairs is None and config.experiments.patching.pairs_path is not None:
        pairs = Path(config.experiments.patching.pairs_path)
    with threads(config.training.threads):
        best = LanguageModel.load(context.folder)
        refuse_without_attention(best.model.config, "the command explore")
        sentences = _sentences(context, best, texts)
        words = _Words(best)
        asked = questions(best, pairs)
        repeated = _repeated(best)
        models = _models(context.folder, best, context.console)
        models = _few_enough(models, best, sentences, context.console)
        with context.console.task("Looking into the snapshots", len(models)) as done:
            moments = []
            for count, (step, path) in enumerate(models, 1):
                lm = best if path is None else LanguageModel.load(path)
                moment = _moment(lm, sentences, repeated, context, words)
                moments.append({"step": step, **moment, "answers": answered(lm, asked)})
                done(count)
    model = best.model.config
    trace = best.trace(sentences[0])
    return {
        "layers": model.num_layers,
        "heads": model.num_heads,
        "norm_placement": model.norm_placement,
        "read": READ[model.norm_placement],
        "parameters": best.model.parameter_counts()["total"],
        "best_step": step_of(best.source) if best.source is not None else None,
        "steps": max(step for step, _ in models),
        "scores": list(SCORES.values()),
        "repeated": (repeated.shape[1] - 1) // 2,
        "readings": list(READINGS) if model.num_layers > 1 else [],
        "places": [place_label(place) for place in trace.residual_stream()[0]],
        "parts": _part_labels(trace),
        "sentences": [_words_of(best, text) for text in sentences],
        "prompts": list(config.report.prompts),
        "questions": described(best, asked),
        "nodes": nodes_of(model.num_layers, model.num_heads),
        "curve": _curve(context.folder),
        "moments": moments,
        "words": words.texts,
    }


def _models(run: Path, best: LanguageModel, console: Console) -> list[tuple[int, Path | None]]:
    """Return the steps that are looked at, ascending, each with its snapshot; None: the best."""
    models: dict[int, Path | None] = {}
    for path in snapshots_of(run):
        problem = damage(path)
        if problem is None:
            models[step_of(path)] = path
        else:
            console.warn(f"snapshot {path} is damaged ({problem}) and is left out")
    assert best.source is not None
    models.setdefault(step_of(best.source), None)
    return sorted(models.items())


def _few_enough(
    models: list[tuple[int, Path | None]],
    best: LanguageModel,
    sentences: Sequence[str],
    console: Console,
) -> list[tuple[int, Path | None]]:
    """Leave out steps where all of them would make a page that a telephone cannot open.

    The first and the last stay, and of those between them some that lie evenly.
    """
    lengths = [1 + len(best.tokenizer.encode(text)) for text in sentences]
    heads = best.model.config.num_layers * best.model.config.num_heads
    # A byte a weight, as base64; the rest grows as the tokens do, and not as their square.
    each = sum(heads * n * (n + 1) * 2 // 3 + _TOKEN_BYTES * n for n in lengths)
    count = min(len(models), max(2, _MOST_BYTES // each))
    if count == len(models):
        return models
    console.warn(
        f"{len(models)} steps would make a page of {shown_bytes(each * len(models))}: "
        f"{count} of them are shown"
    )
    last = len(models) - 1
    return [models[round(i * last / (count - 1))] for i in range(count)]


def _sentences(context: Context, lm: LanguageModel, texts: Sequence[str]) -> list[str]:
    """Return the reader's sentences, some of the corpus, and the first of these twice.

    Raises:
        DataError: if there is none: none is given and the corpus cannot be used.
        GenerationError: if a sentence is empty or too long.
    """
    most = min(MOST_TOKENS, lm.model.config.context_length)
    given = [" ".join(text.split()) for text in texts]
    for text in given:
        count = 1 + len(lm.tokenizer.encode(text))
        if count < 2:
            raise GenerationError(f"{shown(text)} has no word: give a sentence of one at least")
        if count > most:
            raise GenerationError(
                f"{shown(text)} has {count} tokens, <sos> included: give a sentence of at most "
                f"{most}"
            )
        for note in lm.notes(text, 0):
            context.console.note(note)
    try:
        stories = open_corpus(context.config.data).validation()
        chosen = [s.text for s in choose_sentences(stories, lm.tokenizer, most)]
    except DataError as error:
        if not given:
            raise DataError(f"{error}; or give a sentence of your own") from error
        context.console.warn(f"{error}: only the sentences given are shown")
        chosen = []
    twice = " ".join([*chosen[:1], *chosen[:1]])  # what induction heads are made for
    if twice and len(lm.tokenizer.encode(twice)) < most:
        chosen.append(twice)
    return list(dict.fromkeys([*given, *chosen]))


class _Words:
    """Tokens that the page names, each spelled once."""

    def __init__(self, lm: LanguageModel) -> None:
        self._tokenizer = lm.tokenizer
        self._index: dict[int, int] = {}
        self.texts: list[str] = []

    def index(self, token: int) -> int:
        """Return the place of a token's spelling in ``texts``."""
        if token not in self._index:
            self._index[token] = len(self.texts)
            self.texts.append(in_line(self._tokenizer.token(token)))
        return self._index[token]


def _words_of(lm: LanguageModel, text: str) -> dict[str, Any]:
    ids = [SPECIAL_IDS.sos, *lm.tokenizer.encode(text)]
    return {"text": text, "words": [in_line(lm.tokenizer.token(i)) for i in ids]}


def _moment(
    lm: LanguageModel,
    sentences: Sequence[str],
    repeated: Tensor,
    context: Context,
    words: _Words,
) -> dict[str, Any]:
    """Return what one model says and does."""
    trace = lm.trace(sentences)
    generation = replace(context.config.generation, max_new_tokens=_NEW_TOKENS)
    prompts = context.config.report.prompts
    generated = lm.generate(list(prompts), generation) if prompts else []
    scores = head_scores(lm.model, repeated)
    return {
        "sentences": _of_sentences(trace, words),
        "scores": [_rounded(getattr(scores, name)) for name in SCORES],
        "composition": _compositions(lm),
        "samples": [
            {
                "begun": (begun := lm.begun(sample.prompt)),
                "lines": sample.text.removeprefix(begun).split("\n"),
                "finished": sample.finished,
            }
            for sample in generated
        ],
    }


def _of_sentences(trace: Trace, words: _Words) -> list[dict[str, Any]]:
    """Return attention, lens and attribution of each sentence."""
    seen = lens(trace, min(_TOP, trace.logits.shape[-1]))
    # After the last word no next one is known: what the model holds likeliest stands for it.
    answers = torch.where(seen.next_ids == NO_NEXT, seen.top_ids[-1, ..., 0], seen.next_ids)
    attribution = logit_attribution(trace, answers, "mean").values
    return [
        {
            "attention": _attention(trace, text, count := len(trace.words[text])),
            "lens": [
                [
                    [
                        [
                            [words.index(int(token)), _share(float(p))]
                            for token, p in zip(*at, strict=True)
                        ]
                        for at in zip(
                            seen.top_ids[place, text, :count],
                            seen.top_probabilities[place, text, :count],
                            strict=True,
                        )
                    ],
                    [_share(p) for p in seen.probabilities[place, text, : count - 1].tolist()],
                    seen.ranks[place, text, : count - 1].tolist(),
                ]
                for place in range(len(seen.places))
            ],
            "answers": [words.index(token) for token in answers[text, :count].tolist()],
            "attribution": [
                [round(value, 2) for value in part]
                for part in attribution[:, text, :count].tolist()
            ],
        }
        for text in range(len(trace.words))
    ]


def _attention(trace: Trace, text: int, count: int) -> str:
    """Return the weights that queries can see, layers and heads in order, 255 for 1, as base64."""
    below = torch.ones(count, count, dtype=torch.bool).tril()
    weights = [
        trace.pattern(layer)[text, :, :count, :count].float().cpu()[:, below]  # (heads, weights)
        for layer in range(trace.num_layers)
    ]
    levels = (torch.cat(weights) * 255).round().to(torch.uint8).numpy()
    return base64.b64encode(levels.tobytes()).decode("ascii")


def _share(probability: float) -> float:
    return round(probability, 4)


def _repeated(lm: LanguageModel) -> Tensor:
    """Return the random tokens that scores of heads are measured on.

    Raises:
        GenerationError: if the context or the vocabulary has no room for any.
    """
    special = set(vars(SPECIAL_IDS).values())
    types = [i for i in range(lm.tokenizer.vocab_size) if i not in special]
    length = min(_REPEATED, len(types), (lm.model.config.context_length - 1) // 2)
    return repeated_tokens(types, length, _TEXTS, SPECIAL_IDS.sos)


def _compositions(lm: LanguageModel) -> list[dict[str, Any]]:
    """Return the composition scores of pairs of heads; none for a single layer."""
    if lm.model.config.num_layers < 2:
        return []
    made = [composition(lm.model, reading) for reading in READINGS]
    return [{"scores": _rounded(c.scores), "baseline": round(c.baseline, 4)} for c in made]


def _rounded(values: Tensor) -> Any:
    return np.round(values.double().numpy(), 3).tolist()


def _part_labels(trace: Trace) -> list[str]:
    """Return names for people of what ``logit_attribution`` tells apart, in its order."""
    answers = torch.zeros_like(trace.ids)
    labels = []
    for name in logit_attribution(trace, answers, "mean").names:
        first, _, rest = name.partition(".")
        if first == "layers":
            number, _, part = rest.partition(".")
            layer = int(number) + 1
            kind, _, index = part.partition(".")
            if kind == "head":
                labels.append(f"head {layer}.{int(index) + 1}")
            else:
                labels.append(f"{layer} {part.replace('_', '-').replace('.', ' ')}")
        else:
            labels.append({"norms": "norms' biases"}.get(name, name.replace(".", " ")))
    return labels


def _curve(run: Path) -> dict[str, list[list[float]]]:
    """Return the losses over steps, of training thinned out."""
    records = read_metrics(run)
    losses = {
        kind: [[r["step"], round(r["loss"], 4)] for r in records if r["kind"] == kind]
        for kind in ("train", "validation")
    }
    train = losses["train"]
    return losses | {"train": train[:: max(1, -(-len(train) // _CURVE))]}
