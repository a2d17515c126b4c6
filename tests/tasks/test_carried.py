"""Windows in order, with the state carried from one to the next and no gradient through it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.data.ranks import RankOrder
from tests.training.tiny import Recorder, tiny_run, tiny_tokenizer, tiny_windows
from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.compression.masking import Masking
from tinylm.config import ModelConfig, TrainingConfig
from tinylm.config.pruning import MagnitudeConfig
from tinylm.data.orders import StreamOrder
from tinylm.data.windows import IGNORED, TokenWindows
from tinylm.errors import ConfigError
from tinylm.experiments.context import threads
from tinylm.experiments.distilling import Lessons
from tinylm.experiments.records import Compressed
from tinylm.experiments.retraining import Retrained
from tinylm.model.base import GenerativeModel, build
from tinylm.model.loss import token_losses
from tinylm.model.weights import load_weights
from tinylm.registry import DISTILLATIONS
from tinylm.tasks.carried import CarriedLanguageModelling, carried, refuse_carrying
from tinylm.tasks.distillation.base import Lesson
from tinylm.tasks.distillation.sequence import SequenceLevel
from tinylm.tasks.gradual_pruning import Curve, GradualPruning
from tinylm.tasks.language_modelling import LanguageModelling
from tinylm.training.loop import Trainer

KINDS = ("rnn", "linear-rnn", "gru", "lstm")


def small(kind: str, **settings: Any) -> GenerativeModel:
    sizes: dict[str, Any] = {"context_length": 4, "num_layers": 2, "hidden_size": 8}
    torch.manual_seed(0)
    size = tiny_tokenizer().vocab_size
    return build(ModelConfig(**{"kind": kind, "vocab_size": size, **sizes, **settings}))


def task_of(windows: TokenWindows) -> CarriedLanguageModelling:
    return CarriedLanguageModelling(tiny_tokenizer(), windows, windows, 4)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 7))
def test_streams_hold_every_window_once_in_order(count: int, rows: int, stop: int) -> None:
    order = StreamOrder(count, rows)
    for epoch in range(2):
        streams: dict[int, list[int]] = {}
        while True:
            indices = order.next().tolist()
            assert order.epoch == epoch
            for row, index in enumerate(indices):
                streams.setdefault(row, []).append(index)
            if order.epoch_ended:
                break
        for row, stream in streams.items():
            first = row * order.length
            assert stream == list(range(first, first + len(stream)))
        assert sorted(i for stream in streams.values() for i in stream) == list(range(count))
        assert order.next_window >= count
    twin, other = StreamOrder(count, rows), StreamOrder(count, rows)
    for _ in range(stop):
        twin.next()
    other.restore(twin.state())
    assert [twin.next().tolist() for _ in range(9)] == [other.next().tolist() for _ in range(9)]


def test_a_process_that_takes_some_streams_begins_them_anew_every_epoch(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path, context_length=4)
    for rank in range(2):
        task = task_of(windows)
        order = RankOrder(task.order(4, 0), rank, 2)
        for _ in range(2):
            follows = []
            while not (follows and order.epoch_ended):
                follows.append(task.batch(order.next()).follows)
            assert not follows[0]
            assert all(follows[1:-1])  # of the last step it may have no window


@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_are_those_of_the_streams_in_one_pass(kind: str, tmp_path: Path) -> None:
    """And the gradient is the sum of those of the windows, each from its state as a number."""
    windows = tiny_windows(tmp_path, context_length=4)
    model = small(kind, dropout=0.0).double().train()
    task, order = task_of(windows), StreamOrder(len(windows), 3)
    ids = torch.as_tensor(windows.tokens.ids.astype("int64"))
    for _ in range(2):  # the second epoch begins anew
        summed = 0.0
        model.zero_grad()
        while True:
            batch = task.batch(order.next())
            loss, count = task.loss(model, batch)
            assert count == batch.num_targets
            loss.backward()
            summed += float(loss.detach())
            if order.epoch_ended:
                break
        carried = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        # By hand: each stream alone, window by window, its state kept and detached.
        model.zero_grad()
        total = 0.0
        for row in range(3):
            first = row * order.length * 4
            stream = ids[first : first + order.length * 4 + 1]
            with torch.no_grad():
                whole = token_losses(model(stream[None, :-1]), stream[None, 1:], IGNORED)
            state = model.carried_state(1)
            assert state is not None
            for start in range(0, len(stream) - 1, 4):
                part = stream[start : start + 5]
                state.detach()
                x = model.residual(part[None, :-1], cache=state)
                own = token_losses(model.unembed(x), part[None, 1:], IGNORED)
                expected = whole[start : start + len(own)]
                torch.testing.assert_close(own, expected, rtol=0, atol=1e-12)
                own.sum().backward()
                total += float(own.detach().sum())
        assert summed == pytest.approx(total, abs=1e-9)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(carried[name], parameter.grad, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["rnn", "lstm"])
@pytest.mark.parametrize("stop", [1, 2, 5])
def test_it_goes_on_bit_for_bit(kind: str, stop: int, tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path, context_length=4)
    settings = TrainingConfig(
        device="cpu", batch_size=3, accumulation_steps=2, max_steps=9, checkpoint_interval=0
    )

    def trainer(folder: str) -> Trainer:
        place = tmp_path / folder
        return Trainer(small(kind), task_of(windows), settings, place, Recorder())

    with threads(1):
        trainer("whole").run()
        first = trainer("halves")
        first.total_steps = stop
        first.run()
        path = tmp_path / f"halves/step-{stop}"
        kept = load_training_state(path)
        assert any(name.startswith("task/") for name in kept.tensors)
        second = trainer("halves")
        load_weights(second.model, load_checkpoint(path).weights, path)
        second.restore(kept)
        second.run()
    for file in ("model.safetensors", "training.safetensors"):
        ends = [tmp_path / name / "step-9" / file for name in ("whole", "halves")]
        assert ends[0].read_bytes() == ends[1].read_bytes()


def test_what_carries_no_state_is_refused_in_one_line(tmp_path: Path) -> None:
    message = "training.carry_state = true has no effect with model.kind = decoder, .* give "
    with pytest.raises(ConfigError, match=message + "model.kind=rnn or linear-rnn or gru or lstm"):
        tiny_run(tmp_path / "run", tmp_path / "cache", "training.carry_state=true")
    assert not (tmp_path / "run").exists()
    training = replace(TrainingConfig(carry_state=True), gradient_checkpointing=2)
    with pytest.raises(ConfigError, match=r"and training\.gradient_checkpointing = 2: .* turn one"):
        refuse_carrying(ModelConfig(kind="gru"), training)
    with pytest.raises(ConfigError, match=r"no effect on pairs, each of which is read alone"):
        refuse_carrying(ModelConfig(kind="gru"), TrainingConfig(carry_state=True), pairs=True)


class Fixed(Masking):
    """Prunes no weight, so that what is left to compare is the reading."""

    @classmethod
    def kept(cls, model: GenerativeModel, *_: Any) -> dict[str, torch.Tensor]:
        return {}


def gradual(windows: TokenWindows, carry: bool) -> GradualPruning:
    curve = Curve(Fixed, MagnitudeConfig(targets=("layers",)), None, 0.0, 0.5, 4)
    kind = carried(GradualPruning) if carry else GradualPruning
    return kind(curve, tiny_tokenizer(), windows, windows, 4, None)


def losses(task: LanguageModelling, model: GenerativeModel, batches: int) -> list[float]:
    order = task.order(3, 0)
    return [float(task.loss(model, task.batch(order.next()))[0].detach()) for _ in range(batches)]


def test_gradual_pruning_carries_the_state_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path, context_length=4)
    model = small("lstm", dropout=0.0).train()
    wanted = losses(task_of(windows), model, 4)
    assert losses(gradual(windows, carry=True), model, 4) == wanted
    assert losses(gradual(windows, carry=False), model, 4) != wanted
    # What is kept, and what it is made of again.
    whole, half = gradual(windows, carry=True), gradual(windows, carry=True)
    order = whole.order(3, 0)
    for _ in range(2):
        half.loss(model, half.batch(order.next()))
    half.pruned_loss = 2.5
    whole.restore(half.state(), half.tensors())
    assert whole.pruned_loss == 2.5
    indices = order.next()
    ends = [task.loss(model, task.batch(indices))[0] for task in (half, whole)]
    assert torch.equal(*ends)


def test_retraining_and_distillation_carry_or_refuse(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path, context_length=4)
    asked: dict[str, Any] = {"train": windows.tokens, "carry_state": True}
    given = (tiny_tokenizer(), windows, windows, 4, None)
    context: Any = None
    pruned = Retrained(context=context, written=cast("Compressed", {}), curve=None, **asked)
    lesson = Lesson(small("gru"), SequenceLevel.Settings(), small("gru").config, 0)
    lessons = Lessons(kind=SequenceLevel, lesson=lesson, source="texts", **asked)
    model = small("gru", dropout=0.0).train()
    wanted = losses(task_of(windows), model, 4)
    assert losses(pruned.task(*given), model, 4) == wanted
    task = lessons.task(*given)
    assert isinstance(task, SequenceLevel)
    assert losses(task, model, 4) == wanted
    for name in DISTILLATIONS:
        kind = DISTILLATIONS.load(name)
        training = TrainingConfig(carry_state=True)
        if kind.by_labels:
            assert kind.suited(training) == training
            continue
        with pytest.raises(ConfigError, match=r"carry_state = true: .*carry_state=false"):
            kind.suited(training)
