"""Hidden-state matching: a student's layers, projected, are drawn to layers of its teacher.

Romero et al. 2015 (FitNets), with layers mapped evenly as in Jiao et al. 2020 (TinyBERT, equation
8): the mean squared difference between the teacher's residual stream after a layer and a learned
linear map of the student's. The maps are trained with the student, and are no part of it
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tinylm.model.loss import at_least_float32


def matched_layers(student_layers: int, teacher_layers: int) -> list[int]:
    """Return for each layer of the student which of the teacher it is drawn to, counted from 0.

    Spread evenly, so that the last is drawn to the last; a student of more layers has several that
    are drawn to the same.
    """
    return [
        -(-(layer + 1) * teacher_layers // student_layers) - 1 for layer in range(student_layers)
    ]


class Projections(nn.Module):
    """A linear map from the student's residual stream to the teacher's for each of its layers."""

    def __init__(self, num_layers: int, student_size: int, teacher_size: int, seed: int) -> None:
        """Draw the maps from a seed of their own, so that the student's start is as without them.

        Args:
            num_layers: of the student.
            student_size: hidden size.
            teacher_size: hidden size.
            seed: of the maps.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.maps = nn.ModuleList(
                nn.Linear(student_size, teacher_size, bias=False) for _ in range(num_layers)
            )
            for matrix in self.parameters():
                nn.init.xavier_uniform_(matrix)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Return the mean squared difference, summed over rows, averaged over layers and numbers.

        Args:
            student: residual stream after each of its layers, (rows, student_size).
            teacher: of the layers that they are drawn to, (rows, teacher_size).

        Returns:
            A scalar, in float32 at least.
        """
        losses = [
            (at_least_float32(project(own)) - at_least_float32(wanted)).square().mean(-1).sum()
            for project, own, wanted in zip(self.maps, student, teacher, strict=True)
        ]
        return torch.stack(losses).mean()
