"""What every pruning method of the registry must hold."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny import tiny_tokenizer
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import TrainingConfig, field_help, to_dict
from tinylm.config.pruning import Calibrated
from tinylm.data.windows import Batch
from tinylm.errors import CompressionError
from tinylm.fast import for_decoding
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import DecoderLM
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import PRUNERS
from tinylm.report.references import REFERENCES
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (5, 9), generator=torch.Generator().manual_seed(3))
SHARE = 0.5


def pruned(name: str, model: GenerativeModel) -> GenerativeModel:
    method = PRUNERS.load(name)
    return method.prune(model, SHARE, method.Settings(), IDS).model  # type: ignore[no-any-return]


@torch.no_grad()
def logits_of(model: GenerativeModel, ids: Tensor = IDS) -> Tensor:
    logits: Tensor = model(ids)
    return logits


@pytest.mark.parametrize("name", PRUNERS)
def test_it_says_what_it_is(name: str) -> None:
    method = PRUNERS.load(name)
    fields = to_dict(method.Settings())
    assert set(re.findall(r"\{(\w+)\}", method.explanation)) <= fields.keys()
    assert set(re.findall(r"\[\[(\w+)\]\]", method.explanation)) <= REFERENCES.keys()
    assert dict(field_help(method.Settings)).keys() == fields.keys()
    assert all(dict(field_help(method.Settings)).values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.Settings().seed = 3


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruned_model_is_a_model(name: str, small_model: Models, tmp_path: Path) -> None:
    """Saved, read, decoded with the cache, and as many numbers as planned."""
    base = small_model(num_layers=2, num_heads=4, head_dim=4)
    before = copy.deepcopy(base.state_dict())
    model = pruned(name, base)
    assert PRUNERS.load(name).removes == (model is not base)
    if model is not base:
        assert all(torch.equal(base.state_dict()[key], before[key]) for key in before)
    assert not torch.equal(logits_of(model), logits_of(small_model(num_heads=4, head_dim=4)))
    counted = sum(p.numel() for p in model.parameters())
    assert counted == parameter_counts(model.config)["total"]
    save_checkpoint(tmp_path, model, tiny_tokenizer(), TrainingState(0))
    loaded = load_checkpoint(tmp_path / "last").build_language_model()
    assert torch.equal(logits_of(loaded), logits_of(model))
    prompts = IDS[:2, :4].tolist()
    stepper = Stepper(for_decoding(loaded), prompts, 0)
    stepper.append(IDS[:2, 4])
    torch.testing.assert_close(
        stepper.logits(), logits_of(model, IDS[:2, :5])[:, -1], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", PRUNERS)
def test_the_same_is_pruned_again(name: str, small_model: Models) -> None:
    first, second = (pruned(name, small_model(num_heads=4, head_dim=4)) for _ in range(2))
    assert all(torch.equal(second.state_dict()[k], each) for k, each in first.state_dict().items())


@pytest.mark.parametrize("name", PRUNERS)
def test_a_pruned_model_trains_on(name: str, small_model: Models) -> None:
    model = pruned(name, small_model(num_heads=4, head_dim=4))
    zeros = {key: each == 0 for key, each in model.named_parameters()}
    step = TrainingStep(model, next_token_loss, TrainingConfig(learning_rate=1e-2, device="cpu"))
    batch = Batch(IDS[:, :-1], IDS[:, 1:])
    losses = []
    for _ in range(8):
        losses.append(step.backward([batch]).loss)
        step.update()
    assert losses[-1] < losses[0]
    held = {key for key, each in model.named_parameters() if bool((each[zeros[key]] == 0).all())}
    assert {key for key, each in zeros.items() if each.any()} <= held | {
        key for key in zeros if "bias" in key
    }


@pytest.mark.parametrize("name", PRUNERS)
@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, 50.0])
def test_no_share_and_more_than_all_are_refused(
    name: str, share: float, small_model: Models
) -> None:
    method: Any = PRUNERS.load(name)
    with pytest.raises(CompressionError, match=r"it must be above 0 and at most 1"):
        method.prune(small_model(), share, method.Settings(), IDS)


@pytest.mark.parametrize(
    "name", [n for n in PRUNERS if issubclass(PRUNERS.load(n).Settings, Calibrated)]
)
def test_what_reads_texts_asks_for_them(name: str, small_model: Models) -> None:
    method: Any = PRUNERS.load(name)
    with pytest.raises(CompressionError, match="give texts of two tokens"):
        method.prune(small_model(), SHARE, method.Settings(), None)
