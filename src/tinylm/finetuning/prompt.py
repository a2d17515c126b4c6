"""Prompt tuning: learned input embeddings before the text.

Lester, Al-Rfou and Constant 2021, section 2: n virtual tokens stand at positions 0 to n - 1, the
text after them; only their ``n * hidden`` numbers are trained. They take up n of the model's
positions, so that the text has room for ``context_length - n`` tokens, and stand in the cache once
for a whole text. They start from the embeddings of words, which the paper found best after class
labels (section 3.2), or at random.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.config.finetuning import PromptConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.base import Method
from tinylm.finetuning.sites import Wrapper, unwrapped
from tinylm.model.base import Change, DecodingState, GenerativeModel, LayerRunner
from tinylm.model.decoder import DecoderLM
from tinylm.model.hooks import NO_HOOKS, Hooks

_FIRST_WORD = 4  # the ids before it are <pad>, <unk>, <sos> and <eos>


class PromptPart(nn.Module):
    """The virtual tokens of one adapter."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)
        """(length, hidden), as the embedding gives them, before they are scaled."""


class PromptedDecoder(Wrapper, GenerativeModel):
    """A decoder that reads virtual tokens before every text; used like the decoder itself.

    What a decoder has as attributes is taken from it (``Wrapper``).
    """

    base: GenerativeModel

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens of the adapters that act."""
        return sum(len(embeddings) for embeddings in self._embeddings())

    @property
    def config(self) -> ModelConfig:
        """The decoder's configuration; its context is what is left for the text."""
        config = self.base.config
        return replace(config, context_length=config.context_length - self.virtual_tokens)

    @property
    def built(self) -> ModelConfig:
        """What the decoder was built from."""
        return self.base.built

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done to the decoder, the virtual tokens included."""
        return self.base.changes

    @property
    def aside(self) -> Mapping[str, nn.Parameter]:
        """What the decoder keeps aside."""
        return self.base.aside

    @property
    def layer_runner(self) -> LayerRunner | None:
        """How the decoder's layers are run."""
        return self.base.layer_runner

    @layer_runner.setter
    def layer_runner(self, runner: LayerRunner | None) -> None:
        self.base.layer_runner = runner

    def decoding_state(self, batch_size: int, max_batch_size: int = 0) -> DecodingState:
        """Return the decoder's own, which the virtual tokens enter with the first text."""
        return self.base.decoding_state(batch_size, max_batch_size)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Map the residual stream, (..., hidden), to logits, (..., vocab)."""
        return self.base.unembed(x, hooks)

    def summed_loss(self, x: Tensor, labels: Tensor, ignored: int) -> Tensor:
        """Return the sum of the cross-entropies of the labels; see ``Model``."""
        return self.base.summed_loss(x, labels, ignored)

    def activation_shapes(
        self, batch: int, seq: int, keys: int | None = None
    ) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the decoder's activations; see ``GenerativeModel``."""
        return self.base.activation_shapes(batch, seq, keys)

    def parameter_counts(self) -> dict[str, int]:
        """Return the decoder's numbers of parameters by part."""
        return self.base.parameter_counts()

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
        cache: DecodingState | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> Tensor:
        """Return the text's residual stream, (batch, seq, hidden); arguments as there.

        Hooks see the virtual tokens too, before the text, where they are read: with a cache, in
        the first pass alone.
        """
        count, named = self._with_virtual(ids, embeddings, positions, real, given, hidden, cache)
        return self.base.residual(**named, causal=causal, cache=cache, hooks=hooks)[:, count:]

    def last_residual(
        self,
        ids: Tensor | None = None,
        *,
        embeddings: Tensor | None = None,
        positions: Tensor | None = None,
        real: Tensor | None = None,
        given: Tensor | None = None,
        hidden: Tensor | None = None,
        cache: DecodingState | None = None,
        **named: Any,
    ) -> Tensor:
        """Return the residual stream at the last place alone; see ``GenerativeModel``."""
        _, own = self._with_virtual(ids, embeddings, positions, real, given, hidden, cache)
        return self.base.last_residual(**own, cache=cache, **named)

    def _with_virtual(
        self,
        ids: Tensor | None,
        embeddings: Tensor | None,
        positions: Tensor | None,
        real: Tensor | None,
        given: Tensor | None,
        hidden: Tensor | None,
        cache: DecodingState | None,
    ) -> tuple[int, dict[str, Any]]:
        """Return how many virtual tokens are read before the text, and what is read with them."""
        count = self.virtual_tokens
        if positions is not None:
            positions = positions + count
        if count == 0 or (cache is not None and cache.length > 0):
            return 0, {
                "ids": ids,
                "embeddings": embeddings,
                "positions": positions,
                "real": real,
                "given": given,
                "hidden": hidden,
            }
        if embeddings is None:
            embeddings = self.base.embedding(ids)
        batch = embeddings.shape[0]
        # They stand before the source, and are read with it.
        given = torch.full((batch,), 1, device=embeddings.device) if given is None else given
        given = given + count
        virtual = torch.cat(self._embeddings()).to(embeddings.dtype).expand(batch, -1, -1)
        if real is not None:
            real = nn.functional.pad(real, (count, 0), value=True)
        if hidden is not None:
            hidden = nn.functional.pad(hidden, (count, 0), value=False)
        if positions is not None:
            first = torch.arange(count, device=positions.device).expand(len(positions), -1)
            positions = torch.cat([first, positions], 1)
        return count, {
            "embeddings": torch.cat([virtual, embeddings], 1),
            "positions": positions,
            "real": real,
            "given": given,
            "hidden": hidden,
        }

    def _embeddings(self) -> list[Tensor]:
        return [part.embeddings for part in self.parts.acting() if isinstance(part, PromptPart)]


