"""What heads do on repeated random tokens: ``<sos>`` + R + R, the same tokens twice.

Nothing but the repetition can be predicted there, and no habit of the language gets in the way.
Every score is a mean over the rows of the second R, each of which has what it asks for: a token
before it, the same token earlier, and one that followed it then. A head that does nothing else
scores 1. (Taking the shifted diagonal of the whole pattern, as is common, counts two rows that have
no target: a perfect head scores 0.90 for an R of 8. Dividing by all attention gives 0.47.) What a
head gives to the first token, where weight rests that is not needed, stands beside the scores.

Source: Olsson et al. 2022, "In-context Learning and Induction Heads", appendix on head activation
evaluators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError, GenerationError, nearest, shown
from tinylm.interpretability.norm_paths import norms_between, through
from tinylm.interpretability.weights import affine, head_weights
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating, record

_ROWS = 16
"""Texts in one forward pass."""
SCORES = ("previous_token", "duplicate_token", "prefix_matching", "copying")


@dataclass(frozen=True, eq=False)
class HeadScores:
    """The scores of every head, (layers, heads), float64 each."""

    previous_token: Tensor
    """Weight on the token before."""
    duplicate_token: Tensor
    """Weight on the same token where it stood earlier."""
    prefix_matching: Tensor
    """Weight on the token that followed then; 1: an induction head."""
    copying: Tensor
    """How far a token that the head attends to raises its own logit: its share of all logits of R
    that are raised above their mean, weighted by attention. 1: it alone; by chance 1 / length."""
    first_token: Tensor
    """Weight on the first token, which none of the others counts."""

    def best(self, score: str, count: int = 1) -> list[tuple[int, int]]:
        """Return layer and head of those with the highest scores, the highest first.

        Raises:
            ConfigError: if there is no such score.
        """
        if score not in SCORES:
            raise ConfigError(f"heads have no score {shown(score)}{nearest(score, SCORES)}")
        table: Tensor = getattr(self, score)
        order = table.flatten().argsort(descending=True, stable=True)[:count].tolist()
        return [divmod(place, table.shape[1]) for place in order]


def repeated_tokens(
    types: Sequence[int], length: int, texts: int, first: int, seed: int = 0
) -> Tensor:
    """Return random tokens, each text's own and all of them different, twice after a first token.

    Args:
        types: ids to draw from, without special ones.
        length: of R, 2 or more.
        texts: how many.
        first: id of ``<sos>``.
        seed: of the draw.

    Returns:
        (texts, 1 + 2 * length), int64.

    Raises:
        GenerationError: if R cannot be so long or there is no text.
    """
    if not 2 <= length <= len(types):
        raise GenerationError(
            f"{length} different random tokens cannot be repeated: take 2 or more, and no more "
            f"than the {len(types)} types that there are"
        )
    if texts < 1:
        raise GenerationError(f"{texts} texts of repeated tokens: take 1 or more")
    generator = torch.Generator().manual_seed(seed)
    from_types = torch.tensor(list(types))
    rows = [torch.randperm(len(types), generator=generator)[:length] for _ in range(texts)]
    once = from_types[torch.stack(rows)]  # (texts, length)
    return torch.cat([torch.full((texts, 1), first), once, once], 1)


@torch.no_grad()
def head_scores(model: GenerativeModel, repeated: Tensor) -> HeadScores:
    """Return the scores of all heads.

    Args:
        model: any device and precision.
        repeated: of ``repeated_tokens``, (texts, 1 + 2 * length), no longer than the context.

    Raises:
        GenerationError: if a text is not a token and two times the same ones.
        ConfigError: if an adapter keeps heads from having weights of their own.
    """
    length = _length(repeated)
    sums = torch.zeros(5, model.config.num_layers, model.config.num_heads, dtype=torch.float64)
    attended = torch.zeros_like(sums[0])
    device = model.embedding.weight.device
    names = ["layers.*.attention.pattern", "layers.*.attention.value"]
    with evaluating(model):
        for rows in torch.split(repeated, _ROWS):
            _, kept = record(model, names, rows.to(device))
            targets = _targets(rows, length)
            for layer in range(model.config.num_layers):
                # (batch, heads, rows of the second R, keys)
                pattern = kept[f"layers.{layer}.attention.pattern"][:, :, length + 1 :].double()
                pattern = pattern.cpu()
                for i, keys in enumerate(targets):
                    sums[i, layer] += (pattern * keys[:, None]).sum((0, 2, 3))
                sums[4, layer] += pattern[..., 0].sum((0, 2))
                received = pattern.sum(2)[..., 1:]  # (batch, heads, keys of both R)
                value = kept[f"layers.{layer}.attention.value"][:, :, 1:].double().cpu()
                copied = _copied(model, layer, value, rows[:, 1:], length)
                sums[3, layer] += (received * copied).sum((0, 2))
                attended[layer] += received.sum((0, 2))
    count = len(repeated) * length
    return HeadScores(
        previous_token=sums[0] / count,
        duplicate_token=sums[1] / count,
        prefix_matching=sums[2] / count,
        copying=torch.where(attended > 0, sums[3] / attended, 0.0),
        first_token=sums[4] / count,
    )


def _length(repeated: Tensor) -> int:
    """Return the length of R.

    Raises:
        GenerationError: if a text is not a token and two times the same ones.
    """
    length = (repeated.shape[1] - 1) // 2
    second = repeated[:, length + 1 :]
    if length < 2 or repeated.shape[1] % 2 == 0 or not torch.equal(repeated[:, 1:-length], second):
        raise GenerationError(
            "the scores of heads are measured on a first token and two times the same tokens, 2 or "
            "more: make the texts by repeated_tokens"
        )
    return length


def _targets(rows: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which keys are the token before, the same one, and what followed that.

    Returns:
        (batch, rows of the second R, keys) each, bool.
    """
    seq = rows.shape[1]
    places = torch.arange(seq)
    earlier = places[None, :] < places[:, None]  # (seq, seq)
    same = (rows[:, :, None] == rows[:, None, :]) & earlier
    same[:, :, 0] = False
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    previous = (places[None, :] == places[:, None] - 1).expand_as(same)
    second = slice(length + 1, None)
    return previous[:, second], same[:, second], (after & earlier)[:, second]


