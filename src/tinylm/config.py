"""Every setting of a run: frozen dataclasses, YAML in and out, overrides, presets.

The docstring under a field is its help text (``tinylm config`` prints them). Values are checked by
pydantic when a dataclass is made; a wrong key or value is reported in one line that names it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from tinylm import registry
from tinylm.errors import ConfigError, nearest

_FROZEN = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _number(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
PositiveInt = Annotated[Int, Field(ge=1)]
NonNegativeInt = Annotated[Int, Field(ge=0)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegativeFloat = Annotated[Float, Field(ge=0)]
Fraction = Annotated[Float, Field(ge=0, lt=1)]

Config = TypeVar("Config")


def _one_of(table: registry.Registry) -> AfterValidator:
    """Accept only names of ``table``."""

    def check(name: str) -> str:
        try:
            return table.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


@dataclass(frozen=True, config=_FROZEN)
class DataConfig:
    """Where the text comes from and how it is split."""

    corpus: Annotated[str, _one_of(registry.CORPORA)] = "stories"
    """stories (embedded), files (data.path) or tinystories (the Hub dataset)."""
    path: str | None = None
    """Folder or file that the corpus `files` reads; a folder's files are split by name
    (train, valid or validation)."""
    text_format: Literal["auto", "endoftext", "file", "blank-line"] = "auto"
    """How .txt files hold documents: `endoftext` (a line <|endoftext|> closes each), `file`
    (one document a file) or `blank-line` (an empty line closes each); auto accepts only the
    first, and asks otherwise."""
    text_field: str = "text"
    """The field of .jsonl and parquet rows that holds the text."""
    train_stories: PositiveInt | None = None
    """Use at most this many training stories (the embedded corpus makes 20,000 if empty)."""
    validation_stories: PositiveInt | None = None
    """Use at most this many validation stories (the embedded corpus makes 1,000 if empty)."""
    validation_fraction: Annotated[Float, Field(gt=0, lt=1)] = 0.1
    """Share of the stories held out where a corpus has no validation split of its own."""
    seed: NonNegativeInt = 0
    """Seed of the embedded story grammar and of the hold-out."""
    cache_folder: str = "runs/.cache"
    """Where tokenizers, token files and vectors are kept for the next run on the same data."""


@dataclass(frozen=True, config=_FROZEN)
class TokenizerConfig:
    """How text becomes ids."""

    kind: Annotated[str, _one_of(registry.TOKENIZERS)] = "word"
    """The tokenizer."""
    min_frequency: PositiveInt = 2
    """A type seen less often than this in the training split becomes <unk>."""
    max_size: Annotated[Int, Field(ge=5)] = 10_000
    """Largest vocabulary, the four special tokens included."""


@dataclass(frozen=True, config=_FROZEN)
class VectorsConfig:
    """Where the embedding starts from: fastText vectors or random numbers."""

    source: Literal["train", "file", "none"] = "train"
    """train: fastText on the training split (gensim); file: official .vec or .bin; none: random."""
    path: str | None = None
    """A .vec or .bin file, or one of these as .gz or .zip, for source `file`."""
    trainable: bool = True
    """Fine-tune the vectors with the model; false keeps them frozen."""
    epochs: PositiveInt = 5
    """Passes over the training split when fastText is trained here."""
    window: PositiveInt = 5
    """Context words on each side when fastText is trained here."""


@dataclass(frozen=True, config=_FROZEN)
class ModelConfig:
    """The sizes and choices of a DecoderLM; enough to build it."""

    vocab_size: PositiveInt | None = None
    """Number of token types; empty: taken from the tokenizer."""
    context_length: Annotated[Int, Field(ge=2)] = 64
    """Most positions the model sees at once."""
    num_layers: PositiveInt = 3
    """Decoder layers."""
    num_heads: PositiveInt = 8
    """Attention heads a layer."""
    hidden_size: PositiveInt = 300
    """Width of the residual stream, and dimension of the fastText vectors."""
    head_dim: PositiveInt | None = None
    """Width of one head; empty: ceil(hidden_size / num_heads)."""
    ffn_size: PositiveInt | None = None
    """Inner width of the feed-forward part; empty: 4 * hidden_size (Vaswani et al. 2017, 3.3)."""
    dropout: Fraction = 0.1
    """Dropout on the embedding, on the attention pattern and on each part's output."""
    norm_placement: Literal["post", "pre"] = "post"
    """post: LayerNorm after each residual sum (Vaswani et al. 2017); pre: before each part."""
    norm_eps: PositiveFloat = 1e-5
    """Added to the variance inside the root of LayerNorm."""
    activation: Annotated[str, _one_of(registry.ACTIVATIONS)] = "relu"
    """Nonlinearity of the feed-forward part."""
    positions: Annotated[str, _one_of(registry.POSITIONS)] = "sinusoidal"
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


