"""The two caches of an encoder–decoder: one that grows with what is written, one that stays.

Keys and values of the source are made once and are the same for every step, so that a step costs
nothing for the source but the scores of its new token. For a source of S tokens and T written ones
the caches have ``num_layers * 2 * num_heads * head_dim * (S + T)`` numbers, where T counts the last
token of the source, which is the first that the decoder reads.

Texts of one source, as beams are, share its keys: which source a text has is a number, and when
texts change places, the numbers do and the keys do not move.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tinylm.errors import GenerationError
from tinylm.model.cache import KVCache, taken


class SourceCache:
    """Keys and values of the sources of a batch of texts (a ``model.reading.Crossed``)."""

    def __init__(self, blocked: Tensor | None, num_texts: int) -> None:
        """Begin with a source a text.

        Args:
            blocked: (texts, 1, 1, source), True where a source has no token; None: all are as long.
            num_texts: texts, and sources.
        """
        self._blocked = blocked
        self._keys: dict[int, tuple[Tensor, Tensor]] = {}
        self._sources = list(range(num_texts))  # of each text
        self._places: Tensor | None = None
        self._back: Tensor | None = None
        self._most = 1

    @property
    def num_bytes(self) -> int:
        """Bytes of keys and values."""
        return sum(part.nbytes for both in self._keys.values() for part in both)

    def put(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Keep a layer's keys and values, (texts, heads, source, head_dim) each."""
        self._keys[layer] = (keys, values)

    def held(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return a layer's keys and values, each source once, and which must not be seen."""
        return *self._keys[layer], self._blocked

    def for_each_text(self, layer: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return the same for each text, a source as often as it has texts."""
        keys, values = self._keys[layer]
        rows = torch.tensor(self._sources, device=keys.device)
        blocked = None if self._blocked is None else self._blocked[rows]
        return keys[rows], values[rows], blocked

    def together(self, queries: Tensor) -> Tensor:
        """Return queries of texts, (batch, heads, seq, head_dim), by their sources.

        Returns:
            (sources, heads, most texts of a source * seq, head_dim); a source with fewer texts than
            another is filled up with queries of any text.
        """
        if self._places is None:
            return queries
        chosen = queries.index_select(0, self._places)
        by_source = chosen.view(-1, self._most, *queries.shape[1:])
        return by_source.transpose(1, 2).flatten(2, 3)

    def apart(self, mixed: Tensor) -> Tensor:
        """Return what ``together`` put together by texts again, (batch, heads, seq, head_dim)."""
        if self._back is None:
            return mixed
        sources, heads, _, size = mixed.shape
        by_text = mixed.reshape(sources, heads, self._most, -1, size).transpose(1, 2)
        return by_text.flatten(0, 1).index_select(0, self._back)

    def reorder(self, rows: list[int]) -> None:
        """Make text i what text ``rows[i]`` was; a source is moved only when another has left."""
        wanted = [self._sources[row] for row in rows]
        kept = sorted(set(wanted))
        number = {source: place for place, source in enumerate(kept)}
        self._sources = [number[source] for source in wanted]
        texts: list[list[int]] = [[] for _ in kept]
        for text, source in enumerate(self._sources):
            texts[source].append(text)
        self._most = max(map(len, texts), default=1)
        device = torch.device("cpu")
        for layer, both in self._keys.items():
            device = both[0].device
            if len(kept) < len(both[0]):
                left = torch.tensor(kept, device=device)
                self._keys[layer] = (both[0].index_select(0, left), both[1].index_select(0, left))
        if self._blocked is not None and len(kept) < len(self._blocked):
            self._blocked = self._blocked[torch.tensor(kept, device=device)]
        if self._sources == list(range(len(kept))):
            self._places = self._back = None
            return
        filled = [own + own[:1] * (self._most - len(own)) for own in texts]
        places = {text: self._most * i + j for i, own in enumerate(texts)
                  for j, text in enumerate(own)}  # fmt: skip
        self._places = torch.tensor(filled, device=device).flatten()
        self._back = torch.tensor([places[text] for text in range(len(rows))], device=device)


class TwoCaches:
    """The decoding state of an encoder–decoder, for a batch of texts.

    What it counts are the tokens of the whole texts, sources and what is written, as the decoder's
    cache does; how they are divided it learns when the first of them are read.
    """

    def __init__(
        self, batch_size: int, capacity: int, new_cache: Callable[[int, int], KVCache]
    ) -> None:
        """Begin with texts that are still empty.

        Args:
            batch_size: texts.
            capacity: tokens that may be read of each.
            new_cache: makes the cache of what is written, of so many texts and tokens.
        """
        self.batch_size = batch_size
        """Texts."""
        self.capacity = capacity
        """Most tokens of each, source and padding included."""
        self.length = 0
        """Tokens read of each text, source and padding included."""
        self._new_cache = new_cache
        self._written: KVCache | None = None
        self._source: SourceCache | None = None
        self._first = self._ahead = 0
        self._origins: list[int] = []

    @property
    def written(self) -> KVCache:
        """Keys and values of the tokens that the decoder has read."""
        assert self._written is not None
        return self._written

    @property
    def source(self) -> SourceCache:
        """Keys and values of the sources."""
        assert self._source is not None
        return self._source

    @property
    def num_bytes(self) -> int:
        """Bytes of both caches, room for tokens to come included."""
        return 0 if self._written is None else self.written.num_bytes + self.source.num_bytes

    def begin(self, tokens: int, written: int, blocked: Tensor | None, origins: Tensor) -> None:
        """Make the caches for what is read first.

        Args:
            tokens: that are read of each text, padding included.
            written: tokens of these that the decoder reads.
            blocked: as of ``SourceCache``.
            origins: (texts,), position of the last token of each source.

        Raises:
            GenerationError: if there are more than it holds.
        """
        self._refuse(tokens)
        self.length = self._first = tokens
        self._ahead = tokens - written  # columns of the text before those that the decoder reads
        self._origins = origins.tolist()
        self._written = self._new_cache(self.batch_size, self.capacity - self._ahead)
        self._source = SourceCache(blocked, self.batch_size)

    def extend(self, tokens: int) -> None:
        """Count tokens that are read now.

        Raises:
            GenerationError: if there are more than it holds.
        """
        self._refuse(tokens)
        self.length += tokens

    def _refuse(self, tokens: int) -> None:
        if self.length + tokens > self.capacity:
            raise GenerationError(
                f"the caches are for texts of {self.capacity} tokens and {self.length + tokens} "
                "are needed: read the last window again"
            )

    def origins(self, device: torch.device) -> Tensor:
        """Return the position of the last token of each text's source, (texts, 1)."""
        return torch.tensor(self._origins, device=device)[:, None]

    def places(self, positions: list[int]) -> list[int]:
        """Return the decoder's positions of tokens at these positions of their texts."""
        return [place - origin for place, origin in zip(positions, self._origins, strict=True)]

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; the number of texts may change.

        Args:
            rows: (new batch,), int64.
            shared: first tokens that are the same in text i and in text ``rows[i]``.

        Raises:
            GenerationError: if there is no such text.
        """
        wanted = taken(rows, self.batch_size, held="caches of {count} texts")
        self.batch_size = len(wanted)
        if self._written is None:
            return
        # Of tokens that were read first either all are the same, or it is not known which.
        same = 0 if shared < self._first else shared - self._ahead
        self.written.reorder(rows, same)
        self.source.reorder(wanted)
        self._origins = [self._origins[row] for row in wanted]
