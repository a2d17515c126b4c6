"""What every kind of model holds; a new one comes under these by its registry line."""

import json
from pathlib import Path

import pytest
import torch

from tests.contracts.test_changes import rewrite, save
from tests.training.tiny import tiny_tokenizer
from tinylm.checkpoint import load_checkpoint
from tinylm.config import ModelConfig, load_config
from tinylm.errors import CheckpointError, ConfigError
from tinylm.model.base import GenerativeModel, Model, build
from tinylm.registry import MODELS

EVERY = pytest.mark.parametrize("name", MODELS)


def built(name: str) -> GenerativeModel:
    torch.manual_seed(0)
    size = tiny_tokenizer().vocab_size
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_size": 12, "context_length": 10}
    return build(ModelConfig(kind=name, vocab_size=size, **sizes)).eval()


@EVERY
def test_it_is_built_from_its_configuration_alone(name: str) -> None:
    model = built(name)
    assert isinstance(model, Model)
    assert type(model) is MODELS.load(name)
    assert model.config == model.built
    assert model.config.kind == name
    assert (model.changes, model.aside) == ((), {})
    again = built(name).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in model.state_dict().items())


@EVERY
def test_a_checkpoint_names_its_kind_and_is_loaded_by_it(name: str, tmp_path: Path) -> None:
    model = built(name)
    path = save(tmp_path, model)
    assert json.loads((path / "config.json").read_text())["model"]["kind"] == name
    loaded = load_checkpoint(path).build_model()
    assert type(loaded) is type(model)
    ids = torch.tensor([[4, 5, 6, 7]])
    assert torch.equal(loaded(ids), model(ids))


@EVERY
def test_it_gives_logits_by_its_residual_stream_and_its_last_map(name: str) -> None:
    model = built(name)
    ids = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    x = model.residual(ids)
    logits = model.unembed(x)
    assert logits.shape == (2, 4, model.config.resolved_vocab_size)
    assert torch.equal(model(ids), logits)
    labels = torch.tensor([[5, 6, 7, -100], [6, 5, 4, 3]])
    wanted = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="sum")
    torch.testing.assert_close(model.summed_loss(x, labels, -100), wanted)
    state = model.decoding_state(2)
    steps = [model.residual(ids[:, [i]], cache=state) for i in range(4)]
    torch.testing.assert_close(torch.cat(steps, 1), x)
    assert model.parameter_counts()["total"] == sum(p.numel() for p in model.parameters())


def test_an_unknown_kind_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.kind = 'decodr': unknown model kind "):
        load_config(overrides=["model.kind=decodr"])
    path = save(tmp_path, built("decoder"))
    rewrite(path, lambda config: config["model"].update(kind="decodr"))
    with pytest.raises(CheckpointError, match="unknown model kind 'decodr'; did you mean") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
