"""Gradient checkpointing: the same bits as without, less memory, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.training.tiny import tiny_model, tiny_trainer, tiny_windows
from tinylm.config import ModelConfig
from tinylm.data.windows import IGNORED, Batch, story_rows
from tinylm.errors import ConfigError, TrainingError
from tinylm.evaluation.memory import saved_bytes
from tinylm.model.base import LayerRunner
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM, in_turn, layers_run_by
from tinylm.model.loss import token_losses
from tinylm.model.positions import Positions
from tinylm.model.reading import Reading
from tinylm.training import recompute as module
from tinylm.training.accumulation import accumulate_gradients
from tinylm.training.recompute import recompute, recomputing


def model_of(layers: int = 4, dropout: float = 0.2, seed: int = 0, **settings: Any) -> DecoderLM:
    torch.manual_seed(seed)
    values: dict[str, Any] = {
        "vocab_size": 29,
        "context_length": 12,
        "num_layers": layers,
        "num_heads": 2,
        "hidden_size": 16,
        "dropout": dropout,
    }
    return DecoderLM(ModelConfig(**{**values, **settings})).train()


def batch_of(seed: int = 0, ragged: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    lengths = [12, 5, 9] if ragged else [12, 12, 12]
    return story_rows([torch.randint(4, 29, (n,), generator=generator).tolist() for n in lengths])


class AsLayer(nn.Module):
    """A module of one argument as a layer."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def reading_of(seq: int) -> Reading:
    """Return what goes with a text of some tokens, without positions."""
    blocked = torch.ones(seq, seq, dtype=torch.bool).triu(1)[None, None]
    encoding = Positions(ModelConfig(vocab_size=29))
    return Reading(encoding, torch.arange(seq)[None], blocked)


def run(model: DecoderLM, batch: Batch, run_layers: LayerRunner, **arguments: Any) -> Tensor:
    """Return the logits of a model whose layers are run in some way."""
    with layers_run_by(model, run_layers):
        logits: Tensor = model(batch.ids, real=batch.real, **arguments)
    return logits


def gradients(
    model: DecoderLM,
    run_layers: LayerRunner,
    batches: Sequence[Batch],
    seed: int = 1,
    bf16: bool = False,
) -> tuple[float, dict[str, Tensor | None], Tensor]:
    """Return the loss, every gradient and the random state that is left behind."""

    def summed_loss(batch: Batch) -> Tensor:
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16),
            layers_run_by(model, run_layers),
        ):
            logits = model(batch.ids, real=batch.real)
        return token_losses(logits, batch.labels, IGNORED).sum()

    model.zero_grad(set_to_none=True)
    torch.manual_seed(seed)
    loss, _ = accumulate_gradients(lambda batch: (summed_loss(batch), batch.num_targets), batches)
    by_name = {
        name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()
    }
    return loss, by_name, torch.get_rng_state()


def assert_same_bits(
    result: tuple[float, dict[str, Tensor | None], Tensor],
    expected: tuple[float, dict[str, Tensor | None], Tensor],
) -> None:
    assert result[0] == expected[0]
    assert result[1].keys() == expected[1].keys()
    for name, gradient in result[1].items():
        second = expected[1][name]
        if gradient is None or second is None:
            assert gradient is second, name
        else:
            assert torch.equal(gradient, second), name
    assert torch.equal(result[2], expected[2]), "the random state left behind"


@given(
    segment=st.integers(1, 6),
    layers=st.integers(1, 5),
    norm=st.sampled_from(["post", "pre"]),
    positions=st.sampled_from(["sinusoidal", "learned", "rotary"]),
    tied=st.booleans(),
    bf16=st.booleans(),
    micro_batches=st.integers(1, 3),
    ragged=st.booleans(),
)
def test_gradients_are_the_same_bits(
    segment: int,
    layers: int,
    norm: str,
    positions: str,
    tied: bool,
    bf16: bool,
    micro_batches: int,
    ragged: bool,
) -> None:
    model = model_of(layers, norm_placement=norm, positions=positions, tie_embeddings=tied)
    batches = [batch_of(i, ragged) for i in range(micro_batches)]
    plain = gradients(model, in_turn, batches, bf16=bf16)
    again = gradients(model, recomputing(segment), batches, bf16=bf16)
    assert_same_bits(plain, again)
    assert any(g is not None and g.abs().max() > 0 for g in plain[1].values())


