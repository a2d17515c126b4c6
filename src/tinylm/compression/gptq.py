"""GPTQ: rounding column by column, the error of each carried to those that are still to come.

Frantar, Ashkboos, Hoefler and Alistarh 2023. With ``H = 2/n X^T X`` of the inputs, the error that
rounding a column makes in the outputs is made as small as the columns after it can make it: they
move by ``-error / U_jj * U_j,:``, where U is the upper Cholesky factor of H's inverse. Solving
exactly for every column in turn is Optimal Brain Quantization (Frantar and Alistarh 2022); the
factor holds the rows of all of those inverses at once, so that one decomposition does for all
columns and all outputs.

What decides whether it comes out right:

- a column whose inputs were always 0 is *dead*: its weights become 0, and its H_jj 1;
- a weight that pruning has set to 0 becomes 0, whatever has reached it, and what it loses is
  carried on (Frantar and Alistarh 2023, SparseGPT);
- a share of the mean diagonal is added to the diagonal (damping), or H may have no inverse;
- by *activity*, columns of the largest H_jj come first, while there are most columns left to mend
  their error. The scales of groups are then fitted before any column moves, by the order in which
  the columns stand; else a group's scales are fitted when its first column is reached, to its
  weights as errors have moved them;
- errors reach columns outside of a block when the block is done. That saves time, and changes
  nothing.

With ``H = I`` no error is carried, and the codes are those of rounding to the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from tinylm.compression.calibrated import LinearInput, Rounded, quantize_maps
from tinylm.compression.quantizer import Quantizer
from tinylm.config.quantization import GptqConfig
from tinylm.errors import CompressionError
from tinylm.model.base import GenerativeModel
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import QuantizedWeight

Order = Literal["activity", "given"]


class GPTQ(Quantizer):
    """Whole numbers, chosen column by column for the smallest error of the outputs."""

    Settings = GptqConfig
    label = "GPTQ"
    noun = "GPTQ"
    explanation = (
        "*GPTQ* [[frantar2023gptq]] rounds the columns of a matrix one after the other, and moves "
        "those that are left so that they make up for the error in the outputs."
    )

    @staticmethod
    def quantize(
        model: GenerativeModel, settings: GptqConfig, ids: Tensor | None
    ) -> Mapping[str, Any]:
        """Round the targets (``Quantizer.quantize``)."""

        def rounded(each: LinearInput) -> Rounded:
            result = rounded_by_gptq(
                each.weight,
                each.gram.hessian,
                each.form,
                kept=each.kept,
                damping=settings.damping,
                order=settings.order,
            )
            stored = each.form.store(*result)
            return Rounded(QuantizedWeight(each.weight, each.form, stored))

        return quantize_maps(model, settings, ids, rounded, settings.after_quantized)


class Codes(NamedTuple):
    """A weight in a format of whole numbers; shapes as of ``IntegerFormat``."""

    codes: Tensor
    scale: Tensor
    zero: Tensor | None


def rounded_by_gptq(
    weight: Tensor,
    hessian: Tensor,
    form: IntegerFormat,
    *,
    kept: Tensor | None = None,
    damping: float = 0.01,
    order: Order = "activity",
    block_size: int = 128,
) -> Codes:
    """Return the codes of a weight, rounded so that the outputs change as little as it can be.

    Args:
        weight: (out, in), left alone.
        hessian: ``2/n X^T X`` of the inputs, (in, in), as ``calibration.Gram`` has it.
        form: the format.
        kept: (out, in), bool, False where a weight is to become 0, as pruning left it; None: all.
        damping: what is added to the diagonal, as a share of its mean.
        order: in which columns are rounded: by activity, or as they stand.
        block_size: columns after which errors are carried to those outside of the block.

    Raises:
        CompressionError: if the Hessian is not finite, or has no inverse even so.
        ConfigError: if the format's groups do not divide a row.
    """
    dead = hessian.diagonal() == 0
    gone = dead.expand(weight.shape) if kept is None else dead | ~kept
    weight = weight.detach().masked_fill(gone, 0)
    columns = weight.shape[1]
    group_size = form.group_size or columns
    by_activity = order == "activity"
    # By group and as they stand, these are fitted anew when they are reached.
    in_turn = form.granularity == "group" and not by_activity
    scale, zero = form.fit(weight)

    permutation = torch.arange(columns, device=weight.device)
    if by_activity:
        permutation = hessian.diagonal().argsort(descending=True, stable=True)
    factor = _factor(hessian.double(), dead, damping, permutation)
    left = weight.double()[:, permutation]  # columns move until they are rounded
    codes = torch.empty_like(weight, dtype=torch.int8 if form.symmetric else torch.uint8)

    start = 0
    while start < columns:
        end = min(start + block_size, columns)
        if in_turn:
            end = min(end, (start // group_size + 1) * group_size)
            if start % group_size == 0:
                group = start // group_size
                own_columns = slice(start, start + group_size)
                reached = left[:, own_columns].to(weight.dtype).masked_fill(gone[:, own_columns], 0)
                group_scale, group_zero = form.fit(reached)
                scale[:, group] = group_scale[:, 0]
                if zero is not None and group_zero is not None:
                    zero[:, group] = group_zero[:, 0]
        errors = torch.empty_like(left[:, start:end])
        for column in range(start, end):
            place = int(permutation[column])
            group = place // group_size if scale.shape[1] > 1 else 0
            own = scale[:, group, None], None if zero is None else zero[:, group, None]
            value = left[:, column, None].to(weight.dtype).masked_fill(gone[:, place, None], 0)
            code = form.encode(value, *own)
            codes[:, place] = code[:, 0]
            difference = left[:, column] - form.decode(code, *own)[:, 0]
            error = difference / factor[column, column]
            errors[:, column - start] = error
            left[:, column + 1 : end] -= error[:, None] * factor[column, column + 1 : end]
        left[:, end:] -= errors @ factor[start:end, end:]
        start = end
    return Codes(codes, scale, zero)


def _factor(hessian: Tensor, dead: Tensor, damping: float, permutation: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse, of columns in another order."""
    if not hessian.isfinite().all():
        raise CompressionError("the inputs of a map are not finite: GPTQ cannot go by them")
    diagonal = torch.where(dead, 1.0, hessian.diagonal())
    damped = hessian.diagonal_scatter(diagonal + damping * diagonal.mean())
    lower, failed = torch.linalg.cholesky_ex(damped[permutation][:, permutation])
    if failed:
        raise CompressionError(
            "the inputs of a map do not tell its columns apart: give more texts to calibrate "
            "with, or more damping"
        )
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return factor
