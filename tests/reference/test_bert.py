"""Other masks than the causal one against transformers' BERT, and torch's encoder, same weights.

BERT norms the sum of its embeddings and has a map before its unembedding, which are taken out of
it. What is hidden is an entry of its vocabulary, ``[MASK]``: here the last, whose embedding is our
vector. With a mask of our own for each text it is a prefix language model, as in UniLM.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig, BertForMaskedLM

from tests.model.helpers import largest_difference
from tests.reference.test_transformer_encoder import Reference, name_pairs
from tinylm.config import ModelConfig
from tinylm.model.base import GenerativeModel, build

VOCABULARY, CONTEXT = 23, 12
SIZES = [
    {"hidden_size": 24, "num_heads": 4, "num_layers": 3, "ffn_size": 50},
    {"hidden_size": 35, "num_heads": 5, "num_layers": 2, "ffn_size": 7},
    {"hidden_size": 8, "num_heads": 1, "num_layers": 1, "ffn_size": 32},
]
IN_LAYER = {  # ours -> theirs
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.expand": "intermediate.dense",
    "feed_forward.contract": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def ours_of(kind: str, sizes: dict[str, int], **changes: Any) -> GenerativeModel:
    """A model in float64 whose biases and norms are not 0 and 1."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"positions": "learned", "scale_embeddings": False, "dropout": 0.0}
    config = ModelConfig(
        kind=kind, vocab_size=VOCABULARY, context_length=CONTEXT, **{**settings, **sizes, **changes}
    )
    model = build(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return model


def bert_of(model: GenerativeModel) -> BertForMaskedLM:
    """BERT with the weights of one of ours."""
    config = model.config
    bert = BertForMaskedLM(
        BertConfig(
            vocab_size=VOCABULARY + 1,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.resolved_ffn_size,
            hidden_act=config.activation,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=CONTEXT + 1,
            type_vocab_size=1,
            pad_token_id=None,
            layer_norm_eps=config.norm_eps,
            tie_word_embeddings=False,
            attn_implementation="eager",
        )
    ).double()
    bert.bert.embeddings.LayerNorm = nn.Identity()
    bert.cls.predictions.transform = nn.Identity()
    with torch.no_grad():
        bert.bert.embeddings.token_type_embeddings.weight.zero_()
        for ours, theirs in pairs(model, bert):
            theirs.copy_(ours)
    return bert.eval()


def pairs(model: GenerativeModel, bert: BertForMaskedLM) -> list[tuple[Tensor, Tensor]]:
    """Our tensors and those of BERT that they must be."""
    return [(take(model.get_parameter), theirs) for take, theirs in _places(model, bert)]


def _places(model: GenerativeModel, bert: BertForMaskedLM) -> list[tuple[Any, Tensor]]:
    words = bert.bert.embeddings.word_embeddings.weight
    places = bert.bert.embeddings.position_embeddings.weight
    head = bert.cls.predictions.decoder
    own = model.get_parameter("positions.table.weight")
    made: list[tuple[Any, Tensor]] = [
        (lambda get: get("embedding.weight"), words[:VOCABULARY]),
        (lambda get: get("positions.table.weight"), places[: len(own)]),
        (lambda get: get("unembedding.weight"), head.weight[:VOCABULARY]),
        (lambda get: get("unembedding.bias"), head.bias[:VOCABULARY]),
    ]
    if "mask" in dict(model.named_parameters()):
        made.append((lambda get: get("mask"), words[VOCABULARY]))
    for i, layer in enumerate(bert.bert.encoder.layer):
        for kind in ("weight", "bias"):
            for part, name in enumerate(("query", "key", "value")):
                theirs = getattr(layer.attention.self.get_submodule(name), kind)
                made.append(
                    (
                        lambda get, i=i, kind=kind, part=part: get(
                            f"layers.{i}.attention.query_key_value.{kind}"
                        ).chunk(3)[part],
                        theirs,
                    )
                )
            for name, other in IN_LAYER.items():
                made.append(
                    (
                        lambda get, i=i, kind=kind, name=name: get(f"layers.{i}.{name}.{kind}"),
                        getattr(layer.get_submodule(other), kind),
                    )
                )
    return made


def gradients(model: GenerativeModel, bert: BertForMaskedLM) -> list[tuple[Tensor, Tensor]]:
    """The gradients of the same tensors."""
    grads = {id(p): p.grad for p in bert.parameters()}

    def ours(name: str) -> Tensor:
        grad = model.get_parameter(name).grad
        assert grad is not None, name
        return grad

    made = []
    for (take, _), (base, index) in zip(_places(model, bert), _slices(model, bert), strict=True):
        grad = grads[id(base)]
        assert grad is not None
        made.append((take(ours), grad[index]))
    return made


def _slices(model: GenerativeModel, bert: BertForMaskedLM) -> list[tuple[Tensor, Any]]:
    """Of each of ``_places`` BERT's whole tensor, and which part of it."""
    found = []
    parameters = list(bert.parameters())
    for _, part in _places(model, bert):
        base = part if part.is_leaf else part._base
        assert base is not None
        assert any(base is each for each in parameters)
        index: Any = slice(None)
        if base is not part:
            row = part.storage_offset() // (base.stride(0) or 1)
            index = row if part.dim() < base.dim() else slice(row, row + len(part))
        found.append((base, index))
    return found


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_tokens_and_every_gradient_are_berts(
    sizes: dict[str, int], activation: str, padded: bool
) -> None:
    ours = ours_of("masked", sizes, activation=activation)
    theirs = bert_of(ours)
    ids = torch.randint(VOCABULARY, (3, CONTEXT))
    lengths = torch.tensor([CONTEXT, 7, 1]) if padded else torch.full((3,), CONTEXT)
    real = torch.arange(CONTEXT) < lengths[:, None]
    hidden = (torch.rand(3, CONTEXT) < 0.4) & real
    labels = torch.randint(VOCABULARY, (3, CONTEXT)).masked_fill(~real, -100)
    x = ours.residual(ids, real=real if padded else None, hidden=hidden)
    logits = ours.unembed(x)
    loss = ours.summed_loss(x, labels, -100)

    # Their row: [MASK] where a token is hidden, and after the last.
    row = torch.cat([ids.masked_fill(hidden, VOCABULARY), torch.zeros(3, 1, dtype=ids.dtype)], 1)
    row[torch.arange(3), lengths] = VOCABULARY
    seen = torch.arange(CONTEXT + 1) <= lengths[:, None]
    output = theirs(input_ids=row, attention_mask=seen.long()).logits[:, 1:, :VOCABULARY]
    assert largest_difference(logits[real], output[real]) < 1e-10
    expected = F.cross_entropy(output.mT, labels, reduction="sum")
    assert loss.item() == pytest.approx(expected.item(), abs=1e-9)

    loss.backward()
    expected.backward()
    for mine, other in gradients(ours, theirs):
        assert largest_difference(mine, other) < 1e-10
    assert len(gradients(ours, theirs)) == 5 + 16 * sizes["num_layers"]


@pytest.mark.parametrize("sizes", SIZES)
def test_probabilities_of_prefixes_are_berts(sizes: dict[str, int]) -> None:
    ours = ours_of("masked", sizes)
    theirs = bert_of(ours)
    ids = torch.randint(VOCABULARY, (2, CONTEXT))
    logits = ours(ids)
    for place in range(CONTEXT):
        row = torch.cat([ids[:, : place + 1], torch.full((2, 1), VOCABULARY)], 1)
        expected = theirs(input_ids=row).logits[:, -1, :VOCABULARY]
        assert largest_difference(logits[:, place], expected) < 1e-10


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [False, True])
def test_a_prefix_mask_gives_what_bert_gives_with_it(
    sizes: dict[str, int], activation: str, padded: bool
) -> None:
    ours = ours_of("prefix-lm", sizes, activation=activation)
    theirs = bert_of(ours)
    ids = torch.randint(VOCABULARY, (3, CONTEXT))
    lengths = torch.tensor([CONTEXT, 7, 2]) if padded else torch.full((3,), CONTEXT)
    real = torch.arange(CONTEXT) < lengths[:, None]
    source = torch.tensor([5, 7, 1])
    labels = torch.randint(VOCABULARY, (3, CONTEXT)).masked_fill(~real, -100)
    x = ours.residual(ids, real=real if padded else None, given=source)
    logits = ours.unembed(x)

    mask = torch.full((3, 1, CONTEXT, CONTEXT), -1e300, dtype=torch.float64)
    for text in range(3):
        for query in range(CONTEXT):
            for key in range(int(lengths[text])):
                if key <= query or (key < source[text] and query < source[text]):
                    mask[text, 0, query, key] = 0.0
    places = torch.arange(CONTEXT)
    embedded = theirs.bert.embeddings(input_ids=ids, position_ids=places[None])
    stream = embedded
    for layer in theirs.bert.encoder.layer:
        made = layer(stream, mask)
        stream = made[0] if isinstance(made, tuple) else made
    output = theirs.cls(stream)[..., :VOCABULARY]
    assert largest_difference(logits[real], output[real]) < 1e-10
    loss = ours.summed_loss(x, labels, -100)
    expected = F.cross_entropy(output.mT, labels, reduction="sum")
    loss.backward()
    expected.backward()
    for mine, other in gradients(ours, theirs):
        assert largest_difference(mine, other) < 1e-10


