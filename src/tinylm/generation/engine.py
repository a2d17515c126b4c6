"""The engine: one step function over a cache, and the loop that choosers run in.

Prompts of different lengths stand in one batch, padded on the left; positions count each row's
own tokens. A sequence that outgrows the model's context goes on in a sliding window: every further
token is predicted from the last ``context_length`` tokens, which are read anew, because cached
keys hold absolute positions and cannot be moved. The result says when that happened.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.generation.strategies import Chooser
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, evaluating
from tinylm.model.loss import at_least_float32
from tinylm.registry import STRATEGIES


@dataclass(frozen=True)
class SpecialIds:
    """The ids that generation must know."""

    pad: int
    sos: int
    eos: int
    unk: int


@dataclass(frozen=True)
class Generated:
    """What was generated for one prompt."""

    ids: list[int]
    """The new ids, ``<eos>`` left out."""
    finished: bool
    """Whether ``<eos>`` ended it, rather than the maximum length."""
    log_probability: float
    """Sum of log-probabilities of the new tokens (``<eos>`` included) under the model itself."""
    slid: bool
    """Whether the text outgrew the context, so that its beginning was no longer seen."""


class Stepper:
    """The one step function: next-token logits of a batch of growing sequences."""

    def __init__(
        self, model: DecoderLM, prompts: Sequence[Sequence[int]], pad: int, use_cache: bool = True
    ) -> None:
        """Take in the prompts, each at least one token long.

        Args:
            model: in eval mode.
            prompts: token ids of each row.
            pad: id that fills shorter rows.
            use_cache: false reads the whole window at every step.
        """
        self.model = model
        self.pad = pad
        self.use_cache = use_cache
        self.rows = [list(prompt) for prompt in prompts]
        self.device = model.embedding.weight.device
        self._cache: KVCache | None = None

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Return the logits of the token that follows each row, (batch, vocab)."""
        context = self.model.config.context_length
        if self._cache is not None and self._cache.length < self._cache.capacity:
            ids = torch.tensor([row[-1:] for row in self.rows], device=self.device)
            x = self.model.residual(ids, cache=self._cache)
        else:
            windows = [row[-context:] for row in self.rows]
            ids, real = self._pad_left(windows)
            self._cache = None
            # A full window is read anew for the next token, so keeping its keys would be waste.
            if self.use_cache and ids.shape[1] < context:
                self._cache = KVCache(
                    self.model.config,
                    len(windows),
                    device=self.device,
                    dtype=self.model.embedding.weight.dtype,
                )
            x = self.model.residual(ids, real=real, cache=self._cache)
        return self.model.unembed(x[:, -1])

    def append(self, ids: Tensor) -> None:
        """Add one token to every row, (batch,)."""
        for row, token in zip(self.rows, ids.tolist(), strict=True):
            row.append(token)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order; a row may be taken more than once."""
        self.rows = [list(self.rows[row]) for row in rows]
        if self._cache is not None:
            self._cache.reorder(torch.tensor(list(rows), device=self.device))

    def _pad_left(self, windows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        longest = max(len(window) for window in windows)
        rows = [[self.pad] * (longest - len(window)) + list(window) for window in windows]
        ids = torch.tensor(rows, device=self.device)
        lengths = torch.tensor([len(window) for window in windows], device=self.device)
        if int(lengths.min()) == longest:
            return ids, None
        places = torch.arange(longest, device=self.device)
        return ids, places >= longest - lengths[:, None]


def generate(
    model: DecoderLM,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    special: SpecialIds,
    use_cache: bool = True,
    first_row: int = 0,
) -> list[Generated]:
    """Continue every prompt until ``<eos>`` or the maximum length.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        prompts: token ids, framing ``<sos>`` included; none may be empty.
        config: the strategy and its settings.
        special: ``<pad>`` and ``<sos>`` are never generated, ``<unk>`` only if allowed.
        use_cache: false reads the whole window at every step (the slow, plain way).
        first_row: number of the first prompt; sampling draws each row's numbers by the seed and
            the row's number, so that prompts in several batches get the texts of one batch.

    Returns:
        One result a prompt, in order.

    Raises:
        GenerationError: if there is no prompt or an empty one.
    """
    steps = generate_steps(model, prompts, config, special, use_cache, first_row)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            results: list[Generated] = end.value
            return results


def generate_steps(
    model: DecoderLM,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    special: SpecialIds,
    use_cache: bool = True,
    first_row: int = 0,
) -> Generator[list[tuple[int, int]], None, list[Generated]]:
    """Generate step by step, for streaming: yields each step's new ``(prompt, id)`` pairs.

    Arguments, result and errors are those of ``generate``; ``<eos>`` is not yielded.
    """
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise GenerationError("every prompt needs at least one token; begin with <sos>")
    with evaluating(model):
        return (yield from _steps(model, prompts, config, special, use_cache, first_row))


def _steps(
    model: DecoderLM,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    special: SpecialIds,
    use_cache: bool,
    first_row: int,
) -> Generator[list[tuple[int, int]], None, list[Generated]]:
    chooser: Chooser = STRATEGIES.load(config.strategy)(config, len(prompts))
    stepper = Stepper(model, prompts, special.pad, use_cache)
    forbidden = [special.pad, special.sos] + ([] if config.allow_unk else [special.unk])
    seen = torch.zeros(
        len(prompts), model.config.resolved_vocab_size, dtype=torch.bool, device=stepper.device
    )
    for i, prompt in enumerate(prompts):
        seen[i, torch.tensor(list(prompt), device=stepper.device)] = True
    new: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    log_probability = [0.0] * len(prompts)
    active = list(range(len(prompts)))  # prompts still growing; row r of the stepper is active[r]

    for step in range(config.max_new_tokens):
        logits = stepper.logits()  # (active, vocab)
        logits = at_least_float32(logits)
        log_probabilities = logits.log_softmax(-1)
        logits[:, forbidden] = float("-inf")
        rows = torch.tensor(active, device=stepper.device)
        chosen = chooser.choose(logits, seen[rows], step, rows + first_row)  # (active,)
        seen[rows, chosen] = True
        gained = log_probabilities.gather(-1, chosen[:, None])[:, 0].tolist()
        going_on = []
        for r, i in enumerate(active):
            log_probability[i] += gained[r]
            if int(chosen[r]) == special.eos:
                finished[i] = True
            else:
                new[i].append(int(chosen[r]))
                going_on.append(r)
        yield [(active[r], int(chosen[r])) for r in going_on]
        if not going_on:
            break
        stepper.append(chosen)
        if len(going_on) < len(active):
            stepper.keep(going_on)
            active = [active[r] for r in going_on]

    context = model.config.context_length
    return [
        Generated(
            ids=new[i],
            finished=finished[i],
            log_probability=log_probability[i],
            # What the last prediction (an <eos> perhaps) would have had to see.
            slid=len(prompts[i]) + len(new[i]) - (not finished[i]) > context,
        )
        for i in range(len(prompts))
    ]
