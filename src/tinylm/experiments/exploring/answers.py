"""Which parts carry an answer, at a step of training: patches, exact values of heads, a circuit.

One pair of prompts a question, the same at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tinylm.data.pairs import BEHAVIOURS, EncodedPair, PromptPair, read_pairs, readable_pairs
from tinylm.errors import ConfigError
from tinylm.interpretability.attribution_patching import attributions
from tinylm.interpretability.circuit_search import Scale, find_circuit
from tinylm.interpretability.edges import EdgeRuns, Graph
from tinylm.interpretability.pair_runs import PairRuns, TokenPair, run_pair
from tinylm.interpretability.patching import sweep
from tinylm.interpretability.shapley import shapley_values
from tinylm.interpretability.subsets import mixed_of, subset_values
from tinylm.language_model import LanguageModel
from tinylm.printable import in_line

Question = tuple[str, PromptPair, EncodedPair]
"""What is asked, and its pair."""
_MOST_QUESTIONS = 6
_MOST_EDGES = 400
"""Connections up to which a circuit can be read, and is kept."""
_CANDIDATES = 8
"""Pairs of a behaviour of which the first that the model answers right is shown."""
_STEPS = 5
"""Points at which the gradients of a circuit's scores are taken."""
_MOST_HEADS = 12
"""Heads up to which all subsets of them are run at every step."""
_MIXED = "layers.*.attention.mixed"


def questions(lm: LanguageModel, pairs: Path | None) -> list[Question]:
    """Return what is asked at every step.

    Args:
        lm: the model at its best; of the grammar's pairs those are taken that it answers right.
        pairs: a user's file; without it the story grammar's behaviours are asked.

    Returns:
        Some pairs of the file, or one a behaviour; none of those that the model cannot read.

    Raises:
        DataError: if the file cannot be used.
    """
    if pairs is not None:
        given = read_pairs(pairs, lm.tokenizer, lm.model.config.context_length)
        return [(f"{p.answer} or {p.wrong}", p, e) for p, e in given[:_MOST_QUESTIONS]]
    asked = []
    for name, behaviour in BEHAVIOURS.items():
        readable = readable_pairs(
            name, 0, _CANDIDATES, lm.tokenizer, lm.model.config.context_length
        )
        if readable:
            right = (pair for pair in readable if _is_right(lm, pair[1]))
            asked.append((behaviour.asks, *next(right, readable[0])))
    return asked


def _is_right(lm: LanguageModel, pair: EncodedPair) -> bool:
    runs = _runs(lm, pair)
    return runs is not None and runs.clean_difference > 0 > runs.corrupted_difference


def _runs(lm: LanguageModel, pair: EncodedPair) -> PairRuns | None:
    """Return both runs; None if the model's answers to the two prompts hardly differ."""
    try:
        return run_pair(lm.model, TokenPair(**asdict(pair)))
    except ConfigError:
        return None


def described(lm: LanguageModel, asked: Sequence[Question]) -> list[dict[str, Any]]:
    """Return what the page says of each question, whatever the step."""

    def spelled(ids: Sequence[int]) -> list[str]:
        return [in_line(lm.tokenizer.token(token)) for token in ids]

    return [
        {
            "asks": asks,
            "clean": spelled(pair.clean),
            "corrupted": spelled(pair.corrupted),
            "answer": text.answer,
            "wrong": text.wrong,
        }
        for asks, text, pair in asked
    ]


def answered(lm: LanguageModel, asked: Sequence[Question]) -> list[dict[str, Any] | None]:
    """Return what carries each answer in a model; None where it does not tell the prompts apart."""
    runs = (_runs(lm, pair) for _, _, pair in asked)
    return [None if run is None else _measured(run) for run in runs]


def _measured(runs: PairRuns) -> dict[str, Any]:
    places, _ = runs.clean.residual_stream()
    stream = sweep(runs, "denoising", places)
    patched = sweep(runs, "denoising", [_MIXED], by_position=False)
    # The estimate is of a patch at one position; to first order those of all positions add up.
    estimated = {n: v.sum(-1) for n, v in attributions(runs, "denoising", [_MIXED]).items()}
    heads = [_hundredths(torch.cat(list(each.values()))) for each in (patched, estimated)]
    return {
        "clean": round(runs.clean_difference, 2),
        "corrupted": round(runs.corrupted_difference, 2),
        "stream": [_hundredths(stream[place][runs.first_changed :]) for place in places],
        "heads": [*heads, _values(runs)],
        "circuit": _circuit(runs),
    }


def _hundredths(values: torch.Tensor) -> list[int]:
    whole: list[int] = (100 * values).round().int().tolist()
    return whole


def _values(runs: PairRuns) -> list[int] | None:
    """Return each head's Shapley value, hundredths of what all heads are worth; None: too many.

    What is measured stands on the scale of the patches.
    """
    model = runs.model
    if model.config.num_layers * model.config.num_heads > _MOST_HEADS:
        return None
    values = subset_values(model, runs.clean.ids, mixed_of(runs.corrupted), runs.normalised)
    return _hundredths(shapley_values(values[:, 0].double().cpu()))


def nodes_of(layers: int, heads: int) -> list[str]:
    """Return the senders of a model and its end, to which the edges of a circuit refer."""
    return [*Graph(layers, heads).senders, "logits"]


def _circuit(runs: PairRuns) -> dict[str, Any]:
    """Return the fewest connections found: sender, receiver, input, score in hundredths."""
    scale = Scale([(EdgeRuns(runs.clean, runs.corrupted), runs.logit_difference)])
    scores = scale.scores(_STEPS)
    circuit = find_circuit(scale, scores, num_random=0)
    edges = circuit.judgement.edges
    counts: dict[str, Any] = {
        "count": len(edges) if circuit.reached else None,
        "of": circuit.num_edges,
        "faithfulness": round(circuit.judgement.faithfulness, 2),
    }
    if not circuit.reached or len(edges) > _MOST_EDGES:
        return {**counts, "edges": []}
    share = scores / (scale.clean - scale.corrupted)
    by_edge = dict(zip(scale.graph.edges, _hundredths(share), strict=True))
    model = runs.model.config
    nodes = nodes_of(model.num_layers, model.num_heads)
    kept = []
    for sender, receiver in edges:
        node, _, kind = receiver.rpartition(".")
        if node not in nodes:
            node, kind = receiver, ""
        kept.append([nodes.index(sender), nodes.index(node), kind, by_edge[sender, receiver]])
    return {**counts, "edges": kept}
