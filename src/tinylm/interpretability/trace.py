"""Every activation of a model on some texts, by name, with the tokens that they belong to.

``trace`` runs the texts once and keeps what ``model.activation_shapes`` names. What is not an
activation but follows from some of them is computed when it is asked for: the residual stream
before and after each part, what each head adds to it (its mixed values through its rows of W_O),
the normalised inputs of the parts and their scales.

Source: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinylm.errors import ConfigError, GenerationError, nearest, shown
from tinylm.interpretability.weights import affine, maps_of
from tinylm.model.base import GenerativeModel, refuse_many_reads
from tinylm.model.decoder import evaluating, record
from tinylm.model.hooks import as_patterns
from tinylm.model.layers import LayerNorm

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

PAD_ID = 0
_TOKENS = ("position", "key")
"""Axes that count tokens of a text."""


@dataclass(frozen=True, eq=False)
class Trace:
    """What a model computed for some texts."""

    model: GenerativeModel = field(repr=False)
    ids: Tensor = field(repr=False)
    """(batch, seq), padded on the right."""
    real: Tensor = field(repr=False)
    """(batch, seq), bool, False where a token is padding."""
    words: tuple[tuple[str, ...], ...]
    """The tokens of each text as text, without padding."""
    activations: Mapping[str, Tensor] = field(repr=False)
    """Name -> activation, detached."""

    @property
    def logits(self) -> Tensor:
        """(batch, seq, vocab)."""
        return self["logits"]

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return self.model.config.num_layers

    def __getitem__(self, name: str) -> Tensor:
        """Return an activation by its name.

        Raises:
            ConfigError: if it was not kept, naming the nearest that was.
        """
        if name not in self.activations:
            raise ConfigError(
                f"no activation {shown(name)} in this trace"
                f"{nearest(str(name), list(self.activations))}"
            )
        return self.activations[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.activations)

    def __len__(self) -> int:
        return len(self.activations)

    def numpy(self, name: str) -> np.ndarray[Any, Any]:
        """Return an activation as a NumPy array, in float32 at least."""
        value = self[name]
        array: np.ndarray[Any, Any] = (
            (value.double() if value.itemsize > 4 else value.float()).cpu().numpy()
        )
        return array

    def of(self, text: int) -> Trace:
        """Return the trace of one text, (1, …) each, without padding.

        Raises:
            ConfigError: if there is no such text.
        """
        if not 0 <= text < len(self.words):
            raise ConfigError(f"there is no text {text}: the trace has {len(self.words)}, from 0")
        count = len(self.words[text])
        rows = {
            name: _shortened(name, value[text : text + 1], count)
            for name, value in self.activations.items()
        }
        return Trace(
            self.model,
            self.ids[text : text + 1, :count],
            self.real[text : text + 1, :count],
            (self.words[text],),
            rows,
        )

    def pattern(self, layer: int) -> Tensor:
        """Return the attention weights of a layer, (batch, heads, seq, seq)."""
        return self[f"layers.{layer}.attention.pattern"]

    def residual_stream(self) -> tuple[list[str], Tensor]:
        """Return the residual stream as each part reads it, and after the last layer.

        Returns:
            Names of the places, and (places, batch, seq, hidden). In a post-norm model each is
            normalised already.
        """
        names = ["layers.0.input"]
        for i in range(self.num_layers):
            names += [f"layers.{i}.middle", f"layers.{i}.residual"]
        return names, torch.stack([self[name] for name in names])

    @torch.no_grad()
    def head_outputs(self, layer: int) -> Tensor:
        """Return what each head of a layer adds, (batch, heads, seq, hidden).

        Their sum and the bias of the layer's output map are ``attention.output``.
        """
        mixed = self[f"layers.{layer}.attention.mixed"]  # (batch, heads, seq, head_dim)
        heads, size = mixed.shape[1], mixed.shape[-1]
        weight, _ = affine(maps_of(self.model, layer)[1], heads * size)
        return mixed @ weight.view(heads, size, -1).to(mixed.dtype)

    @torch.no_grad()
    def normalised(self, place: str) -> tuple[Tensor, Tensor]:
        """Return what goes out of a norm, and the scale that it multiplied by.

        Args:
            place: ``layers.N.attention_norm``, ``layers.N.feed_forward_norm`` or ``final_norm``.

        Returns:
            (batch, seq, hidden), and ``1 / sqrt(variance + eps)``, (batch, seq, 1).

        Raises:
            ConfigError: if the model has no such norm.
        """
        norm, x = self.norm(place), self.before_norm(place)
        scale = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps)
        normalised: Tensor = norm(x)
        return normalised, scale

    def norm(self, place: str) -> LayerNorm:
        """Return a norm of the model.

        Raises:
            ConfigError: if the model has no such norm.
        """
        norms = {
            name: module
            for name, module in self.model.named_modules()
            if isinstance(module, LayerNorm)
        }
        if place not in norms:
            raise ConfigError(f"the model has no norm {shown(place)}{nearest(place, list(norms))}")
        return norms[place]

    def before_norm(self, place: str) -> Tensor:
        """Return what goes into a norm, (batch, seq, hidden)."""
        layers = self.num_layers
        if place == "final_norm":
            return self[f"layers.{layers - 1}.residual"]
        layer, _, part = place.rpartition(".")
        before = self[f"{layer}.{'input' if part == 'attention_norm' else 'middle'}"]
        if self.model.config.norm_placement == "pre":
            return before
        return before + self[f"{layer}.{part.removesuffix('_norm')}.output"]

    def plot(self, name: str, text: int = 0) -> Figure:
        """Draw an activation of one text: a map a head, or positions against dimensions.

        Raises:
            ConfigError: if it was not kept, or there is no such text.
        """
        from tinylm.interpretability.drawing import activation_figure

        alone = self.of(text)
        value = alone[name]
        return activation_figure(name, value[0], alone.words[0], axes_of(name, value.dim())[-1])

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the texts, and the shape of every activation."""
        texts = "".join(
            f"<li>{' '.join(f'<code>{escape(word)}</code>' for word in words)}</li>"
            for words in self.words
        )
        rows = "".join(
            f"<tr><td><code>{escape(name)}</code></td>"
            f"<td>{', '.join(axes_of(name, value.dim()))}</td>"
            f"<td>{' &times; '.join(map(str, value.shape))}</td></tr>"
            for name, value in self.activations.items()
        )
        head = "<tr><th>activation</th><th>axes</th><th>shape</th></tr>"
        return f"<ol start='0'>{texts}</ol><table>{head}{rows}</table>"

    def to_pandas(self, name: str) -> pd.DataFrame:
        """Return an activation as a table: a row a number, with its indices, text and word.

        Padding has no row: neither tokens after the end of a text nor, as keys, those who see them.
        """
        import numpy as np
        import pandas as pd

        value = self.numpy(name)
        axes = axes_of(name, value.ndim)
        grid = np.indices(value.shape)
        table: dict[str, Any] = dict(zip(axes, grid, strict=True))
        lengths = np.array([len(words) for words in self.words])[table["text"]]
        real = np.logical_and.reduce([table[axis] < lengths for axis in _TOKENS if axis in axes])
        table = {axis: index[real] for axis, index in table.items()}
        places = zip(table["text"], table["position"], strict=True)
        words = [self.words[text][token] for text, token in places]
        return pd.DataFrame({**table, "word": words, "value": value[real]})


