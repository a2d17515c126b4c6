"""The model as a graph of messages, the scores of its edges, and circuits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.interpretability.planted import INDUCTION, PREVIOUS, VOCAB, planted_model, repeated_text
from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random
from tinylm.errors import ConfigError
from tinylm.interpretability.circuit_search import Scale, find_circuit
from tinylm.interpretability.edges import EdgeRuns, Graph, edge_attribution, graph_of
from tinylm.interpretability.trace import trace

CLEAN, CORRUPTED = [[2, 5, 9, 4, 7], [2, 8, 6, 3, 1]], [[2, 5, 8, 4, 7], [2, 9, 6, 3, 1]]


def difference(logits: Tensor) -> Tensor:
    return logits[:, 3] - logits[:, 4]


def head(place: tuple[int, int]) -> str:
    return f"layers.{place[0]}.head.{place[1]}"


def test_the_graph_of_a_decoder() -> None:
    graph = Graph(num_layers=2, num_heads=3)
    assert len(graph.senders) == 1 + 2 * 4
    assert len(graph.receivers) == 2 * 10 + 1
    # Layer 0: 9 heads' inputs from 1 sender, a feed-forward part from 4; layer 1: 9 from 5, 1 from
    # 8; the logits from 9.
    assert len(graph.edges) == 9 * 1 + 4 + 9 * 5 + 8 + 9
    assert ("layers.0.head.2", "layers.0.feed_forward") in graph.edges
    assert ("layers.0.feed_forward", "layers.0.head.2.key") not in graph.edges
    weights = graph.weights(graph.edges)
    assert torch.equal(graph.by_edge(weights), torch.ones(len(graph.edges)))
    assert int(weights.sum()) == len(graph.edges)


def test_edges_that_lead_nowhere_are_cut() -> None:
    graph = Graph(num_layers=2, num_heads=3)
    path = [
        ("embedding", "layers.0.head.1.value"),
        ("layers.0.head.1", "layers.1.head.0.key"),
        ("layers.1.head.0", "logits"),
    ]
    ends = [("layers.0.head.2", "logits"), ("embedding", "layers.0.feed_forward")]
    assert graph.connected([*ends, *path]) == tuple(path)
    assert graph.connected(ends) == ()


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("bias", [True, False])
def test_all_edges_are_the_clean_run_and_none_the_corrupted(
    norm_placement: str, positions: str, bias: bool
) -> None:
    model = build_random(norm_placement=norm_placement, positions=positions, bias=bias)
    clean, corrupted = trace(model, CLEAN), trace(model, CORRUPTED)
    runs = EdgeRuns(clean, corrupted)
    ones = torch.ones(len(runs.graph.receivers), len(runs.graph.senders))
    for weights, expected in ((ones, clean), (torch.zeros_like(ones), corrupted)):
        assert float((runs.logits(weights) - expected.logits[:, -1]).abs().max()) < 1e-12


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_a_part_with_no_clean_edge_writes_what_it_wrote_in_the_corrupted_run(
    norm_placement: str,
) -> None:
    """All of a head's outgoing edges off is the activation patch of that head."""
    model = build_random(norm_placement=norm_placement)
    clean, corrupted = trace(model, CLEAN), trace(model, CORRUPTED)
    runs = EdgeRuns(clean, corrupted)
    graph = runs.graph
    for layer, number in ((0, 1), (1, 2)):

        def replace(name: str, mixed: Tensor, layer: int = layer, number: int = number) -> Tensor:
            mixed = mixed.clone()
            mixed[:, number] = corrupted[f"layers.{layer}.attention.mixed"][:, number]
            return mixed

        hooks = model.hooks({f"layers.{layer}.attention.mixed": replace})
        expected = model(torch.tensor(CLEAN), hooks=hooks)[:, -1]
        sender = f"layers.{layer}.head.{number}"
        weights = graph.weights(edge for edge in graph.edges if edge[0] != sender)
        assert float((runs.logits(weights) - expected).abs().max()) < 1e-12


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_scores_are_the_derivative_by_each_edges_weight(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    runs = EdgeRuns(trace(model, CLEAN), trace(model, CORRUPTED))
    scores = edge_attribution(runs, difference)
    ones = torch.ones(len(runs.graph.receivers), len(runs.graph.senders), dtype=torch.float64)
    step = 1e-5
    for i in (0, 5, 20, 40, len(runs.graph.edges) - 1):
        change = step * runs.graph.weights([runs.graph.edges[i]]).double()
        with torch.no_grad():
            above, below = (
                float(difference(runs.logits(ones + sign * change)).sum()) for sign in (1, -1)
            )
        assert scores[i].item() == pytest.approx((above - below) / (2 * step), abs=1e-6)
    assert all(parameter.requires_grad for parameter in model.parameters())
    # The mean over the way from corrupted to clean adds up to all of the difference.
    whole = edge_attribution(runs, difference, steps=200).sum()
    with torch.no_grad():
        ends = difference(runs.logits(ones)) - difference(runs.logits(torch.zeros_like(ones)))
    assert whole.item() == pytest.approx(float(ends.sum()), rel=1e-2, abs=1e-3)


def planted_pairs() -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Texts whose last token stood before, the same with that earlier token exchanged, answers."""
    clean, corrupted, answers = [], [], []
    for seed in range(6):
        text = repeated_text(7, seed)[: 1 + 7 + 3]
        place = text.index(text[-1])
        other = next(i for i in range(3, VOCAB) if i not in text)
        clean.append(text)
        corrupted.append([*text[:place], other, *text[place + 1 :]])
        answers.append(text[place + 1])
    return clean, corrupted, answers


def test_the_planted_circuit_is_found() -> None:
    model = planted_model()
    clean, corrupted, answers = planted_pairs()

    def measure(logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)[range(6), answers]

    runs = EdgeRuns(trace(model, clean), trace(model, corrupted))
    scale = Scale([(runs, measure)])
    circuit = find_circuit(scale, scale.scores(steps=20), faithfulness=0.9)
    # The pair differs in the token before the answer: what carries it is its way through the
    # previous-token head into the induction head's keys, and from there to the logits.
    assert set(circuit.judgement.edges) == {
        ("embedding", f"{head(PREVIOUS)}.value"),
        (head(PREVIOUS), f"{head(INDUCTION)}.key"),
        (head(INDUCTION), "logits"),
    }
    assert circuit.reached
    assert circuit.judgement.faithfulness > 0.95
    assert circuit.judgement.completeness < 0.05
    assert max(judgement.faithfulness for judgement in circuit.random) < 0.5
    assert circuit.num_edges == len(graph_of(model).edges)


def test_texts_of_other_lengths_are_measured_together() -> None:
    model = build_random()
    long = ([[2, 5, 9, 4, 7, 3]], [[2, 5, 8, 4, 7, 3]])
    groups = [
        (EdgeRuns(trace(model, clean), trace(model, corrupted)), difference)
        for clean, corrupted in ((CLEAN, CORRUPTED), long)
    ]
    scale = Scale(groups)
    each = [float(difference(trace(model, [t]).logits[:, -1])) for t in [*CLEAN, *long[0]]]
    assert scale.clean == pytest.approx(sum(each) / 3)
    alone = [edge_attribution(*group) for group in groups]
    assert torch.allclose(scale.scores(), alone[0] + alone[1])
    assert scale.judge(scale.graph.edges).faithfulness == pytest.approx(1)
    assert scale.judge(()).completeness == pytest.approx(1)


def test_pairs_that_cannot_be_compared_are_refused() -> None:
    model = build_random()
    with pytest.raises(ConfigError, match="the same number of tokens"):
        EdgeRuns(trace(model, [[2, 5, 9]]), trace(model, [[2, 5]]))
    with pytest.raises(ConfigError, match="the same number of tokens"):
        EdgeRuns(trace(model, [[2, 5, 9], [2, 5]]), trace(model, [[2, 5, 9], [2, 5]]))
    same = trace(model, CLEAN)
    with pytest.raises(ConfigError, match="take pairs that the model tells apart"):
        Scale([(EdgeRuns(same, same), difference)])
