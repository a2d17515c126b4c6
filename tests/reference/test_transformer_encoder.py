"""The decoder against torch.nn.TransformerEncoder with a causal mask: both norm placements."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.model.helpers import NORM_PLACEMENTS, build_random, largest_difference, random_ids
from tinylm.model.decoder import DecoderLM
from tinylm.model.loss import token_losses

SIZES = [
    {"hidden_size": 24, "num_heads": 4, "num_layers": 3, "ffn_size": 50},
    {"hidden_size": 38, "num_heads": 1, "num_layers": 1, "ffn_size": 7},
    {"hidden_size": 60, "num_heads": 6, "num_layers": 2, "ffn_size": 240},
]

IN_LAYER = {  # ours -> theirs
    "attention.query_key_value.weight": "self_attn.in_proj_weight",
    "attention.query_key_value.bias": "self_attn.in_proj_bias",
    "attention.output.weight": "self_attn.out_proj.weight",
    "attention.output.bias": "self_attn.out_proj.bias",
    "attention_norm.weight": "norm1.weight",
    "attention_norm.bias": "norm1.bias",
    "feed_forward.expand.weight": "linear1.weight",
    "feed_forward.expand.bias": "linear1.bias",
    "feed_forward.contract.weight": "linear2.weight",
    "feed_forward.contract.bias": "linear2.bias",
    "feed_forward_norm.weight": "norm2.weight",
    "feed_forward_norm.bias": "norm2.bias",
}


class Reference(nn.Module):
    """Vaswani et al. 2017 from torch's own parts, read causally."""

    def __init__(self, config: dict[str, int], pre: bool, activation: str) -> None:
        super().__init__()
        hidden = config["hidden_size"]
        self.embedding = nn.Embedding(23, hidden)
        layer = nn.TransformerEncoderLayer(
            hidden,
            config["num_heads"],
            config["ffn_size"],
            dropout=0,
            activation=activation,
            norm_first=pre,
            batch_first=True,
        )
        norm = nn.LayerNorm(hidden) if pre else None
        self.encoder = nn.TransformerEncoder(
            layer, config["num_layers"], norm, enable_nested_tensor=False
        )
        self.unembedding = nn.Linear(hidden, 23)

    def forward(self, ids: Tensor, real: Tensor) -> Tensor:
        hidden, seq = self.embedding.embedding_dim, ids.shape[1]
        table = [
            [
                (math.cos if j % 2 else math.sin)(p / 10_000 ** ((j - j % 2) / hidden))
                for j in range(hidden)
            ]
            for p in range(seq)
        ]
        x = self.embedding(ids) * math.sqrt(hidden) + torch.tensor(table, dtype=torch.float64)
        future = torch.ones(seq, seq, dtype=torch.bool).triu(1)
        return self.unembedding(self.encoder(x, mask=future, src_key_padding_mask=~real))


def name_pairs(num_layers: int, pre: bool) -> dict[str, str]:
    pairs = {name: name for name in ("embedding.weight", "unembedding.weight", "unembedding.bias")}
    for i in range(num_layers):
        pairs |= {f"layers.{i}.{a}": f"encoder.layers.{i}.{b}" for a, b in IN_LAYER.items()}
    if pre:
        pairs |= {f"final_norm.{kind}": f"encoder.norm.{kind}" for kind in ("weight", "bias")}
    return pairs


def build_both(
    sizes: dict[str, int], norm_placement: str, activation: str
) -> tuple[DecoderLM, Reference]:
    ours = build_random(
        **sizes, head_dim=None, norm_placement=norm_placement, activation=activation
    )
    theirs = Reference(sizes, norm_placement == "pre", activation).double()
    pairs = name_pairs(sizes["num_layers"], norm_placement == "pre")
    their_parameters = dict(theirs.named_parameters())
    assert set(pairs) == {name for name, _ in ours.named_parameters()}
    assert set(pairs.values()) == set(their_parameters)
    with torch.no_grad():
        for our_name, their_name in pairs.items():
            their_parameters[their_name].copy_(ours.get_parameter(our_name))
    return ours, theirs


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("right_padding", [False, True])
def test_logits_and_every_gradient_equal_torchs(
    sizes: dict[str, int], norm_placement: str, activation: str, right_padding: bool
) -> None:
    ours, theirs = build_both(sizes, norm_placement, activation)
    ids = random_ids(ours, 3, 16)
    lengths = torch.tensor([16, 11, 2]) if right_padding else torch.tensor([16, 16, 16])
    real = torch.arange(16) < lengths[:, None]
    our_logits = ours(ids, real=real if right_padding else None)
    their_logits = theirs(ids, real)
    assert largest_difference(our_logits[real], their_logits[real]) < 1e-10

    labels = ids.roll(-1, 1).masked_fill(~real, -100)
    our_loss = token_losses(our_logits, labels, -100).mean()
    their_loss = F.cross_entropy(their_logits.flatten(0, 1), labels.flatten())
    assert our_loss.item() == pytest.approx(their_loss.item(), abs=1e-12)
    our_loss.backward()
    their_loss.backward()
    their_parameters = dict(theirs.named_parameters())
    for our_name, their_name in name_pairs(sizes["num_layers"], norm_placement == "pre").items():
        mine, other = ours.get_parameter(our_name).grad, their_parameters[their_name].grad
        assert mine is not None
        assert other is not None
        assert float(other.abs().max()) > 1e-8, f"{our_name}: nothing to compare"
        assert largest_difference(mine, other) < 1e-10, our_name


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_inference_equals_torchs_fused_fast_path(norm_placement: str) -> None:
    ours, theirs = build_both(SIZES[0], norm_placement, "relu")
    ids = random_ids(ours, 2, 16)
    with torch.no_grad():
        expected = theirs.eval()(ids, torch.ones(2, 16, dtype=torch.bool))
        assert largest_difference(ours(ids), expected) < 1e-10
