"""Decoders of other packages, at the sizes of a shape.

Each is its package's own decoder with the package's own attention; packages that are not installed
(`pip install -e .[bench]`) are left out and named.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig


@dataclass(frozen=True)
class Shape:
    """The work of a benchmark."""

    vocab_size: int
    hidden_size: int
    num_heads: int
    num_layers: int
    context_length: int
    batch_size: int
    dropout: float = 0.1

    @property
    def divisible_hidden(self) -> int:
        """The hidden size, rounded up to a multiple of the heads, for those who need it."""
        return math.ceil(self.hidden_size / self.num_heads) * self.num_heads

    @property
    def config(self) -> ModelConfig:
        """tinylm's model of this shape."""
        return ModelConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            context_length=self.context_length,
            dropout=self.dropout,
        )


SHAPES = {
    "first": Shape(10_000, 300, 8, 3, 64, 32),
    "wide": Shape(10_000, 512, 8, 6, 256, 8),
    "long": Shape(10_000, 300, 8, 3, 1024, 2),
}


class Logits(nn.Module):
    """A model whose call gives logits, whatever its package wraps them in."""

    def __init__(self, model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model = model
        self.call = call

    def forward(self, ids: Tensor) -> Tensor:
        return self.call(self.model, ids)


def gpt2(shape: Shape, tied: bool = False) -> Logits:
    """Return transformers' GPT-2, its output projection untied as ours is by default."""
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=shape.vocab_size,
            n_positions=shape.context_length,
            n_embd=shape.divisible_hidden,
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            resid_pdrop=shape.dropout,
            embd_pdrop=shape.dropout,
            attn_pdrop=shape.dropout,
            tie_word_embeddings=tied,
            bos_token_id=2,
            eos_token_id=3,
        )
    )
    return Logits(model, lambda model, ids: model(input_ids=ids, use_cache=False).logits)


def x_transformers(shape: Shape) -> nn.Module:
    """Return a decoder of x-transformers."""
    from x_transformers import Decoder, TransformerWrapper

    return TransformerWrapper(
        num_tokens=shape.vocab_size,
        max_seq_len=shape.context_length,
        emb_dropout=shape.dropout,
        attn_layers=Decoder(
            dim=shape.divisible_hidden,
            depth=shape.num_layers,
            heads=shape.num_heads,
            attn_dim_head=shape.divisible_hidden // shape.num_heads,
            attn_dropout=shape.dropout,
            ff_dropout=shape.dropout,
            layer_dropout=0.0,
        ),
    )


def litgpt(shape: Shape) -> nn.Module:
    """Return LitGPT's model; it has no dropout, which spares it work."""
    from litgpt.config import Config
    from litgpt.model import GPT

    return GPT(
        Config(
            block_size=shape.context_length,
            padded_vocab_size=shape.vocab_size,
            vocab_size=shape.vocab_size,
            n_layer=shape.num_layers,
            n_head=shape.num_heads,
            n_embd=shape.divisible_hidden,
            rotary_percentage=0.25,
            parallel_residual=False,
        )
    )


def litgpt_with_dropout(shape: Shape) -> nn.Module:
    """Return LitGPT's model with dropout where GPT-2 has it, but for the attention pattern.

    On the embeddings and on what attention and feed-forward add, by torch's own dropout.
    """
    model: Any = litgpt(shape)

    def drop(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        return nn.functional.dropout(output, shape.dropout, module.training)

    model.transformer.wte.register_forward_hook(drop)
    for block in model.transformer.h:
        block.attn.register_forward_hook(drop)
        block.mlp.register_forward_hook(drop)
    return model  # type: ignore[no-any-return]


def ctranslate2(model: nn.Module, folder: Path) -> Callable[[str, int], Callable[..., None]]:
    """Convert transformers' GPT-2 for CTranslate2.

    Args:
        model: with the weights to convert.
        folder: empty; the converted model is written here.

    Returns:
        What makes a generator, given a number format (``float32``, ``int8``) and threads: a
        function of prompts, beams and new tokens. Each runs in a process of its own, for the
        threads that CTranslate2 keeps make torch's twice as slow in one that both share.
    """
    from ctranslate2.converters.transformers import GPT2Loader

    loader = GPT2Loader()
    spec = loader.get_model_spec(model)
    tokens = [str(number) for number in range(model.config.vocab_size)]  # type: ignore[union-attr]
    spec.register_vocabulary(tokens)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = tokens[2], tokens[3], "1"
    spec.validate()
    spec.save(str(folder))
    return lambda numbers, threads: _remote(str(folder), numbers, threads)


def _remote(folder: str, numbers: str, threads: int) -> Callable[..., None]:
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=_serve, args=(there, folder, numbers, threads), daemon=True).start()

    def generate(prompts: list[list[str]], beams: int, length: int) -> None:
        here.send((prompts, beams, length))
        made = here.recv()
        assert made == len(prompts) * length, f"{made} tokens"

    return generate


def _serve(connection: Connection, folder: str, numbers: str, threads: int) -> None:
    import ctranslate2

    generator = ctranslate2.Generator(folder, compute_type=numbers, intra_threads=threads)
    while True:
        try:
            prompts, beams, length = connection.recv()
        except EOFError:  # the benchmark is over
            return
        results = generator.generate_batch(
            prompts,
            beam_size=beams,
            max_length=length,
            min_length=length,
            include_prompt_in_result=False,
            max_batch_size=0,
        )
        connection.send(sum(len(result.sequences_ids[0]) for result in results))


PEERS: dict[str, Callable[[Shape], nn.Module]] = {
    "transformers GPT-2": gpt2,
    "x-transformers": x_transformers,
    "LitGPT": litgpt_with_dropout,
    "LitGPT (no dropout)": litgpt,
}


def available() -> tuple[dict[str, Callable[[Shape], nn.Module]], list[str]]:
    """Return the peers that can be built here, and a line for each that cannot."""
    tiny = Shape(16, 8, 2, 1, 8, 1)
    usable, missing = {}, []
    for name, build in PEERS.items():
        try:
            with torch.no_grad():
                build(tiny)(torch.zeros(1, 4, dtype=torch.long))
        except ImportError as error:
            missing.append(f"{name}: {error}; left out (pip install -e .[bench])")
        else:
            usable[name] = build
    return usable, missing
