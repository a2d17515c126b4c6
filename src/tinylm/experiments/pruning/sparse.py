"""A map's product in a sparse format beside the dense one: where does the sparse one begin to pay?

Compressed sparse rows (CSR) keep the numbers that are not 0, in reading order, with the column of
each and where each row begins. A product reads no zeros, but every number costs a look-up of its
place, and none of the dense product's blocks fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.compression.masking import targets
from tinylm.compression.selection import kept_of
from tinylm.config.finetuning import EVERY_PROJECTION
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context
from tinylm.experiments.pruning.settings import PruningExperiment
from tinylm.model.base import GenerativeModel

_WORK = 2e7
"""Multiplications of the dense form in a timed call at least, so that a call's own cost is small
beside its work."""


@torch.no_grad()
def sparse_products(
    context: Context, model: GenerativeModel, device: torch.device
) -> dict[str, Any]:
    """Time the largest map that pruning takes, its smallest weights 0, in both forms.

    Args:
        context: the run, which says the shares and how large a batch is.
        model: the whole model.
        device: on which.

    Returns:
        ``path``, ``rows`` (outputs) and ``columns`` (inputs) of the map, and for one token and for
        a training batch the time of a product by share, dense and sparse, a call of ``calls``
        products.
    """
    settings: PruningExperiment = context.config.experiments.pruning
    modules = targets(model, EVERY_PROJECTION, (nn.Linear,))
    path = max(modules, key=lambda each: modules[each].weight.numel())
    weight = modules[path].weight.detach().to(device)
    outputs, inputs = weight.shape
    batch = context.config.training.batch_size * context.config.model.context_length
    sizes = {"token": 1, "batch": batch}
    generator = torch.Generator().manual_seed(0)
    result: dict[str, Any] = {"path": path, "rows": outputs, "columns": inputs}
    with context.console.task("Timing sparse products", len(sizes)) as done:
        for place, (size, tokens) in enumerate(sizes.items()):
            x = torch.randn(inputs, tokens, generator=generator).to(device, weight.dtype)
            calls = max(1, round(_WORK / (outputs * inputs * tokens)))
            work, shares = {}, sorted(set(settings.sparse_shares))
            for share in shares:
                kept = kept_of({path: weight.abs()}, share, "map")[path]
                dense = weight.masked_fill(~kept, 0.0)
                work[f"dense {share}"] = _product(dense, x, calls)
                work[f"sparse {share}"] = _product(_compressed(dense), x, calls)

            def progress(part: float, before: int = place) -> None:
                done(before + part)

            times = run_interleaved(work, settings.repeats, progress=progress)
            result[size] = {
                "tokens": tokens,
                "calls": calls,
                "rows": [
                    {"share": share}
                    | {form: times[f"{form} {share}"].as_result() for form in ("dense", "sparse")}
                    for share in shares
                ],
            }
    return result


def _compressed(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():  # torch calls its format beta: that is what is measured here
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return weight.to_sparse_csr()


def _product(weight: Tensor, x: Tensor, calls: int) -> Callable[[], object]:
    def work() -> Tensor:
        for _ in range(calls):
            y = weight @ x
        return y

    return work