def test_equal_to_torchs_own_checkpoint() -> None:
    """Gradients, and the bytes that the forward pass keeps."""

    def torchs(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
        for layer in layers:
            x = checkpoint(layer, x, reading, use_reentrant=False)
        return x

    model, batch = model_of(5), batch_of()
    ours = gradients(model, recomputing(1), [batch])
    assert_same_bits(ours, gradients(model, torchs, [batch]))

    def forward(run_layers: LayerRunner) -> Callable[[], Tensor]:
        return lambda: run(model, batch, run_layers)

    parameters = list(model.parameters())
    kept = saved_bytes(forward(recomputing(1)), parameters)
    # Torch's form keeps the arguments too, here positions and the mask, which are shared.
    theirs = saved_bytes(forward(torchs), parameters)
    assert 0 < kept <= theirs
    assert theirs - kept <= 2 * batch.ids.numel() * (8 + batch.ids.shape[1])


def test_only_inputs_of_segments_are_kept() -> None:
    """The saved bytes fall from all layers' insides to one residual stream a segment."""
    batch = batch_of(ragged=False)
    batch_size, seq = batch.ids.shape
    stream = batch_size * seq * 16 * 4  # (batch, seq, hidden) in float32

    def kept(layers: int, run_layers: LayerRunner) -> int:
        model = model_of(layers)
        return saved_bytes(lambda: run(model, batch, run_layers), list(model.parameters()))

    for segment, more in ((1, 3), (2, 2), (3, 1)):
        # Three further layers cost the inputs of the further segments; the rest is the same.
        difference = kept(6, recomputing(segment)) - kept(6 - segment * more, recomputing(segment))
        assert difference == more * stream
    plain = (kept(6, in_turn) - kept(3, in_turn)) / 3
    assert plain > 10 * stream  # what a layer keeps without recomputation


def test_frozen_parameters_and_inputs_without_gradient() -> None:
    model, batch = model_of(4), batch_of()
    model.embedding.weight.requires_grad_(False)  # the first segment's input needs no gradient
    for name, parameter in model.named_parameters():
        if name.startswith(("layers.0.", "layers.2.attention")):
            parameter.requires_grad_(False)
    plain = gradients(model, in_turn, [batch])
    again = gradients(model, recomputing(2), [batch])
    assert_same_bits(plain, again)
    assert plain[1]["layers.0.attention.output.weight"] is None
    second = plain[1]["layers.1.attention.output.weight"]
    assert second is not None
    assert second.abs().max() > 0


def test_everything_frozen_but_the_input() -> None:
    layer = model_of(1).layers[0].requires_grad_(False)
    model = model_of(1)
    x = torch.randn(2, 4, 16, requires_grad=True)
    reading = replace(reading_of(4), encoding=model.positions)
    torch.manual_seed(3)
    (plain,) = torch.autograd.grad(layer(x, reading).square().sum(), x)
    torch.manual_seed(3)
    (again,) = torch.autograd.grad(recompute([layer], x, reading).square().sum(), x)
    assert torch.equal(plain, again)
    assert plain.abs().max() > 0


def test_without_gradients_nothing_is_recorded() -> None:
    model, batch = model_of(2), batch_of()
    with torch.no_grad():
        assert not run(model, batch, recomputing(1)).requires_grad
    model.requires_grad_(False)
    assert not run(model, batch, recomputing(1)).requires_grad


def test_the_outer_random_state_goes_on_as_if_nothing_had_been_recomputed() -> None:
    """Numbers drawn between forward and backward pass, and after it, are the same."""
    model, batch = model_of(3), batch_of()

    def draw(run_layers: LayerRunner) -> list[Tensor]:
        torch.manual_seed(5)
        loss = run(model, batch, run_layers).square().mean()
        between = torch.rand(3)
        loss.backward()
        return [between, torch.rand(3)]

    for plain, recomputed in zip(draw(in_turn), draw(recomputing(2)), strict=True):
        assert torch.equal(plain, recomputed)


def test_a_weight_used_inside_and_outside_keeps_both_gradients_under_autocast() -> None:
    """Autocast must not hand the copy of a weight that was cast without a graph to others."""
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    segment = AsLayer(layer)
    x = torch.randn(4, 8, requires_grad=True)

    def gradient(inside: Callable[[Tensor], Tensor]) -> Tensor:
        layer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = layer(inside(x)).square().sum()
            loss.backward()  # inside autocast, as some loops do it
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    plain = gradient(layer)
    again = gradient(lambda x: recompute([segment], x, reading_of(4)))
    # Once summed in bfloat16 by the shared copy, once in float32: equal up to that rounding.
    assert (plain - again).abs().max() <= 2**-7 * plain.abs().max()
    only_outside = torch.autograd.grad(layer(layer(x).detach()).square().sum(), layer.weight)[0]
    assert (plain - only_outside).abs().max() > 0.1 * plain.abs().max()


def test_backward_twice_over_a_kept_graph() -> None:
    model, batch = model_of(2), batch_of()
    torch.manual_seed(0)
    loss = run(model, batch, recomputing(1)).square().mean()
    weight = model.layers[0].attention.output.weight
    (first,) = torch.autograd.grad(loss, weight, retain_graph=True)
    (second,) = torch.autograd.grad(loss, weight)
    assert torch.equal(first, second)


def test_a_weight_changed_before_the_backward_pass_is_refused() -> None:
    model, batch = model_of(2), batch_of()
    loss = run(model, batch, recomputing(1)).square().mean()
    with torch.no_grad():
        model.layers[1].feed_forward.expand.weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_second_derivatives_are_refused() -> None:
    model, batch = model_of(1), batch_of()
    loss = run(model, batch, recomputing(1)).square().mean()
    weight = model.layers[0].attention.output.weight
    (first,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_nesting_is_refused_and_leaves_no_trace() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = AsLayer(nn.Linear(4, 4))

        def forward(self, x: Tensor, reading: Reading) -> Tensor:
            return recompute([self.inner], x, reading)

    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(TrainingError, match="inside a checkpointed segment"):
        recompute([Nested()], x, reading_of(2))
    Nested()(x, reading_of(2)).sum().backward()  # alone it works, also after the refusal


def test_caches_hooks_and_other_gradients_are_refused() -> None:
    model, batch = model_of(2), batch_of(ragged=False)
    with pytest.raises(TrainingError, match="with a cache"):
        run(model, batch, recomputing(1), cache=KVCache(model.config, 3))
    hooks = model.hooks({"final": lambda name, x: None})
    with pytest.raises(TrainingError, match="with hooks"):
        run(model, batch, recomputing(1), hooks=hooks)


@pytest.mark.parametrize("broken", ["random_state", "autocast"])
def test_restoring_is_what_makes_it_exact(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the random state, or the number format, of the first run the gradient is another."""
    from contextlib import nullcontext

    model, batch = model_of(3), batch_of()
    plain = gradients(model, in_turn, [batch], bf16=True)[1]
    monkeypatch.setattr(module._Surroundings, broken, lambda self: nullcontext())
    again = gradients(model, recomputing(1), [batch], bf16=True)[1]
    weight = "layers.0.attention.output.weight"
    assert plain[weight] is not None
    assert again[weight] is not None
    assert not torch.equal(plain[weight], again[weight])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_ends_with_the_same_weights(tmp_path: Path, precision: str) -> None:
    ends = []
    for segment in (0, 1, 2):
        folder = tmp_path / str(segment)
        folder.mkdir()
        trainer = tiny_trainer(
            folder,
            tiny_model(num_layers=3, dropout=0.2),
            tiny_windows(folder, repeats=4),
            gradient_checkpointing=segment,
            accumulation_steps=2,
            precision=precision,
        )
        trainer.run()
        ends.append(trainer.model.state_dict())
    for end in ends[1:]:
        assert all(torch.equal(end[name], tensor) for name, tensor in ends[0].items())


def test_compile_and_recomputation_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.compile.*training.gradient_checkpointing"):
        tiny_trainer(tmp_path, compile=True, gradient_checkpointing=1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_the_random_state_of_a_gpu_is_restored() -> None:
    model, batch = model_of(3).cuda(), batch_of().to(torch.device("cuda"))
    torch.use_deterministic_algorithms(True, warn_only=True)
    plain = gradients(model, in_turn, [batch])
    again = gradients(model, recomputing(1), [batch])
    torch.use_deterministic_algorithms(False)
    for name, gradient in plain[1].items():
        assert gradient is not None
        other = again[1][name]
        assert other is not None
        torch.testing.assert_close(gradient, other, rtol=0, atol=0, msg=name)


def test_a_memory_gets_its_gradient() -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor, reading: Reading) -> Tensor:
            assert reading.memory is not None
            return torch.tanh(x * reading.memory)

    gradients = []
    for runner in (in_turn, recomputing(1), recomputing(2)):
        torch.manual_seed(0)
        x, memory = torch.randn(2, 1, 2, 3).requires_grad_()
        layers = [Reads(), Reads(), Reads()]
        y = runner(layers, x, replace(reading_of(2), memory=memory))
        gradients.append(torch.autograd.grad(y.square().sum(), (x, memory)))
    for made in gradients[1:]:
        assert all(torch.equal(*pair) for pair in zip(made, gradients[0], strict=True))
    assert all(gradient.abs().min() > 0 for gradient in gradients[0])
