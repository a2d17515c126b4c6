"""The one step function, which every strategy runs on: next-token logits of growing sequences.

Prompts of different lengths stand in one batch, padded on the left; positions count each row's
own tokens. A sequence that outgrows the model's context goes on in a sliding window: every further
token is predicted from the last ``context_length`` tokens, which are read anew, because cached
keys hold absolute positions and cannot be moved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tinylm.fast import is_quick, loops
from tinylm.model.base import DecodingState, GenerativeModel
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.planning.limits import refuse_generation


class Stepper:
    """The one step function: next-token logits of a batch of growing sequences."""

    def __init__(
        self,
        model: GenerativeModel,
        prompts: Sequence[Sequence[int]],
        pad: int,
        use_cache: bool = True,
        progress: Callable[[int], None] = lambda steps: None,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        """Begin with the prompts, each at least one token long.

        Args:
            model: in eval mode.
            prompts: token ids of each row.
            pad: id that fills shorter rows.
            use_cache: false reads the whole window at every step.
            progress: called after every step with the number of steps so far.
            hooks: see and replace the activations of the tokens that a step reads.

        Raises:
            ConfigError: if so many rows need more memory than there is.
        """
        self.model = model
        self.pad = pad
        self.use_cache = use_cache
        self.rows = [list(prompt) for prompt in prompts]
        self._given = [len(prompt) for prompt in prompts]
        self.device = next(model.parameters()).device
        self.refuse_rows(len(prompts), "the number of prompts or samples, or model.context_length")
        self.compiled = is_quick(model) and loops.suit(next(model.parameters()))
        """Whether compiled loops may choose the tokens of a step."""
        self._progress = progress
        self._hooks = hooks
        self._steps = 0
        self._cache: DecodingState | None = None
        self._reserved = 0
        self._prefilled = 0  # columns of the cache that were read at once
        self._origins: list[int] = []  # for each row, the row whose prefill it shares

    def refuse_rows(self, num_rows: int, change: str, ranked: int = 0) -> None:
        """Refuse more rows than the memory of a machine without a GPU holds.

        Args:
            num_rows: wanted at once.
            change: the settings that would make them fewer.
            ranked: tokens of each row that a search ranks.

        Raises:
            ConfigError: with the sum and the memory.
        """
        if self.device.type == "cpu":
            config = self.model.config
            longest = min(config.context_length, max(map(len, self.rows)))
            refuse_generation(config, num_rows, longest, change, ranked)

    def reserve(self, num_rows: int) -> None:
        """Announce before the first step that ``keep`` will make so many rows of the prompts.

        The cache is then allocated for them at once, and not a second time when they are made.
        """
        self._reserved = num_rows

    @torch.inference_mode()
    def logits(self) -> Tensor:
        """Return the logits of the token that follows each row, (batch, vocab)."""
        if self._cache is not None and self._cache.length < self._cache.capacity:
            newest, places = [row[-1] for row in self.rows], [len(row) - 1 for row in self.rows]
            logits = self.model.next_logits(newest, places, self._cache, self._hooks)
        else:
            logits = self.model.unembed(self._read_windows())
        self._steps += 1
        self._progress(self._steps)
        return logits

    def append(self, ids: Sequence[int]) -> None:
        """Add one token to every row."""
        for row, token in zip(self.rows, ids, strict=True):
            row.append(token)

    @torch.inference_mode()  # the cache was made in it
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; a row may be taken more than once."""
        self._given = [self._given[row] for row in rows]
        texts, taken = [], set()
        for row in rows:
            texts.append(list(self.rows[row]) if row in taken else self.rows[row])
            taken.add(row)
        self.rows = texts
        if self._cache is None or list(rows) == list(range(self._cache.batch_size)):
            return
        origins = [self._origins[row] for row in rows]
        # Hypotheses of one prompt share its prefill; only the tokens after it need be copied.
        same = all(new == old for new, old in zip(origins, self._origins, strict=False))
        self._cache.reorder(torch.tensor(rows), shared=self._prefilled if same else 0)
        self._origins = origins

    def _read_windows(self) -> Tensor:
        """Read each row's last window from its first token, into a new cache if it may grow.

        Returns:
            The residual stream at the end of each, (batch, hidden).
        """
        context = self.model.config.context_length
        windows = [row[-context:] for row in self.rows]
        ids, real = self._pad_left(windows)
        # What a window has left of the prompt, which a model that needs a source reads as one.
        given = [
            max(1, count - (len(row) - len(window)))
            for count, row, window in zip(self._given, self.rows, windows, strict=True)
        ]
        reserved, self._reserved = self._reserved, 0
        self._cache = None
        # A full window is read anew for the next token, so its keys need not be kept.
        if self.use_cache and ids.shape[1] < context:
            self._cache = self.model.decoding_state(len(windows), max_batch_size=reserved)
            self._prefilled = ids.shape[1]
            self._origins = list(range(len(windows)))
        return self.model.last_residual(
            ids,
            real=real,
            given=torch.tensor(given, device=self.device),
            cache=self._cache,
            hooks=self._hooks,
        )

    def _pad_left(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        longest = max(len(window) for window in windows)
        rows = [[self.pad] * (longest - len(window)) + list(window) for window in windows]
        ids = torch.tensor(rows, device=self.device)
        lengths = torch.tensor([len(window) for window in windows], device=self.device)
        if int(lengths.min()) == longest:
            return ids, None
        places = torch.arange(longest, device=self.device)
        return ids, places >= longest - lengths[:, None]
