"""The lab on low-rank factorisation: trained weights, and what fine-tuning changes in them.

Four questions, each answered by numbers: is a matrix of low rank recovered from two factors; is
truncated SVD the best that a rank allows; how low is the rank of trained weights, and what does
cutting it cost in validation loss; how low is the rank of a fine-tuning update, and how much of the
gain does its best approximation keep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config.finetuning import EVERY_PROJECTION
from tinylm.data.windows import windows_of
from tinylm.experiments.context import Context, threads
from tinylm.experiments.lab_svd.losses import cut_update, cut_weights, fine_tuned, group_of
from tinylm.experiments.lab_svd.settings import SvdLab
from tinylm.experiments.lab_texts import two_kinds
from tinylm.experiments.preparation import encoded_split
from tinylm.finetuning.factorisation import (
    Decomposition,
    break_even_rank,
    decompose,
    effective_rank,
    energy_rank,
    factor_parameters,
    frobenius_error,
    numerical_rank,
    relative_error,
    spectral_error,
)
from tinylm.language_model import LanguageModel
from tinylm.model.paths import matches

EXAMPLE = (
    (2.0, 1.0, 0.0, 1.0, 3.0),
    (1.0, 3.0, 5.0, -2.0, -1.0),
    (3.0, 4.0, 5.0, -1.0, 2.0),
    (1.0, -2.0, -5.0, 3.0, 4.0),
    (4.0, 2.0, 0.0, 2.0, 6.0),
    (0.0, 5.0, 10.0, -5.0, -5.0),
)
"""6 x 5 numbers of rank 2: row 1 is a, row 2 is b, the others are a+b, a-b, 2a and 2b-a."""
_EXAMPLE_RANK = 2
_ENERGIES = (0.9, 0.99)
_DIGITS = 6  # significant, of a singular value in the result


def run(context: Context) -> dict[str, Any]:
    """Factorise the weights of the run's best checkpoint and of a short fine-tuning of it.

    Returns:
        ``example``, ``best`` (truncated SVD and its competitors on one trained matrix),
        ``matrices`` (a row each: sizes, ``weight`` and ``update``, each a spectrum and its ranks),
        ``cut`` (what cutting weights costs), ``update`` (the fine-tuning and what is left of it
        at each rank).

    Raises:
        CheckpointError: if there is none.
        DataError: if the corpus cannot be used.
    """
    config = context.config
    settings: SvdLab = config.experiments.lab_svd
    lm = LanguageModel.load(context.folder)
    model = lm.model
    train, validation = (
        encoded_split(config.data, lm.tokenizer, split, context.console)
        for split in ("train", "validation")
    )
    weights = weight_matrices(model)
    with threads(config.training.threads):
        with context.console.task("Decomposing the weights"):
            decompositions = {path: decompose(weight) for path, weight in weights.items()}
        ranks = tuple(sorted(set(settings.ranks))) or default_ranks(
            decomposition.full_rank for decomposition in decompositions.values()
        )
        windows = windows_of(validation, config.model)
        with context.console.task("Cutting the weights", 1.0) as done:
            cut = cut_weights(model, decompositions, ranks, config, windows, done)
        kinds = two_kinds(train, validation, lm.tokenizer, settings.share, settings.stories,
                          config.model.context_length)  # fmt: skip
        with context.console.task("Fine-tuning", 1.0) as done:
            tuned, about = fine_tuned(model, kinds, config, done)
        updates = {
            path: decompose(weight - weights[path])
            for path, weight in weight_matrices(tuned).items()
        }
        with context.console.task("Cutting the update", 1.0) as done:
            kept = cut_update(model, tuned, updates, ranks, kinds, config, done)
    subject = max(
        (path for path in weights if _is_projection(path)), key=lambda path: weights[path].numel()
    )
    return {
        "example": worked_example(),
        "best": {
            "matrix": subject,
            "rows": competition(
                weights[subject],
                decompositions[subject],
                ranks,
                settings.competitors,
                config.training.seed,
            ),
            "competitors": settings.competitors,
        },
        "matrices": [
            {
                "name": path,
                "group": group_of(path),
                "rows": weight.shape[0],
                "columns": weight.shape[1],
                "break_even_rank": break_even_rank(*weight.shape),
                "random_effective_rank": random_effective_rank(weight, config.training.seed),
                "weight": spectrum(decompositions[path], weight.dtype),
                "update": spectrum(updates[path], weight.dtype),
                "relative_norm": float(
                    updates[path].values.norm() / decompositions[path].values.norm()
                ),
            }
            for path, weight in weights.items()
        ],
        "cut": cut,
        "update": about | {"ranks": kept},
    }


def worked_example() -> dict[str, Any]:
    """Factorise ``EXAMPLE`` and return what there is to see: factors, values and errors."""
    matrix = torch.tensor(EXAMPLE, dtype=torch.float64)
    decomposition = decompose(matrix)
    left, right = decomposition.factors(_EXAMPLE_RANK)
    rows, columns = matrix.shape
    return {
        "matrix": matrix.tolist(),
        "rank": numerical_rank(decomposition.values, rows, columns, matrix.dtype),
        "values": decomposition.values.tolist(),
        "left": left.tolist(),
        "right": right.tolist(),
        "largest_error": float((matrix - left @ right).abs().max()),
        "parameters": factor_parameters(_EXAMPLE_RANK, rows, columns),
        "rank_1_error": float((matrix - decomposition.truncated(1)).norm()),
    }


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Return path -> weight of every linear map and embedding; a shared one where it comes first.

    Weights are (out, in), embeddings (vocab, hidden).
    """
    weights: dict[str, Tensor] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        if isinstance(module, (nn.Linear, nn.Embedding)) and id(module.weight) not in seen:
            seen.add(id(module.weight))
            weights[path] = module.weight.detach()
    return weights


