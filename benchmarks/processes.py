"""A training step of 1, 2 and 4 processes on gloo, measured beside what `tinylm plan cluster` says.

Every process trains the same number of windows, so that n processes do n times the work of one, on
the cores that there are. In each round all of these take turns: a step of n processes (gradients
added up by an all-reduce, then clipping and Adam), the same without the all-reduce, and all-reduces
of several sizes. The prediction takes from the same rounds the step of one process alone, and the
all-reduces of two, no more; processes beyond the cores share them
(`tinylm.planning.cluster.measured`).

In the same rounds: the step of `tinylm train --processes`, whose gradients are added up in buckets
while the backward pass goes on, beside the same step in torch's `DistributedDataParallel`.

Two clocks: rank 0's, and processor time, where other programs disturb the first. Of processor time
a step takes the most that a process uses, or what all of them use by the cores, whichever is more:
what it would take if the machine had nothing else to do and no process waited for a message.

    python benchmarks/processes.py [--rounds 7] [--windows 32] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from tables import hardware_line

from tinylm.config import ModelConfig
from tinylm.measurement import MOST, Measurement
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.measured import fit_links, processes
from tinylm.planning.cluster.shapes import Shape
from tinylm.planning.cluster.step import Step

NUMBERS = (1, 2, 4)
SIZES = (2**12, 2**18, 2**22, 2**25)
"""Bytes of the all-reduces from which the links follow."""
MODEL = ModelConfig(vocab_size=10_000, hidden_size=300, num_heads=8, num_layers=3)
CLOCKS = ("rank 0's clock", "processor time")
_LIMIT = 300.0  # seconds that a process may wait for others


def work(rank: int, number: int, windows: int, store: str) -> None:
    """Be a process: do what each line of standard input says, and print the seconds.

    ``step N`` and ``alone N`` take so many steps, with and without adding up gradients; ``buckets
    N`` and ``ddp N`` steps with gradients added up meanwhile, by us and by torch; ``reduce BYTES
    N`` so many all-reduces.
    """
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=number,
        timeout=timedelta(seconds=_LIMIT),
    )  # fmt: skip
    steps = steps_of(rank, windows)
    arrays = {size: torch.ones(size // 4) for size in SIZES}

    def run(words: list[str]) -> None:
        kind, *numbers = words
        for _ in range(int(numbers[-1])):
            if kind == "reduce":
                dist.all_reduce(arrays[int(numbers[0])])
            else:
                steps[kind]()

    for line in sys.stdin:
        dist.barrier()
        started, used = time.perf_counter(), time.process_time()
        run(line.split())
        used = time.process_time() - used
        print(time.perf_counter() - started, used, flush=True)
    dist.destroy_process_group()


def steps_of(rank: int, windows: int) -> dict[str, Callable[[], None]]:
    """Return the training steps by the name of their request, each of a model of its own.

    That of ``step`` adds up all gradients in one flat array after the backward pass.
    """
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from tinylm.config import TrainingConfig
    from tinylm.data.windows import Batch
    from tinylm.model.decoder import DecoderLM
    from tinylm.tasks.language_modelling import next_token_loss
    from tinylm.training.optimizers import clip_gradients
    from tinylm.training.processes.group import ALONE, Group, Processes
    from tinylm.training.step import TrainingStep

    settings = TrainingConfig(precision="fp32", threads=1, batch_size=windows)

    def training(processes: Processes = ALONE) -> TrainingStep[DecoderLM]:
        torch.manual_seed(0)
        return TrainingStep(DecoderLM(MODEL), next_token_loss, settings, processes=processes)

    generator = torch.Generator().manual_seed(rank)
    ids = torch.randint(
        4, MODEL.resolved_vocab_size, (windows, MODEL.context_length + 1), generator=generator
    )
    batch = Batch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous())

    single, bucketed, wrapped = training(), training(Group()), training()

    class Loss(torch.nn.Module):
        """The loss as the forward pass of a module, which is what torch's wrapper wraps."""

        def __init__(self) -> None:
            super().__init__()
            self.model = wrapped.model

        def forward(self, batch: Batch) -> torch.Tensor:
            return wrapped.loss(batch)[0] / batch.num_targets

    peer = DistributedDataParallel(Loss())

    def step(reduced: bool) -> None:
        single.backward([batch])
        if reduced:
            exchange()
        single.update()

    def buckets() -> None:
        bucketed.backward([batch])
        bucketed.update()

    def ddp() -> None:
        wrapped.model.train()
        wrapped.optimizer.zero_grad(set_to_none=True)
        peer(batch).backward()
        clip_gradients(wrapped.model.parameters(), settings.gradient_clip)
        wrapped.update()

    def exchange() -> None:
        gradients = [p.grad for p in single.model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        place = 0
        for gradient in gradients:
            gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
            gradient.div_(dist.get_world_size())
            place += gradient.numel()

    return {
        "step": lambda: step(True),
        "alone": lambda: step(False),
        "buckets": buckets,
        "ddp": ddp,
    }


class Workers:
    """Processes that work together on request; between requests they wait."""

    def __init__(self, number: int, windows: int, folder: Path) -> None:
        store = folder / f"store-{number}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.number, self.cores = number, len(os.sched_getaffinity(0))
        self.processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--work", str(rank), str(number), str(windows),
                 str(store)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )
            for rank in range(number)
        ]  # fmt: skip

    def run(self, request: str) -> dict[str, float]:
        """Return the seconds of a request, by clock."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(f"{request}\n")
            process.stdin.flush()
        seconds, used = [], []
        for process in self.processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"one of {self.number} processes ended: see its message above")
            clock, processor = line.split()
            seconds.append(float(clock))
            used.append(float(processor))
        return {CLOCKS[0]: seconds[0], CLOCKS[1]: max(*used, sum(used) / self.cores)}

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.kill()
            process.wait()


def requests(steps: Mapping[int, int]) -> Iterator[tuple[str, int, str, int]]:
    """Yield what is measured: its name, how many processes, the request and its repetitions."""
    for number in NUMBERS:
        for kind in ("step", "alone", *(("buckets", "ddp") if number > 1 else ())):
            yield f"{kind} {number}", number, f"{kind} {steps[number]}", steps[number]
        for size in SIZES if number > 1 else ():
            times = max(1, min(50, 2**25 // size))
            yield f"reduce {number} {size}", number, f"reduce {size} {times}", times


def measure(groups: Mapping[int, Workers], rounds: int) -> dict[str, dict[str, Measurement]]:
    """Return by each clock the seconds of each request, in rounds in which all take turns."""
    steps = {}
    for number, group in groups.items():
        group.run("step 2")
        group.run("alone 1")
        steps[number] = max(1, round(1.0 / group.run("step 1")[CLOCKS[0]]))
    asked = list(requests(steps))
    times: dict[str, dict[str, list[float]]] = {
        clock: {name: [] for name, *_ in asked} for clock in CLOCKS
    }

    def disturbed() -> bool:
        return any(Measurement.of(each).disturbed for each in times[CLOCKS[0]].values())

    done = 0
    while done < rounds or (done < MOST * rounds and disturbed()):
        shift = done % len(asked)
        for name, number, request, repeated in asked[shift:] + asked[:shift]:
            for clock, seconds in groups[number].run(request).items():
                times[clock][name].append(seconds / repeated)
        done += 1
    return {
        clock: {name: Measurement.of(each) for name, each in by_name.items()}
        for clock, by_name in times.items()
    }


def predicted(
    seconds: Mapping[str, float], windows: int, cores: int
) -> dict[int, dict[str, float]]:
    """Return the planned seconds of a step for each number of processes, by part and together.

    Args:
        seconds: of the requests; of them the step of one process and all-reduces of two count.
        windows: of a process.
        cores: of the machine.
    """
    shape = Shape.of(MODEL)
    links = fit_links(2, {float(size): seconds[f"reduce 2 {size}"] for size in SIZES})

    def step(number: int, rate: float) -> dict[str, float]:
        machine = processes(number, cores, rate, links, fitted=2)
        layout = Layout(
            number, number, micro_batch=windows, batch=windows * number, overlap=0.0,
            number_bytes=4, gradient_bytes=4, state_bytes=8, flash=False,
        )  # fmt: skip
        time = Step(shape, layout, machine.card, machine.links).time()
        return {"computing": time.total - time.data, "adding up": time.data}

    flops = step(1, 1.0)["computing"]
    rate = flops / seconds["step 1"]
    plans = {number: step(number, rate) for number in NUMBERS}
    return {number: {**parts, "together": sum(parts.values())} for number, parts in plans.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--windows", type=int, default=32, help="of each process")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        rank, number, windows, store = arguments.work
        work(int(rank), int(number), int(windows), store)
        return
    cores = len(os.sched_getaffinity(0))
    print(f"{hardware_line()}, {arguments.windows} windows a process, a thread each")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        groups = {}
        for number in NUMBERS:
            groups[number] = Workers(number, arguments.windows, folder)
            stack.callback(groups[number].close)
        times = measure(groups, arguments.rounds)
    for clock, measured in times.items():
        print(f"\nBy {clock}")
        report(measured, arguments.windows, cores)
    if arguments.json:
        result = {
            clock: {name: each.as_result() for name, each in by_name.items()}
            for clock, by_name in times.items()
        }
        written = {"hardware": hardware_line(), "windows": arguments.windows, "times": result}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def report(times: Mapping[str, Measurement], windows: int, cores: int) -> None:
    """Print predicted beside measured, by the medians of the rounds and by the best of each."""
    for number in NUMBERS[1:]:
        links = fit_links(
            number, {float(size): times[f"reduce {number} {size}"].median for size in SIZES}
        )
        print(
            f"all-reduce of {number} processes: {links.latency_within * 1e6:.0f} us a message, "
            f"{links.within / 1e9:.2f} GB/s"
        )
    for number in NUMBERS[1:]:
        ours, theirs = times[f"buckets {number}"], times[f"ddp {number}"]
        ratios = sorted(b / a for a, b in zip(ours.rounds, theirs.rounds, strict=True))
        print(
            f"{number} processes, ms a step: buckets {1000 * ours.median:.1f}, "
            f"DistributedDataParallel {1000 * theirs.median:.1f}; round by round theirs / ours "
            f"{ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    views = {
        "medians": {name: each.median for name, each in times.items()},
        "least of the rounds": {name: min(each.rounds) for name, each in times.items()},
    }
    for view, seconds in views.items():
        plans = predicted(seconds, windows, cores)
        print(f"{view}, ms a step")
        heads = ("processes", "without", "measured", "spread", "predicted", "computing",
                 "adding up", "error")  # fmt: skip
        print("".join(f"{head:>11}" for head in heads))
        for number, plan in plans.items():
            step, alone = seconds[f"step {number}"], seconds[f"alone {number}"]
            spread = f"{times[f'step {number}'].spread:>11.0%}"
            cells = (plan["together"], plan["computing"], plan["adding up"])
            row = f"{1000 * alone:>11.1f}{1000 * step:>11.1f}{spread}"
            row += "".join(f"{1000 * cell:>11.1f}" for cell in cells)
            print(f"{number:>11}{row}{plan['together'] / step - 1:>+11.0%}")
    rounds = len(next(iter(times.values())).rounds)
    print(f"({rounds} rounds in which all took turns; without: the same without adding up)")
    disturbed = [f"{name} {each.spread:.0%}" for name, each in times.items() if each.disturbed]
    if disturbed:
        print(f"disturbed, though repeated (spread): {', '.join(disturbed)}")


if __name__ == "__main__":
    main()