def axes_of(name: str, dimensions: int) -> tuple[str, ...]:
    """Return what the axes of an activation count."""
    if dimensions == 3:
        return ("text", "position", "vocabulary" if name == "logits" else "dimension")
    last = "key" if name.endswith((".scores", ".pattern")) else "dimension"
    return ("text", "head", "position", last)


def _shortened(name: str, value: Tensor, count: int) -> Tensor:
    """Return an activation of the first tokens alone."""
    axes = axes_of(name, value.dim())
    value = value.narrow(axes.index("position"), 0, count)
    return value.narrow(-1, 0, count) if axes[-1] == "key" else value


def trace(
    model: GenerativeModel,
    texts: Sequence[Sequence[int]],
    words: Sequence[Sequence[str]] | None = None,
    names: str | Iterable[str] = "*",
) -> Trace:
    """Run texts through a model in eval mode, without gradients, and keep the activations.

    Args:
        model: any device and precision.
        texts: token ids of each, ``<sos>`` first if the model was trained so.
        words: the same tokens as text; empty: the ids.
        names: of the activations to keep, or patterns with ``*``.

    Raises:
        GenerationError: if there is no text, one is empty or longer than the context, or an id is
            outside the vocabulary.
        ConfigError: if a name matches no activation.
    """
    refuse(model, texts)
    longest = max(map(len, texts))
    device = model.embedding.weight.device
    rows = [[*text, *[PAD_ID] * (longest - len(text))] for text in texts]
    ids = torch.tensor(rows, device=device)  # (batch, seq)
    lengths = torch.tensor([len(text) for text in texts], device=device)
    real = torch.arange(longest, device=device) < lengths[:, None]
    with evaluating(model), torch.no_grad():
        _, kept = record(model, names, ids, None if bool(real.all()) else real)
    given = [[str(i) for i in text] for text in texts] if words is None else words
    return Trace(model, ids, real, tuple(tuple(text) for text in given), kept)


