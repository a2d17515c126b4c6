"""``LanguageModel``: a model, its tokenizer and its configuration in one object.

>>> from tinylm import LanguageModel
>>> lm = LanguageModel.load("runs/quick")
>>> print(lm.generate("Once upon a time", seed=1).text)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch

from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import GenerationConfig, from_dict, to_dict
from tinylm.errors import ConfigError, GenerationError, shown
from tinylm.generation.engine import Generated, SpecialIds, generate_steps
from tinylm.generation.engine import generate as generate_ids
from tinylm.generation.scoring import token_log_probabilities
from tinylm.interpretability.trace import Recorder, Trace
from tinylm.interpretability.trace import trace as trace_ids
from tinylm.locks import locked
from tinylm.model.base import GenerativeModel, parameter_sizes
from tinylm.perplexity import perplexity
from tinylm.printable import in_line
from tinylm.registry import STRATEGIES
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer

SPECIAL_IDS = SpecialIds(pad=PAD_ID, sos=SOS_ID, eos=EOS_ID, unk=UNK_ID)


@dataclass(frozen=True)
class Generation:
    """One generated text."""

    prompt: str
    """The prompt as given."""
    text: str
    """The prompt and its continuation."""
    ids: list[int]
    """The new ids, without ``<eos>``."""
    finished: bool
    """Whether the model ended the text itself."""
    log_probability: float
    """Sum of the log-probabilities of the new tokens, in nats, under the unfiltered model."""
    notes: list[str] = field(default_factory=list)
    """What the reader must know: unknown words, a window that slid."""
    score: float | None = None
    """What beam search ranked it by: the log-probabilities' sum over its length to a power."""
    alternatives: list[Generation] = field(default_factory=list)
    """The next best texts of beam search, best first: ``num_return - 1`` at most."""

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Score:
    """How likely a text is."""

    log_probability: float
    """Sum over its tokens and ``<eos>``, in nats; of what is given before it nothing counts."""
    num_tokens: int
    """Tokens scored, ``<eos>`` included."""

    @property
    def perplexity(self) -> float:
        """``exp`` of the mean negative log-probability a token."""
        return perplexity(-self.log_probability / self.num_tokens)


