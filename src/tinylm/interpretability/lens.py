"""The logit lens: the residual stream at every place, read as the model reads its end.

The stream before and after each part goes through the final norm and the unembedding, as if the
parts that follow were left out (nostalgebraist 2020). The final norm is computed anew at each
place, from the mean and the variance that the stream has there; direct logit attribution
(``interpretability.attribution``) keeps them as they are at the end instead, and the two must not
be mixed. In a post-norm model the stream is normalised after every part, and exactly the
unembedding is applied. The last place gives the model's own logits, bit for bit.

A tuned lens (``interpretability.tuned_lens``) is the same with an affine map at each place before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.errors import ConfigError
from tinylm.interpretability.trace import Trace
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating

STREAM = ("layers.0.input", "layers.*.middle", "layers.*.residual")
"""Names of the activations that a lens reads: what ``trace`` has to keep."""
NO_NEXT = -1
"""Stands for the next token where none follows."""
READ = {
    "pre": "Each place is read through the final norm, computed anew there, and the unembedding.",
    "post": "In this post-norm model the stream is normalised after every part, so that exactly "
    "the unembedding is applied; the embedding comes before the first norm and is read as it is.",
}
"""What is applied, by ``model.norm_placement``."""

Translate = Callable[[str, Tensor], Tensor]
"""Gets a place and the stream there, (..., hidden), and returns what is read in its stead."""


@dataclass(frozen=True, eq=False)
class Lens:
    """What each place of the residual stream says of the next token."""

    places: tuple[str, ...]
    """As ``Trace.residual_stream`` names them; the last is what the model itself says."""
    words: tuple[tuple[str, ...], ...]
    """The tokens of each text."""
    next_ids: Tensor
    """The token that follows, (batch, seq), int64; ``NO_NEXT`` after the last of a text."""
    top_ids: Tensor
    """The likeliest next tokens, likeliest first, (places, batch, seq, top), int64."""
    top_probabilities: Tensor
    """(places, batch, seq, top)."""
    probabilities: Tensor
    """Of the token that follows, (places, batch, seq); NaN where none does."""
    ranks: Tensor
    """1 + the number of tokens that are likelier than the one that follows, (places, batch, seq),
    int64; 0 where none follows."""
    divergences: Tensor
    """KL(last place || this place), in nats, (places, batch, seq)."""

    @property
    def agrees(self) -> Tensor:
        """Whether the likeliest token is that of the last place, (places, batch, seq), bool."""
        return self.top_ids[..., 0] == self.top_ids[-1, ..., 0]


def place_label(place: str) -> str:
    """Return the name of a place for people, layers counted from 1.

    ``embedding``, ``1 attention`` (after the attention of the first layer), ``1 feed-forward``.
    """
    _, layer, activation = place.split(".")
    if activation == "input":
        return "embedding"
    return f"{int(layer) + 1} {'attention' if activation == 'middle' else 'feed-forward'}"


def read_stream(model: GenerativeModel, x: Tensor) -> Tensor:
    """Return the logits, (..., vocab), that the end of a model makes of a stream, (..., hidden)."""
    return model.unembed(model.get_submodule("final_norm")(x))


@torch.no_grad()
def lens(trace: Trace, top: int = 5, translate: Translate | None = None) -> Lens:
    """Read every place of the residual stream.

    Logits of one place and of the last are there at a time, never those of all.

    Args:
        trace: of ``STREAM`` at least.
        top: likeliest tokens that are kept.
        translate: the maps of a tuned lens; None: the logit lens. What it returns for the last
            place is the stream itself.

    Raises:
        ConfigError: if the trace lacks a place, or ``top`` is not from 1 to the vocabulary's size.
    """
    model = trace.model
    vocab_size = model.config.resolved_vocab_size
    if not 1 <= top <= vocab_size:
        raise ConfigError(f"top = {top}: give a number from 1 to the vocabulary's {vocab_size}")
    places, stream = trace.residual_stream()
    next_ids = _next_ids(trace)
    rows = []
    with evaluating(model):
        final = _log_probabilities(read_stream(model, stream[-1]))
        for place, x in zip(places, stream, strict=True):
            read = x if translate is None else translate(place, x)
            rows.append(
                _measures(_log_probabilities(read_stream(model, read)), final, next_ids, top)
            )
    columns = [torch.stack(column) for column in zip(*rows, strict=True)]
    return Lens(tuple(places), trace.words, next_ids, *columns)


def _log_probabilities(logits: Tensor) -> Tensor:
    return (logits.float() if logits.itemsize < 4 else logits).log_softmax(-1)


def _next_ids(trace: Trace) -> Tensor:
    following = torch.full_like(trace.ids, NO_NEXT)
    following[:, :-1] = trace.ids[:, 1:].masked_fill(~trace.real[:, 1:], NO_NEXT)
    return following


def _measures(
    here: Tensor, final: Tensor, next_ids: Tensor, top: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return what ``Lens`` keeps of one place, in its order.

    Args:
        here: log-probabilities, (batch, seq, vocab).
        final: those of the last place.
        next_ids: (batch, seq).
        top: likeliest tokens that are kept.
    """
    likeliest = here.topk(top, -1)
    follows = next_ids != NO_NEXT
    own = here.gather(-1, next_ids.clamp(min=0)[..., None])  # (batch, seq, 1)
    ranks = ((here > own).sum(-1) + 1).masked_fill(~follows, 0)
    probabilities = own[..., 0].exp().masked_fill(~follows, torch.nan)
    # Where the last place gives a token no probability at all it adds nothing, not NaN.
    weighted = torch.where(final > -torch.inf, final.exp() * (final - here), 0.0)
    return likeliest.indices, likeliest.values.exp(), probabilities, ranks, weighted.sum(-1)
