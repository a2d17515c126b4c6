"""What every activation holds; a new one comes under these by its registry line."""

import pytest
import torch

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.config import ModelConfig
from tinylm.model.decoder import record
from tinylm.registry import ACTIVATIONS

pytestmark = pytest.mark.parametrize("name", list(ACTIVATIONS))


def test_it_is_documented_and_the_configuration_takes_it(name: str) -> None:
    assert ACTIVATIONS.load(name).__doc__
    assert ModelConfig(activation=name).activation == name


def test_it_acts_on_each_number_by_itself_and_keeps_the_format(name: str) -> None:
    activation = ACTIVATIONS.load(name)
    x = torch.linspace(-5, 5, 24).reshape(2, 3, 4)
    one_by_one = torch.stack([activation(number) for number in x.flatten()]).reshape(2, 3, 4)
    assert largest_difference(activation(x), one_by_one) < 1e-6
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert activation(x.to(dtype)).dtype == dtype


def test_it_is_not_linear(name: str) -> None:
    activation = ACTIVATIONS.load(name)
    x = torch.tensor(1.5)
    assert abs(float(activation(x) + activation(-x) - 2 * activation(0 * x))) > 0.1


def test_its_gradient_equals_finite_differences(name: str) -> None:
    activation = ACTIVATIONS.load(name)
    x = torch.linspace(-3.05, 3.05, 40, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(activation, (x,))


def test_it_and_its_gradient_stay_finite(name: str) -> None:
    x = torch.tensor([-1e4, -100.0, -1e-20, 0.0, 1e-20, 100.0, 1e4]).requires_grad_()
    out = ACTIVATIONS.load(name)(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert bool(out.isfinite().all())
    assert bool(gradient.isfinite().all())


def test_the_decoder_applies_it_inside_the_feed_forward_part(name: str) -> None:
    model = build_random(activation=name, norm_placement="post")
    names = ["layers.1.middle", "layers.1.feed_forward.inner"]
    with torch.no_grad():
        _, kept = record(model, names, random_ids(model, 2, 5))
        expanded = model.layers[1].feed_forward.expand(kept["layers.1.middle"])
        expected = ACTIVATIONS.load(name)(expanded)
    assert torch.equal(kept["layers.1.feed_forward.inner"], expected)
