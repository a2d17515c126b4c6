"""What training, generation and checkpoints need of a model, whatever it is made of.

A model has a configuration, a forward pass to its residual stream, and a last map to logits. One
that texts can be made with also has a fresh decoding state. What is registered in ``MODELS`` is
built from its configuration alone (``build``), and keeps a list of what was done to its parts
afterwards, so that a checkpoint can repeat it (``model.changes``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.model.drawing import draw_embedding, draw_maps
from tinylm.model.hooks import NO_HOOKS, Hook, Hooks
from tinylm.model.loss import token_losses
from tinylm.model.outline import Difference, Outline
from tinylm.model.reading import Reading
from tinylm.planning.costs import Costs
from tinylm.planning.limits import refuse_model
from tinylm.registry import MODELS

LayerRunner = Callable[[Iterable[nn.Module], Tensor, Reading], Tensor]
"""Gets the layers, the residual stream and what goes with it, and returns the residual stream after
the last layer: ``decoder.in_turn``, or what computes the same in another way."""


Change = Mapping[str, Any]
"""One change of a model, as JSON values: its name in ``CHANGES`` as ``change``, and settings."""


class Rows(Protocol):
    """Texts as rows of ids, with what a model may see of them; ``data.windows.Batch`` is one."""

    @property
    def ids(self) -> Tensor:
        """(batch, seq), int64."""
        ...

    @property
    def real(self) -> Tensor | None:
        """(batch, seq), False where a token is padding; None: all are real."""
        ...

    @property
    def given(self) -> Tensor | None:
        """(batch,), how many first tokens of a row are its source; None: the first alone."""
        ...

    @property
    def hidden(self) -> Tensor | None:
        """(batch, seq), True where a token must not be seen; None: nowhere."""
        ...


class DecodingState(Protocol):
    """What a model stores of the texts that it continues, so that it reads each token once."""

    batch_size: int
    """Texts."""
    length: int
    """Tokens read of each text, padding included."""
    capacity: int
    """Most tokens that it holds."""

    def reorder(self, rows: Tensor, shared: int = 0) -> None:
        """Make text i what text ``rows[i]`` was; the number of texts may change.

        Args:
            rows: (new batch,), int64.
            shared: first tokens that are the same in text i and in text ``rows[i]``.
        """
        ...


class CarriedState(DecodingState, Protocol):
    """A decoding state of constant size, which no text is too long for."""

    def detach(self) -> None:
        """Let no gradient go back to the tokens read so far."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return what it is, by name, texts along the first axis."""
        ...

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what ``tensors`` returned."""
        ...


class Model(nn.Module):
    """A network over token ids that can be trained and saved."""

    if TYPE_CHECKING:

        @property
        def config(self) -> ModelConfig:
            """Its sizes and choices, as they are now; an attribute, or made of another's."""

    _built: ModelConfig | None = None
    _changes: tuple[Change, ...] = ()
    _aside: Mapping[str, nn.Parameter] = {}
    layer_runner: LayerRunner | None = None
    """How the layers are run, as gradient checkpointing does; None: in turn."""

    @property
    def built(self) -> ModelConfig:
        """What it was built from; ``changes`` were made to it since."""
        return self._built or self.config

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done since it was built, in order; ``model.changes`` says how it is written."""
        return self._changes

    @property
    def stepwise(self) -> frozenset[str]:
        """Paths of linear maps that multiply token by token, not all tokens of a text at once."""
        return frozenset()

    @property
    def compiles(self) -> bool:
        """Whether ``torch.compile`` can make its layers quicker."""
        return True

    @property
    def aside(self) -> Mapping[str, nn.Parameter]:
        """Parameters that are kept with it, saved beside its state, and have no part in it now.

        Such as those that an adapter replaces by its own copies.
        """
        return self._aside

    def write_changes(
        self,
        changes: Sequence[Change],
        aside: Mapping[str, nn.Parameter] | None = None,
        built: ModelConfig | None = None,
    ) -> None:
        """Say what was done since it was built, and what it keeps aside for that.

        Args:
            changes: all of them.
            aside: name -> parameter; None: as before.
            built: what it was built from, if its configuration is another now; None: as before.
        """
        self._changes = tuple(changes)
        self._built = built or self._built
        if aside is not None:
            self._aside = aside

    def residual(self, ids: Tensor, *, real: Tensor | None = None) -> Tensor:
        """Return what logits are computed from, (batch, seq, hidden).

        Args:
            ids: (batch, seq).
            real: (batch, seq), bool, False where a token is padding; None: all are real.
        """
        raise NotImplementedError

    def read(self, batch: Rows, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return what logits are computed from of a batch, (batch, seq, hidden)."""
        return self.residual(batch.ids, real=batch.real)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map what ``residual`` returns, (..., hidden), to logits, (..., classes)."""
        raise NotImplementedError

    def summed_loss(self, x: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """Return the sum of the cross-entropies of the labels, in nats.

        Args:
            x: what ``residual`` returns, (batch, seq, hidden).
            labels: (batch, seq), int64.
            ignored: label of positions that do not count.

        Returns:
            A scalar, in float32 at least.
        """
        return token_losses(self.unembed(x), labels, ignored).sum()

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> DecodingState:
        """Return the decoding state of texts that are still empty.

        Args:
            batch_size: texts.
            max_batch_size: texts to make room for, if ``reorder`` will make more of them.

        Raises:
            GenerationError: if no text can be made with this model.
        """
        raise GenerationError(f"a {type(self).__name__} makes no text: take a language model")


class GenerativeModel(Model):
    """A model that continues texts token by token."""

    label: ClassVar[str]
    """What its kind is called, such as ``decoder-only Transformer``."""
    settings: ClassVar[tuple[str, ...]]
    """Fields of ``ModelConfig`` that have an effect on it, beside ``kind``."""
    attends: ClassVar[bool] = True
    """Whether its layers are the decoder's, with attention and a residual stream."""
    view: ClassVar[str] = "whole"
    """What it sees and predicts of a window that it is trained on (``data.views``)."""
    rereads: ClassVar[bool] = False
    """Whether a step of decoding reads all of the text again, whatever its decoding state keeps."""
    differs: ClassVar[Difference | None] = None
    """What a report on the decoder must say otherwise of a kind that is one in all else."""
    needs_source: ClassVar[bool] = False
    """Whether it writes only after it has read a source: a prompt of one token at least."""
    scores_texts: ClassVar[bool] = True
    """Whether it says how probable a text is after a given beginning, token by token, so that kinds
    are compared by it."""
    costs: ClassVar[Costs]
    """What its kind costs, from its sizes alone (``planning``)."""
    embedding: nn.Embedding
    """Of the tokens that it reads."""
    unembedding: nn.Linear
    """The last map, to the logits of the tokens that it writes."""

    def begin(self) -> None:
        """Make the embedding; first in the making of a model, once it has its configuration.

        Raises:
            ConfigError: if the model needs more memory than there is, or vocab_size is empty.
        """
        config = self.config
        vocab_size = config.resolved_vocab_size
        refuse_model(config)
        self.embedding = nn.Embedding(vocab_size, config.hidden_size)
        self.embedding_scale = math.sqrt(config.hidden_size) if config.scale_embeddings else 1.0

    def end(self) -> None:
        """Make the unembedding and draw all weights; last in the making of a model."""
        config = self.config
        self.unembedding = nn.Linear(
            config.hidden_size,
            config.resolved_vocab_size,
            bias=config.bias and not config.tie_embeddings,
        )
        self.draw()
        if config.tie_embeddings:
            self.unembedding.weight = self.embedding.weight

    def draw(self) -> None:
        """Draw the weights of a new model."""
        draw_maps(self)
        draw_embedding(self.embedding, self.config)

    def forward(
        self, ids: Tensor | None = None, *, hooks: Hooks = NO_HOOKS, **named: Any
    ) -> Tensor:
        """Return logits, (batch, seq, vocab); arguments as in ``residual``."""
        return self.unembed(self.residual(ids, hooks=hooks, **named), hooks)

    def residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        given: Tensor | None = None,
        hidden: Tensor | None = None,
        causal: bool = True,
        cache: Any = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the residual stream after the last layer; ``DecoderLM.residual`` says of what.

        What stands at a place is what the token after it is predicted from. Two arguments are for
        kinds whose ``view`` of a text is another than the decoder's, and have no effect on others:

        Args:
            given: (batch,), how many first real tokens of a row are its source, which a model reads
                before it writes; None: the first alone. With a cache it counts in the first pass,
                in which the source must be whole. Of the places within a source but its last there
                is nothing to predict, and what is returned there means nothing.
            hidden: (batch, seq), True where a token must not be seen; None: nowhere.
        """
        raise NotImplementedError

    def read(self, batch: Rows, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return the residual stream after the last layer of a batch, (batch, seq, hidden)."""
        return self.residual(
            batch.ids, real=batch.real, given=batch.given, hidden=batch.hidden, hooks=hooks
        )

    def in_one_read(self, ids: Tensor, real: Tensor | None = None) -> dict[str, Tensor | None]:
        """Return with which further arguments ``residual`` reads texts at once.

        For statistics of the inputs of the linear maps (``compression.calibration``).

        Args:
            ids: (batch, seq).
            real: (batch, seq), False where a token is padding; None: all are real.
        """
        return {"real": real}

    def real_inputs(self, path: str, ids: Tensor, real: Tensor | None) -> Tensor | None:
        """Return which inputs of a linear map hold a token in that read, (batch, places), bool.

        Of a map that is used once a text, (batch,). None: all do, and there are as many as tokens.

        Args:
            path: of the map.
            ids: (batch, seq).
            real: (batch, seq), False where a token is padding; None: all are real.
        """
        return real

    def last_residual(self, ids: Tensor | None = None, **named: Any) -> Tensor:
        """Return the residual stream at the last place alone, (batch, hidden).

        What a step of generation needs; arguments are those of ``residual``. A kind that would
        compute each place by itself computes no other one.
        """
        return self.residual(ids, **named)[:, -1]

    def next_logits(
        self, tokens: Sequence[int], places: Sequence[int], state: Any, hooks: Hooks = NO_HOOKS
    ) -> Tensor:
        """Read a new token of each text and return the logits of what follows, (texts, vocab).

        Args:
            tokens: an id for each text.
            places: their positions.
            state: of the texts; the tokens are added to it.
            hooks: see and replace activations.
        """
        device = next(self.parameters()).device
        ids, positions = torch.tensor([tokens, places], device=device)[..., None]  # (texts, 1) each
        x = self.residual(ids, positions=positions, cache=state, hooks=hooks)
        return self.unembed(x[:, -1])

    def carried_state(self, batch_size: int) -> CarriedState | None:
        """Return a state that a training step can go on from and leave for the next.

        None: there is none, because what a kind keeps of a text grows with it.

        Args:
            batch_size: texts, still empty.
        """
        return None

    @classmethod
    def outline(cls, config: ModelConfig, vocab_size: int) -> Outline | None:
        """Return what a report says of a model of these sizes, and how it draws it.

        None: the report describes this kind in words and figures of its own.
        """
        return None

    def hooks(self, hooks: Mapping[str, Hook]) -> Hooks:
        """Bind functions to activation names or patterns, for ``forward(..., hooks=…)``.

        Raises:
            ConfigError: if a pattern matches no activation, naming the nearest.
        """
        return Hooks(hooks, self.activation_shapes(1, 1))

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shape of every activation for ``seq`` new tokens that see ``keys`` tokens."""
        raise NotImplementedError

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters by part, each counted once, and their ``total``."""
        raise NotImplementedError


