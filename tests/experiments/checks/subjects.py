"""What checks are tried on: the tiny run, and one that differs from it in every choice."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from tests.training.tiny import tiny_run
from tinylm.experiments.context import Context, run_experiment
from tinylm.language_model import LanguageModel

OTHER = (
    "model.positions=rotary",
    "model.norm_placement=pre",
    "model.tie_embeddings=true",
    "model.scale_embeddings=false",
    "model.activation=gelu",
    "model.bias=false",
    "model.dropout=0.0",
    "model.num_layers=2",
    "model.hidden_size=20",  # 3 heads of 8, which do not divide it
    "model.num_heads=3",
    "model.head_dim=8",
    "training.optimizer=torch-adamw",
    "training.weight_decay=0.1",
    "training.schedule=cosine",
    "training.warmup_steps=10",
    "training.accumulation_steps=2",
    "training.gradient_checkpointing=1",
    "training.learning_rate=1e-2",
    "training.max_steps=20",
    "training.seed=3",
)


def other_run(folder: Path) -> Context:
    """Train the other run below a folder."""
    context = tiny_run(folder / "other", folder / "cache", *OTHER)
    run_experiment("training", context)
    return context


@contextmanager
def nothing_changes(lm: LanguageModel) -> Iterator[None]:
    """Assert that weights, gradients, mode, random state and threads are afterwards as before."""
    weights = copy.deepcopy(lm.model.state_dict())
    kept = [(p, p.grad, p.requires_grad) for p in lm.model.parameters()]
    training, threads = lm.model.training, torch.get_num_threads()
    random_state = torch.get_rng_state()
    yield
    after = lm.model.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)
    assert [(p, p.grad, p.requires_grad) for p in lm.model.parameters()] == kept
    assert all(module.training == training for module in lm.model.modules())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