def _is_projection(path: str) -> bool:
    return any(matches(path, pattern) for pattern in EVERY_PROJECTION)


def default_ranks(full: Iterable[int]) -> tuple[int, ...]:
    """Return powers of two below the largest of these ranks, 3/4 of it, and it itself."""
    most = max(full)
    powers = {2**power for power in range(most.bit_length()) if 2**power < most}
    return tuple(sorted({*powers, max(1, 3 * most // 4), most}))


def spectrum(decomposition: Decomposition, dtype: torch.dtype) -> dict[str, Any]:
    """Return the singular values of a matrix and its ranks.

    Args:
        decomposition: its decomposition.
        dtype: the format that it is stored in.
    """
    values = decomposition.values
    return {
        "values": [float(f"{value:.{_DIGITS}g}") for value in values.tolist()],
        "norm": float(values.norm()),
        "full_rank": decomposition.full_rank,
        "rank": numerical_rank(
            values, len(decomposition.left), decomposition.right.shape[1], dtype
        ),
        "effective_rank": effective_rank(values),
        "energy_ranks": {f"{share:g}": energy_rank(values, share) for share in _ENERGIES},
    }


def random_effective_rank(like: Tensor, seed: int) -> float:
    """Return the effective rank of a matrix of independent normal numbers of the same shape."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(like.shape, generator=generator, dtype=torch.float64)
    return effective_rank(torch.linalg.svdvals(matrix))


def competition(
    matrix: Tensor, decomposition: Decomposition, ranks: Sequence[int], competitors: int, seed: int
) -> list[dict[str, Any]]:
    """Compare truncated SVD with random factorisations of the same rank.

    A competitor draws a random column space and takes the matrix that is nearest within it, which
    is the best that its first factor allows.

    Returns:
        A row a rank below the full one: errors in the Frobenius and the spectral norm, ``tail``
        from the singular values alone and ``measured`` on the matrix, and of the competitors the
        least.
    """
    matrix = matrix.double()
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for rank in ranks:
        if rank >= decomposition.full_rank:
            continue
        rest = matrix - decomposition.truncated(rank)
        others = []
        for _ in range(competitors):
            base = torch.randn(len(matrix), rank, generator=generator, dtype=torch.float64)
            basis = torch.linalg.qr(base).Q  # (rows, rank)
            left_out = matrix - basis @ (basis.T @ matrix)
            others.append((float(left_out.norm()), _largest_value(left_out)))
        rows.append(
            {
                "rank": rank,
                "tail": {
                    "frobenius": frobenius_error(decomposition.values, rank),
                    "spectral": spectral_error(decomposition.values, rank),
                },
                "measured": {"frobenius": float(rest.norm()), "spectral": _largest_value(rest)},
                "competitor": {
                    "frobenius": min(errors[0] for errors in others),
                    "spectral": min(errors[1] for errors in others),
                },
                "relative": relative_error(decomposition.values, rank),
            }
        )
    return rows


def _largest_value(matrix: Tensor) -> float:
    """Return the spectral norm, from the smaller of the two Gram matrices, faster than by SVD."""
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1])))
