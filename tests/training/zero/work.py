"""What the ranks of the tests do; a function here is called in processes of its own."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.data.windows import IGNORED, Batch
from tinylm.model.base import GenerativeModel, build
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.accumulation import accumulate_gradients
from tinylm.training.optimizers import clip_gradients
from tinylm.training.zero import STAGES, Settings, Stage
from tinylm.training.zero.collectives import Collectives, total
from tinylm.training.zero.memory import bytes_held

STEPS = 3
CONTEXT, VOCABULARY = 8, 23
RATE = 1e-3


@dataclass(frozen=True)
class Case:
    """A model and how it is trained."""

    micro_batches: int = 1
    largest_norm: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    """Beginnings of the names of parameters that are not trained."""

    def settings(self, bf16: bool = False) -> Settings:
        return Settings(learning_rate=RATE, largest_norm=self.largest_norm, bf16=bf16)


CASES = {
    "plain": Case(),
    "accumulated": Case(micro_batches=3),
    "clipped": Case(micro_batches=2, largest_norm=1.35),
    "tied": Case(micro_batches=2, model={"tie_embeddings": True, "positions": "learned"}),
    "post-norm, alibi": Case(model={"norm_placement": "post", "positions": "alibi"}),
    # No gradient comes to the beginning of the first layer, and the last one has only some.
    "frozen": Case(
        2, frozen=("embedding", "layers.0.attention", "layers.1.feed_forward", "unembedding")
    ),
    "a frozen layer": Case(frozen=("embedding", "layers.0")),
    "recurrent": Case(model={"kind": "lstm"}),
}
"""Sizes divide neither by 2 nor by 4."""


def model_of(case: Case, dtype: torch.dtype = torch.float64) -> GenerativeModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "context_length": CONTEXT, "hidden_size": 14}
    layers = {"num_layers": 2, "num_heads": 2, "dropout": 0.0, "norm_placement": "pre"}
    model = build(ModelConfig(**{**sizes, **layers, **case.model})).to(dtype)
    for name, parameter in model.named_parameters():
        if "bias" in name:  # 0 at the start, which would hide one that was forgotten
            nn.init.normal_(parameter, std=0.1)
        parameter.requires_grad_(not name.startswith(case.frozen) if case.frozen else True)
    return model


def rows(step: int, micro_batch: int, rank: int) -> Batch:
    """Two rows of random tokens; how many of them are targets differs much."""
    generator = torch.Generator().manual_seed(10_000 * step + 100 * micro_batch + rank)
    ids, labels = torch.randint(4, VOCABULARY, (2, 2, CONTEXT), generator=generator)
    for row in range(2):
        labels[row, int(torch.randint(0, CONTEXT, (), generator=generator)) :] = IGNORED
    if rank == 1 and micro_batch == (step % 2):  # a rank without any target
        labels[:] = IGNORED
    return Batch(ids, labels)


def batches(case: Case, step: int, ranks: Sequence[int]) -> list[Batch]:
    """The micro-batches of these ranks, of which one process takes all rows together."""
    parts = [[rows(step, k, rank) for rank in ranks] for k in range(case.micro_batches)]
    return [
        Batch(torch.cat([each.ids for each in part]), torch.cat([each.labels for each in part]))
        for part in parts
    ]


@dataclass
class Reference:
    """One process with the rows of all ranks, by torch's own Adam."""

    losses: list[float]
    norms: list[float]
    states: list[dict[str, dict[str, Tensor]]]
    """A step: parameters and both moments, by name."""


def one_process(case: Case, ranks: int) -> Reference:
    model = model_of(case)
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    adam = torch.optim.Adam(trained.values(), lr=RATE)
    reference = Reference([], [], [])
    for step in range(STEPS):
        adam.zero_grad()
        loss, _ = accumulate_gradients(
            lambda batch: next_token_loss(model, batch), batches(case, step, range(ranks))
        )
        reference.losses.append(loss)
        reference.norms.append(clip_gradients(trained.values(), case.largest_norm))
        adam.step()
        reference.states.append(
            {
                "parameters": {n: p.detach().clone() for n, p in trained.items()},
                **{
                    key: {n: adam.state[p][key].clone() for n, p in trained.items()}
                    for key in ("exp_avg", "exp_avg_sq")
                },
            }
        )
    return reference


