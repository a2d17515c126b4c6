"""Sequence classification: a linear head on a decoder's residual stream.

Causal (Radford et al. 2018, section 3.2): the head reads the residual stream at the last real
token, the only one that has seen the whole text. Bidirectional (Devlin et al. 2019, section 3): the
causal mask is left out, so that every token sees every real token, and the head reads a [CLS] token
that stands first. [CLS] is a learned input embedding, not a word: it starts as that of the
tokenizer's start token, in whose place it stands. Over a frozen decoder it is trained as a prompt
of one token would be.

Logits are ``W dropout(h) + b``, with W from N(0, 0.02) and b = 0 at the start, as in BERT; its
pooler, ``tanh(W' h + b')`` before the dropout, is an option. The body is frozen (then it stays in
eval mode, without dropout), adapted by LoRA, or trained whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tinylm.config import to_dict
from tinylm.config.finetuning import ClassificationConfig, LoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import attach, fingerprint
from tinylm.finetuning.linear import refuse_quantized
from tinylm.model.base import GenerativeModel
from tinylm.model.changes import change
from tinylm.model.dropout import Dropout
from tinylm.model.headed import Headed
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.last_token import last_real
from tinylm.planning.limits import refuse_beyond_memory

_START_STD = 0.02


class Classifier(Headed):
    """A decoder with a head: token ids in, a logit a label out."""

    def __init__(
        self,
        body: GenerativeModel,
        num_labels: int,
        settings: ClassificationConfig,
        start_id: int,
        base: str | None = None,
    ) -> None:
        """Put a head on a decoder; new parameters come from torch's global random state.

        Args:
            body: changed in place (which parameters are trained, and the adapter of body=lora).
            num_labels: two or more.
            settings: how it is read and what is trained.
            start_id: token whose embedding [CLS] starts from.
            base: fingerprint of the body before it was changed, for one that has been given what
                the settings ask for before; empty: a body as it was trained.

        Raises:
            AdapterError: for fewer than two labels, or what LoRA refuses.
            ConfigError: if the head needs more memory than there is.
        """
        super().__init__()
        if num_labels < 2:
            raise AdapterError(f"{num_labels} labels: classification needs two or more")
        self.settings = settings
        self.base = base or fingerprint(body)
        """Fingerprint of the body before it was changed."""
        table = body.embedding.weight
        hidden = body.config.hidden_size
        parts = {"weights": 4 * num_labels * hidden}
        refuse_beyond_memory(f"a head for {num_labels:,} labels", parts, "the number of labels")
        if settings.body == "lora" and base is None:
            lora = LoraConfig(rank=settings.rank, alpha=settings.alpha, targets=settings.targets)
            body = attach(body, "lora", lora)
        elif settings.body != "lora":
            if settings.body == "full":
                refuse_quantized(body)
            body.requires_grad_(settings.body == "full")
            if not body.config.tie_embeddings:
                body.unembedding.requires_grad_(False)  # it takes no part
        self.body = body
        self.head_change = change(
            "classify",
            num_labels=num_labels,
            settings=to_dict(settings),
            start_id=start_id,
            base=self.base,
        )
        self.cls = (
            nn.Parameter(table[start_id].detach().clone()) if settings.bidirectional else None
        )
        self.pooler = nn.Linear(hidden, hidden) if settings.pooler else None
        self.dropout = Dropout(settings.dropout)
        self.head = nn.Linear(hidden, num_labels)
        for linear in (self.pooler, self.head):
            if linear is not None:
                nn.init.normal_(linear.weight, std=_START_STD)
                nn.init.zeros_(linear.bias)
        self.to(table.device, table.dtype)

    @property
    def has_fixed_features(self) -> bool:
        """Whether training leaves ``features`` as they are, so that once is enough."""
        return self.settings.body == "frozen" and self.cls is None

    def train(self, mode: bool = True) -> Classifier:
        """Set the mode; a frozen body stays in eval mode."""
        super().train(mode)
        if self.settings.body == "frozen":
            self.body.eval()
        return self

    def forward(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Return logits, (batch, labels).

        Args:
            ids: (batch, seq), padded on the right, without [CLS].
            real: (batch, seq), False where a token is padding; empty: all are real.
        """
        return self.unembed(self.residual(ids, real=real)).squeeze(1)

    def unembed(self, x: Tensor, hooks: Hooks = NO_HOOKS) -> Tensor:
        """Return logits, (..., labels), of what ``residual`` returns."""
        logits: Tensor = self.head(x)
        return logits

    def residual(self, ids: Tensor, *, real: Tensor | None = None) -> Tensor:
        """Return what the head is multiplied with, (batch, 1, hidden): pooled, after dropout.

        Args:
            ids: (batch, seq); or features, (batch, hidden), that ``features`` has returned.
            real: (batch, seq).
        """
        read = ids if ids.is_floating_point() else self.features(ids, real)
        if self.pooler is not None:
            read = self.pooler(read).tanh()
        kept: Tensor = self.dropout(read)
        return kept[:, None]

    def features(self, ids: Tensor, real: Tensor | None = None) -> Tensor:
        """Return the body's residual stream where it is read, (batch, hidden)."""
        if self.cls is None:
            x = self.body.residual(ids, real=real)
            return x[torch.arange(len(x), device=x.device), last_real(ids, real)]
        embeddings = self.body.embedding(ids)
        first = self.cls.to(embeddings.dtype).expand(len(embeddings), 1, -1)
        if real is not None:
            real = nn.functional.pad(real, (1, 0), value=True)
        x = self.body.residual(
            embeddings=torch.cat([first, embeddings], 1), real=real, causal=False
        )
        return x[:, 0]


def trained(classifier: Classifier) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, counted and saved, by name, each once."""
    return {
        name: parameter
        for name, parameter in classifier.named_parameters()
        if parameter.requires_grad
    }
