"""Masked weights: exact zeros that stay zeros, whatever trains the model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.training.tiny import tiny_model, tiny_tokenizer, tiny_trainer, tiny_windows
from tinylm.checkpoint import TrainingState, load_checkpoint, load_training_state
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import TrainingConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.errors import CompressionError
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import BUFFER, hold, mask_weights, masks_of
from tinylm.registry import OPTIMIZERS
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

MAPS = ("layers.0.attention.query_key_value", "layers.0.feed_forward.contract")


def half(model: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    """Masks of two maps, drawn by lot."""
    generator = torch.Generator().manual_seed(seed)
    return {
        path: torch.rand(model.get_submodule(path).weight.shape, generator=generator) > 0.5
        for path in MAPS
    }


def held(model: nn.Module, masks: dict[str, Tensor]) -> bool:
    """Whether every masked number is +0.0, and some others are not 0."""
    weights = {path: model.get_parameter(f"{path}.weight").detach() for path in masks}
    zeros = [weights[path][~mask] for path, mask in masks.items()]
    kept = [weights[path][mask] for path, mask in masks.items()]
    return (
        all(bool((zero == 0).all()) and not bool(zero.signbit().any()) for zero in zeros)
        and sum(len(zero) for zero in zeros) > 0
        and all(bool(each.count_nonzero()) for each in kept)
    )


def batches(model: DecoderLM, count: int) -> list[Batch]:
    ids = torch.randint(4, 20, (count, 2, 9), generator=torch.Generator().manual_seed(4))
    made = [Batch(each[:, :-1], each[:, 1:].clone()) for each in ids]
    made[0].labels[0, 3:] = IGNORED  # uneven
    return made


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(0, 2**32))
def test_a_mask_is_kept_in_bits(shape: list[int], seed: int) -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.ones(shape))
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.5
    hold(module, {"": mask})
    assert module.mask_bits.dtype == torch.uint8
    assert module.mask_bits.numel() == math.ceil(mask.numel() / 8)
    assert torch.equal(masks_of(module)[""], mask)
    assert torch.equal(module.weight.detach(), mask.float())


def test_zeros_are_exact_and_the_map_stays_what_it_is() -> None:
    model = tiny_model()
    before = copy.deepcopy(model)
    masks = half(model)
    hold(model, masks)
    assert held(model, masks)
    for path in MAPS:
        module = model.get_submodule(path)
        assert type(module) is nn.Linear
        original = before.get_submodule(path).weight
        assert torch.equal(module.weight[masks[path]], original[masks[path]])
    others = {k: v for k, v in before.state_dict().items() if k.rpartition(".")[0] not in MAPS}
    for name, tensor in others.items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert [dict(change) for change in model.changes] == [{"change": "mask", "modules": list(MAPS)}]


def test_a_mask_only_grows() -> None:
    model = tiny_model()
    first, second = half(model, 1), half(model, 2)
    hold(model, first)
    hold(model, second | {"unembedding": torch.ones(model.unembedding.weight.shape).bool()})
    for path, mask in masks_of(model).items():
        if path in first:
            assert torch.equal(mask, first[path] & second[path])
    assert [dict(change) for change in model.changes] == [
        {"change": "mask", "modules": [*MAPS, "unembedding"]}
    ]


def test_masks_that_fit_nothing_are_refused() -> None:
    model = tiny_model()
    state = copy.deepcopy(model.state_dict())
    fitting = half(model)
    for more, message in (
        ({"layers.0": torch.ones(2).bool()}, "is no module with a weight"),
        ({"layers.7.attention": torch.ones(2).bool()}, "is no module with a weight"),
        ({"unembedding": torch.ones(2).bool()}, r"has shape \(2,\), its weight \(\d+, 16\)"),
    ):
        with pytest.raises(CompressionError, match=message):
            hold(model, fitting | more)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)
    assert not model.changes


def reference(model: DecoderLM, masks: dict[str, Tensor], config: TrainingConfig) -> Any:
    """Train a copy with torch's own parametrization of masks: ``weight = weight_orig * mask``."""
    model = copy.deepcopy(model).train()
    for path, mask in masks.items():
        torch_prune.custom_from_mask(model.get_submodule(path), "weight", mask.float())
    kinds: dict[str, Any] = {
        "adam": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
        "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1),
        "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    }
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = kinds[config.optimizer.removeprefix("torch-")](
        [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    )
    made = batches(model, 6)
    for first, second in zip(made[::2], made[1::2], strict=True):
        optimizer.zero_grad()
        total = first.num_targets + second.num_targets
        for batch in (first, second):
            logits = model(batch.ids)
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            torch.autograd.backward(loss / total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clip)
        optimizer.step()
    for path in masks:
        torch_prune.remove(model.get_submodule(path), "weight")
    return model


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training_is_that_of_torch_pruning(optimizer: str) -> None:
    """Accumulated, clipped and decayed: what is kept learns as if the rest had never been."""
    model = tiny_model().double()
    masks = half(model)
    config = TrainingConfig(
        optimizer=optimizer,
        learning_rate=1e-2,
        weight_decay=0.1,
        gradient_clip=0.05,
        speed="plain",
        device="cpu",
    )
    expected = reference(model, masks, config)
    hold(model, masks)
    step = TrainingStep(model, next_token_loss, config)
    made = batches(model, 6)
    norms = []
    for first, second in zip(made[::2], made[1::2], strict=True):
        norms.append(step.backward([first, second]).norm)
        step.update()
    assert min(norms) > config.gradient_clip
    assert held(model, masks)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(
            model.get_parameter(name), parameter, rtol=1e-5, atol=1e-6
        )  # torch adds 1e-6 to a norm


@pytest.mark.parametrize(
    "settings",
    [{"precision": "bf16"}, {"gradient_checkpointing": 1}, {"speed": "plain"}],
    ids=lambda settings: next(iter(settings)),
)
def test_masks_hold_however_a_step_is_computed(settings: dict[str, Any]) -> None:
    model = copy.deepcopy(tiny_model(dropout=0.2))
    masks = half(model)
    hold(model, masks)
    model = copy.deepcopy(model)
    before = copy.deepcopy(model.state_dict())
    config = TrainingConfig(learning_rate=1e-2, weight_decay=0.1, device="cpu", **settings)
    step = TrainingStep(model, next_token_loss, config)
    for _ in range(3):
        step.backward(batches(model, 2))
        step.update()
    assert held(model, masks)
    changed = [
        name for name, each in before.items() if not torch.equal(model.state_dict()[name], each)
    ]
    assert set(changed) == {name for name, _ in model.named_parameters()}


def test_moments_from_before_the_mask_move_nothing() -> None:
    model = tiny_model()
    step = TrainingStep(model, next_token_loss, TrainingConfig(learning_rate=1e-2, device="cpu"))
    for pruned in (False, True):
        if pruned:
            hold(model, half(model))
        for _ in range(2):
            step.backward(batches(model, 2))
            step.update()
    assert held(model, half(model))


def test_an_optimizer_that_is_not_stopped_would_move_them() -> None:
    """The reason that weights are set to 0 after a step, too."""
    model = tiny_model()
    step = TrainingStep(model, next_token_loss, TrainingConfig(learning_rate=1e-2, device="cpu"))
    step.backward(batches(model, 2))
    step.update()
    hold(model, half(model))
    step.backward(batches(model, 2))
    step.optimizer.step()
    assert not held(model, half(model))
    mask_weights(model)
    assert held(model, half(model))


def test_training_that_is_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    ends = {}
    for name, stops in {"whole": [], "resumed": [3]}.items():
        model = tiny_model(dropout=0.1)
        hold(model, half(model))
        windows = tiny_windows(tmp_path, repeats=4)
        for steps in (*stops, 8):
            trainer = tiny_trainer(tmp_path / name, model, windows, max_steps=8)
            if trainer_path := next((tmp_path / name / "checkpoints").glob("last"), None):
                checkpoint = load_checkpoint(trainer_path)
                model = checkpoint.build_language_model()
                trainer = tiny_trainer(tmp_path / name, model, windows, max_steps=8)
                trainer.restore(load_training_state(checkpoint.path))
            trainer.total_steps = steps
            trainer.run()
        assert held(model, half(model))
        ends[name] = (tmp_path / name / "checkpoints/step-8/model.safetensors").read_bytes()
    assert ends["whole"] == ends["resumed"]


def test_masked_weights_of_another_shape_are_refused(
    small_model: Callable[..., DecoderLM], tmp_path: Path
) -> None:
    model = small_model()
    hold(model, {"unembedding": torch.ones(23, 12).bool()})
    path = save_checkpoint(tmp_path, model, tiny_tokenizer(), TrainingState(0))
    weights = load_checkpoint(path).weights
    assert weights[f"unembedding.{BUFFER}"].shape == (math.ceil(23 * 12 / 8),)