def largest(some: dict[str, Tensor], others: dict[str, Tensor]) -> float:
    assert some.keys() == others.keys()
    return max(float((some[name] - others[name]).abs().max()) for name in others)


def trained_by(
    kind: type[Stage[Any]],
    case: Case,
    collectives: Collectives,
    bf16: bool = False,
    after: Callable[[int, Stage[Any], Any], None] = lambda step, stage, summed: None,
) -> Stage[Any]:
    model = model_of(case, torch.float32 if bf16 else torch.float64)
    stage = kind(model, next_token_loss, collectives, case.settings(bf16))
    for step in range(STEPS):
        collectives.take()
        summed = stage.backward(batches(case, step, [collectives.rank]))
        stage.update()
        after(step, stage, summed)
    return stage


def compared(case: Case, collectives: Collectives) -> dict[str, Any]:
    """Every stage beside one process, after every step, and beside each other."""
    reference = one_process(case, collectives.ranks)
    said: dict[str, Any] = {}
    ended: list[dict[str, Tensor]] = []
    for kind in STAGES:
        differences: dict[str, list[float]] = {}
        sent: list[Any] = []

        def after(
            step: int, stage: Stage[Any], summed: Any, into: Any = differences, sent: Any = sent
        ) -> None:
            sent[:] = [each for each in collectives.take() if each.purpose != "loss and norm"]
            into.setdefault("loss", []).append(abs(summed.loss - reference.losses[step]))
            into.setdefault("norm", []).append(abs(summed.norm - reference.norms[step]))
            for what, tensors in reference.states[step].items():
                into.setdefault(what, []).append(largest(stage.whole(what), tensors))

        stage = trained_by(kind, case, collectives, after=after)
        ended.append(stage.whole())
        said[str(kind.number)] = {
            "differences": differences,
            "equal": [
                all(torch.equal(ended[-1][name], other[name]) for name in other)
                for other in ended[:-1]
            ],
            "numbers": float(total(sent)[0]),
            "calls": {f"{each.kind} {each.purpose}": each.calls for each in sent},
            "sizes": [[b.numbers, b.padding, b.trained] for b in stage.buckets],
        }
    return said


def measured(case: Case, collectives: Collectives, bf16: bool) -> dict[str, Any]:
    """What each stage holds in its last step, by itself and by all tensors that are alive."""
    said: dict[str, Any] = {}
    for kind in STAGES:
        gc.collect()
        gc.freeze()  # what is there is not looked at again
        before = {id(storage) for storage in _storages()}
        stage = trained_by(kind, case, collectives, bf16)
        collectives.take()
        stage.backward(batches(case, STEPS, [collectives.rank]))
        buffers = {each.untyped_storage()._cdata for each in stage.model.buffers()}
        now = sum(bytes_held(stage.parts()).values())
        for _ in range(50):
            gc.collect()
            alive = sum(
                storage.nbytes()
                for storage in _storages()
                if id(storage) not in before and storage._cdata not in buffers
            )
            if alive == now:
                break
            time.sleep(0.1)  # gloo's threads let go of what was sent a little later
        stage.update()
        sent = [each for each in collectives.take() if each.purpose != "loss and norm"]
        said[str(kind.number)] = {
            "held": stage.meter.after_backward,
            "most": stage.meter.most,
            "alive": alive,
            "now": now,
            "bytes": float(total(sent)[1]),
            "sizes": [[b.numbers, b.size, b.layer is not None, b.trained] for b in stage.buckets],
            "left": [p.numel() for p in stage.model.parameters()],
            "rounded": _rounded(stage) if bf16 and kind.number < 3 else True,
        }
    return said


def _rounded(stage: Stage[Any]) -> bool:
    """Whether what is computed with is what the optimizer has, rounded."""
    own = dict(stage.model.named_parameters())
    return all(torch.equal(own[name], each.bfloat16()) for name, each in stage.whole().items())


_KEPT: dict[int, torch.UntypedStorage] = {}


def _storages() -> list[torch.UntypedStorage]:
    """Return every storage of a tensor that Python knows, once; the same object each time."""
    found: dict[int, torch.UntypedStorage] = {}
    for each in gc.get_objects():
        if issubclass(type(each), Tensor) and each.layout == torch.strided:
            storage = each.untyped_storage()
            found[storage._cdata] = _KEPT.setdefault(storage._cdata, storage)
    for gone in _KEPT.keys() - found.keys():
        del _KEPT[gone]
    return list(found.values())


