"""Decoders that differ in who sees whom, quick: the decoder's quick forms with their own masks."""

from __future__ import annotations

from tinylm.fast.decoder import FastDecoderLM
from tinylm.fast.decoding import BFloat16Steps, Float32Steps, Int8Steps
from tinylm.model.masked import MaskedLM
from tinylm.model.prefix_lm import PrefixLM


class FastPrefixLM(FastDecoderLM, PrefixLM):
    """See ``FastDecoderLM``."""


class Float32PrefixSteps(Float32Steps, PrefixLM):
    """See ``SteppingDecoderLM``."""


class BFloat16PrefixSteps(BFloat16Steps, PrefixLM):
    """See ``SteppingDecoderLM``."""


class Int8PrefixSteps(Int8Steps, PrefixLM):
    """See ``SteppingDecoderLM``."""


class FastMaskedLM(FastDecoderLM, MaskedLM):
    """See ``FastDecoderLM``; it has no quicker step, since a step reads all tokens anew."""
