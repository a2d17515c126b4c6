"""DID and SAID beside the sums that define them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tinylm.config.finetuning import IntrinsicConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import attach, trained_parameters
from tinylm.finetuning.intrinsic import ProjectedUpdate, d90
from tinylm.finetuning.sites import wrappers
from tinylm.model.decoder import DecoderLM

Models = Callable[..., DecoderLM]


def parts_of(model: nn.Module) -> dict[str, ProjectedUpdate]:
    parts = {}
    for path, wrapper in wrappers(model):
        part = wrapper.parts["default"]
        assert isinstance(part, ProjectedUpdate)
        parts[path] = part
    return parts


@pytest.mark.parametrize("aware", [False, True])
def test_the_weights_move_by_the_projection_of_the_numbers(
    small_model: Models, aware: bool
) -> None:
    base = small_model(num_layers=3).double()
    settings = IntrinsicConfig(dimension=30, structure_aware=aware)
    model = attach(base, "intrinsic", settings)
    trained = trained_parameters(model, "default")
    assert sum(parameter.numel() for parameter in trained.values()) == 30
    parts = parts_of(model)
    subspace = next(iter(parts.values())).subspace
    assert all(part.subspace is subspace for part in parts.values())
    with torch.no_grad():
        subspace.coordinates.normal_()
        if aware:
            assert subspace.scales is not None
            assert len(subspace.scales) == 3
            subspace.scales.copy_(torch.tensor([0.5, 2.0, -3.0]))
    z = subspace.coordinates
    identity = torch.eye(len(z), dtype=torch.float64)
    for path, part in parts.items():
        columns = torch.stack([part.projection(unit) for unit in identity], 1)  # (rows, z)
        factor = [0.5, 2.0, -3.0][int(path.split(".")[1])] if aware else 1.0
        wanted = (columns @ z).view(part.shape) * factor
        torch.testing.assert_close(part.weight_update(), wanted)
        x = torch.randn(2, part.shape[1], dtype=torch.float64)
        torch.testing.assert_close(part(x), x @ wanted.T)


def test_all_maps_together_keep_the_length_of_the_numbers(small_model: Models) -> None:
    output = []
    for seed in range(20):
        settings = IntrinsicConfig(dimension=32, structure_aware=False, seed=seed)
        model = attach(small_model(), "intrinsic", settings)
        parts = parts_of(model).values()
        with torch.no_grad():
            next(iter(parts)).subspace.coordinates.normal_()
            moved = torch.cat([part.weight_update().flatten() for part in parts])
            output.append(moved.norm() / next(iter(parts)).subspace.coordinates.norm())
    assert float(torch.stack(output).mean()) == pytest.approx(1, abs=0.05)


def test_maps_of_the_same_shape_get_other_rows(small_model: Models) -> None:
    settings = IntrinsicConfig(dimension=16, targets=("attention.output",))
    model = attach(small_model(num_layers=2), "intrinsic", settings)
    first, second = parts_of(model).values()
    assert not torch.equal(first.projection.normal, second.projection.normal)
    other = attach(small_model(num_layers=2), "intrinsic", replace(settings, seed=1))
    for part in parts_of(other).values():
        assert not torch.equal(part.projection.normal, first.projection.normal)
        assert not torch.equal(part.projection.normal, second.projection.normal)


def test_gradients_are_those_of_the_written_out_weights(small_model: Models) -> None:
    base = small_model(dropout=0.0, activation="gelu").double()
    model = attach(base, "intrinsic", IntrinsicConfig(dimension=20))
    parts = parts_of(model)
    subspace = next(iter(parts.values())).subspace
    assert subspace.scales is not None
    with torch.no_grad():
        subspace.coordinates.normal_()
    ids = torch.randint(4, 23, (2, 5))
    model(ids).square().sum().backward()

    def loss_at(z: Tensor, scales: Tensor) -> float:
        with torch.no_grad():
            before = subspace.coordinates.clone(), subspace.scales.clone()  # type: ignore[union-attr]
            subspace.coordinates.copy_(z)
            subspace.scales.copy_(scales)  # type: ignore[union-attr]
            loss = model(ids).square().sum().item()
            subspace.coordinates.copy_(before[0])
            subspace.scales.copy_(before[1])  # type: ignore[union-attr]
        return float(loss)

    z, scales, step = subspace.coordinates.detach(), subspace.scales.detach(), 1e-6
    for i in (0, 7, 17):
        nudge = torch.zeros_like(z)
        nudge[i] = step
        slope = (loss_at(z + nudge, scales) - loss_at(z - nudge, scales)) / (2 * step)
        assert float(subspace.coordinates.grad[i]) == pytest.approx(slope, rel=1e-4)  # type: ignore[index]
    for i in range(len(scales)):
        nudge = torch.zeros_like(scales)
        nudge[i] = step
        slope = (loss_at(z, scales + nudge) - loss_at(z, scales - nudge)) / (2 * step)
        assert float(subspace.scales.grad[i]) == pytest.approx(slope, rel=1e-4)  # type: ignore[index]


@pytest.mark.parametrize(("dimension", "aware"), [(2, True), (10**7, False)])
def test_dimensions_that_cannot_be_are_refused(
    small_model: Models, dimension: int, aware: bool
) -> None:
    settings = IntrinsicConfig(dimension=dimension, structure_aware=aware)
    with pytest.raises(AdapterError, match="; set a dimension of ") as raised:
        attach(small_model(num_layers=2), "intrinsic", settings)
    assert "\n" not in str(raised.value)


def test_d90_is_the_smallest_dimension_that_gains_nine_tenths() -> None:
    losses = {10: 4.9, 100: 4.2, 1000: 4.09, 10_000: 3.95}
    assert d90(losses, base=5.0, full=4.0) == 1000
    assert d90(losses, base=5.0, full=3.0) is None
    assert d90(losses, base=5.0, full=4.0, share=0.75) == 100
    with pytest.raises(ValueError, match="gained nothing"):
        d90(losses, base=4.0, full=4.0)
