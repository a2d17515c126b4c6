"""The settings of the fine-tuning methods, one dataclass a method."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm import registry
from tinylm.config.effects import Is, UsedWith
from tinylm.value_types import (
    FROZEN,
    Float,
    Fraction,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    one_of,
)

Targets = Annotated[tuple[str, ...], Field(min_length=1)]
EVERY_PROJECTION = (
    "attention.query_key_value",
    "attention.output",
    "feed_forward.expand",
    "feed_forward.contract",
)


@dataclass(frozen=True, config=FROZEN)
class LoraConfig:
    """Low-rank updates of linear maps (Hu et al. 2021)."""

    rank: PositiveInt = 8
    """Rank of the update."""
    alpha: PositiveFloat = 16.0
    """The update is multiplied by alpha / rank, or alpha / sqrt(rank)."""
    scaling: Literal["standard", "rank-stabilised"] = "standard"
    """standard: alpha / rank; rank-stabilised: alpha / sqrt(rank) (Kalajdzievski 2023)."""
    dropout: Fraction = 0.0
    """Dropout on the input of the update."""
    targets: Targets = EVERY_PROJECTION
    """Linear maps that are adapted: paths or their ends, with * for anything."""
    bias: Literal["none", "adapted", "all"] = "none"
    """Biases trained as well: none, those of adapted maps, or all of the model."""
    learning_rate_ratio: PositiveFloat = 1.0
    """Learning rate of B as a multiple of A's; 16 is LoRA+ (Hayou, Ghosh and Yu 2024)."""


@dataclass(frozen=True, config=FROZEN)
class DyLoraConfig:
    """LoRA that is usable at every rank up to its own (Valipour et al. 2022)."""

    rank: PositiveInt = 8
    """Largest rank."""
    alpha: PositiveFloat = 16.0
    """The update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the input of the update."""
    targets: Targets = EVERY_PROJECTION
    """Linear maps that are adapted: paths or their ends, with * for anything."""
    frozen: bool = False
    """Train only the row and column of the rank drawn, not those before it."""


@dataclass(frozen=True, config=FROZEN)
class QLoraConfig:
    """LoRA over a base in 4-bit NormalFloat (Dettmers et al. 2023)."""

    rank: PositiveInt = 8
    """Rank of the update."""
    alpha: PositiveFloat = 16.0
    """The update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the input of the update."""
    targets: Targets = EVERY_PROJECTION
    """Linear maps that are quantized and adapted: paths or their ends, with * for anything."""
    block_size: PositiveInt = 64
    """Weights that share one constant."""
    double_quantization: bool = True
    """Quantize the constants to 8 bits too, in blocks of 256."""


@dataclass(frozen=True, config=FROZEN)
class LongLoraConfig:
    """LoRA for a longer context: shifted sparse attention in training (Chen et al. 2023)."""

    rank: PositiveInt = 8
    """Rank of the update."""
    alpha: PositiveFloat = 16.0
    """The update is multiplied by alpha / rank."""
    dropout: Fraction = 0.0
    """Dropout on the input of the update."""
    targets: Targets = ("attention.query_key_value", "attention.output")
    """Linear maps that are adapted: paths or their ends, with * for anything."""
    group_size: PositiveInt = 64
    """Tokens that attend to each other in training; half of the heads are shifted by half of it."""
    train_embeddings: bool = True
    """Train the embeddings too."""
    train_norms: bool = True
    """Train the norms too."""


@dataclass(frozen=True, config=FROZEN)
class BottleneckConfig:
    """Bottleneck adapters after attention and feed-forward (Houlsby et al. 2019)."""

    size: PositiveInt = 16
    """Inner width."""
    activation: Annotated[str, one_of(registry.ACTIVATIONS)] = "relu"
    """Nonlinearity of the bottleneck."""
    targets: Targets = ("attention", "feed_forward")
    """Modules after which one stands: paths or their ends, with * for anything."""


@dataclass(frozen=True, config=FROZEN)
class PrefixConfig:
    """Learned keys and values at every layer (Li and Liang 2021)."""

    length: PositiveInt = 8
    """Virtual tokens."""
    inner_size: NonNegativeInt = 128
    """Inner width of the MLP that makes the keys and values in training; 0: learn them directly."""


@dataclass(frozen=True, config=FROZEN)
class PromptConfig:
    """Learned input embeddings before the text (Lester, Al-Rfou and Constant 2021)."""

    used_with: ClassVar[UsedWith] = {"ids": (Is("start", "vocabulary"),)}

    length: PositiveInt = 8
    """Virtual tokens."""
    start: Literal["random", "vocabulary"] = "vocabulary"
    """vocabulary: start from the embeddings of words; random: from numbers of the same size."""
    ids: tuple[NonNegativeInt, ...] = ()
    """Token ids to start from, repeated as often as needed; empty: the first words, which are the
    most frequent ones."""


@dataclass(frozen=True, config=FROZEN)
class IntrinsicConfig:
    """Training in a random subspace (Li et al. 2018; Aghajanyan, Gupta and Zettlemoyer 2021)."""

    dimension: PositiveInt = 1024
    """Numbers trained."""
    structure_aware: bool = True
    """Spend one of them a layer on a scale of the layer's part (SAID); false: DID."""
    targets: Targets = EVERY_PROJECTION
    """Linear maps that move: paths or their ends, with * for anything."""
    seed: Annotated[NonNegativeInt, Field(lt=2**43)] = 0
    """Seed of the random projection, which is never stored."""


@dataclass(frozen=True, config=FROZEN)
class ClassificationConfig:
    """A classifier on a decoder: `--method sequence-classification`."""

    used_with: ClassVar[UsedWith] = dict.fromkeys(
        ("rank", "alpha", "targets"), (Is("body", "lora"),)
    )

    body: Literal["frozen", "lora", "full"] = "lora"
    """What is trained beside the head: nothing of the decoder, low-rank updates, or all of it."""
    bidirectional: bool = False
    """Every token sees every token, and a learned [CLS] token is read (Devlin et al. 2019); false:
    each sees those before it, and the last one is read."""
    pooler: bool = False
    """A linear map and tanh before the head, as BERT has."""
    dropout: Fraction = 0.1
    """Dropout on what the head reads."""
    rank: PositiveInt = 8
    """Rank of the updates of body=lora."""
    alpha: PositiveFloat = 16.0
    """The updates are multiplied by alpha / rank."""
    targets: Targets = EVERY_PROJECTION
    """Linear maps that body=lora adapts: paths or their ends, with * for anything."""
    epochs: PositiveInt = 3
    """Passes over the labelled texts, unless --steps is given."""
    text_field: str = "text"
    """Column or key of the text."""
    label_field: str = "label"
    """Column or key of the label."""
    validation_fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    """Share of every label held out where there is no validation file."""
