"""The masked language model: an encoder alone, in which every token sees every other.

Devlin et al. 2019 (BERT), section 3.1, task 1: some tokens of a text are hidden and predicted from
all others, on both sides. Here a hidden token's embedding is replaced by a learned vector, which is
no entry of the vocabulary; all of them are, none is left as it is or exchanged for another word.

So that its labels stand where those of other kinds do, a row is extended by one place, which holds
the same vector, and what ``residual`` returns at place t is the stream at place t + 1: there the
token that follows t is hidden, and its label is that of t. Such is BERT's objective; the last label
is that of a token after the text, for which the added place stands (``data.views.hidden``).

**Probabilities of texts.** A model that sees both sides gives no probability of a text at once.
Where nothing is said to be hidden, each next token is predicted from its prefix alone: a text of T
tokens is read T times, as its first t tokens and the vector, for t = 1 ... T. That is exact, and
costs about T / 2 times what the decoder needs for the same, which predicts all places in one read.
Nor is there a cache: with one more token every other one's stream changes, so that a step of
decoding reads all tokens again, and what is kept of a text are its ids (``read_text``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from tinylm.config import ModelConfig
from tinylm.errors import GenerationError
from tinylm.model.decoder import DecoderLM
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.last_token import last_real
from tinylm.model.masked_outline import outline_of
from tinylm.model.outline import Outline
from tinylm.model.read_text import ReadTexts
from tinylm.model.reading import Ahead
from tinylm.planning.costs import Costs
from tinylm.planning.masked import MaskedCosts

_PLACES_AT_ONCE = 4096
"""Most places, padding included, that prefixes are read as at once, if they are several."""


class _Text(NamedTuple):
    """What is known of rows of tokens, before they are read."""

    embeddings: Tensor
    """(batch, seq, hidden), unscaled."""
    positions: Tensor
    """(batch, seq), int64."""
    real: Tensor | None
    """(batch, seq), False where a token is padding; None: all are real."""


class MaskedLM(DecoderLM):
    """An encoder that predicts hidden tokens."""

    label = "masked language model"
    costs: ClassVar[Costs] = MaskedCosts()
    attends = False
    view = "hidden"
    rereads = True
    places_beyond = 1
    parts = (*DecoderLM.parts, "mask")

    def __init__(self, config: ModelConfig) -> None:
        """Build and initialise the model from torch's global random state; see ``DecoderLM``."""
        super().__init__(config)
        self.mask = nn.Parameter(torch.empty(config.hidden_size))
        """What stands in place of a hidden token's embedding, unscaled."""
        nn.init.normal_(self.mask, std=float(self.embedding.weight.detach().std()))

    def residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        given: Tensor | None = None,
        hidden: Tensor | None = None,
        causal: bool = True,
        cache: Any = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the stream at the places of the tokens that follow; see ``DecoderLM.residual``.

        Args:
            ids: (batch, seq); or give embeddings.
            embeddings: (batch, seq, hidden), unscaled.
            positions: (batch or 1, seq), int64; None: each real token's running count.
            real: (batch, seq), bool, False where a token is padding; None: all are real.
            given: without effect.
            hidden: (batch, seq), True where a token is not seen. The text is read once then, and
                each place sees all of it but these; what counts are the places before them, and
                the last. None: each place sees the tokens up to its own alone, in a read for each.
            causal: False: the stream at the tokens themselves, of one read in which all are seen
                and nothing is predicted.
            cache: ids read before (``decoding_state``); the new ones are added to it, and places
                are those of the new ones.
            hooks: see and replace activations: of the one read with one place more, or of each
                batch of prefixes.

        Raises:
            GenerationError: if the text is longer than the context, or is to be read from both
                sides with a cache.
        """
        if (ids is None) == (embeddings is None):
            raise GenerationError("give the model either ids or embeddings")
        if cache is not None and (hidden is not None or not causal):
            raise GenerationError("from both sides a text is read whole: leave the cache out")
        if not causal:
            return super().residual(
                ids,
                embeddings=embeddings,
                positions=positions,
                real=real,
                causal=False,
                hooks=hooks,
            )
        if hidden is None:
            text, new = self._text(ids, embeddings, positions, real, cache)
            return self._from_prefixes(text, text.positions.shape[1] - new, hooks)
        text, _ = self._text(ids, embeddings, positions, real, None)
        rows = torch.where(hidden[..., None], self.mask.to(text.embeddings), text.embeddings)
        return self._from_both_sides(text._replace(embeddings=rows), hooks)

    def last_residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        cache: Any = None,
        hooks: Hooks = NO_HOOKS,
        **named: Any,
    ) -> Tensor:
        """Return the stream at the last place alone, in one read of each text."""
        if named.get("hidden") is not None or not named.get("causal", True):
            return super().last_residual(
                ids,
                embeddings=embeddings,
                positions=positions,
                real=real,
                cache=cache,
                hooks=hooks,
                **named,
            )
        text, _ = self._text(ids, embeddings, positions, real, cache)
        return self._from_prefixes(text, text.positions.shape[1] - 1, hooks)[:, -1]

    def in_one_read(self, ids: Tensor, real: Tensor | None = None) -> dict[str, Tensor | None]:
        """Return that texts are read once, nothing hidden but the added place; see the base."""
        return {"real": real, "hidden": torch.zeros_like(ids, dtype=torch.bool)}

    def real_inputs(self, path: str, ids: Tensor, real: Tensor | None) -> Tensor | None:
        """Return that the layers get a place more, the added one; see the base."""
        if real is None or not path.startswith("layers."):
            return real
        after = last_real(ids, real)[:, None] + 1
        return pad(real, (0, 1)) | (torch.arange(ids.shape[1] + 1, device=ids.device) == after)

    def sight(
        self,
        seq: int,
        real: Tensor | None,
        given: Tensor | None,
        causal: bool,
        cache: Any,
        device: torch.device,
    ) -> tuple[Tensor | None, Ahead]:
        """Return that all see all that is real; see ``DecoderLM.sight``."""
        blocked, _ = super().sight(seq, real, given, False, None, device)
        if blocked is None:  # not None, for the loops that take a mask
            blocked = torch.zeros(1, 1, 1, seq, dtype=torch.bool, device=device)
            blocked = blocked.expand(-1, -1, seq, -1)
        return blocked, "all"

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> Any:
        """Return the state of texts that are still empty: their ids are all that is kept.

        Args:
            batch_size: texts.
            max_batch_size: needs no announcement here.
        """
        return ReadTexts(batch_size, self.config.context_length, self.embedding.weight.device)

    @classmethod
    def outline(cls, config: ModelConfig, vocab_size: int) -> Outline:
        """Return what a report says of a model of these sizes."""
        return outline_of(config, vocab_size)

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation of one read of ``seq`` tokens and a place more."""
        shapes = super().activation_shapes(batch, seq + 1)
        return {**shapes, "logits": (batch, seq, *shapes["logits"][2:])}

    def _text(
        self,
        ids: Tensor | None,
        embeddings: Tensor | None,
        positions: Tensor | None,
        real: Tensor | None,
        cache: ReadTexts | None,
    ) -> tuple[_Text, int]:
        """Return rows with what was read of them before, and how many of their tokens are new."""
        tokens = ids if embeddings is None else embeddings
        assert tokens is not None
        new = tokens.shape[1]
        if new > self.config.context_length:
            raise GenerationError(
                f"{new} tokens do not fit into model.context_length = "
                f"{self.config.context_length}: cut the sequence or train a longer context"
            )
        if positions is None:
            positions = self._running_positions(tokens, real, cache)
        if cache is not None:
            cache.extend(tokens, positions, real)
            embeddings, positions = cache.embeddings(self.embedding), cache.positions
            real = cache.real if cache.padded else None
        elif embeddings is None:
            embeddings = self.embedding(ids)
        assert embeddings is not None
        return _Text(embeddings, positions.expand(len(embeddings), -1), real), new

    def _from_both_sides(self, text: _Text, hooks: Hooks) -> Tensor:
        """Read each row once, the added place after its last token; return (batch, seq, hidden)."""
        embeddings, positions, real = text
        seq = embeddings.shape[1]
        after = last_real(positions, real)[:, None] + 1  # (batch, 1), the added place
        added = torch.arange(seq + 1, device=after.device) == after  # (batch, seq + 1)
        x = pad(embeddings, (0, 0, 0, 1))
        x = torch.where(added[..., None], self.mask.to(x), x)
        following = positions.gather(1, after - 1) + 1
        positions = torch.where(added, following, pad(positions, (0, 1)))
        if real is not None:
            real = pad(real, (0, 1)) | added
        return self._read(x, positions, real, hooks)[:, 1:]

    def _from_prefixes(self, text: _Text, start: int, hooks: Hooks) -> Tensor:
        """Read the prefix that ends at each place from ``start`` on, and the place after it.

        Returns:
            (batch, seq - start, hidden), the stream there; 0 where there is padding.
        """
        embeddings, positions, real = text
        batch, seq, size = embeddings.shape
        present = torch.ones_like(positions, dtype=torch.bool) if real is None else real
        ends, rows = present[:, start:].T.nonzero(as_tuple=True)  # short prefixes first
        x = pad(embeddings, (0, 0, 0, 1))
        positions = pad(positions, (0, 1))
        made = []
        for part in _parts([start + end for end in ends.tolist()]):
            row, end = rows[part], start + ends[part, None]  # (prefixes,), (prefixes, 1)
            width = int(end[-1]) + 2
            place = torch.arange(width, device=end.device)
            added = place == end + 1  # (prefixes, width)
            inputs = torch.where(added[..., None], self.mask.to(x), x[row, :width])
            at = torch.where(added, positions[row].gather(1, end) + 1, positions[row, :width])
            seen = added | ((place <= end) & pad(present, (0, 1))[row, :width])
            whole = real is None and end[0] == end[-1]
            stream = self._read(inputs, at, None if whole else seen, hooks)
            made.append(stream[torch.arange(len(row), device=row.device), end[:, 0] + 1])
        if not made:
            return embeddings.new_zeros(batch, seq - start, size)
        last = torch.cat(made)
        return last.new_zeros(batch, seq - start, size).index_put((rows, ends), last)

    def _read(self, x: Tensor, positions: Tensor, real: Tensor | None, hooks: Hooks) -> Tensor:
        """Return the stream of rows in which every place sees every other."""
        return super().residual(
            embeddings=x, positions=positions, real=real, causal=False, hooks=hooks
        )


def _parts(ends: list[int]) -> Iterator[slice]:
    """Cut prefixes, by their last places from the first to the last, into those read at once.

    So many that they have ``_PLACES_AT_ONCE`` places together, and none of them more than twice as
    many as the shortest: at most half of what is read is padding.
    """
    start = 0
    for i, end in enumerate(ends):
        places = (i + 1 - start) * (end + 2)
        if i > start and (places > _PLACES_AT_ONCE or end + 2 > 2 * (ends[start] + 2)):
            yield slice(start, i)
            start = i
    if ends:
        yield slice(start, len(ends))
