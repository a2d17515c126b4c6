"""The prefix language model: a decoder whose source tokens see each other whole.

Liu et al. 2018 (section 4.2.3, a decoder over source and target in one row) and Raffel et al. 2020
(section 3.2.1, figure 4): one stack of layers reads source and target. A token of the source sees
the whole source, one after it everything up to itself:

    keys:        source | target
    source       all    | none
    target       all    | up to itself

There is no parameter more than in the decoder, and none that only the source has. What is lost is
signal: the tokens of the source are not predicted, so that a window trains on half of its tokens in
the mean (``data.views.rest``).

Where no source is told the first token alone is one, and the model reads as the decoder does. The
cache is the decoder's too: nothing of a source changes once it was read whole.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.model.outline import Difference
from tinylm.model.reading import Ahead
from tinylm.planning.costs import Costs
from tinylm.planning.prefix_lm import PrefixCosts

_SOURCE = (
    "This model is a *prefix language model* [[liu2018]] [[raffel2020]]: the first tokens of a "
    "text are its source, and each of them sees all of the source, the tokens after it as well. "
    "The mask keeps the others from what follows them. In training the length of the source is "
    "drawn evenly for each window, and only the tokens after it are predicted. Where no source is "
    "named it is the first token alone: losses of whole texts, and what is shown of the inside of "
    "the model, are those of reading from left to right."
)


class PrefixLM(DecoderLM):
    """A decoder that reads its source whole."""

    label = "prefix language model"
    costs: ClassVar[Costs] = PrefixCosts()
    view = "rest"
    differs = Difference(_SOURCE, "Mask future tokens\nafter the source")

    def sight(
        self,
        seq: int,
        real: Tensor | None,
        given: Tensor | None,
        causal: bool,
        cache: KVCache | None,
        device: torch.device,
    ) -> tuple[Tensor | None, Ahead]:
        """Return who sees whom; see ``DecoderLM.sight``."""
        begins = cache is None or cache.length - seq == cache.prefix_length
        if given is None or not causal or not begins:
            return super().sight(seq, real, given, causal, cache, device)
        present = torch.ones(1, seq, dtype=torch.bool, device=device) if real is None else real
        source = present & (present.cumsum(1) <= given[:, None])  # (batch, seq)
        if cache is not None and torch.equal(source, present.expand_as(source)):
            return super().sight(seq, real, given, False, cache, device)  # prompts, all source
        blocked, _ = super().sight(seq, real, given, True, cache, device)
        if blocked is None:
            return None, "none"
        # No key of a source is blocked: those after it see it in any case.
        seen = pad(source, (blocked.shape[-1] - seq, 0))  # (batch, keys)
        return blocked & ~seen[:, None, None, :], "some"
