"""k micro-batches are one batch, however unevenly padding spreads over them; labels shift once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny import TEXTS, tiny_model, tiny_tokenizer, tiny_trainer, tiny_windows
from tinylm.data.windows import IGNORED, Batch, story_rows
from tinylm.model.decoder import DecoderLM
from tinylm.model.loss import token_losses
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID
from tinylm.training.accumulation import accumulate_gradients


def rows(lengths: Sequence[int], num_given: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(sum(lengths))
    size = tiny_tokenizer().vocab_size
    stories = [torch.randint(4, size, (n,), generator=generator).tolist() for n in lengths]
    return story_rows(stories, num_given)


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch of the rows of several, padded to the longest."""
    longest = max(batch.ids.shape[1] for batch in batches)

    def widened(tensor: Tensor, value: int) -> Tensor:
        missing = longest - tensor.shape[1]
        return torch.nn.functional.pad(tensor, (0, missing), value=value)

    real = [torch.ones_like(b.ids).bool() if b.real is None else b.real for b in batches]
    return Batch(
        torch.cat([widened(batch.ids, PAD_ID) for batch in batches]),
        torch.cat([widened(batch.labels, IGNORED) for batch in batches]),
        torch.cat([widened(tensor, False) for tensor in real]),
    )


def summed_loss(model: DecoderLM, batch: Batch) -> Tensor:
    return token_losses(model(batch.ids, real=batch.real), batch.labels, IGNORED).sum()


def gradients(
    model: DecoderLM, batches: Sequence[Batch]
) -> tuple[dict[str, Tensor], tuple[float, int]]:
    model.zero_grad(set_to_none=True)
    result = accumulate_gradients(
        lambda batch: (summed_loss(model, batch), batch.num_targets), batches
    )
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, (
        result
    )


def largest_difference(left: dict[str, Tensor], right: dict[str, Tensor]) -> float:
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in right)


@pytest.mark.parametrize(
    "lengths",
    [
        [[9, 9], [9, 9]],
        [[9, 2], [3, 3], [2, 8]],
        [[9], [2], [2], [2], [7]],
        [[5, 6, 7, 8], [2]],
    ],
)
def test_ragged_micro_batches_equal_one_batch(lengths: list[list[int]]) -> None:
    model = tiny_model(num_layers=2).double()
    batches = [rows(chosen) for chosen in lengths]
    split, (loss, num_targets) = gradients(model, batches)
    whole, (whole_loss, whole_targets) = gradients(model, [joined(batches)])
    assert num_targets == whole_targets == sum(n - 1 for chosen in lengths for n in chosen)
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    assert len(whole) == len(list(model.parameters()))
    assert largest_difference(split, whole) < 1e-12


def test_the_gradient_is_that_of_the_mean_over_all_targets() -> None:
    model = tiny_model().double()
    batches = [rows([9, 9]), rows([4])]
    split, _ = gradients(model, batches)
    model.zero_grad(set_to_none=True)
    losses = torch.cat([token_losses(model(b.ids, real=b.real), b.labels, -100) for b in batches])
    losses.mean().backward()  # type: ignore[no-untyped-call]
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert largest_difference(split, expected) < 1e-12


def test_the_mean_of_means_is_another_gradient() -> None:
    """What several trainers did: each micro-batch weighs the same, whatever it holds."""
    model = tiny_model().double()
    long, short = rows([11], num_given=1), rows([3], num_given=1)
    assert (long.num_targets, short.num_targets) == (10, 2)
    long, short = (  # the context holds 8
        Batch(long.ids.view(2, 5), long.labels.view(2, 5)),
        Batch(short.ids, short.labels),
    )
    right, _ = gradients(model, [long, short])
    model.zero_grad(set_to_none=True)
    for batch in (long, short):
        (summed_loss(model, batch) / batch.num_targets / 2).backward()  # type: ignore[no-untyped-call]
    wrong = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    size = sum(tensor.square().sum() for tensor in right.values()) ** 0.5
    error = sum((wrong[n] - tensor).square().sum() for n, tensor in right.items()) ** 0.5
    assert error / size > 0.1


