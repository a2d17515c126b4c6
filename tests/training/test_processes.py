"""Several processes take the step that one takes on the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from tests.training.ranks import run_ranks
from tests.training.tiny import Recorder, tiny_model, tiny_trainer, tiny_windows
from tinylm.checkpoint import load_checkpoint, load_training_state, newest
from tinylm.checkpoint.shards import FOLDER
from tinylm.errors import ConfigError, TrainingError
from tinylm.evaluation.perplexity import split_loss
from tinylm.model.weights import load_weights
from tinylm.training.optimizers import optimizer_tensors
from tinylm.training.processes.buckets import Buckets
from tinylm.training.processes.group import ALONE, Group, Processes, refuse_unshared, telling_lost
from tinylm.training.processes.parts import gathered
from tinylm.training.state import draw_apart

STEPS = 9
SETTINGS: dict[str, Any] = {
    "batch_size": 4,
    "accumulation_steps": 2,
    "max_steps": STEPS,
    "speed": "plain",
    "gradient_clip": 0.5,
    "checkpoint_interval": 0,
}
"""Nine windows: of an epoch's batches of 4, 4 and 1 the last leaves most processes without any."""


class Steps(Recorder):
    """Keeps every step's weights."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.weights: dict[str, Tensor] = {}

    def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
        super().on_step(step, loss, tokens_per_second)
        for name, weight in self.model.named_parameters():
            self.weights[f"{step}/{name}"] = gathered(weight.detach()).clone()


def trained(processes: Processes, folder: Path, settings: dict[str, Any]) -> dict[str, Tensor]:
    """Return every step's weights in float64, its losses, and the loss of what is held out."""
    own = folder / f"rank-{processes.rank}"
    own.mkdir(parents=True)
    windows = tiny_windows(own)
    # Without biases: that of the keys has a gradient of 0, and Adam makes steps of its rounding.
    model = tiny_model(num_layers=2, tie_embeddings=True, bias=False).double()
    steps = Steps(model)
    trainer = tiny_trainer(
        own, model, windows, listener=steps, processes=processes, **SETTINGS | settings
    )
    trainer.run()
    trainer.task.windows = trainer.task.validation = windows
    model.eval()
    shared = trainer.task._shared(model, windows, None).windows
    numbers = {
        "losses": torch.tensor([loss for _, loss in steps.steps], dtype=torch.float64),
        "norms": torch.tensor([log.gradient_norm for log in steps.logs], dtype=torch.float64),
        "tokens": torch.tensor(trainer.tokens),
        "held_out": shared,
    }
    step = trainer.training_step
    for key, value in optimizer_tensors(step.optimizer, step.trained).items():
        numbers[f"optimizer/{key}"] = gathered(value).clone()
    return steps.weights | numbers


def train_rank(group: Group, folder: Path, settings: dict[str, Any]) -> None:
    result = trained(group, folder, settings)
    whole = {name: value.contiguous() for name, value in result.items()}
    safetensors.torch.save_file(whole, folder / f"{group.rank}.safetensors")


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_checkpointing": 1, "speed": "auto"},
        {"shard": "optimizer"},
        {"shard": "parameters"},
    ],
)
def test_they_take_the_step_of_one(tmp_path: Path, size: int, settings: dict[str, Any]) -> None:
    """Weights, moments, norms and losses of every step, with ragged batches and accumulation."""
    expected = trained(ALONE, tmp_path / "alone", settings)
    run_ranks(train_rank, size, tmp_path / "ranks", settings)
    ranks = [
        safetensors.torch.load_file(tmp_path / "ranks" / f"{rank}.safetensors")
        for rank in range(size)
    ]
    divided = settings.get("shard") == "optimizer"
    for rank in ranks:
        for name, value in expected.items():
            if divided and name.startswith("optimizer/") and name not in rank:
                continue
            torch.testing.assert_close(rank[name], value, rtol=1e-12, atol=1e-12, msg=name)
            for other in ranks:
                if name in other:
                    assert torch.equal(rank[name], other[name]), name  # bit for bit
    states = [name for rank in ranks for name in rank if name.startswith("optimizer/")]
    assert set(states) == {name for name in expected if name.startswith("optimizer/")}
    assert len(states) == len(set(states)) * (1 if divided else size)
    assert not (tmp_path / "ranks" / "rank-1" / "checkpoints").exists()  # the first alone writes
    assert (tmp_path / "ranks" / "rank-0" / "checkpoints" / "last").exists()


