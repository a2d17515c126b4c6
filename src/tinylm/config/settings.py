"""The settings of a run: frozen dataclasses, one a section.

The docstring under a field is its help text (``tinylm config`` prints them). Values are checked by
pydantic when a dataclass is made.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tinylm import registry
from tinylm.config.experiments import ExperimentsConfig
from tinylm.config.tokenizers import DEFAULT_TOKENIZER, TokenizerConfig
from tinylm.errors import ConfigError, shown
from tinylm.value_types import (
    FROZEN,
    Float,
    Fraction,
    Int,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    one_of,
)


@dataclass(frozen=True, config=FROZEN)
class DataConfig:
    """Where the text comes from and how it is split."""

    corpus: Annotated[str, one_of(registry.CORPORA)] = "stories"
    """stories, letters or skills (embedded: stories, letters, and tasks as plain text), files or
    pairs (data.path: texts, or sources with targets) or tinystories (the Hub dataset)."""
    path: str | None = None
    """Folder or file that the corpora `files` and `pairs` read; a folder's files are split by name
    (train, valid or validation)."""
    text_format: Literal["auto", "endoftext", "file", "blank-line"] = "auto"
    """How .txt files hold documents: `endoftext` (a line <|endoftext|> closes each), `file`
    (one document a file) or `blank-line` (an empty line closes each); auto accepts only the
    first, and asks otherwise."""
    text_field: str = "text"
    """The field of .jsonl and parquet rows that holds the text."""
    train_stories: PositiveInt | None = None
    """Use at most this many training stories, or pairs (the embedded corpus makes 20,000 if
    empty)."""
    validation_stories: PositiveInt | None = None
    """Use at most this many validation stories (the embedded corpus makes 1,000 if empty)."""
    validation_fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    """Share of the stories held out where a corpus has no validation split of its own."""
    seed: NonNegativeInt = 0
    """Seed of the embedded story grammar and of the hold-out."""
    tasks: tuple[str, ...] = ()
    """Tasks of the corpus `skills`; empty: all of them."""
    withheld: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    """Share of the facts of the corpus `skills` that stand in no training text; its validation
    texts hang on them."""
    cache_folder: str = "runs/.cache"
    """Where tokenizers, token files and vectors are kept for the next run on the same data."""
    workers: Annotated[PositiveInt, Field(le=256)] = 1
    """Processes that encode a text of more than 64 million characters; what they write is the
    same, however many there are."""


@dataclass(frozen=True, config=FROZEN)
class VectorsConfig:
    """Where the embedding starts from: fastText vectors or random numbers."""

    source: Literal["auto", "train", "file", "none"] = "auto"
    """train: fastText on the training split (gensim); file: official .vec or .bin; none: random;
    auto: file where path names one, else train."""
    path: str | None = None
    """A .vec or .bin file of pre-trained vectors, or one of these as .gz or .zip."""
    trainable: bool = True
    """Fine-tune the vectors with the model; false keeps them frozen."""
    epochs: PositiveInt = 5
    """Passes over the training split when fastText is trained here."""
    window: PositiveInt = 5
    """Context words on each side when fastText is trained here."""
    seed: NonNegativeInt | None = None
    """Seed of fastText's training; empty: training.seed."""

    @property
    def resolved_source(self) -> Literal["train", "file", "none"]:
        """``source``, or what ``auto`` stands for.

        Raises:
            ConfigError: if a file is asked for and none is named, or named and not asked for.
        """
        if self.source == "file" and self.path is None:
            raise ConfigError("vectors.source = file needs vectors.path, a .vec or .bin file")
        if self.source in ("train", "none") and self.path is not None:
            raise ConfigError(
                f"vectors.path = {shown(self.path)} has no effect with vectors.source = "
                f"{self.source}: leave one of them out"
            )
        if self.source == "auto":
            return "train" if self.path is None else "file"
        return self.source