class Recorder:
    """Keeps the activations of one text that is read in pieces, through a cache."""

    def __init__(self, model: GenerativeModel, names: str | Iterable[str] = "*") -> None:
        """Begin with nothing read; ``hooks`` go with every piece.

        Args:
            model: that reads the text.
            names: of the activations to keep, or patterns with ``*``; ``final`` and ``logits``
                are kept in any case.

        Raises:
            ConfigError: if a name matches no activation.
        """
        refuse_many_reads(model)
        self._pieces: dict[str, list[Tensor]] = {}
        self._model = model
        wanted = as_patterns(names)
        if not any(fnmatchcase("final", pattern) for pattern in wanted):
            wanted.append("final")
        self.hooks = model.hooks(dict.fromkeys(wanted, self._keep))

    def _keep(self, name: str, activation: Tensor) -> None:
        self._pieces.setdefault(name, []).append(activation.detach())

    def trace(self, ids: Sequence[int], words: Sequence[str]) -> Trace:
        """Return the activations of the text as if it had been read at once.

        Args:
            ids: of the tokens read, in order.
            words: the same tokens as text.
        """
        joined = {name: _joined(name, pieces) for name, pieces in self._pieces.items()}
        with torch.no_grad():
            joined["logits"] = self._model.unembed(joined["final"])
        row = torch.tensor([list(ids)], device=joined["final"].device)
        return Trace(
            self._model, row, torch.ones_like(row, dtype=torch.bool), (tuple(words),), joined
        )


def _joined(name: str, pieces: Sequence[Tensor]) -> Tensor:
    """Return an activation of all tokens; keys that a token could not see yet weigh nothing."""
    axes = axes_of(name, pieces[0].dim())
    if axes[-1] == "key":
        keys = pieces[-1].shape[-1]
        nothing = 0.0 if name.endswith(".pattern") else -torch.inf
        pieces = [
            torch.nn.functional.pad(piece, (0, keys - piece.shape[-1]), value=nothing)
            for piece in pieces
        ]
    return torch.cat(list(pieces), axes.index("position"))


def refuse(model: GenerativeModel, texts: Sequence[Sequence[int]]) -> None:
    """Refuse texts that a model cannot read.

    Raises:
        GenerationError: if there is no text, one is empty or longer than the context, an id is
            outside the vocabulary, or the model reads a text more than once.
    """
    vocab_size, context = model.config.resolved_vocab_size, model.config.context_length
    refuse_many_reads(model)
    if not texts:
        raise GenerationError("there is no text: give at least one")
    for text in texts:
        if not text:
            raise GenerationError("there are no tokens: give a sentence of at least one word")
        if len(text) > context:
            raise GenerationError(
                f"a text of {len(text)} tokens does not fit into model.context_length = {context}"
            )
        for i in text:
            if not 0 <= i < vocab_size:
                raise GenerationError(f"token id {i} is outside the vocabulary of {vocab_size}")
