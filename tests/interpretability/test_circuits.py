"""Circuits over the vocabulary and composition of heads, against TransformerLens and by hand."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.interpretability.hooked import build_both
from tests.interpretability.planted import INDUCTION, PREVIOUS, VOCAB, planted_model
from tests.model.helpers import NORM_PLACEMENTS, build_random, largest_difference
from tinylm.errors import ConfigError
from tinylm.interpretability.circuits import (
    Reading,
    composition,
    copying_score,
    ov_circuit,
    qk_circuit,
)
from tinylm.interpretability.factored import Factored
from tinylm.model.decoder import DecoderLM

READINGS: tuple[Reading, ...] = get_args(Reading)
THREE: dict[str, Any] = {"num_layers": 3}


def built(circuit: Factored) -> Tensor:
    return circuit.left @ circuit.right


@pytest.mark.parametrize("tie_embeddings", [False, True])
def test_circuits_are_transformer_lens_s(tie_embeddings: bool) -> None:
    model, twin = build_both(tie_embeddings=tie_embeddings)
    for layer in range(2):
        for head in range(3):
            ov = ov_circuit(model, layer, head, fold_norms=False)
            theirs = twin.W_E @ twin.OV[layer, head] @ twin.W_U
            assert largest_difference(built(ov), theirs.AB) < 1e-10
            assert largest_difference(ov.norm(), theirs.norm()) < 1e-10
            values = (ov.eigenvalues(), theirs.eigenvalues)
            sorted_values = [value.abs().sort().values for value in values]
            assert largest_difference(*sorted_values) < 1e-10
            qk = qk_circuit(model, layer, head, fold_norms=False)
            theirs = twin.W_E @ twin.QK[layer, head] @ twin.W_E.T
            assert largest_difference(built(qk), theirs.AB) < 1e-10


@pytest.mark.parametrize("reading", READINGS)
def test_composition_scores_are_transformer_lens_s(reading: Reading) -> None:
    model, twin = build_both(**THREE)
    ours = composition(model, reading, fold_norms=False)
    theirs = twin.all_composition_scores(reading[0].upper())
    assert largest_difference(ours.scores, theirs) < 1e-12
    assert int((ours.scores > 0).sum()) == 3 * 3 * 3


@pytest.mark.parametrize("reading", READINGS)
def test_folded_norms_are_those_that_transformer_lens_folds(reading: Reading) -> None:
    """Its own folding goes through float32."""
    model, twin = build_both(**THREE)
    twin.process_weights_(
        fold_ln=True,
        center_writing_weights=False,
        center_unembed=False,
        refactor_factored_attn_matrices=False,
    )
    ours = composition(model, reading)
    theirs = twin.all_composition_scores(reading[0].upper())
    assert largest_difference(ours.scores, theirs) < 1e-6
    for layer, head in ((0, 1), (2, 2)):
        expected = (twin.W_E @ twin.OV[layer, head] @ twin.W_U).AB
        assert largest_difference(built(ov_circuit(model, layer, head)), expected) < 1e-5


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_folded_circuits_are_the_direct_path_up_to_the_scales_of_the_norms(
    norm_placement: str,
) -> None:
    """The path is walked by hand: through every norm of the model itself, without its bias."""
    model = build_random(norm_placement=norm_placement, **THREE)
    embedded = model.embedding.weight.detach() * model.embedding_scale
    layer, head = 1, 2
    post = norm_placement == "post"
    x = embedded
    for i in range(layer if post else 0):
        x = normed(model, f"layers.{i}.attention_norm", x)
        x = normed(model, f"layers.{i}.feed_forward_norm", x)
    read = x if post else normed(model, f"layers.{layer}.attention_norm", x)
    query, key, value = (part(model, layer, head, i) for i in range(3))
    scores = (read @ query.T) @ (read @ key.T).T
    assert_same_up_to_rows(built(qk_circuit(model, layer, head)), scores, columns_too=True)

    written = (
        read @ value.T @ model.layers[layer].attention.output.weight.T[head * 4 : head * 4 + 4]
    )
    for i in range(layer, 3 if post else 0):
        written = normed(model, f"layers.{i}.attention_norm", written)
        written = normed(model, f"layers.{i}.feed_forward_norm", written)
    if not post:
        written = normed(model, "final_norm", written)
    assert_same_up_to_rows(
        built(ov_circuit(model, layer, head)), written @ model.unembedding.weight.T
    )


def normed(model: DecoderLM, place: str, x: Tensor) -> Tensor:
    """Return what a norm of the model makes of x, less its bias."""
    norm = model.get_submodule(place)
    return norm(x) - norm.bias


def part(model: DecoderLM, layer: int, head: int, which: int) -> Tensor:
    """Return W_Q, W_K or W_V of a head, transposed, (head_dim, hidden)."""
    weight = model.layers[layer].attention.query_key_value.weight
    return weight.view(3, 3, 4, -1)[which, head]


def assert_same_up_to_rows(ours: Tensor, walked: Tensor, columns_too: bool = False) -> None:
    """Compare matrices whose rows (and columns) may differ by a positive factor each."""
    with torch.no_grad():
        if columns_too:
            ratio = walked / ours
            factors = ratio[:, :1] * ratio[:1] / ratio[0, 0]
        else:
            factors = walked.norm(dim=1, keepdim=True) / ours.norm(dim=1, keepdim=True)
        assert bool((factors > 0).all())
        assert largest_difference(ours * factors, walked) < 1e-9


@pytest.mark.parametrize(("hidden", "head_dim"), [(10, 4), (10, 2), (64, 16), (128, 4), (128, 32)])
def test_the_baseline_is_that_of_random_matrices_whatever_the_rank(
    hidden: int, head_dim: int
) -> None:
    model = build_random(hidden_size=hidden, head_dim=head_dim, norm_placement="pre")
    plain = composition(model, "key", fold_norms=False)
    # Exactly so is the mean of the squared scores; that of the scores is a little less.
    assert (plain.baseline**2 + plain.spread**2) ** 0.5 == pytest.approx(hidden**-0.5, rel=0.03)
    assert plain.spread < 0.4 * plain.baseline
    assert largest_difference(plain.excess[0, :, 1], plain.scores[0, :, 1] - plain.baseline) == 0
    assert not plain.excess[1].any()


def test_the_planted_pair_composes_by_keys_and_stands_out() -> None:
    model = planted_model()
    scores = composition(model, "key")
    (early, first), (late, second) = PREVIOUS, INDUCTION
    excess = scores.excess[early, :, late]
    planted = float(excess[first, second])
    assert planted == float(excess.max())
    # What is written has as many directions as there are words, and all of them are read.
    assert float(scores.scores[early, first, late, second]) == pytest.approx(VOCAB**-0.5, rel=0.05)
    excess[first, second] = 0
    assert float(excess.abs().max()) < planted / 3
    for reading in ("query", "value"):
        others = composition(model, reading)
        assert float(others.excess[early, first, late, second]) < planted / 3


def test_the_planted_induction_head_copies() -> None:
    model = planted_model()
    circuit = ov_circuit(model, *INDUCTION)
    assert copying_score(circuit) > 0.99
    # Each word raises itself more than any other.
    assert built(circuit).argmax(1).tolist() == list(range(VOCAB))
    assert {(entry.row, entry.column) for entry in circuit.largest(VOCAB)} == {
        (i, i) for i in range(VOCAB)
    }
    # What the other head writes, the unembedding does not read: rounding has no sign.
    assert copying_score(ov_circuit(model, *PREVIOUS)) == 0


def test_a_matrix_copies_or_does_the_opposite_by_the_sign_of_its_eigenvalues() -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    assert copying_score(Factored(left, left.T)) == pytest.approx(1)
    assert copying_score(Factored(left, -left.T)) == pytest.approx(-1)
    turned = torch.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=torch.float64)
    assert copying_score(Factored(turned, torch.eye(2, dtype=torch.float64))) == pytest.approx(0)
    assert copying_score(Factored(torch.zeros(3, 2), torch.zeros(2, 3))) == 0


def test_weights_in_half_precision_are_computed_with_in_double() -> None:
    rounded = build_random(norm_placement="pre").bfloat16()
    ours, expected = ov_circuit(rounded, 1, 1), ov_circuit(rounded.double(), 1, 1)
    assert ours.left.dtype == torch.float64
    assert largest_difference(built(ours), built(expected)) == 0


def test_one_layer_has_no_pairs() -> None:
    scores = composition(build_random(num_layers=1), "key")
    assert scores.scores.shape == (1, 3, 1, 3)
    assert not scores.scores.any()
    assert scores.baseline == 0


def test_what_is_not_there_is_refused() -> None:
    model = build_random()
    with pytest.raises(ConfigError, match="there is no head 3: a layer has 3, from 0"):
        ov_circuit(model, 0, 3)
    with pytest.raises(ConfigError, match="there is no layer 2: the model has 2"):
        qk_circuit(model, 2, 0)
    with pytest.raises(ConfigError, match="by query, key or value, not by 'output'"):
        composition(model, "output")  # type: ignore[arg-type]
