"""The encoder–decoder against torch.nn.Transformer and transformers' Marian, same weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import MarianConfig, MarianMTModel

from tests.model.helpers import NORM_PLACEMENTS, largest_difference
from tinylm.config import GenerationConfig, ModelConfig
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.base import build
from tinylm.model.encoder_decoder import EncoderDecoderLM
from tinylm.model.loss import token_losses
from tinylm.model.positions.sinusoidal import sinusoidal_table

SIZES = {"hidden_size": 24, "num_heads": 4, "num_layers": 2, "ffn_size": 50}
VOCABULARY, CONTEXT = 23, 16

ATTENTION = {
    "query_key_value.weight": "in_proj_weight",
    "query_key_value.bias": "in_proj_bias",
    "output.weight": "out_proj.weight",
    "output.bias": "out_proj.bias",
}
FEED_FORWARD = {
    "expand.weight": "linear1.weight",
    "expand.bias": "linear1.bias",
    "contract.weight": "linear2.weight",
    "contract.bias": "linear2.bias",
}


def random_model(**changes: Any) -> EncoderDecoderLM:
    """Return a float64 model whose biases and norms are not 0 and 1, so that none can hide."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(0)
        sizes = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "dropout": 0.0, **SIZES}
        model = build(ModelConfig(kind="encoder-decoder", **{**sizes, **changes}))
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    assert isinstance(model, EncoderDecoderLM)
    return model.eval()


class Reference(nn.Module):
    """Vaswani et al. 2017 by torch's own stacks; without the norms that it adds at their ends."""

    def __init__(self, pre: bool, activation: str) -> None:
        super().__init__()
        hidden, heads, ffn = SIZES["hidden_size"], SIZES["num_heads"], SIZES["ffn_size"]
        self.embedding = nn.Embedding(VOCABULARY, hidden)
        self.transformer = nn.Transformer(
            hidden, heads, SIZES["num_layers"], SIZES["num_layers"], ffn, 0.0,
            activation=activation, norm_first=pre, batch_first=True,
        )  # fmt: skip
        if not pre:
            self.transformer.encoder.norm = None
            self.transformer.decoder.norm = None
        self.unembedding = nn.Linear(hidden, VOCABULARY)

    def embedded(self, ids: Tensor) -> Tensor:
        table = sinusoidal_table(CONTEXT, SIZES["hidden_size"])
        return self.embedding(ids) * math.sqrt(SIZES["hidden_size"]) + table[: ids.shape[1]]

    def forward(self, source: Tensor, source_real: Tensor, written: Tensor) -> Tensor:
        seq = written.shape[1]
        out = self.transformer(
            self.embedded(source),
            self.embedded(written),
            tgt_mask=torch.ones(seq, seq, dtype=torch.bool).triu(1),
            src_key_padding_mask=~source_real,
            memory_key_padding_mask=~source_real,
        )
        return self.unembedding(out)


def pairs(ours: EncoderDecoderLM, theirs: Reference) -> dict[str, tuple[Tensor, Tensor]]:
    """Return name -> their parameter, and what of ours it must be, of every one of theirs."""
    mine: dict[str, Tensor] = {
        name: ours.get_parameter(name)
        for name in ("embedding.weight", "unembedding.weight", "unembedding.bias")
    }
    for stack, prefix, crosses in (("encoder", "encoder.", False), ("decoder", "", True)):
        for i in range(SIZES["num_layers"]):
            a, b = f"{prefix}layers.{i}", f"transformer.{stack}.layers.{i}"
            names = {f"attention.{x}": f"self_attn.{y}" for x, y in ATTENTION.items()}
            names |= {f"feed_forward.{x}": y for x, y in FEED_FORWARD.items()}
            norms = ["attention_norm", "cross_attention_norm", "feed_forward_norm"]
            norms = norms if crosses else [norms[0], norms[2]]
            for number, norm in enumerate(norms, 1):
                names |= {f"{norm}.{kind}": f"norm{number}.{kind}" for kind in ("weight", "bias")}
            mine |= {f"{b}.{y}": ours.get_parameter(f"{a}.{x}") for x, y in names.items()}
            if crosses:
                cross, other = f"{a}.cross_attention", f"{b}.multihead_attn"
                for kind in ("weight", "bias"):
                    parts = [
                        ours.get_parameter(f"{cross}.{p}.{kind}") for p in ("query", "key_value")
                    ]
                    mine[f"{other}.in_proj_{kind}"] = torch.cat(parts)
                    mine[f"{other}.out_proj.{kind}"] = ours.get_parameter(f"{cross}.output.{kind}")
        if ours.config.norm_placement == "pre":
            for kind in ("weight", "bias"):
                name = f"transformer.{stack}.norm.{kind}"
                mine[name] = ours.get_parameter(f"{prefix}final_norm.{kind}")
    their_parameters = dict(theirs.named_parameters())
    assert set(mine) == set(their_parameters)
    return {name: (their_parameters[name], mine[name]) for name in mine}