class LanguageModel:
    """Generates and scores text; loads and saves itself."""

    def __init__(
        self, model: GenerativeModel, tokenizer: Tokenizer, source: Path | None = None
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.source = source
        """The checkpoint folder it was loaded from."""

    def __repr__(self) -> str:
        source = "" if self.source is None else f", {str(self.source)!r}"
        size = sum(size for _, size in parameter_sizes(self.model))
        return (
            f"LanguageModel({size:,} parameters, vocabulary of {self.tokenizer.vocab_size:,}, "
            f"context of {self.model.config.context_length:,}{source})"
        )

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> LanguageModel:
        """Read a run's best checkpoint, what ``save`` wrote, or a single checkpoint.

        Raises:
            CheckpointError: if there is none, it is damaged, or holds a classifier.
        """
        checkpoint = load_checkpoint(path)
        model = checkpoint.build_language_model().to(device)
        return cls(model, checkpoint.tokenizer, checkpoint.path)

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint below ``folder``, which ``load`` takes, and return its path.

        Raises:
            CheckpointError: if it cannot be written.
            LockedError: if another process writes there.
        """
        with locked(folder, warnings.warn):
            return save_checkpoint(folder, self.model, self.tokenizer, TrainingState(step=0))

    @overload
    def generate(
        self,
        prompt: str,
        config: GenerationConfig | None = None,
        progress: Callable[[int], None] = ...,
        **settings: Any,
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: Sequence[str],
        config: GenerationConfig | None = None,
        progress: Callable[[int], None] = ...,
        **settings: Any,
    ) -> list[Generation]: ...

    def generate(
        self,
        prompt: str | Sequence[str],
        config: GenerationConfig | None = None,
        progress: Callable[[int], None] = lambda steps: None,
        **settings: Any,
    ) -> Generation | list[Generation]:
        """Continue a prompt, or a batch of prompts of any lengths.

        Args:
            prompt: text; it may be empty, unless the model reads a source and writes after it: then
                it is the source.
            config: all settings; empty: their defaults.
            progress: called after every token with the number of tokens so far, at most
                ``max_new_tokens``.
            settings: single fields of GenerationConfig, for example ``temperature=0.7``.

        Raises:
            ConfigError: for a setting that does not exist or cannot be.
            GenerationError: for an empty batch, or an empty prompt where the model needs a source.
        """
        config = _with_settings(config, settings)
        prompts = _texts(prompt)
        framed = self._framed(prompts)
        self.refuse_without_source(prompts)
        generated = generate_ids(self.model, framed, config, SPECIAL_IDS, progress=progress)
        results = [
            self._result(text, ids, continuation)
            for text, ids, continuation in zip(prompts, framed, generated, strict=True)
        ]
        return results[0] if isinstance(prompt, str) else results

    def stream(
        self, prompt: str, config: GenerationConfig | None = None, **settings: Any
    ) -> Iterator[str]:
        """Yield the continuation of a prompt piece by piece; arguments as in ``generate``."""
        config = _with_settings(config, settings)
        ids = self._framed([prompt])[0]
        self.refuse_without_source([prompt])
        written = len(self.tokenizer.decode(ids))
        for new in generate_steps(self.model, [ids], config, SPECIAL_IDS):
            ids.extend(token for _, token in new)
            text = self.tokenizer.decode(ids)
            if len(text) > written:
                yield text[written:]
                written = len(text)

    def begun(self, prompt: str) -> str:
        """Return a prompt as its continuation follows it: as typed, but for white space at its end.

        Of that there is what the tokenizer keeps, so that the two fit together.
        """
        given = self.tokenizer.decode(self._framed([prompt])[0])
        if not prompt.strip():
            return given
        # The user's own writing of the prompt, which may hold unknown words.
        return prompt.rstrip() + given[len(given.rstrip()) :]

    def refuse_without_source(self, prompts: Sequence[str]) -> None:
        """Refuse prompts without a token where the model reads a source and writes after it.

        Raises:
            GenerationError: naming the kind.
        """
        if not self.model.needs_source:
            return
        if not all(self.tokenizer.encode_batch(list(prompts))):
            raise GenerationError(
                f"model.kind = {self.model.config.kind} reads a source and writes after it: give "
                "the text to read as the prompt"
            )

    def score(self, text: str, given: str = "") -> Score:
        """Return the log-probability of a text after a beginning, ``<eos>`` at its end included.

        Args:
            text: what is scored.
            given: what stands before it and is only read, after ``<sos>``; encoded alone, as a
                source or a prompt is. Empty: nothing, and the text is scored as a whole one.

        Raises:
            GenerationError: if they are not one text each, or nothing is given where the model
                needs a source.
        """
        for each in (text, given):
            if not isinstance(each, str):
                raise GenerationError(f"expected one text, not {shown(each)}")
        self.refuse_without_source([given])
        before, after = self._framed([given, text])
        ids = [*before, *after[1:], EOS_ID]
        values = token_log_probabilities(self.model, [ids], given=[len(before)])[0]
        scored = values[len(before) - 1 :]
        return Score(sum(scored), len(scored))

    def trace(self, text: str | Sequence[str], names: str | Sequence[str] = "*") -> Trace:
        """Return the activations of the model on a text, or on a batch of texts of any lengths.

        Args:
            text: framed by ``<sos>``; no ``<eos>`` is added.
            names: of the activations to keep, or patterns with ``*``.

        Raises:
            GenerationError: for an empty batch, or a text that is longer than the context.
            ConfigError: if a name matches no activation.
        """
        framed = self._framed(_texts(text))
        return trace_ids(self.model, framed, [self._words(ids) for ids in framed], names)

    def trace_generation(
        self,
        prompt: str,
        config: GenerationConfig | None = None,
        names: str | Sequence[str] = "*",
        **settings: Any,
    ) -> tuple[Generation, Trace]:
        """Continue a prompt, and return the activations of every token read on the way.

        They are those of decoding with the cache, token by token. The last new token is chosen but
        not read. Of a beam search there are none: its hypotheses are not one text.

        Args:
            prompt: text; it may be empty.
            config: all settings; empty: their defaults.
            names: of the activations to keep, or patterns with ``*``.
            settings: single fields of GenerationConfig.

        Raises:
            ConfigError: for a setting that does not exist or cannot be, a strategy that searches,
                or a name that matches no activation.
            GenerationError: if the prompt is no text, or does not fit into the context with its
                continuation.
        """
        config = _with_settings(config, settings)
        if not isinstance(prompt, str):
            raise GenerationError(f"expected one text, not {shown(prompt)}")
        ids = self._framed([prompt])[0]
        self.refuse_without_source([prompt])
        if hasattr(STRATEGIES.load(config.strategy), "search"):
            raise ConfigError(
                f"strategy {config.strategy} follows several texts at once: trace the text that it "
                "returns, or take another strategy"
            )
        context, wanted = self.model.config.context_length, len(ids) + config.max_new_tokens
        if wanted - 1 > context:
            raise GenerationError(
                f"{wanted - 1} tokens are to be read and the context is {context}: give a shorter "
                f"prompt, or max_new_tokens = {max(context + 1 - len(ids), 0)} at most"
            )
        recorder = Recorder(self.model, names)
        (generated,) = generate_ids(self.model, [ids], config, SPECIAL_IDS, hooks=recorder.hooks)
        new = [*generated.ids, EOS_ID] if generated.finished else generated.ids
        read = [*ids, *new[:-1]]
        return self._result(prompt, ids, generated), recorder.trace(read, self._words(read))

    def _words(self, ids: Sequence[int]) -> list[str]:
        return [in_line(self.tokenizer.token(i)) for i in ids]

    def notes(self, prompt: str, num_predicted: int) -> list[str]:
        """Say what a reader of the continuation must know: unknown words, a prompt cut.

        Args:
            prompt: text.
            num_predicted: tokens predicted after it, ``<eos>`` included.
        """
        notes = []
        ids = self.tokenizer.encode(prompt)
        if UNK_ID in ids:
            words = [word for word in prompt.split() if UNK_ID in self.tokenizer.encode(word)]
            shown = ", ".join(dict.fromkeys(words)) or "some"
            notes.append(f"not in the vocabulary, read as <unk>: {shown}")
        context = self.model.config.context_length
        if len(ids) + 1 > context:
            notes.append(
                f"the prompt has {len(ids) + 1} tokens, <sos> included, and the context "
                f"{context}: a sliding window of the last {context} is seen"
            )
        elif len(ids) + num_predicted > context:
            notes.append(
                f"beyond {context} tokens the model sees a sliding window of the last {context}"
            )
        return notes

    def _framed(self, prompts: Sequence[str]) -> list[list[int]]:
        if not prompts:
            raise GenerationError("give at least one prompt; it may be empty")
        return [[SOS_ID, *ids] for ids in self.tokenizer.encode_batch(list(prompts))]

    def _result(self, prompt: str, framed: list[int], generated: Generated) -> Generation:
        given = self.tokenizer.decode(framed)
        whole = self.tokenizer.decode(framed + generated.ids)
        return Generation(
            prompt=prompt,
            text=self.begun(prompt) + whole[len(given) :],
            ids=generated.ids,
            finished=generated.finished,
            log_probability=generated.log_probability,
            notes=self.notes(prompt, len(generated.ids) + generated.finished),
            score=generated.score,
            alternatives=[
                self._result(prompt, framed, alternative) for alternative in generated.alternatives
            ],
        )


def _texts(prompt: str | Sequence[str]) -> list[str]:
    """Return a prompt, or prompts, as a list.

    Raises:
        GenerationError: if they are no text.
    """
    prompts = [prompt] if isinstance(prompt, (str, bytes)) or prompt is None else prompt
    if not isinstance(prompts, Sequence) or not all(isinstance(text, str) for text in prompts):
        raise GenerationError(f"expected text, or a list of texts, not {shown(prompt)}")
    return list(prompts)


def _with_settings(config: GenerationConfig | None, settings: dict[str, Any]) -> GenerationConfig:
    config = config or GenerationConfig()
    if not settings:
        return config
    return from_dict(GenerationConfig, to_dict(config) | settings, "generate")