def test_losses_of_a_hundred_steps(tmp_path: Path) -> None:
    settings = {"max_steps": 100, "log_interval": 1}
    expected = trained(ALONE, tmp_path / "alone", settings)
    run_ranks(train_rank, 2, tmp_path / "ranks", settings)
    result = safetensors.torch.load_file(tmp_path / "ranks" / "0.safetensors")
    torch.testing.assert_close(result["losses"], expected["losses"], rtol=1e-9, atol=0)
    assert len(result["norms"]) == 100
    torch.testing.assert_close(result["norms"], expected["norms"], rtol=1e-9, atol=0)
    assert result["losses"][-1] < 0.7 * result["losses"][0]


def test_held_out_windows_are_shared_out(tmp_path: Path) -> None:
    windows, model = tiny_windows(tmp_path), tiny_model().double().eval()
    whole = split_loss(model, windows, 4).windows
    run_ranks(measure_rank, 2, tmp_path / "ranks")
    for rank in range(2):
        shared = safetensors.torch.load_file(tmp_path / "ranks" / f"{rank}.safetensors")
        torch.testing.assert_close(shared["all"], whole, rtol=1e-12, atol=0)
        assert torch.equal(shared["one"], shared["all"][:1])


def measure_rank(group: Group, folder: Path) -> None:
    own = folder / f"rank-{group.rank}"
    own.mkdir()
    windows, model = tiny_windows(own), tiny_model().double().eval()
    task = tiny_trainer(own, model, windows, processes=group).task
    result = {
        "all": task._shared(model, windows, None).windows,
        "one": task._shared(model, windows, [0]).windows,  # of which the second measures none
    }
    safetensors.torch.save_file(result, folder / f"{group.rank}.safetensors")