def _copied(
    model: GenerativeModel, layer: int, value: Tensor, tokens: Tensor, length: int
) -> Tensor:
    """Return the share of the raised logits of R that is a key's own token's.

    What a key's value adds to the logits passes the norms on its way with their scales left out:
    a scale is positive and the same for all logits, so that it does not change a share.

    Args:
        model: the model.
        layer: of the heads.
        value: (batch, heads, keys, head_dim), float64.
        tokens: of the keys, (batch, keys).
        length: of R.

    Returns:
        (batch, heads, keys).
    """
    heads = head_weights(model, layer)
    # The bias is added whatever the head attends to.
    bias = torch.stack([head.value_bias for head in heads]).double().cpu()
    output = torch.stack([head.output for head in heads]).double().cpu()
    written = (value - bias[:, None]) @ output  # (batch, heads, keys, hidden)
    written = through(written, norms_between(model, layer, model.config.num_layers))
    unembedding, _ = affine(model.get_submodule("unembedding"), model.config.hidden_size)
    once = tokens[:, :length]
    read = unembedding.double().cpu().T[once]  # (batch, length, hidden)
    logits = torch.einsum("bhkd,bld->bhkl", written, read)
    raised = (logits - logits.mean(-1, keepdim=True)).relu()
    own = (tokens[:, :, None] == once[:, None, :])[:, None]  # (batch, 1, keys, length)
    whole = raised.sum(-1)
    share = (raised * own).sum(-1) / whole.clamp(min=torch.finfo(whole.dtype).tiny)
    return torch.where(whole > 0, share, 0.0)