@dataclass(frozen=True, config=_FROZEN)
class TrainingConfig:
    """How the model is trained."""

    optimizer: Annotated[str, _one_of(registry.OPTIMIZERS)] = "adam"
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
    schedule: Annotated[str, _one_of(registry.SCHEDULES)] = "constant"
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
    epochs: PositiveInt = 3
    """Passes over the training windows, unless max_steps is set."""
    max_steps: PositiveInt | None = None
    """Optimizer steps in all; overrides epochs."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16 by autocast, weights and optimizer in fp32; auto: bf16
    where the processor has instructions for it."""
    compile: bool = False
    """Run the model through torch.compile (needs a C++ compiler on a CPU)."""
    device: str = "auto"
    """cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    threads: NonNegativeInt = 0
    """CPU threads; 0: torch's own choice."""
    seed: NonNegativeInt = 0
    """Seed of initialisation, dropout and data order."""
    validation_interval: NonNegativeInt = 0
    """Validate every so many steps; 0: at the end of every epoch."""
    validation_windows: PositiveInt | None = None
    """Validate on this many windows, always the same; empty: the whole split."""
    early_stop_patience: NonNegativeInt = 0
    """Stop after this many validations without a better loss; 0: never."""
    checkpoint_interval: NonNegativeInt = 200
    """Save every so many steps; 0: only when validating and at the end."""
    keep_checkpoints: PositiveInt = 2
    """How many of the latest checkpoints are kept beside the best one."""
    log_interval: PositiveInt = 10
    """Steps between two lines of metrics.jsonl."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    wandb: bool = False
    """Log to Weights & Biases (needs the extra `wandb`)."""


@dataclass(frozen=True, config=_FROZEN)
class GenerationConfig:
    """How text is generated."""

    strategy: Annotated[str, _one_of(registry.STRATEGIES)] = "sampling"
    """Decoding strategy."""
    max_new_tokens: PositiveInt = 200
    """Most tokens generated after the prompt."""
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
    allow_unk: bool = False
    """Let the model answer with <unk>."""
    seed: NonNegativeInt = 0
    """Seed of the samples."""


@dataclass(frozen=True, config=_FROZEN)
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


@dataclass(frozen=True, config=_FROZEN)
class ReportConfig:
    """What the report is made of."""

    title: str = "A small language model, from raw stories to measured text"
    """Title on the first page."""
    author: str = ""
    """Author on the first page."""
    experiments: tuple[Annotated[str, _one_of(registry.EXPERIMENTS)], ...] = (
        "data",
        "training",
        "evaluation",
        "samples",
        "attention",
    )
    """Experiments that are run, in this order."""
    prompts: tuple[str, ...] = (
        "Once upon a time",
        "There once was a little girl named",
        "Tom was very sad because",
    )
    """Prompts of the sample generations."""
    attention_sentences: tuple[str, ...] = (
        "The girl was sad because she lost her red ball.",
        'Tom said, "I want to help you, mom."',
        "The little dog saw a cat and the cat saw the dog.",
    )
    """Sentences whose attention is drawn."""


@dataclass(frozen=True, config=_FROZEN)
class RunConfig:
    """The whole configuration of a run."""

    data: DataConfig = DataConfig()
    """Corpus."""
    tokenizer: TokenizerConfig = TokenizerConfig()
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
    report: ReportConfig = ReportConfig()
    """Report."""


PRESETS = ("quick", "baseline", "full")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as plain dicts, lists and scalars, ready for YAML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            return [plain(item) for item in value]
        return value

    result: dict[str, Any] = plain(dataclasses.asdict(config))
    return result


def from_dict(kind: type[Config], values: Mapping[str, Any], source: str) -> Config:
    """Make a checked ``kind`` (a dataclass of this module) from nested dicts.

    Args:
        kind: the dataclass.
        values: nested mappings as read from YAML or JSON.
        source: what errors name as the place of the values.

    Raises:
        ConfigError: one line naming the first bad key, what is allowed and the nearest key.
    """
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError(f"{source}: {_first_problem(kind, error)}") from None


def load_config(
    path: str | Path | None = None, preset: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Build a RunConfig: the preset, then the YAML file, then ``key=value`` overrides.

    Raises:
        ConfigError: for an unknown preset, an unreadable file, a bad key or a bad value.
    """
    values: dict[str, Any] = {}
    sources = []
    if preset is not None:
        if preset not in PRESETS:
            raise ConfigError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
        text = resources.files("tinylm").joinpath(f"presets/{preset}.yaml").read_text("utf-8")
        values = _parse_yaml(text, f"preset {preset}")
        sources.append(f"preset {preset}")
    if path is not None:
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise ConfigError(f"cannot read configuration {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"cannot read configuration {path}: {error}") from error
        values = _merge(values, _parse_yaml(text, str(path)))
        sources.append(str(path))
    for override in overrides:
        values = _merge(values, _parse_override(override))
    if overrides:
        sources.append("-o")
    return from_dict(RunConfig, values, " + ".join(sources) or "configuration")


def dump_yaml(config: Any) -> str:
    """Return a configuration as YAML, keys in the order of the dataclasses."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def field_help(kind: type = RunConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``(dotted key, help)`` for every setting below ``kind``."""
    default = kind()
    for name, info in kind.__pydantic_fields__.items():  # type: ignore[attr-defined]
        value = getattr(default, name)
        if dataclasses.is_dataclass(value):
            yield from field_help(type(value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", " ".join((info.description or "").split())


def _parse_yaml(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: expected `section: {{key: value}}`, found {values!r}")
    return values


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"-o {override!r}: expected section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, dict):
        value = text
    for part in reversed(key.strip().split(".")):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _merge(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in update.items():
        old = merged.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _nearest_key(kind: type, key: str) -> str:
    section, _, name = key.rpartition(".")
    keys = [known for known, _ in field_help(kind)]
    elsewhere = [known for known in keys if known.endswith(f".{name}")]
    if elsewhere:
        return f"; did you mean {' or '.join(elsewhere)}?"
    if section:
        prefix = f"{section}."
        inside = [known.removeprefix(prefix) for known in keys if known.startswith(prefix)]
        return nearest(name, inside, prefix)
    parts = [field.name for field in dataclasses.fields(kind)]
    hint = nearest(key, {*keys, *parts})
    return hint if "did you mean" in hint else f"; allowed: {', '.join(parts)}"


def _first_problem(kind: type, error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"] if part != "dataclass")
    if problem["type"] in ("unexpected_keyword_argument", "invalid_key"):
        return f"unknown key {key}{_nearest_key(kind, key)}"
    if problem["type"].startswith("dataclass_type"):
        return f"{key}: expected a section of `key: value` lines, found {problem['input']!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key} = {problem['input']!r}: {message[0].lower()}{message[1:]}"
