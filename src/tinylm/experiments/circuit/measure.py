"""The circuit experiment: found on some pairs of prompts, judged on others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tinylm.data.pairs import BEHAVIOURS, EncodedPair, PromptPair, readable_pairs
from tinylm.errors import ConfigError
from tinylm.experiments.circuit.settings import CircuitExperiment
from tinylm.experiments.context import Context, threads
from tinylm.interpretability.circuit_search import Judgement, Measure, Scale, find_circuit
from tinylm.interpretability.edges import EdgeRuns
from tinylm.interpretability.pair_runs import right_answers
from tinylm.interpretability.trace import trace
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.training.precision import resolve_device

Pairs = Sequence[tuple[PromptPair, EncodedPair]]


def run(context: Context) -> dict[str, Any]:
    """Find the circuit of each behaviour in the run's best checkpoint.

    Returns:
        ``behaviours``: one a behaviour that the model can be asked for, with the circuit's
        ``edges`` (sender, receiver, score), what it does on the pairs that it was found on and on
        others, random subgraphs beside it, and how much of each pair is answered right;
        ``left_out``: the others, with the reason.

    Raises:
        CheckpointError: if there is no checkpoint.
        ConfigError: if the model can be asked for none of the behaviours.
    """
    settings: CircuitExperiment = context.config.experiments.circuit
    lm = LanguageModel.load(context.folder, resolve_device(context.config.training.device))
    rows, left_out = [], []
    with (
        threads(context.config.training.threads),
        context.console.task("Looking for circuits", len(settings.behaviours)) as done,
    ):
        for number, name in enumerate(settings.behaviours):

            def progress(share: float, before: int = number) -> None:
                done(before + share)

            try:
                rows.append(_behaviour(lm, name, settings, progress))
            except ConfigError as error:
                left_out.append({"name": name, "reason": str(error)})
            done(number + 1)
    if not rows:
        raise ConfigError(
            f"experiments.circuit.behaviours: the model can be asked for none of them; "
            f"{left_out[0]['name']}: {left_out[0]['reason']}"
        )
    return {
        "pairs": settings.pairs,
        "steps": settings.steps,
        "wanted": settings.faithfulness,
        "num_layers": lm.model.config.num_layers,
        "num_heads": lm.model.config.num_heads,
        "norm_placement": lm.model.config.norm_placement,
        "behaviours": rows,
        "left_out": left_out,
    }


def _behaviour(
    lm: LanguageModel,
    name: str,
    settings: CircuitExperiment,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Return the circuit of one behaviour.

    Raises:
        ConfigError: if the model cannot read enough pairs, or does not tell them apart.
        DataError: if there is no such behaviour.
    """
    context_length = lm.model.config.context_length
    wanted = 2 * settings.pairs
    pairs = readable_pairs(name, settings.seed, wanted, lm.tokenizer, context_length)
    if len(pairs) < wanted:
        raise ConfigError(
            f"of the pairs of prompts {wanted} are needed and {len(pairs)} can be read with the "
            "model's vocabulary and context"
        )
    groups, right = groups_of(lm.model, pairs[: settings.pairs])
    others, others_right = groups_of(lm.model, pairs[settings.pairs :])
    scale = Scale(groups)
    circuit = find_circuit(
        scale,
        scores := scale.scores(settings.steps),
        settings.faithfulness,
        settings.random,
        settings.seed,
        progress,
    )
    by_edge = dict(zip(scale.graph.edges, scores.tolist(), strict=True))
    return {
        "name": name,
        "asks": BEHAVIOURS[name].asks,
        "example": vars(pairs[0][0]),
        "right_by_pair": [*right, *others_right],
        "clean": scale.clean,
        "corrupted": scale.corrupted,
        "num_edges": circuit.num_edges,
        "reached": circuit.reached,
        "edges": [[*edge, by_edge[edge]] for edge in circuit.judgement.edges],
        "found_on": _as_result(circuit.judgement),
        "judged_on": _as_result(Scale(others).judge(circuit.judgement.edges)),
        "random": [_as_result(judgement) for judgement in circuit.random],
        "curve": [list(point) for point in circuit.curve],
    }


def _as_result(judgement: Judgement) -> dict[str, float]:
    return {
        "faithfulness": judgement.faithfulness,
        "completeness": judgement.completeness,
    }


def groups_of(
    model: GenerativeModel, pairs: Pairs
) -> tuple[list[tuple[EdgeRuns, Measure]], list[float]]:
    """Return the runs of pairs, those of one length together, and their logit differences.

    Returns:
        The groups; and how much of each pair is answered right, in the order of the groups.
    """
    by_length: dict[int, list[EncodedPair]] = {}
    for _, pair in pairs:
        by_length.setdefault(len(pair.clean), []).append(pair)
    groups, right = [], []
    for _, same in sorted(by_length.items()):
        clean = trace(model, [pair.clean for pair in same])
        corrupted = trace(model, [pair.corrupted for pair in same])
        measure = logit_difference(same)
        groups.append((EdgeRuns(clean, corrupted), measure))
        right += right_answers(measure(clean.logits[:, -1]), measure(corrupted.logits[:, -1]))
    return groups, right


def logit_difference(pairs: Sequence[EncodedPair]) -> Measure:
    """Return the function from logits, (pairs, vocab), to right answer's less wrong one's."""
    rows = torch.arange(len(pairs))
    right = torch.tensor([pair.answer for pair in pairs])
    wrong = torch.tensor([pair.wrong for pair in pairs])

    def measure(logits: Tensor) -> Tensor:
        return logits[rows, right] - logits[rows, wrong]

    return measure
