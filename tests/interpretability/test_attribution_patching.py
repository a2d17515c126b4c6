"""The gradient's estimate of patches, beside finite differences and beside the patches."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.interpretability.planted import INDUCTION, planted_model
from tests.interpretability.test_patching import DIRECTIONS, planted_pair, random_runs
from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS
from tinylm.interpretability.attribution_patching import agreement, attributions
from tinylm.interpretability.gradients import activation_gradients
from tinylm.interpretability.pair_runs import Direction, effect, run_pair
from tinylm.interpretability.patching import Site, patched, sweep


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_estimate_is_the_slope_of_a_small_patch(
    direction: Direction, positions: str, norm_placement: str
) -> None:
    """A patch of a ten-thousandth of the way, divided by it, in float64."""
    runs = random_runs(norm_placement=norm_placement, positions=positions)
    base, source = runs.base_and_source(direction)
    step = 1e-4
    estimated = attributions(runs, direction)
    start = 0.0 if direction == "denoising" else 1.0
    sites, expected = [], []
    ahead: dict[str, Tensor] = {}
    behind: dict[str, Tensor] = {}
    for name in base:
        ahead[name] = base[name] + step * (source[name] - base[name])
        behind[name] = base[name] - step * (source[name] - base[name])
        heads = range(3) if base[name].dim() == 4 else [None]
        for head in heads:
            for position in range(6):
                sites.append([Site(name, position, head)])
                place = (position,) if head is None else (head, position)
                expected.append(float(estimated[name][place]))
    slopes = (
        runs.normalised(patched(base, ahead, sites)) - runs.normalised(patched(base, behind, sites))
    ) / (2 * step)
    assert float((start + slopes - torch.tensor(expected, dtype=torch.float64)).abs().max()) < 1e-5
    assert float(slopes.abs().max()) > 0.1


def test_what_is_linear_is_estimated_exactly() -> None:
    """Nothing comes after the final stream but the unembedding."""
    runs = random_runs(norm_placement="pre")
    for direction in DIRECTIONS:
        names = ["final", "logits"]
        real, estimated = (function(runs, direction, names) for function in (sweep, attributions))
        for name in names:
            assert float((real[name] - estimated[name]).abs().max()) < 1e-12


def test_heads_sum_to_their_activation() -> None:
    runs = random_runs()
    name = "layers.0.attention.mixed"
    each = attributions(runs, "denoising", [name])[name]
    together = attributions(runs, "denoising", [name], by_head=False)[name]
    assert each.shape == (3, 6)
    assert float((each.sum(0) - together).abs().max()) < 1e-12


def test_frozen_weights_are_no_obstacle_and_stay_frozen() -> None:
    runs = random_runs()
    names = ["embedding", "layers.1.attention.key"]

    def both() -> dict[str, tuple[Tensor, Tensor]]:
        return activation_gradients(runs.model, runs.clean.ids, names, runs.logit_difference)

    expected = both()
    runs.model.requires_grad_(False)
    frozen = both()
    assert all(torch.equal(frozen[name][1], expected[name][1]) for name in names)
    assert all(torch.equal(frozen[name][0], runs.clean[name]) for name in names)
    assert not any(parameter.requires_grad for parameter in runs.model.parameters())
    runs.model.requires_grad_(True)
    both()
    assert all(parameter.grad is None for parameter in runs.model.parameters())


def test_the_planted_copy_is_estimated_right() -> None:
    """What the induction head moves from one token to the answer is linear in its value."""
    runs = run_pair(planted_model(), planted_pair())
    layer, head = INDUCTION
    name = f"layers.{layer}.attention.value"
    for direction in DIRECTIONS:
        real, estimated = (
            effect(function(runs, direction, [name])[name], direction)
            for function in (sweep, attributions)
        )
        assert estimated.argmax() == real.argmax() == head * runs.length + 2
        compared = agreement({name: estimated}, {name: real}, "denoising")
        assert compared.correlation > 0.99
        assert compared.same_sign == 1


def test_agreement_is_that_of_the_sites_that_have_an_effect() -> None:
    real = {"a": torch.tensor([0.0, 0.5, -0.25]), "b": torch.tensor([[1.0, 0.001]])}
    estimates = {"a": torch.tensor([0.0, 0.4, 0.25]), "b": torch.tensor([[0.9, -0.001]])}
    compared = agreement(estimates, real, "denoising")
    assert compared.sites == 4  # the first has none
    assert compared.same_sign == pytest.approx(2 / 3)  # that of 0.001 is not asked
    pairs = torch.tensor([[0.5, -0.25, 1.0, 0.001], [0.4, 0.25, 0.9, -0.001]])
    assert compared.correlation == pytest.approx(float(torch.corrcoef(pairs)[0, 1]), abs=1e-6)
    # In the other direction 1 is no effect.
    other = {name: 1 - values for name, values in real.items()}
    turned = agreement({k: 1 - v for k, v in estimates.items()}, other, "noising")
    assert turned.correlation == pytest.approx(compared.correlation, abs=1e-6)
    nothing = agreement({"a": torch.zeros(3)}, {"a": torch.zeros(3)}, "denoising")
    assert nothing.sites == 0
    assert math.isnan(nothing.correlation)
    assert math.isnan(nothing.same_sign)