def parameter_sizes(module: nn.Module) -> Iterator[tuple[str, int]]:
    """Yield name and size of every weight that a module computes with, each once.

    One that is kept in a format of few bits is no parameter: the module that keeps it says its size
    as ``num_weights``.
    """
    for name, parameter in module.named_parameters():
        yield name, parameter.numel()
    for name, part in module.named_modules():
        if size := getattr(part, "num_weights", 0):
            yield name, size


def refuse_without_attention(config: ModelConfig, what: str) -> None:
    """Refuse what looks at the inside of a decoder's layers where there are none.

    Args:
        config: the model.
        what: is asked for, for the message.

    Raises:
        ConfigError: naming the kind.
    """
    if not MODELS.load(config.kind).attends:
        raise ConfigError(
            f"{what} is about the attention and the residual stream of a decoder, and model.kind = "
            f"{config.kind} is built otherwise: take the run of a decoder"
        )


def refuse_many_reads(model: GenerativeModel) -> None:
    """Refuse to keep activations of a model that reads a text several times.

    Raises:
        GenerationError: naming the kind.
    """
    if MODELS.load(model.config.kind).rereads:
        raise GenerationError(
            f"model.kind = {model.config.kind} reads a text once for each of its tokens, and has "
            "no activations of the text: take the run of another kind"
        )


def build(config: ModelConfig) -> GenerativeModel:
    """Return a new model of the kind that a configuration names, from torch's random state.

    Raises:
        ConfigError: for an unknown kind, and what the kind refuses.
    """
    model: GenerativeModel = MODELS.load(config.kind)(config)
    return model