def rows(padded: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return ids, which are real, and how many are the source, of rows cut at different places."""
    ids = torch.randint(VOCABULARY, (4, 12), generator=torch.Generator().manual_seed(1))
    real = torch.ones(4, 12, dtype=torch.bool)
    if padded:
        real[1, 9:] = False
        real[2, :3] = False
    return ids, real, torch.tensor([5, 1, 9, 12])


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("padded", [False, True])
def test_logits_loss_and_every_gradient_equal_torchs(
    norm_placement: str, activation: str, padded: bool
) -> None:
    ours = random_model(norm_placement=norm_placement, activation=activation)
    theirs = Reference(norm_placement == "pre", activation).double()
    with torch.no_grad():
        for theirs_, mine in pairs(ours, theirs).values():
            theirs_.copy_(mine)
    ids, real, given = rows(padded)
    given = torch.minimum(given, real.sum(1))
    logits = ours(ids, real=real if padded else None, given=given)
    labels = ids.roll(-1, 1)

    # Theirs by hand: each row's source, and the row from its last token on.
    texts = [ids[row][real[row]] for row in range(4)]
    cut = [(text[:n], text[n - 1 :]) for text, n in zip(texts, given.tolist(), strict=True)]
    source = nn.utils.rnn.pad_sequence([first for first, _ in cut], batch_first=True)
    written = nn.utils.rnn.pad_sequence([second for _, second in cut], batch_first=True)
    lengths = torch.tensor([len(first) for first, _ in cut])
    source_real = torch.arange(source.shape[1]) < lengths[:, None]
    their_logits = theirs(source, source_real, written)

    losses, their_losses = [], []
    for row, (first, second) in enumerate(cut):
        places = real[row].nonzero()[:, 0][len(first) - 1 :]
        mine, other = logits[row, places], their_logits[row, : len(second)]
        assert largest_difference(mine, other) < 1e-10
        losses.append(token_losses(mine[None], labels[row, places][None], -100))
        their_losses.append(F.cross_entropy(other, labels[row, places], reduction="none"))
    loss, their_loss = torch.cat(losses).mean(), torch.cat(their_losses).mean()
    assert loss.item() == pytest.approx(their_loss.item(), abs=1e-12)
    loss.backward()
    their_loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    for parameter in ours.parameters():
        assert parameter.grad is not None
        parameter.data = parameter.grad
    for name, (_, mine) in pairs(ours, theirs).items():
        other = gradients[name]
        assert other is not None
        assert float(other.abs().max()) > 1e-8, f"{name}: nothing to compare"
        assert largest_difference(mine, other) < 1e-10, name


def marian_of(ours: EncoderDecoderLM) -> MarianMTModel:
    """Return Marian with the same weights: post-norm, scaled and shared embeddings."""
    config = ours.config
    theirs = MarianMTModel(
        MarianConfig(
            vocab_size=VOCABULARY, d_model=config.hidden_size, max_position_embeddings=CONTEXT,
            encoder_layers=config.num_layers, decoder_layers=config.num_layers,
            encoder_attention_heads=config.num_heads, decoder_attention_heads=config.num_heads,
            encoder_ffn_dim=config.resolved_ffn_size, decoder_ffn_dim=config.resolved_ffn_size,
            activation_function="relu", scale_embedding=True, dropout=0.0, attention_dropout=0.0,
            activation_dropout=0.0, pad_token_id=0, eos_token_id=3, bos_token_id=2,
            decoder_start_token_id=2, forced_eos_token_id=None, attn_implementation="eager",
        )
    ).double().eval()  # fmt: skip
    mine = ours.state_dict()
    state = {"model.shared.weight": mine["embedding.weight"]}
    table = sinusoidal_table(CONTEXT, config.hidden_size)
    for stack, prefix in (("encoder", "encoder."), ("decoder", "")):
        state[f"model.{stack}.embed_tokens.weight"] = mine["embedding.weight"]
        state[f"model.{stack}.embed_positions.weight"] = table
        for i in range(config.num_layers):
            a, b = f"{prefix}layers.{i}", f"model.{stack}.layers.{i}"
            for kind in ("weight", "bias"):
                joint = mine[f"{a}.attention.query_key_value.{kind}"].chunk(3)
                for name, part in zip("qkv", joint, strict=True):
                    state[f"{b}.self_attn.{name}_proj.{kind}"] = part
                state[f"{b}.self_attn.out_proj.{kind}"] = mine[f"{a}.attention.output.{kind}"]
                state[f"{b}.self_attn_layer_norm.{kind}"] = mine[f"{a}.attention_norm.{kind}"]
                state[f"{b}.fc1.{kind}"] = mine[f"{a}.feed_forward.expand.{kind}"]
                state[f"{b}.fc2.{kind}"] = mine[f"{a}.feed_forward.contract.{kind}"]
                state[f"{b}.final_layer_norm.{kind}"] = mine[f"{a}.feed_forward_norm.{kind}"]
                if stack == "encoder":
                    continue
                cross = f"{a}.cross_attention"
                keys, values = mine[f"{cross}.key_value.{kind}"].chunk(2)
                state[f"{b}.encoder_attn.q_proj.{kind}"] = mine[f"{cross}.query.{kind}"]
                state[f"{b}.encoder_attn.k_proj.{kind}"] = keys
                state[f"{b}.encoder_attn.v_proj.{kind}"] = values
                state[f"{b}.encoder_attn.out_proj.{kind}"] = mine[f"{cross}.output.{kind}"]
                norm = mine[f"{a}.cross_attention_norm.{kind}"]
                state[f"{b}.encoder_attn_layer_norm.{kind}"] = norm
    state["lm_head.weight"] = mine["embedding.weight"]
    state["final_logits_bias"] = torch.zeros(1, VOCABULARY)
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    assert (missing, unexpected) == ([], [])
    return theirs


def test_logits_and_the_embeddings_gradient_equal_marians() -> None:
    ours = random_model(tie_embeddings=True)
    theirs = marian_of(ours)
    ids, _, given = rows(False)
    logits = ours(ids, given=given)
    total = torch.zeros((), dtype=torch.float64)
    for row, n in enumerate(given.tolist()):
        out = theirs(
            input_ids=ids[row : row + 1, :n], decoder_input_ids=ids[row : row + 1, n - 1 :]
        )
        assert largest_difference(logits[row, n - 1 :], out.logits[0]) < 1e-10
        total = total + out.logits.square().sum()
    real = torch.arange(12) >= given[:, None] - 1
    logits[real].square().sum().backward()
    total.backward()
    mine, other = ours.embedding.weight.grad, theirs.model.shared.weight.grad
    assert mine is not None
    assert other is not None
    # Marian's embedding gives its padding, id 0, no gradient of what it reads.
    assert largest_difference(mine[1:], other[1:]) < 1e-10 * float(other.abs().max())


@pytest.mark.parametrize("beams", [1, 4])
def test_what_is_written_is_what_marian_writes(beams: int) -> None:
    ours = random_model(tie_embeddings=True)
    theirs = marian_of(ours)
    special = SpecialIds(pad=0, sos=2, eos=3, unk=1)
    settings = GenerationConfig(
        strategy="greedy" if beams == 1 else "beam",
        num_beams=max(2, beams), max_new_tokens=8, linear="plain", length_penalty=0.0,
    )  # fmt: skip
    texts = [[2, 9, 4, 13, 5], [7, 5], [6, 8, 10]]
    made = generate(ours, texts, settings, special)
    for text, mine in zip(texts, made, strict=True):
        theirs.generation_config.decoder_start_token_id = text[-1]
        searched = {"length_penalty": 0.0, "early_stopping": "never"} if beams > 1 else {}
        written = theirs.generate(
            torch.tensor([text]), max_new_tokens=8, num_beams=beams, do_sample=False,
            suppress_tokens=[0, 1, 2], **searched,
        )[0, 1:].tolist()  # fmt: skip
        whole = written[: written.index(3)] if 3 in written else written
        assert [token for token in mine.ids if token != 3] == whole