class Encoder(Reference):
    """Torch's encoder without a causal mask, in which a token may be a vector of its own."""

    def read(self, x: Tensor, real: Tensor) -> Tensor:
        """Return logits of a row of embeddings, (batch, seq, hidden), scaled, positions added."""
        return self.unembedding(self.encoder(x, src_key_padding_mask=~real))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_tokens_and_every_gradient_are_those_of_torchs_encoder(
    sizes: dict[str, int], norm_placement: str, padded: bool
) -> None:
    """With sinusoidal positions and scaled embeddings, and both placements of the norms."""
    if sizes["hidden_size"] % 2:
        sizes = {**sizes, "hidden_size": 40}
    ours = ours_of(
        "masked",
        sizes,
        norm_placement=norm_placement,
        positions="sinusoidal",
        scale_embeddings=True,
        norm_eps=1e-5,
    )
    theirs = Encoder(sizes, norm_placement == "pre", "relu").double()
    names = name_pairs(sizes["num_layers"], norm_placement == "pre")
    with torch.no_grad():
        for mine, other in names.items():
            theirs.get_parameter(other).copy_(ours.get_parameter(mine))
    vector = ours.get_parameter("mask").detach().clone().requires_grad_()
    ids = torch.randint(VOCABULARY, (3, CONTEXT))
    lengths = torch.tensor([CONTEXT, 6, 1]) if padded else torch.full((3,), CONTEXT)
    real = torch.arange(CONTEXT) < lengths[:, None]
    hidden = (torch.rand(3, CONTEXT) < 0.4) & real
    logits = ours(ids, real=real if padded else None, hidden=hidden)

    added = torch.arange(CONTEXT + 1) == lengths[:, None]
    masked = torch.cat([hidden, torch.zeros(3, 1, dtype=torch.bool)], 1) | added
    row = theirs.embedding(torch.cat([ids, ids[:, :1]], 1))
    row = torch.where(masked[..., None], vector, row) * sizes["hidden_size"] ** 0.5
    table = ours.positions.add(torch.zeros_like(row), torch.arange(CONTEXT + 1)[None])
    seen = torch.arange(CONTEXT + 1) <= lengths[:, None]
    output = theirs.read(row + table.double(), seen)[:, 1:]
    assert largest_difference(logits[real], output[real]) < 1e-10
    weights = torch.randn(3, CONTEXT, VOCABULARY, dtype=torch.float64) * real[..., None]
    (logits * weights).sum().backward()
    (output * weights).sum().backward()
    for mine, other in names.items():
        own, expected = ours.get_parameter(mine).grad, theirs.get_parameter(other).grad
        assert own is not None
        assert expected is not None
        assert largest_difference(own, expected) < 1e-9, mine
    own = ours.get_parameter("mask").grad
    assert own is not None
    assert vector.grad is not None
    assert largest_difference(own, vector.grad) < 1e-9
