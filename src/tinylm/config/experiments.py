"""The settings of the experiments that measure how training and generation are done.

Timings are medians over ``repeats`` rounds in which the things compared take turns.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm.config.labs import MnistLab, SvdLab
from tinylm.config.types import FROZEN, Float, Int, NonNegativeInt, PositiveFloat, PositiveInt

Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


@dataclass(frozen=True, config=FROZEN)
class KVCacheExperiment:
    """Generation with and without a key-value cache."""

    samples: PositiveInt = 20
    """Texts generated as one batch."""
    length: Annotated[Int, Field(ge=16)] = 256
    """Tokens generated where the cost of each step is followed; the model is built with a context
    that holds them, its weights left at their start, since the cost does not depend on them."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""


@dataclass(frozen=True, config=FROZEN)
class BeamSearchExperiment:
    """Beam search beside greedy decoding and sampling."""

    widths: Sizes = (5, 10)
    """Beam widths."""
    few_prompts: PositiveInt = 5
    """Validation prompts of the side-by-side comparison."""
    prompts: PositiveInt = 50
    """Validation prompts of the second comparison."""
    max_new_tokens: PositiveInt | None = None
    """Longest continuation; empty: what the context holds."""
    length_penalty: Float = 1.0
    """Exponent of the length that a hypothesis' log-probability is divided by."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""


@dataclass(frozen=True, config=FROZEN)
class AccumulationExperiment:
    """Training with gradients accumulated over several mini-batches."""

    batch_size: PositiveInt = 16
    """Windows in a mini-batch."""
    steps: Sizes = (1, 2, 4, 8)
    """Mini-batches an optimizer step, one training each."""
    epochs: PositiveInt = 1
    """Passes over the training windows, unless windows is set."""
    windows: PositiveInt | None = None
    """Train on this many windows in all instead, the same for every training."""
    learning_rate: PositiveFloat | None = None
    """Constant learning rate of all of them; empty: training.learning_rate."""


@dataclass(frozen=True, config=FROZEN)
class HyperparametersExperiment:
    """Short trainings that differ in depth, number of heads or learning rate."""

    steps: PositiveInt = 300
    """Optimizer steps of each training."""
    seeds: Annotated[Int, Field(ge=2)] = 3
    """Times that the run's own settings are trained, which shows what random numbers do."""
    num_layers: Sizes = (1, 6)
    """Decoder layers to try."""
    num_heads: Sizes = (1, 4)
    """Attention heads to try; a head's width follows from their number."""
    learning_rate_factors: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (0.25, 4.0)
    """Learning rates to try, in multiples of training.learning_rate."""
    validation_windows: PositiveInt = 64
    """Windows of the validation split on which all are compared."""


@dataclass(frozen=True, config=FROZEN)
class GradientCheckpointingExperiment:
    """Training with activations recomputed in the backward pass."""

    depths: Sizes = (3, 6, 12)
    """Decoder layers."""
    context_lengths: Sizes = (64, 128, 256)
    """Context lengths; the depth is then the smallest of the depths and every other size the
    run's own."""
    segments: Sizes = (1, 3)
    """Layers a segment; each is a row beside training without recomputation."""
    tokens_per_batch: NonNegativeInt = 0
    """Tokens in a batch, the same for every context length; 0: those of a batch of the run."""
    repeats: PositiveInt = 5
    """Timed rounds after one that warms up."""


@dataclass(frozen=True, config=FROZEN)
class EfficiencyExperiment:
    """What a training step and generation cost, planned and measured, and how the cost grows.

    One size is varied at a time; the others are the run's own.
    """

    batch_sizes: Sizes = (8, 16, 32, 64)
    """Windows in a batch."""
    context_lengths: Sizes = (32, 64, 128, 256)
    """Context lengths."""
    depths: Sizes = (1, 2, 4, 8)
    """Decoder layers."""
    vocabularies: Sizes = (2_000, 4_000, 8_000, 16_000)
    """Vocabulary sizes."""
    repeats: PositiveInt = 5
    """Timed rounds after two that warm up."""


@dataclass(frozen=True, config=FROZEN)
class PrecisionExperiment:
    """The same training in float32 and in bfloat16."""

    steps: PositiveInt = 500
    """Optimizer steps of each training."""
    validation_windows: PositiveInt = 64
    """Windows of the validation split on which both are compared."""


@dataclass(frozen=True, config=FROZEN)
class FinetuningExperiment:
    """The run's model, adapted to another kind of text by every method."""

    target: str | None = None
    """Text that the model is adapted to: a corpus, or a folder or file as --data takes; empty:
    letters, or stories where the run's own text is letters."""
    texts: PositiveInt = 4_000
    """Most texts of it to train on."""
    stories: Annotated[Int, Field(ge=2)] = 100
    """Validation texts of either kind."""
    steps: PositiveInt = 150
    """Optimizer steps of every adaptation."""
    batch_size: PositiveInt = 16
    """Rows in a batch: texts, or pieces of them as long as the context."""
    seeds: Annotated[Int, Field(ge=2)] = 3
    """Times that LoRA is trained, which shows what random numbers do to a result."""
    rank: PositiveInt = 8
    """Rank of the methods that have one."""
    ranks: Sizes = (1, 2, 4, 8, 16, 32)
    """Ranks of LoRA, one adaptation each."""
    dimensions: tuple[PositiveInt, ...] = (32, 128, 512, 2_048, 8_192)
    """Dimensions of SAID, one adaptation each, in which the intrinsic one is looked for; none:
    it is not looked for."""
    context_factor: Annotated[Int, Field(ge=2)] = 4
    """LongLoRA extends the context so many times."""
    context_steps: NonNegativeInt = 100
    """Optimizer steps of each way of extending it; 0: it is not extended."""
    sample_tokens: PositiveInt = 60
    """Tokens of the samples before and after."""
    new_tokens: PositiveInt = 40
    """Tokens generated where the speed is measured."""
    repeats: PositiveInt = 3
    """Timed rounds after one that warms up."""


@dataclass(frozen=True, config=FROZEN)
class AttentionExperiment:
    """What every attention head does, and what it is worth."""

    stories: Annotated[Int, Field(ge=2)] = 100
    """Validation stories on which heads are measured and switched off, each cut to the context."""


@dataclass(frozen=True, config=FROZEN)
class ExperimentsConfig:
    """What the experiments on training and generation try."""

    attention: AttentionExperiment = AttentionExperiment()
    """Attention heads."""
    kv_cache: KVCacheExperiment = KVCacheExperiment()
    """Key-value cache."""
    beam_search: BeamSearchExperiment = BeamSearchExperiment()
    """Beam search."""
    hyperparameters: HyperparametersExperiment = HyperparametersExperiment()
    """Depth, heads and learning rate."""
    accumulation: AccumulationExperiment = AccumulationExperiment()
    """Gradient accumulation."""
    gradient_checkpointing: GradientCheckpointingExperiment = GradientCheckpointingExperiment()
    """Gradient checkpointing."""
    efficiency: EfficiencyExperiment = EfficiencyExperiment()
    """Cost, planned and measured."""
    precision: PrecisionExperiment = PrecisionExperiment()
    """Number formats."""
    finetuning: FinetuningExperiment = FinetuningExperiment()
    """Fine-tuning with few parameters."""
    lab_svd: SvdLab = SvdLab()
    """Low-rank factorisation."""
    lab_mnist: MnistLab = MnistLab()
    """LoRA on digits."""
