"""The tuned lens: its start, its training, its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.model.helpers import NORM_PLACEMENTS, build_random, largest_difference
from tinylm.errors import ConfigError, DataError, GenerationError
from tinylm.interpretability import tuned_lens
from tinylm.interpretability.lens import lens
from tinylm.interpretability.trace import trace
from tinylm.interpretability.tuned_lens import (
    TunedLens,
    load_tuned_lens,
    read_tuned_lens,
    train_tuned_lens,
)
from tinylm.model.decoder import DecoderLM


def texts(model: DecoderLM, count: int = 40, seed: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(model.config.resolved_vocab_size, (count, 12), generator=generator)
    return [row[: 5 + i % 8].tolist() for i, row in enumerate(drawn)]


def mean_divergences(model: DecoderLM, tuned: TunedLens | None) -> Tensor:
    traced = trace(model, texts(model, seed=1))
    return lens(traced, translate=tuned).divergences[:, traced.real].mean(-1)


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_it_starts_as_the_logit_lens_and_comes_nearer_to_the_end(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    plain = mean_divergences(model, None)
    start = train_tuned_lens(model, texts(model), steps=0)
    assert largest_difference(mean_divergences(model, start), plain) < 1e-12
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = mean_divergences(model, train_tuned_lens(model, texts(model), 60, 1e-2))
    # Texts that it was not trained on.
    assert (tuned[:-1] < 0.9 * plain[:-1]).all()
    assert tuned[-1] == plain[-1] == 0
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_one_step_is_adams_on_the_divergence() -> None:
    """In other words: autograd on the divergence as a sum over the vocabulary, Adam by hand."""
    model, rate, seed = build_random(norm_placement="pre"), 1e-2, 7
    given = texts(model)
    tuned = train_tuned_lens(model, given, 1, rate, seed)
    traced = trace(model, given)
    places, stream = traced.residual_stream()
    drawn = torch.Generator().manual_seed(seed)
    # All tokens of all texts in turn; 16 texts are read at a time, which changes no order.
    rows = stream[:, traced.real]
    batch = rows[:, torch.randint(rows.shape[1], (256,), generator=drawn)]
    model.zero_grad()
    for place, x in zip(places[:-1], batch[:-1], strict=True):
        matrix, bias = nn.Parameter(torch.eye(10).double()), nn.Parameter(torch.zeros(10).double())
        end = model.unembedding(model.final_norm(batch[-1])).softmax(-1).detach()
        here = model.unembedding(model.final_norm(x @ matrix + bias)).softmax(-1)
        (end * (end / here).log()).sum(-1).mean().backward()
        for parameter, ours in ((matrix, tuned.matrices[place]), (bias, tuned.biases[place])):
            assert parameter.grad is not None
            slope = parameter.grad
            # Adam's first step: both moments corrected are the gradient and its square.
            expected = parameter.detach() - rate * slope / (slope.abs() + 1e-8)
            assert largest_difference(ours, expected) < 1e-6


def test_the_same_seed_gives_the_same_maps() -> None:
    model = build_random()
    first, again, other = (train_tuned_lens(model, texts(model), 3, seed=s) for s in (1, 1, 2))
    for place, matrix in first.matrices.items():
        assert torch.equal(matrix, again.matrices[place])
        assert not torch.equal(matrix, other.matrices[place])


def test_every_token_may_be_drawn_and_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuned_lens, "_TEXTS", 3)
    model = build_random()
    given = texts(model)
    _, joined = tuned_lens._streams(model, given)
    alone = torch.cat([trace(model, [text]).residual_stream()[1][:, 0] for text in given], 1)
    assert largest_difference(joined, alone) < 1e-12


def test_a_file_gives_back_what_was_trained_and_only_to_its_model(tmp_path: Path) -> None:
    model, path = build_random(), tmp_path / "maps.safetensors"
    tuned = train_tuned_lens(model, texts(model), 2)
    tuned.save(path)
    content = path.read_bytes()
    tuned.save(path)
    assert path.read_bytes() == content
    loaded = load_tuned_lens(path, model)
    assert list(loaded.matrices) == sorted(tuned.matrices)
    for place, matrix in tuned.matrices.items():
        assert torch.equal(loaded.matrices[place], matrix)
        assert torch.equal(loaded.biases[place], tuned.biases[place])
    with pytest.raises(DataError, match=r"was trained for the model \w{12} and this is"):
        load_tuned_lens(path, build_random(seed=1))
    # One that says it belongs to a model of other sizes.
    larger = build_random(num_layers=3)
    TunedLens(train_tuned_lens(larger, texts(larger), 0).model, tuned.matrices, tuned.biases).save(
        path
    )
    with pytest.raises(DataError, match="the places or sizes are not those of the model"):
        load_tuned_lens(path, larger)


def written(path: Path, tensors: dict[str, Tensor], **changes: str) -> Path:
    about = {"form": tuned_lens.FORMAT, "sha256": tuned_lens._digest(tensors)} | changes
    said = {"tinylm": f"{about['form']} {'0' * 64} {about['sha256']}"}
    path.write_bytes(safetensors.torch.save(tensors, metadata=said))
    return path


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({}, {"form": "other"}, "is no tuned lens of the format 'tinylm tuned lens 1'"),
        ({}, {"sha256": "0" * 64}, "is damaged: it has changed since it was written"),
        ({"a/other": torch.zeros(2)}, {}, "a/other is no finite map"),
        ({"a/bias": torch.zeros(2, dtype=torch.int64)}, {}, "a/bias is no finite map"),
        ({"a/bias": torch.tensor([torch.nan])}, {}, "a/bias is no finite map"),
        ({"a/bias": torch.zeros(2)}, {}, "a has no square matrix with its bias"),
        ({"a/matrix": torch.eye(3), "a/bias": torch.zeros(2)}, {}, "a has no square matrix"),
    ],
)
def test_a_file_that_is_no_tuned_lens_is_refused(
    tmp_path: Path, tensors: dict[str, Tensor], about: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_tuned_lens(written(tmp_path / "maps.safetensors", tensors, **about))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"maps.safetensors: cannot be read \(No such file"):
        read_tuned_lens(tmp_path / "maps.safetensors")
    with pytest.raises(DataError, match="cannot be written: "):
        TunedLens("0" * 64, {}, {}).save(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"texts": []}, GenerationError, "there is no text"),
        ({"texts": [[2, 99]]}, GenerationError, "token id 99 is outside the vocabulary of 23"),
        ({"steps": -1}, ConfigError, "steps = -1, learning_rate = 0.1: give 0 steps or more"),
        (
            {"learning_rate": 0.0},
            ConfigError,
            "learning_rate = 0.0: give 0 steps or more, and a ra",
        ),
        ({"learning_rate": float("nan")}, ConfigError, "learning_rate = nan: give 0 steps or more"),
    ],
)
def test_training_that_cannot_be_is_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_tuned_lens(build_random(), **{"texts": [[2, 5]], "learning_rate": 0.1} | arguments)
