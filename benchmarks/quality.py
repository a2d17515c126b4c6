"""Validation perplexity of a finished run beside transformers' GPT-2 of equal size.

GPT-2 gets the same token files, windows in the same order, steps, batch size, learning rate,
schedule, clipping and precision as the run; sizes as near as they come (hidden size rounded up to
a multiple of the heads). It keeps what makes it GPT-2: pre-norm, learned positions, tanh GELU and
its own initialisation. Both are measured by the same function on the whole validation split.

    python benchmarks/quality.py runs/NAME
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import time
from pathlib import Path

import torch
from peers import Shape, gpt2
from torch import nn

from tinylm.checkpoint import load_checkpoint
from tinylm.config import RunConfig
from tinylm.data.windows import IGNORED, ShuffledOrder, TokenWindows
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.context import SilentConsole, environment, open_run
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.results import read_result
from tinylm.model.loss import token_losses
from tinylm.training.accumulation import accumulate_gradients
from tinylm.training.optimizers import clip_gradients
from tinylm.training.precision import autocast
from tinylm.training.schedules import learning_rate_factor


class Peer(nn.Module):
    """transformers' GPT-2 with the attributes and methods that `split_loss` needs of a model."""

    def __init__(self, config: RunConfig, tied: bool) -> None:
        super().__init__()
        sizes = config.model
        shape = Shape(
            vocab_size=sizes.resolved_vocab_size,
            hidden_size=sizes.hidden_size,
            num_heads=sizes.num_heads,
            num_layers=sizes.num_layers,
            context_length=sizes.context_length,
            batch_size=config.training.batch_size,
            dropout=sizes.dropout,
        )
        self.gpt2 = gpt2(shape, tied)
        self.embedding = self.gpt2.model.transformer.wte

    def forward(self, ids: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits; padding stands behind the text, where causality hides it."""
        return self.gpt2(ids)


def train_peer(config: RunConfig, windows: TokenWindows, steps: int, tied: bool) -> Peer:
    """Train GPT-2 on the windows that the run saw, in the same order."""
    settings = config.training
    torch.manual_seed(settings.seed)
    peer = Peer(config, tied).train()
    optimizer = torch.optim.Adam(
        peer.parameters(),
        lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
        weight_decay=settings.weight_decay,
    )
    order = ShuffledOrder(len(windows), settings.batch_size, settings.seed)
    device = torch.device("cpu")

    def summed_loss(batch):
        with autocast(settings.precision, device):
            logits = peer(batch.ids)
        return token_losses(logits, batch.labels, IGNORED).sum(), batch.num_targets

    started = time.perf_counter()
    for step in range(steps):
        factor = learning_rate_factor(settings, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * factor
        batches = []
        for _ in range(settings.accumulation_steps):
            batches.append(windows.batch(order.next()))
            if order.epoch_ended:
                break
        optimizer.zero_grad(set_to_none=True)
        loss, targets = accumulate_gradients(summed_loss, batches)
        clip_gradients(peer.parameters(), settings.gradient_clip)
        optimizer.step()
        if step % 50 == 0:
            speed = (step + 1) * targets / (time.perf_counter() - started)
            print(
                f"step {step:,}/{steps:,} loss {loss / targets:.3f} {speed:,.0f} tokens/s",
                flush=True,
            )
    return peer.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("--tied", action="store_true", help="tie GPT-2's output projection")
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()

    config = open_run(arguments.run, SilentConsole()).config
    data = prepare_data(config, SilentConsole())
    steps = (read_result(arguments.run / "results" / "training.json") or {})["steps"]
    windows = TokenWindows(data.train, config.model.context_length)
    validation = TokenWindows(data.validation, config.model.context_length)
    ours = load_checkpoint(arguments.run / "checkpoints" / "last").build_model()
    peer = train_peer(config, windows, steps, arguments.tied)
    rows = []
    for name, model in (("tinylm", ours), ("transformers GPT-2", peer)):
        loss = split_loss(model, validation, config.evaluation.batch_size)
        size = sum(p.numel() for p in model.parameters())
        rows.append({"model": name, "parameters": size, "perplexity": loss.perplexity})
        print(f"{name:20} {size:12,} parameters  validation perplexity {loss.perplexity:.3f}")
    ratio = rows[0]["perplexity"] / rows[1]["perplexity"]
    print(f"ratio {ratio:.4f} (below 1: tinylm is better), after {steps:,} steps each")
    if arguments.json:
        result = {"steps": steps, "rows": rows, "ratio": ratio, "environment": environment()}
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
