"""An encoding that planning has never heard of: a file, a line, and all sums are right."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny import tiny_tokenizer
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import ModelConfig
from tinylm.evaluation.memory import saved_bytes
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.planning.activations import activation_bytes
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import POSITIONS


class Scaled(Positions):
    """Adds a trained multiple, one a dimension, of the position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.slopes = nn.Parameter(torch.full((config.hidden_size,), 0.01))

    @classmethod
    def num_parameters(cls, config: ModelConfig) -> int:
        """Return the slopes."""
        return config.hidden_size

    @classmethod
    def kept_bytes(cls, config: ModelConfig, seq: int) -> int:
        """Return those of the positions, float32."""
        return 4 * seq

    def add(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """Return ``embeddings + position * slopes``."""
        return embeddings + positions[..., None].float() * self.slopes


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> ModelConfig:
    entries = {**POSITIONS, "scaled": f"{__name__}:Scaled"}
    monkeypatch.setattr(POSITIONS, "_entries", entries)
    return ModelConfig(
        vocab_size=40, context_length=12, hidden_size=16, num_heads=2, positions="scaled"
    )


def test_its_parameters_are_counted_and_a_checkpoint_is_loaded(
    config: ModelConfig, tmp_path: Path
) -> None:
    model = DecoderLM(config).eval()
    assert parameter_counts(config) == model.parameter_counts()
    path = save_checkpoint(tmp_path, model, tiny_tokenizer(), TrainingState(0))
    ids = torch.arange(4, 12)[None]
    assert torch.equal(load_checkpoint(path).build_model()(ids), model(ids))


@pytest.mark.parametrize("frozen", [False, True])
def test_what_it_keeps_is_counted(config: ModelConfig, frozen: bool) -> None:
    model = DecoderLM(config)
    model.embedding.weight.requires_grad_(not frozen)
    ids, labels = (torch.randint(4, 40, (3, 12)) for _ in range(2))

    def loss() -> Tensor:
        return model.summed_loss(model.residual(ids), labels, -1)

    planned = activation_bytes(config, 3, frozen_embedding=frozen)["total"]
    assert saved_bytes(loss, list(model.parameters())) == planned