@dataclass(frozen=True, config=FROZEN)
class ModelConfig:
    """The kind, sizes and choices of a model; enough to build it."""

    kind: Annotated[str, one_of(registry.MODELS)] = "decoder"
    """Kind of model: decoder, a decoder-only Transformer; rnn, linear-rnn, gru or lstm, recurrent
    ones, which have no heads, positions, norms or feed-forward part; prefix-lm or masked, the
    decoder with another mask; encoder-decoder, a Transformer of two stacks; seq2seq-additive or
    seq2seq-multiplicative, a recurrent encoder and decoder with attention."""
    vocab_size: PositiveInt | None = None
    """Number of token types; empty: taken from the tokenizer."""
    context_length: Annotated[Int, Field(ge=2)] = 64
    """Most positions the model sees at once."""
    num_layers: PositiveInt = 3
    """Decoder layers, or recurrent ones; of an encoder as many beside them."""
    num_heads: PositiveInt = 8
    """Attention heads a layer."""
    hidden_size: PositiveInt = 300
    """Width of the residual stream or of a recurrent state, and dimension of the fastText
    vectors."""
    head_dim: PositiveInt | None = None
    """Width of one head; empty: ceil(hidden_size / num_heads)."""
    ffn_size: PositiveInt | None = None
    """Inner width of the feed-forward part; empty: 4 * hidden_size (Vaswani et al. 2017, 3.3)."""
    dropout: Fraction = 0.1
    """Dropout on the embedding, on the attention pattern and on each part's output; in a recurrent
    model on the embedding and on each layer's output, never from step to step."""
    norm_placement: Literal["post", "pre"] = "post"
    """post: LayerNorm after each residual sum (Vaswani et al. 2017); pre: before each part."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the variance inside the root of LayerNorm."""
    activation: Annotated[str, one_of(registry.ACTIVATIONS)] = "relu"
    """Nonlinearity of the feed-forward part."""
    positions: Annotated[str, one_of(registry.POSITIONS)] = "sinusoidal"
    """Positional encoding."""
    scale_embeddings: bool = True
    """Multiply embeddings by sqrt(hidden_size) before positions are added (3.4)."""
    tie_embeddings: bool = False
    """Use the embedding matrix as output projection too."""
    bias: bool = True
    """Give the linear maps and norms a bias."""

    @property
    def resolved_head_dim(self) -> int:
        """``head_dim``, or ``ceil(hidden_size / num_heads)`` if it was left empty."""
        return self.head_dim or math.ceil(self.hidden_size / self.num_heads)

    @property
    def resolved_ffn_size(self) -> int:
        """``ffn_size``, or ``4 * hidden_size`` if it was left empty."""
        return self.ffn_size or 4 * self.hidden_size

    @property
    def resolved_vocab_size(self) -> int:
        """``vocab_size``.

        Raises:
            ConfigError: if it is still empty.
        """
        if self.vocab_size is None:
            raise ConfigError(
                "model.vocab_size is empty: set it to the tokenizer's vocab_size "
                "(`tinylm train` does so by itself)"
            )
        return self.vocab_size


