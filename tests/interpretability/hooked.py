"""Our decoder's weights in TransformerLens, whose results are the reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformer_lens import HookedTransformer, HookedTransformerConfig

from tests.model.helpers import build_random
from tinylm.model.decoder import DecoderLM

AS_HOOKED: dict[str, Any] = {  # settings that TransformerLens has, too
    "positions": "learned",
    "norm_placement": "pre",
    "activation": "gelu",
    "scale_embeddings": False,
}


def build_both(seed: int = 0, **changes: Any) -> tuple[DecoderLM, HookedTransformer]:
    """Return a random float64 model, all biases and norms random, and its twin."""
    model = build_random(seed, **{**AS_HOOKED, **changes})
    return model, hooked(model)


def hooked(model: DecoderLM, fold_final_norm: bool = False) -> HookedTransformer:
    """Return a model's twin.

    Args:
        model: of ``AS_HOOKED``, in float64.
        fold_final_norm: put its weight and bias into the unembedding, as the functions for direct
            logit attribution expect. TransformerLens's own folding rounds to float32.
    """
    config = model.config
    twin = HookedTransformer(
        HookedTransformerConfig(
            n_layers=config.num_layers,
            d_model=config.hidden_size,
            n_ctx=config.context_length,
            d_head=config.resolved_head_dim,
            n_heads=config.num_heads,
            d_mlp=config.resolved_ffn_size,
            d_vocab=config.resolved_vocab_size,
            act_fn=config.activation,
            eps=config.norm_eps,
            normalization_type="LN",
            dtype=torch.float64,
            device="cpu",
            seed=0,
        )
    )
    state = _as_theirs(model, twin)
    if fold_final_norm:
        weight, bias = state["ln_final.w"], state["ln_final.b"]
        state["unembed.b_U"] = state["unembed.b_U"] + bias @ state["unembed.W_U"]
        state["unembed.W_U"] = weight[:, None] * state["unembed.W_U"]
        state["ln_final.w"], state["ln_final.b"] = torch.ones_like(weight), torch.zeros_like(bias)
    twin.load_state_dict(state)
    twin.set_use_attn_result(True)
    return twin.eval()


def _as_theirs(model: DecoderLM, twin: HookedTransformer) -> dict[str, Tensor]:
    config = model.config
    heads, size = config.num_heads, config.resolved_head_dim
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    state = dict(twin.state_dict())  # masks stand in it, too
    state["embed.W_E"] = ours["embedding.weight"]
    state["pos_embed.W_pos"] = ours["positions.table.weight"]
    state["ln_final.w"], state["ln_final.b"] = ours["final_norm.weight"], ours["final_norm.bias"]
    state["unembed.W_U"] = ours["unembedding.weight"].T
    state["unembed.b_U"] = ours.get("unembedding.bias", state["unembed.b_U"] * 0)
    for i in range(config.num_layers):
        mine, theirs = f"layers.{i}", f"blocks.{i}"
        for norm, name in (("attention_norm", "ln1"), ("feed_forward_norm", "ln2")):
            state[f"{theirs}.{name}.w"] = ours[f"{mine}.{norm}.weight"]
            state[f"{theirs}.{name}.b"] = ours[f"{mine}.{norm}.bias"]
        joint = ours[f"{mine}.attention.query_key_value.weight"].view(3, heads, size, -1)
        biases = ours[f"{mine}.attention.query_key_value.bias"].view(3, heads, size)
        for letter, weight, bias in zip("QKV", joint, biases, strict=True):
            state[f"{theirs}.attn.W_{letter}"] = weight.mT
            state[f"{theirs}.attn.b_{letter}"] = bias
        output = ours[f"{mine}.attention.output.weight"]  # (hidden, heads * size)
        state[f"{theirs}.attn.W_O"] = output.T.reshape(heads, size, -1)
        state[f"{theirs}.attn.b_O"] = ours[f"{mine}.attention.output.bias"]
        for map_name, end in (("expand", "in"), ("contract", "out")):
            state[f"{theirs}.mlp.W_{end}"] = ours[f"{mine}.feed_forward.{map_name}.weight"].T
            state[f"{theirs}.mlp.b_{end}"] = ours[f"{mine}.feed_forward.{map_name}.bias"]
    return {name: tensor.clone() for name, tensor in state.items()}