def test_a_batch_without_a_target_adds_nothing_and_none_at_all_is_no_nan() -> None:
    model = tiny_model().double()
    empty = rows([4, 3], num_given=9)
    assert empty.num_targets == 0
    alone, result = gradients(model, [rows([7, 3])])
    assert largest_difference(gradients(model, [empty, rows([7, 3]), empty])[0], alone) == 0
    assert gradients(model, [rows([7, 3])])[1] == result
    assert gradients(model, [empty, empty]) == ({}, (0.0, 0))
    assert gradients(model, []) == ({}, (0.0, 0))


def test_steps_without_any_target_leave_the_weights_alone(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path)
    plain = windows.batch

    def without_targets(indices: Any) -> Batch:
        batch = plain(indices)
        return Batch(batch.ids, torch.full_like(batch.labels, IGNORED), batch.real)

    windows.batch = without_targets  # type: ignore[method-assign, assignment]
    trainer = tiny_trainer(tmp_path, windows=windows, max_steps=2)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    trainer.run()
    assert all(torch.equal(before[name], t) for name, t in trainer.model.state_dict().items())


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize(("batch_size", "accumulation"), [(2, 3), (1, 6), (3, 2)])
def test_whole_runs_agree_and_the_last_step_of_an_epoch_may_be_partial(
    tmp_path: Path, optimizer: str, batch_size: int, accumulation: int
) -> None:
    """9 windows in steps of 6: the second step of an epoch has 3, one of them padded."""
    results = []
    for size, parts in ((6, 1), (batch_size, accumulation)):
        folder = tmp_path / f"{size}x{parts}"
        windows = tiny_windows(folder)
        assert len(windows) == 9
        assert windows.batch([8]).real is not None
        trainer = tiny_trainer(
            folder,
            tiny_model().double(),
            windows,
            optimizer=optimizer,
            learning_rate=1e-3,
            max_steps=None,
            epochs=3,
            batch_size=size,
            accumulation_steps=parts,
        )
        trainer.run()
        assert trainer.total_steps == trainer.step == 6
        assert trainer.tokens == 3 * (windows.tokens.header.num_tokens - 1)
        results.append(trainer.model.state_dict())
    # A bias of keys has a gradient of 0, and Adam makes steps of its rounding.
    assert largest_difference(results[1], results[0]) < 1e-11


# --- labels ---


def test_labels_are_the_inputs_shifted_exactly_once(tmp_path: Path) -> None:
    """A model that copies its input scores badly, one that knows the next token scores 0."""
    windows = tiny_windows(tmp_path)
    ids = windows.tokens.ids
    batch = windows.batch(range(len(windows)))
    flat, labels = batch.ids.flatten(), batch.labels.flatten()
    counted = labels != IGNORED
    assert flat[counted].tolist() == ids[:-1].tolist()
    assert labels[counted].tolist() == ids[1:].tolist()

    size = tiny_tokenizer().vocab_size
    oracle = torch.nn.functional.one_hot(batch.labels.clamp(min=0), size) * 100.0
    copying = torch.nn.functional.one_hot(batch.ids, size) * 100.0
    assert token_losses(oracle, batch.labels, IGNORED).max() < 1e-6
    assert token_losses(copying, batch.labels, IGNORED).min() > 50


def test_each_first_eos_is_a_target_and_padding_is_told_by_mask_not_by_id(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path)
    labels = windows.batch(range(len(windows))).labels
    assert int((labels == EOS_ID).sum()) == len(TEXTS)
    assert int((labels == SOS_ID).sum()) == len(TEXTS) - 1
    story = [SOS_ID, 7, PAD_ID, 8, EOS_ID]  # a real token whose id is that of padding
    batch = story_rows([story, [SOS_ID, 7, EOS_ID]])
    assert batch.labels.tolist() == [[7, PAD_ID, 8, EOS_ID], [7, EOS_ID, IGNORED, IGNORED]]
    assert batch.real is not None
    assert batch.real.tolist() == [[True] * 4, [True, True, True, False]]
    assert batch.num_targets == 6
    logits = torch.randn(2, 4, 10)
    assert len(token_losses(logits, batch.labels, IGNORED)) == 6
