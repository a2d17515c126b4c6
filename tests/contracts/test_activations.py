"""What every activation holds; a new one comes under these by its registry line."""

import re

import pytest
import torch
from torch import Tensor, nn

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.config import ModelConfig
from tinylm.config.finetuning import BottleneckConfig
from tinylm.fast.linear import quick_activation
from tinylm.model.activations import Activation
from tinylm.model.decoder import record
from tinylm.registry import ACTIVATIONS
from tinylm.report.references import REFERENCES

pytestmark = pytest.mark.parametrize("name", list(ACTIVATIONS))


def test_it_says_what_is_asked_of_it(name: str) -> None:
    """The report its name, formula and source, planning what it keeps for the backward pass."""
    activation = ACTIVATIONS.load(name)
    assert isinstance(activation, Activation)
    assert activation.function.__doc__
    assert activation.label
    assert activation.formula.format(x="x W") != activation.formula
    assert set(re.findall(r"\[\[(\w+)\]\]", activation.source)) & REFERENCES.keys()


def test_the_configuration_and_its_help_take_it(name: str) -> None:
    assert ModelConfig(activation=name).activation == name
    assert BottleneckConfig(activation=name).activation == name


@pytest.mark.parametrize("quick", [False, True])
def test_planning_counts_what_autograd_keeps(name: str, quick: bool) -> None:
    """Arrays of the inner width between the two products, each storage once."""
    kept: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    x = torch.randn(7, 11, requires_grad=True)
    contract = nn.Linear(11, 3)
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        function = ACTIVATIONS.load(name).function
        out = contract((quick_activation(function) if quick else function)(x * 1))
    assert out.shape == (7, 3)
    arrays = sum(count == x.numel() for count in kept.values())
    activation = ACTIVATIONS.load(name)
    in_one_pass = activation.kept_in_one_pass if quick else None
    assert arrays == (activation.kept_arrays if in_one_pass is None else in_one_pass)


def test_in_one_pass_it_is_the_same(name: str) -> None:
    function = ACTIVATIONS.load(name).function
    plain, quick = (
        torch.linspace(-9, 9, 4001, dtype=torch.float64).requires_grad_() for _ in range(2)
    )
    weights = torch.randn(4001, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = function(plain), quick_activation(function)(quick)
    for value in values:
        (value * weights).sum().backward()
    assert torch.allclose(*values, rtol=0, atol=1e-12)
    assert plain.grad is not None
    assert quick.grad is not None
    assert torch.allclose(plain.grad, quick.grad, rtol=0, atol=1e-12)


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
