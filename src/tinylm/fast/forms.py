"""Quick forms put on a model and taken off: each part changes its class, and nothing else.

A quick part is a subclass of the plain one with the same parameters, so a part becomes quick by
being given that class. Modules, their names, parameters, hooks and ``state_dict`` stay the same
objects; what a quick part keeps for itself is no part of any of these. Each part checks whether the
tensors suit it (device, number format), and computes as the plain part where they do not. Parts
inside the wrappers of adapters become quick too.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from tinylm.fast.attention import FastAttention, FastCrossAttention
from tinylm.fast.codes import CodedLinear
from tinylm.fast.decoder import FastDecoderLM
from tinylm.fast.decoding import BFloat16Steps, Float32Steps, Int8Steps, Numbers
from tinylm.fast.dropout import FastDropout
from tinylm.fast.encoder_decoder import (
    BFloat16EncoderDecoder,
    FastCrossDecoderLayer,
    FastEncoderDecoderLM,
    Float32EncoderDecoder,
    Int8EncoderDecoder,
)
from tinylm.fast.kept import forget
from tinylm.fast.layers import FastDecoderLayer, FastFeedForward, FastLayerNorm
from tinylm.fast.linear import FastLinear
from tinylm.fast.masks import (
    BFloat16PrefixSteps,
    FastMaskedLM,
    FastPrefixLM,
    Float32PrefixSteps,
    Int8PrefixSteps,
)
from tinylm.fast.packed import BFloat16Linear, Int8Linear, PackedLinear
from tinylm.fast.recurrent import (
    FastAdditiveLayer,
    FastAdditiveSeq2SeqLM,
    FastElmanLM,
    FastGRULM,
    FastLinearLM,
    FastLSTMLM,
    FastMultiplicativeSeq2SeqLM,
    FastRecurrentLayer,
)
from tinylm.model.attention import Attention, CrossAttention
from tinylm.model.decoder import DecoderLayer, DecoderLM
from tinylm.model.dropout import Dropout
from tinylm.model.encoder_decoder import CrossDecoderLayer, EncoderDecoderLM
from tinylm.model.layers import FeedForward, LayerNorm
from tinylm.model.masked import MaskedLM
from tinylm.model.prefix_lm import PrefixLM
from tinylm.model.recurrent.layer import RecurrentLayer
from tinylm.model.recurrent.lm import GRULM, LSTMLM, ElmanLM, LinearLM
from tinylm.model.recurrent.pairs import AdditiveLayer
from tinylm.model.recurrent.seq2seq import AdditiveSeq2SeqLM, MultiplicativeSeq2SeqLM
from tinylm.numbers.quantized import QuantizedLinear

Form = Mapping[type[nn.Module], type[nn.Module]]
"""Class of a plain part -> its quick class."""

WHOLE: Form = {
    nn.Linear: FastLinear,
    Dropout: FastDropout,
    LayerNorm: FastLayerNorm,
    Attention: FastAttention,
    FeedForward: FastFeedForward,
    DecoderLayer: FastDecoderLayer,
    DecoderLM: FastDecoderLM,
    PrefixLM: FastPrefixLM,
    MaskedLM: FastMaskedLM,
    CrossAttention: FastCrossAttention,
    CrossDecoderLayer: FastCrossDecoderLayer,
    EncoderDecoderLM: FastEncoderDecoderLM,
    RecurrentLayer: FastRecurrentLayer,
    ElmanLM: FastElmanLM,
    LinearLM: FastLinearLM,
    GRULM: FastGRULM,
    LSTMLM: FastLSTMLM,
    AdditiveLayer: FastAdditiveLayer,
    AdditiveSeq2SeqLM: FastAdditiveSeq2SeqLM,
    MultiplicativeSeq2SeqLM: FastMultiplicativeSeq2SeqLM,
}
"""For whole texts, with gradients or without: training, validation."""
_CODED: Form = {**WHOLE, QuantizedLinear: CodedLinear}
DECODING: dict[Numbers, Form] = {
    "float32": {
        **_CODED,
        nn.Linear: PackedLinear,
        DecoderLM: Float32Steps,
        PrefixLM: Float32PrefixSteps,
        EncoderDecoderLM: Float32EncoderDecoder,
    },
    "bfloat16": {
        **_CODED,
        nn.Linear: BFloat16Linear,
        DecoderLM: BFloat16Steps,
        PrefixLM: BFloat16PrefixSteps,
        EncoderDecoderLM: BFloat16EncoderDecoder,
    },
    "int8": {
        **_CODED,
        nn.Linear: Int8Linear,
        DecoderLM: Int8Steps,
        PrefixLM: Int8PrefixSteps,
        EncoderDecoderLM: Int8EncoderDecoder,
    },
}
"""For decoding, by format of the linear maps."""
PLAIN: Form = {}
"""As ``model`` writes the parts."""
_PLAIN_OF = {quick: plain for form in (WHOLE, *DECODING.values()) for plain, quick in form.items()}


def install(model: nn.Module, form: Form = WHOLE) -> None:
    """Make the parts of a model quick, in place of whatever form they have.

    Args:
        model: any module with parts of ours, below wrappers or not.
        form: which class each part takes; parts of other classes, subclasses too, stay as they are.
    """
    for module in model.modules():
        plain = _PLAIN_OF.get(type(module), type(module))
        module.__class__ = form.get(plain, plain)
        forget(module)


def remove(model: nn.Module) -> None:
    """Make the parts of a model plain again."""
    install(model, PLAIN)


def is_quick(model: nn.Module) -> bool:
    """Whether a form is installed on a part of a model."""
    return any(type(module) in _PLAIN_OF for module in model.modules())