@dataclass(frozen=True, config=FROZEN)
class TrainingConfig:
    """How the model is trained."""

    optimizer: Annotated[str, one_of(registry.OPTIMIZERS)] = "adam"
    """adam, adamw, sgd (ours) or torch-adam, torch-adamw, torch-sgd (torch's fused forms)."""
    learning_rate: PositiveFloat = 3e-4
    """Peak learning rate."""
    beta1: Fraction = 0.9
    """Adam's decay of the mean of the gradient; momentum of SGD."""
    beta2: Fraction = 0.999
    """Adam's decay of the mean of the squared gradient."""
    eps: PositiveFloat = 1e-8
    """Added to Adam's denominator."""
    weight_decay: NonNegativeFloat = 0.0
    """Weight decay (decoupled in adamw, added to the gradient in adam and sgd)."""
    schedule: Annotated[str, one_of(registry.SCHEDULES)] = "constant"
    """Learning rate after the warm-up."""
    warmup_steps: NonNegativeInt = 0
    """Steps over which the learning rate rises linearly from 0 to its peak."""
    min_learning_rate_ratio: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Share of the peak at which linear and cosine schedules end."""
    gradient_clip: NonNegativeFloat = 1.0
    """Largest norm of the whole gradient; 0 leaves it alone."""
    batch_size: PositiveInt = 32
    """Windows in one forward pass."""
    accumulation_steps: PositiveInt = 1
    """Forward and backward passes summed into one optimizer step."""
    carry_state: bool = False
    """Truncated backpropagation through time: read the windows in order, and let each go on from
    the state in which the one before it left a recurrent model; no gradient goes back to it."""
    view: Literal["rest"] | None = None
    """What a step predicts of a window: rest: what follows its first tokens, which are given, as of
    a model that reads a source; empty: what the kind of model is for, all of it for a decoder."""
    learn_source: bool = False
    """Of a corpus of pairs, learn to predict the source too, with the target after it: more targets
    a row, for kinds of models that see a row as one text."""
    gradient_checkpointing: NonNegativeInt = 0
    """Keep only the input of every so many layers and compute the rest again in the backward pass,
    which saves memory and costs time; 0: keep everything."""
    epochs: PositiveInt = 3
    """Passes over the training windows, unless max_steps is set."""
    max_steps: PositiveInt | None = None
    """Optimizer steps in all; overrides epochs."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16 by autocast, weights and optimizer in fp32; auto: bf16
    where the processor has instructions for it."""
    speed: Literal["auto", "plain"] = "auto"
    """auto: the quickest step whose numbers are those of the plain one to rounding, with fused
    optimizers, compiled loops, oneDNN's float32 products and what compile and keep_freed_memory
    say; plain: none of it. The number format is precision's."""
    compile: Literal["auto", True, False] = "auto"
    """Run the model through torch.compile (needs a C++ compiler on a CPU); auto: where the run is
    long enough to earn the start-up back."""
    keep_freed_memory: bool = True
    """Keep freed memory for the next step on a CPU (glibc), a fifth of a small model's step; the
    process stays as large as its largest step."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    threads: NonNegativeInt = 0
    """CPU threads; 0: torch's own choice."""
    seed: NonNegativeInt = 0
    """Seed of initialisation, dropout and data order."""
    validations: NonNegativeInt = 0
    """Validate before the first step and then so many times, spread evenly over the run; 0: at the
    end of every epoch. validation_interval goes before it."""
    validation_interval: NonNegativeInt = 0
    """Validate every so many steps; 0: as validations says."""
    validation_windows: PositiveInt | None = None
    """Validate on this many windows, always the same, and on as many of the training split;
    empty: the whole split."""
    early_stop_patience: NonNegativeInt = 0
    """Stop after this many validations without a better loss; 0: never."""
    checkpoint_interval: NonNegativeInt = 200
    """Save every so many steps; 0: only when validating and at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many of the latest checkpoints are kept beside the best one."""
    shard: Literal["nothing", "optimizer", "parameters"] = "nothing"
    """What several processes divide among them instead of each holding all of it: the optimizer's
    states (ZeRO stage 1), or the layers' parameters and gradients as well (stage 3)."""
    async_checkpoints: bool = False
    """Where several processes train: write checkpoints from a copy while training goes on; one
    process waits until they are written."""
    snapshots: NonNegativeInt = 0
    """Keep the weights after so many steps, in RUN/snapshots, for `tinylm explore`: the untrained
    ones, the last ones, and those between at a constant ratio of steps; 0: none."""
    log_interval: PositiveInt = 10
    """Steps between two lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    wandb: bool = False
    """Log to Weights & Biases (needs the extra `wandb`)."""


@dataclass(frozen=True, config=FROZEN)
class GenerationConfig:
    """How text is generated."""

    strategy: Annotated[str, one_of(registry.STRATEGIES)] = "sampling"
    """Decoding strategy."""
    max_new_tokens: PositiveInt = 200
    """Most tokens generated after the prompt."""
    min_new_tokens: NonNegativeInt = 0
    """Tokens generated before <eos> is allowed."""
    temperature: NonNegativeFloat = 0.8
    """Logits are divided by this; 0 is greedy."""
    top_k: NonNegativeInt = 0
    """Keep the k likeliest tokens; 0: all."""
    top_p: Annotated[Float, Field(gt=0, le=1)] = 0.95
    """Keep the fewest likeliest tokens whose probability reaches p; 1: all."""
    min_p: Annotated[Float, Field(ge=0, le=1)] = 0.0
    """Keep tokens at least this share as likely as the likeliest; 0: all."""
    repetition_penalty: PositiveFloat = 1.0
    """Divide positive and multiply negative logits of seen tokens by this; 1: off."""
    num_beams: PositiveInt = 5
    """Hypotheses that beam search keeps for a prompt."""
    length_penalty: Float = 1.0
    """Beam search divides the log-probability of a hypothesis by its length to this power: 0 leaves
    it alone, above 0 favours long texts."""
    early_stopping: Literal["full", "heuristic", "never"] = "heuristic"
    """When beam search ends: full: as soon as num_beams hypotheses have ended; heuristic: then, if
    the best open one scores no better at its present length than the worst ended one; never: only
    if no open one can become better."""
    num_return: PositiveInt = 1
    """Hypotheses of beam search that are returned, best first; at most num_beams."""
    allow_unk: bool = False
    """Let the model answer with <unk>."""
    linear: Literal["plain", "packed", "packed-bf16", "packed-int8"] = "packed"
    """How a CPU decodes: plain by torch's operations; packed brings the weights into the order of
    the processor's kernels first and runs the layers as compiled loops, the same to rounding;
    packed-bf16 also rounds the weights to bfloat16, packed-int8 to 8-bit integers, which changes
    some texts. Without the cache packed is as plain."""
    seed: NonNegativeInt = 0
    """Seed of the samples."""


@dataclass(frozen=True, config=FROZEN)
class EvaluationConfig:
    """What `tinylm evaluate` measures."""

    num_stories: PositiveInt = 50
    """Validation stories that are continued."""
    prompt_tokens: PositiveInt = 5
    """First tokens of a story given as prompt."""
    max_new_tokens: PositiveInt | None = None
    """Longest continuation; empty: what the context holds after <sos> and the prompt."""
    batch_size: PositiveInt = 32
    """Windows or rows in one forward pass."""
    temperature: NonNegativeFloat = 1.0
    """Temperature of the continuations; 1 samples from the model's own distribution."""
    top_p: Annotated[Float, Field(gt=0, le=1)] = 1.0
    """Nucleus of the continuations; 1 keeps every token."""
    seed: NonNegativeInt = 0
    """Seed of the continuations."""