class Branches(nn.Module):
    """Some parameters of different sizes, of which not all get a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.both = nn.Parameter(torch.arange(6.0, dtype=torch.float64).view(2, 3).T)
        self.first = nn.Parameter(torch.ones(5, dtype=torch.float64))
        self.never = nn.Parameter(torch.ones(2, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(2, dtype=torch.float64), requires_grad=False)
        self.single = nn.Parameter(torch.ones(3))


def branch_rank(group: Group, folder: Path, bucket_bytes: int) -> None:
    module = Branches()
    buckets = Buckets(module.parameters(), telling_lost, bucket_bytes)
    for _ in range(2):  # twice, so that nothing is left of the first
        for parameter in module.parameters():
            parameter.grad = None
        passes = 0 if group.rank == 2 else 2
        buckets.begin(passes)
        for number in range(passes):
            loss = ((group.rank + 1) * (number + 1) * module.both).sum()
            if group.rank == 0:
                loss = loss + (3 * module.first).sum() + module.single.sum().double()
            loss.backward()
        buckets.finish()
    assert module.both.grad is not None and module.first.grad is not None
    assert torch.equal(module.both.grad, torch.full_like(module.both, (1 + 2) * (1 + 2)))
    assert torch.equal(module.first.grad, torch.full_like(module.first, 6))
    assert module.single.grad is not None and module.single.grad.dtype == torch.float32
    assert torch.equal(module.single.grad, torch.full_like(module.single, 2))
    assert module.never.grad is None and module.frozen.grad is None
    # A gradient more than was said would be lost.
    buckets.begin(1)
    (module.both.sum() + 0 * module.first.sum() + 0 * module.single.sum().double()).backward()
    with pytest.raises(TrainingError, match="got 2 gradients in 1 backward passes"):
        module.both.sum().backward()
    buckets.finish()
    # Numbers and rows.
    assert group.sum(group.rank + 0.1) == pytest.approx(3.3, abs=1e-15)
    assert group.most(-group.rank) == 0
    rows = torch.full((group.rank, 2), group.rank, dtype=torch.uint8)
    assert group.joined(rows).tolist() == [[1, 1], [2, 2], [2, 2]]
    value = torch.full((3, 2), float(group.rank)).T
    group.agree([value])
    assert not value.any()


@pytest.mark.parametrize("bucket_bytes", [1, 100, 1 << 20])
def test_gradients_are_added_up(tmp_path: Path, bucket_bytes: int) -> None:
    """Whatever fits into a bucket; of processes without rows, and parameters without gradient."""
    run_ranks(branch_rank, 3, tmp_path, bucket_bytes)


def test_what_cannot_be_shared_out_is_refused() -> None:
    group = object.__new__(Group)
    group.rank, group.size = 0, 4
    with pytest.raises(ConfigError, match=r"training\.batch_size = 6 .* 4 processes .* such as 4"):
        refuse_unshared(6, 100, group)
    with pytest.raises(ConfigError, match=r"batch_size = 3 .* such as 4"):
        refuse_unshared(3, 100, group)
    with pytest.raises(ConfigError, match=r"there are 3 windows .* and 4 processes"):
        refuse_unshared(8, 3, group)
    refuse_unshared(8, 4, group)
    refuse_unshared(3, 1, ALONE)


def test_every_process_drops_others() -> None:
    drawn = []
    for rank in range(3):
        torch.manual_seed(0)
        group = object.__new__(Group)
        group.rank, group.size = rank, 3
        draw_apart(group, 7, 1)
        drawn.append(torch.rand(4))
    torch.manual_seed(0)
    assert torch.equal(drawn[0], torch.rand(4))
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def resumed_rank(group: Group, folder: Path, shard: str) -> None:
    """Train six steps at once, and three and three; end with the same bits."""
    ends = []
    for name, steps in (("whole", 6), ("half", 3), ("rest", 6)):
        own = folder / f"{name}-{group.rank}"
        own.mkdir()
        model = tiny_model(num_layers=2, dropout=0.2)
        state = None
        if name == "rest":
            path = newest(folder / "half-0" / "checkpoints")
            assert path is not None and (path / FOLDER).is_dir()
            load_weights(model, load_checkpoint(path).weights, path)
            state = load_training_state(path)
        trainer = tiny_trainer(
            own, model, processes=group, **SETTINGS | {"max_steps": steps, "shard": shard}
        )
        if state is not None:
            trainer.restore(state)
        trainer.run()
        ends.append(
            {name: gathered(each.detach()).clone() for name, each in model.named_parameters()}
        )
    whole, half, rest = ends
    assert all(torch.equal(whole[name], rest[name]) for name in whole)
    assert not all(torch.equal(whole[name], half[name]) for name in whole)
    # One process goes on from what several have divided.
    if group.rank == 0:
        path = newest(folder / "half-0" / "checkpoints")
        assert path is not None
        alone = tiny_model(num_layers=2, dropout=0.2)
        load_weights(alone, load_checkpoint(path).weights, path)
        (folder / "alone").mkdir()
        trainer = tiny_trainer(folder / "alone", alone, **SETTINGS | {"max_steps": 6})
        trainer.restore(load_training_state(path))
        trainer.run()
        for name, each in alone.named_parameters():
            assert (each - rest[name]).abs().max() < 0.05, name  # other dropout


@pytest.mark.parametrize("shard", ["nothing", "optimizer", "parameters"])
def test_a_training_that_is_divided_is_resumed_to_the_bit(tmp_path: Path, shard: str) -> None:
    run_ranks(resumed_rank, 2, tmp_path, shard)
