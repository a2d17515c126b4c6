"""Linear probes beside scikit-learn's logistic regression, and their control task."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from tinylm.errors import ConfigError
from tinylm.interpretability.probes import control_labels, fit_probe


@pytest.mark.parametrize("decay", [1e-3, 1e-1])
def test_a_probe_is_the_regression_of_scikit_learn(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 12, generator=generator) * torch.arange(1, 13) + 3
    y = (x[:, :4] / torch.arange(1, 5) + 0.8 * torch.randn(300, 4, generator=generator)).argmax(1)
    probe = fit_probe(x, y, 4, decay)
    standard = ((x - x.mean(0)) / x.std(0, correction=0)).double().numpy()
    other = LogisticRegression(C=1 / (300 * decay), tol=1e-10, max_iter=10_000)
    other.fit(standard, y.numpy())
    assert np.allclose(probe.weight.T.numpy(), other.coef_, atol=2e-4)
    # Only differences of biases matter.
    ours, theirs = probe.bias.numpy(), other.intercept_
    assert np.allclose(ours - ours.mean(), theirs - theirs.mean(), atol=2e-4)
    assert np.array_equal(probe.right(x, y).numpy(), other.predict(standard) == y.numpy())


def test_constant_dimensions_and_autograd_s_state_do_no_harm() -> None:
    x = torch.tensor([[0.0, 5.0], [0.1, 5.0], [1.0, 5.0], [1.1, 5.0]])
    y = torch.tensor([0, 0, 1, 1])
    with torch.no_grad():
        probe = fit_probe(x, y, 2)
    assert probe.right(x, y).all()
    assert torch.isfinite(probe.logits(x)).all()
    assert not probe.weight.requires_grad


def test_a_probe_cannot_read_what_is_not_there() -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 8, generator=generator)
    y = torch.randint(4, (2000,), generator=generator)
    probe = fit_probe(x[:1000], y[:1000], 4)
    assert float(probe.right(x[1000:], y[1000:]).double().mean()) == pytest.approx(0.25, abs=0.05)


def test_a_kind_has_one_label_wherever_it_stands() -> None:
    kinds = [("a", i % 7) for i in range(50)] + ["b", "b"]
    labels = control_labels(kinds, 5, seed=3)
    seen: dict[object, int] = {}
    for kind, label in zip(kinds, labels.tolist(), strict=True):
        assert seen.setdefault(kind, label) == label
    many = control_labels(list(range(4000)), 4, seed=0)
    assert torch.bincount(many).tolist() == pytest.approx([1000] * 4, abs=120)
    assert torch.equal(labels, control_labels(kinds, 5, seed=3))
    assert not torch.equal(labels, control_labels(kinds, 5, seed=4))


@pytest.mark.parametrize(("texts", "labels"), [(0, 2), (3, 1)])
def test_what_cannot_be_fitted_is_refused(texts: int, labels: int) -> None:
    with pytest.raises(ConfigError, match="cannot be fitted on"):
        fit_probe(torch.zeros(texts, 2), torch.zeros(texts, dtype=torch.long), labels)