@dataclass(frozen=True, config=FROZEN)
class ReportConfig:
    """What the report is made of."""

    title: str = "A small language model, from raw stories to measured text"
    """Title on the first page."""
    author: str = ""
    """Author on the first page."""
    experiments: tuple[Annotated[str, one_of(registry.EXPERIMENTS)], ...] = (
        "data",
        "training",
        "evaluation",
        "samples",
        "hyperparameters",
        "kv-cache",
        "beam-search",
        "accumulation",
        "gradient-checkpointing",
        "efficiency",
        "precision",
        "finetuning",
        "lab-svd",
        "lab-mnist",
        "attention",
        "verification",
    )
    """Experiments that are run, in this order."""
    prompts: tuple[str, ...] = (
        "Once upon a time",
        "There once was a little girl named",
        "Tom was very sad because",
    )
    """Prompts of the sample generations."""
    attention_sentences: tuple[str, ...] = ()
    """Sentences whose attention is drawn; empty: three of the validation split, chosen by a rule
    that the report states."""


@dataclass(frozen=True, config=FROZEN)
class RunConfig:
    """The whole configuration of a run."""

    data: DataConfig = DataConfig()
    """Corpus."""
    tokenizer: TokenizerConfig = DEFAULT_TOKENIZER
    """Tokenizer."""
    vectors: VectorsConfig = VectorsConfig()
    """fastText vectors."""
    model: ModelConfig = ModelConfig()
    """Model."""
    training: TrainingConfig = TrainingConfig()
    """Training."""
    generation: GenerationConfig = GenerationConfig()
    """Generation."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation."""
    experiments: ExperimentsConfig = ExperimentsConfig()
    """Experiments."""
    report: ReportConfig = ReportConfig()
    """Report."""
