"""The decoder against transformers' GPT-2: pre-norm, learned positions, tied embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from tests.model.helpers import build_random, largest_difference, random_ids
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, record
from tinylm.model.loss import token_losses

SIZES = [
    {"hidden_size": 24, "num_heads": 4, "num_layers": 3},
    {"hidden_size": 35, "num_heads": 5, "num_layers": 2},
    {"hidden_size": 8, "num_heads": 1, "num_layers": 1},
]

IN_LAYER = {  # ours -> theirs; their linear maps are stored transposed
    "attention_norm": "ln_1",
    "attention.query_key_value": "attn.c_attn",
    "attention.output": "attn.c_proj",
    "feed_forward_norm": "ln_2",
    "feed_forward.expand": "mlp.c_fc",
    "feed_forward.contract": "mlp.c_proj",
}


AS_GPT2: dict[str, Any] = {  # settings that make our decoder one
    "head_dim": None,
    "ffn_size": None,
    "positions": "learned",
    "norm_placement": "pre",
    "activation": "gelu-tanh",
    "scale_embeddings": False,
    "tie_embeddings": True,
}


def gpt2_config(sizes: Mapping[str, int], **others: Any) -> GPT2Config:
    """GPT-2 of the sizes of one of ours, without dropout."""
    return GPT2Config(
        vocab_size=23,
        n_positions=16,
        n_embd=sizes["hidden_size"],
        n_layer=sizes["num_layers"],
        n_head=sizes["num_heads"],
        activation_function="gelu_new",
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        attn_implementation="eager",
        **others,
    )


def name_pairs(num_layers: int) -> dict[str, str]:
    pairs = {
        "embedding.weight": "transformer.wte.weight",
        "positions.table.weight": "transformer.wpe.weight",
        "final_norm.weight": "transformer.ln_f.weight",
        "final_norm.bias": "transformer.ln_f.bias",
    }
    for i in range(num_layers):
        for ours, theirs in IN_LAYER.items():
            for kind in ("weight", "bias"):
                pairs[f"layers.{i}.{ours}.{kind}"] = f"transformer.h.{i}.{theirs}.{kind}"
    return pairs


def as_ours(name: str, tensor: Tensor) -> Tensor:
    transposed = ".c_" in name and name.endswith("weight")
    return tensor.T if transposed else tensor


def build_both(sizes: dict[str, int]) -> tuple[DecoderLM, GPT2LMHeadModel]:
    ours = build_random(
        **sizes,
        **AS_GPT2,
        norm_eps=1e-4,
    )
    theirs = GPT2LMHeadModel(gpt2_config(sizes, layer_norm_epsilon=1e-4, tie_word_embeddings=True))
    theirs = theirs.double().eval()
    pairs = name_pairs(sizes["num_layers"])
    their_parameters = dict(theirs.named_parameters())
    assert set(pairs) == {name for name, _ in ours.named_parameters()}
    assert set(pairs.values()) == set(their_parameters)
    with torch.no_grad():
        for our_name, their_name in pairs.items():
            target = as_ours(their_name, their_parameters[their_name])
            target.copy_(ours.get_parameter(our_name))
    return ours, theirs


def check_gradients(ours: DecoderLM, theirs: GPT2LMHeadModel) -> None:
    their_parameters = dict(theirs.named_parameters())
    for our_name, their_name in name_pairs(ours.config.num_layers).items():
        mine, other = ours.get_parameter(our_name).grad, their_parameters[their_name].grad
        assert mine is not None
        assert other is not None
        assert float(other.abs().max()) > 1e-6, f"{our_name}: nothing to compare"
        assert largest_difference(mine, as_ours(their_name, other)) < 1e-10, our_name


@pytest.mark.parametrize("sizes", SIZES)
def test_logits_and_every_gradient_equal_gpt2s(sizes: dict[str, int]) -> None:
    ours, theirs = build_both(sizes)
    ids = random_ids(ours, 3, 16)
    our_logits, their_logits = ours(ids), theirs(input_ids=ids).logits
    assert largest_difference(our_logits, their_logits) < 1e-10

    our_loss = token_losses(our_logits[:, :-1], ids[:, 1:], -100).mean()
    their_loss = F.cross_entropy(their_logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    assert our_loss.item() == pytest.approx(their_loss.item(), abs=1e-12)
    our_loss.backward()
    their_loss.backward()
    check_gradients(ours, theirs)


def test_logits_and_every_gradient_equal_gpt2s_with_left_padding() -> None:
    ours, theirs = build_both(SIZES[0])
    ids = random_ids(ours, 3, 10)
    real = torch.arange(10) >= torch.tensor([0, 3, 7])[:, None]
    places = (real.cumsum(1) - 1).clamp(min=0)
    our_logits = ours(ids, real=real)
    their_logits = theirs(input_ids=ids, attention_mask=real.long(), position_ids=places).logits
    assert largest_difference(our_logits[real], their_logits[real]) < 1e-10

    labels = ids[:, 1:].masked_fill(~(real[:, :-1] & real[:, 1:]), -100)
    our_loss = token_losses(our_logits[:, :-1], labels, -100).sum()
    their_loss = F.cross_entropy(
        their_logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum"
    )
    our_loss.backward()
    their_loss.backward()
    check_gradients(ours, theirs)


def test_the_loss_of_shifted_labels_equals_gpt2s_own() -> None:
    ours, theirs = build_both(SIZES[0])
    ids = random_ids(ours, 3, 16)
    with torch.no_grad():
        mine = token_losses(ours(ids[:, :-1]), ids[:, 1:], -100).mean()
        other = theirs(input_ids=ids, labels=ids).loss  # shifts by itself, in float32
    assert float(mine) == pytest.approx(float(other), abs=1e-5)


def test_hidden_states_and_attention_weights_equal_gpt2s() -> None:
    ours, theirs = build_both(SIZES[0])
    ids = random_ids(ours, 2, 12)
    with torch.no_grad():
        _, kept = record(ours, ["*"], ids)
        other = theirs(input_ids=ids, output_hidden_states=True, output_attentions=True)
    for i in range(3):
        hidden = kept[f"layers.{i}.input"]
        assert largest_difference(hidden, other.hidden_states[i]) < 1e-10
        pattern = kept[f"layers.{i}.attention.pattern"]
        assert largest_difference(pattern, other.attentions[i]) < 1e-10
    assert largest_difference(kept["final"], other.hidden_states[3]) < 1e-10


def test_cached_steps_equal_gpt2s_cached_steps() -> None:
    ours, theirs = build_both(SIZES[1])
    ids = random_ids(ours, 2, 9)
    cache = KVCache(ours.config, 2, dtype=torch.float64)
    past = None
    with torch.no_grad():
        for part in ids.split([4, 1, 1, 3], dim=1):
            mine = ours(part, cache=cache)
            other = theirs(input_ids=part, past_key_values=past, use_cache=True)
            past = other.past_key_values
            assert largest_difference(mine, other.logits) < 1e-10
