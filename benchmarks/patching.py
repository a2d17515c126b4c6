"""A sweep of activation patches beside TransformerLens's, on the same weights.

Every head at every position of a pair of prompts of 24 tokens, the clean prompt's mixed values put
into the corrupted prompt's run, on a model of the quick preset's size (pre-norm, learned positions,
which TransformerLens has, too). The prompts differ from the ninth token on, so that a third of the
patches change nothing, which tinylm knows without a run. Both give the same numbers: the largest
difference is printed. Attribution patching estimates the same sweep from one gradient. Times are
processor time of the whole process, so that a shared machine counts less.

    python benchmarks/patching.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from tables import hardware_line, print_table, table
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens import patching as theirs

from tinylm.config import ModelConfig
from tinylm.interpretability.attribution_patching import attributions
from tinylm.interpretability.pair_runs import PairRuns, TokenPair, run_pair
from tinylm.interpretability.patching import sweep
from tinylm.measurement import Measurement
from tinylm.model.decoder import DecoderLM

TOKENS, CHANGED = 24, 8
CONFIG = ModelConfig(
    vocab_size=1976,
    context_length=256,
    num_layers=3,
    num_heads=4,
    hidden_size=128,
    head_dim=32,
    ffn_size=512,
    dropout=0.0,
    norm_placement="pre",
    positions="learned",
    scale_embeddings=False,
    tie_embeddings=False,
)
MIXED = "layers.*.attention.mixed"


def twin(model: DecoderLM) -> HookedTransformer:
    """Return the same model in TransformerLens."""
    config = model.config
    heads, size = config.num_heads, config.resolved_head_dim
    made = HookedTransformer(
        HookedTransformerConfig(
            n_layers=config.num_layers,
            d_model=config.hidden_size,
            n_ctx=config.context_length,
            d_head=size,
            n_heads=heads,
            d_mlp=config.resolved_ffn_size,
            d_vocab=config.resolved_vocab_size,
            act_fn=config.activation,
            eps=config.norm_eps,
            normalization_type="LN",
            device="cpu",
        )
    )
    ours = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    state = dict(made.state_dict())
    state["embed.W_E"] = ours["embedding.weight"]
    state["pos_embed.W_pos"] = ours["positions.table.weight"]
    state["ln_final.w"], state["ln_final.b"] = ours["final_norm.weight"], ours["final_norm.bias"]
    state["unembed.W_U"], state["unembed.b_U"] = (
        ours["unembedding.weight"].T,
        ours["unembedding.bias"],
    )
    for i in range(config.num_layers):
        mine, other = f"layers.{i}", f"blocks.{i}"
        for norm, name in (("attention_norm", "ln1"), ("feed_forward_norm", "ln2")):
            state[f"{other}.{name}.w"] = ours[f"{mine}.{norm}.weight"]
            state[f"{other}.{name}.b"] = ours[f"{mine}.{norm}.bias"]
        joint = ours[f"{mine}.attention.query_key_value.weight"].view(3, heads, size, -1)
        biases = ours[f"{mine}.attention.query_key_value.bias"].view(3, heads, size)
        for letter, weight, bias in zip("QKV", joint, biases, strict=True):
            state[f"{other}.attn.W_{letter}"], state[f"{other}.attn.b_{letter}"] = weight.mT, bias
        output = ours[f"{mine}.attention.output.weight"]
        state[f"{other}.attn.W_O"] = output.T.reshape(heads, size, -1)
        state[f"{other}.attn.b_O"] = ours[f"{mine}.attention.output.bias"]
        for part, end in (("expand", "in"), ("contract", "out")):
            state[f"{other}.mlp.W_{end}"] = ours[f"{mine}.feed_forward.{part}.weight"].T
            state[f"{other}.mlp.b_{end}"] = ours[f"{mine}.feed_forward.{part}.bias"]
    made.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    return made.eval()


def pair_for(model: DecoderLM) -> TokenPair:
    """Return two random prompts that differ in a token, and the two tokens that it moves most."""
    generator = torch.Generator().manual_seed(1)
    clean = torch.randint(4, CONFIG.resolved_vocab_size, (TOKENS,), generator=generator)
    corrupted = clean.clone()
    corrupted[CHANGED] = clean[CHANGED] % 1000 + 5
    with torch.no_grad():
        logits = model(torch.stack([clean, corrupted]))[:, -1]
    moved = logits[0] - logits[1]
    return TokenPair(
        tuple(clean.tolist()), tuple(corrupted.tolist()), int(moved.argmax()), int(moved.argmin())
    )


def their_sweep(model: HookedTransformer, runs: PairRuns) -> torch.Tensor:
    """Return TransformerLens's sweep, (layers, positions, heads), both prompts' runs included."""
    with torch.no_grad(), redirect_stderr(StringIO()):  # its progress bar
        _, cache = model.run_with_cache(runs.clean.ids)
        result: torch.Tensor = theirs.get_act_patch_attn_head_out_by_pos(
            model, runs.corrupted.ids, cache, lambda logits: runs.normalised(logits[0, -1])
        )
    return result


def rounds_of(competitors: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Measurement]:
    """Run all in turns, after one round that warms up; processor time of this process."""
    seconds: dict[str, list[float]] = {name: [] for name in competitors}
    for number in range(rounds + 1):
        for name, work in competitors.items():
            start = time.process_time()
            work()
            if number:
                seconds[name].append(time.process_time() - start)
    return {name: Measurement.of(each) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = DecoderLM(CONFIG).eval()
    other, pair = twin(model), pair_for(model)
    runs = run_pair(model, pair)
    print(f"{hardware_line()}, torch {torch.__version__}; {TOKENS} tokens; float32; CPU seconds")

    def ours() -> torch.Tensor:
        return torch.stack(list(sweep(run_pair(model, pair), "denoising", [MIXED]).values()))

    reference = their_sweep(other, runs)
    largest = float((ours() - reference.transpose(1, 2)).abs().max())
    sites = CONFIG.num_layers * CONFIG.num_heads * TOKENS
    print(f"{sites} patches; largest difference of the normalised logit difference {largest:.1e}")
    times = rounds_of(
        {
            "TransformerLens, sweep": lambda: their_sweep(other, runs),
            "tinylm, sweep": ours,
            "tinylm, attribution patching": lambda: attributions(
                run_pair(model, pair), "denoising", [MIXED]
            ),
        },
        arguments.rounds,
    )
    best = "TransformerLens, sweep"
    results = {"sweep": table(times, best, amount=sites, unit="patches")}
    print_table(results["sweep"], best)
    if arguments.json:
        result = {"benchmark": "patching", "hardware": hardware_line(), "results": results}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