class Prompt(Method):
    """Prompt tuning of a decoder."""

    Settings = PromptConfig
    learning_rate = 3e-2
    peft_type = "PROMPT_TUNING"
    label = "prompt"
    noun = "prompt tuning"
    explanation = (
        "*Prompt* tuning [[lester2021]] learns the input embeddings of {length} virtual tokens."
    )

    @staticmethod
    def num_trained(model: nn.Module, settings: PromptConfig) -> int:
        """Return an embedding a virtual token (``base.Method``)."""
        return settings.length * _decoder(model).config.hidden_size

    @staticmethod
    def attach(model: nn.Module, name: str, settings: PromptConfig) -> tuple[nn.Module, list[str]]:
        """Put virtual tokens before the text (``base.Method``).

        Raises:
            AdapterError: if the model is no decoder, they leave no room for a text, or an id to
                start from is not in the vocabulary.
        """
        decoder = _decoder(model)
        context = decoder.config.context_length
        if settings.length >= context:
            raise AdapterError(
                f"length {settings.length}: the model reads {context} tokens, and the text needs "
                f"some of them; set a length of 1 to {context - 1}"
            )
        part = PromptPart(_start(decoder.embedding.weight.detach(), settings))
        prompted = model if isinstance(model, PromptedDecoder) else PromptedDecoder(decoder)
        prompted.parts.add(name, part)
        return prompted, []

    @staticmethod
    def to_peft(
        model: nn.Module, settings: PromptConfig, tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return PEFT's configuration and tensors."""
        config = _decoder(model).config
        fields = {
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "num_virtual_tokens": settings.length,
            "num_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "token_dim": config.hidden_size,
            "num_transformer_submodules": 1,
            "prompt_tuning_init": "RANDOM",
            "inference_mode": True,
        }
        return fields, {"prompt_embeddings": tensors["embeddings"]}

    @staticmethod
    def from_peft(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return tensors under our names."""
        return {"embeddings" if k == "prompt_embeddings" else k: v for k, v in tensors.items()}

    @staticmethod
    def settings_from_peft(
        fields: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str
    ) -> PromptConfig:
        """Return the settings of a prompt that PEFT wrote.

        Raises:
            AdapterError: if there is no prompt in it.
        """
        if "embeddings" not in tensors:
            raise AdapterError(f"{source}: its tensors hold no prompt_embeddings")
        return PromptConfig(length=len(tensors["embeddings"]))


def _decoder(model: nn.Module) -> DecoderLM:
    """Return the decoder inside all wrappers.

    Raises:
        AdapterError: if it is none.
    """
    decoder = unwrapped(model)
    if not isinstance(decoder, DecoderLM):
        raise AdapterError("method prompt needs a model with token embeddings: take a decoder")
    return decoder


def _start(table: Tensor, settings: PromptConfig) -> Tensor:
    """Return the embeddings to start from, (length, hidden)."""
    if settings.start == "random":
        return torch.randn(settings.length, table.shape[1]).to(table) * table.std()
    ids = list(settings.ids) or list(range(_FIRST_WORD, len(table))) or list(range(len(table)))
    if max(ids) >= len(table):
        raise AdapterError(
            f"ids: {max(ids)} is not in the vocabulary of {len(table)} tokens: give smaller ids"
        )
    return torch.stack([table[ids[i % len(ids)]] for i in range(settings.length)])