def beside_torch(case: Case, collectives: Collectives) -> dict[str, Any]:
    """Our stages beside torch's own: ZeroRedundancyOptimizer, and ``fully_shard``."""
    theirs = {"ZeroRedundancyOptimizer": _zero_redundancy(case, collectives.rank),
              "fully_shard": _fully_shard(case, collectives)}  # fmt: skip
    said: dict[str, Any] = {}
    for kind in STAGES:
        ours = trained_by(kind, case, collectives).whole()
        said[str(kind.number)] = {name: largest(ours, each) for name, each in theirs.items()}
    return said


def _targets_of_all(parts: Sequence[Batch]) -> int:
    number = torch.tensor(sum(batch.num_targets for batch in parts))
    dist.all_reduce(number)
    return int(number)


def _zero_redundancy(case: Case, rank: int) -> dict[str, Tensor]:
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = model_of(case)
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=RATE)
    for step in range(STEPS):
        parts = batches(case, step, [rank])
        targets = _targets_of_all(parts)
        for batch in parts:
            (next_token_loss(model, batch)[0] / targets).backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
        optimizer.step()
        optimizer.zero_grad()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _fully_shard(case: Case, collectives: Collectives) -> dict[str, Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = model_of(case)
    mesh = init_device_mesh("cpu", (collectives.ranks,))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    adam = torch.optim.Adam(model.parameters(), lr=RATE)
    for step in range(STEPS):
        parts = batches(case, step, [collectives.rank])
        targets = _targets_of_all(parts)
        for batch in parts:
            logits = model(batch.ids)
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
            # It averages gradients over the ranks.
            (loss * collectives.ranks / targets).backward()
        adam.step()
        adam.zero_grad()
    return {name: parameter.full_tensor() for name, parameter in model.named_parameters()}


def everything(collectives: Collectives, torchs_own: bool) -> dict[str, Any]:
    """All that several ranks are tested by, in one start."""
    said: dict[str, Any] = {
        "compared": {name: compared(case, collectives) for name, case in CASES.items()},
        "measured": {
            f"{name}, {form}": measured(CASES[name], collectives, form == "bf16")
            for name in ("accumulated", "frozen")
            for form in ("bf16", "fp64")
        },
    }
    if torchs_own:
        said["torch"] = {
            name: beside_torch(CASES[name], collectives) for name in ("plain", "accumulated")
        }
    return said


def no_targets(collectives: Collectives) -> dict[str, Any]:
    """A step in which no rank has a target changes nothing."""
    case = CASES["plain"]
    empty = Batch(torch.full((1, 4), 5), torch.full((1, 4), IGNORED))
    said = {}
    for kind in STAGES:
        stage = kind(model_of(case), next_token_loss, collectives, case.settings())
        before = stage.masters[stage.trained[0]].clone()
        summed = stage.backward([empty])
        stage.update()
        same = torch.equal(before, stage.masters[stage.trained[0]])
        said[str(kind.number)] = {**asdict(summed), "same": same, "states": len(stage.adam.state)}
    return said


def unequal(collectives: Collectives) -> None:
    """One rank has two micro-batches."""
    case = CASES["plain"]
    stage = STAGES[2](model_of(case), next_token_loss, collectives, case.settings())
    stage.backward([rows(0, k, collectives.rank) for k in range(1 + (collectives.rank == 1))])


def fail(collectives: Collectives, folder: str, how: str) -> None:
    """Rank 1 fails while the others wait for it."""
    (Path(folder) / f"pid-{collectives.rank}").write_text(str(os.getpid()))
    if collectives.rank == 1:
        if how == "raises":
            raise ValueError("of no use,\nin two lines")
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exits":
            os._exit(3)
    if how == "sleeps":
        time.sleep(600)
    collectives.all_reduce(torch.zeros(4), "nothing")


def ranks_and_noise(collectives: Collectives, factor: int) -> list[int]:
    """Say who one is; print what must not be seen."""
    print("noise")
    os.write(2, b"more noise\n")
    return [collectives.rank, collectives.ranks, factor * torch.get_num_threads()]
