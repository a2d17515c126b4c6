"""What recurrent models are at the start: states of the size that the maps above them expect."""

import pytest
import torch
from torch import Tensor

from tinylm.config import ModelConfig
from tinylm.model.base import build


@pytest.mark.parametrize("kind", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("width", [48, 256])
def test_every_layer_and_the_unembedding_read_numbers_near_variance_one(
    kind: str, width: int
) -> None:
    torch.manual_seed(0)
    sizes = {"num_layers": 3, "hidden_size": width, "context_length": 64}
    model = build(ModelConfig(kind=kind, vocab_size=500, dropout=0.0, **sizes)).eval()
    start = type(model).cell.start_size  # type: ignore[attr-defined]
    seen: dict[str, float] = {}

    def measure(name: str, x: Tensor) -> None:
        seen[name] = float(x[:, 8:].square().mean().sqrt())

    ids = torch.randint(4, 500, (8, 64))
    with torch.no_grad():
        model(ids, hooks=model.hooks({"layers.*.output": measure, "logits": measure}))
    assert seen["layers.0.output"] == pytest.approx(start, rel=0.1)
    # What a layer gives changes little from token to token, and the next one adds it up.
    assert all(0.9 * start < seen[f"layers.{i}.output"] < 2 * start for i in (1, 2))
    # Glorot's variance of the unembedding, 2 / (width + vocabulary), summed over inputs of 1.
    logits = (2 * width / (width + 500)) ** 0.5
    assert 0.9 * logits < seen["logits"] < 2 * logits
