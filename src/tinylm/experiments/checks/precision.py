"""Mixed precision: in bfloat16 a training step finds the gradient that it finds in float32.

Not to rounding: bfloat16 keeps 8 bits of a number. What is held is the stated tolerance, on the
trained weights, dropout on, the same masks in both formats.
"""

from __future__ import annotations

import copy

from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import first_windows, worst
from tinylm.experiments.precision.measure import ERROR_TOLERANCE, gradient_agreement

_WINDOWS = 7.5  # the last one is padded


def run(subject: Subject) -> Finding:
    """Compare the gradients of one step in the two number formats."""
    model = copy.deepcopy(subject.lm.model)
    windows = first_windows(subject.train, model.config, _WINDOWS)
    model.embedding.weight.requires_grad_(subject.config.vectors.trainable)
    agreement = gradient_agreement(subject.config, model, windows.batch(range(len(windows))))
    return Finding(
        compared="gradients of a training step with matrix products in bfloat16, against float32 "
        "(norm of the difference, relative to the gradient's; the largest of the parts)",
        cases=sum(p.numel() for p in model.parameters() if p.requires_grad),
        unit="gradient components",
        difference=worst([part["error"] for part in agreement.values()]),
        bound=ERROR_TOLERANCE,
    )
