"""A run that is killed and resumed ends bit for bit like one that was never stopped."""

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.processes import TINYLM, Process, Processes
from tests.training.tiny import (
    metrics_without_clock,
    state_without_clock,
    step_names,
    tiny_run,
    write_config,
)
from tinylm.checkpoint import load_checkpoint, load_training_state, newest
from tinylm.errors import ConfigError, DataError
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.training.measure import StoppedBySignalError

LAST = 120
SETTINGS = (
    f"training.max_steps={LAST}",
    "training.accumulation_steps=2",
    "training.validations=4",
    "training.checkpoint_interval=7",
    "training.log_interval=2",
    "training.schedule=cosine",
    "training.warmup_steps=10",
    "training.learning_rate=1e-2",
    "model.dropout=0.2",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run that nothing stopped; the others must end as it did."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    before = torch.get_num_threads()
    run_experiment("training", tiny_run(folder, cache, *SETTINGS))
    torch.set_num_threads(before)
    return folder


def check_same_end(run: Path, expected: Path, last: int = LAST) -> None:
    """Compare weights, optimizer and random state, position, metrics and links."""
    left, right = run / f"checkpoints/step-{last}", expected / f"checkpoints/step-{last}"
    for name in ("model.safetensors", "training.safetensors", "config.json", "tokenizer.json"):
        assert (left / name).read_bytes() == (right / name).read_bytes(), name
    assert state_without_clock(left) == state_without_clock(right)
    assert metrics_without_clock(run) == metrics_without_clock(expected)
    for name in ("best", "last"):
        link, twin = run / "checkpoints" / name, expected / "checkpoints" / name
        assert link.readlink() == twin.readlink()
        assert (link / "model.safetensors").read_bytes() == (
            twin / "model.safetensors"
        ).read_bytes()
    assert step_names(run / "checkpoints") == step_names(expected / "checkpoints")


def saved_step(run: Path) -> int:
    steps = [path.name[5:] for path in (run / "checkpoints").glob("step-*")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def logged_step(run: Path) -> int:
    try:
        lines = (run / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return 0
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def half_written(run: Path) -> set[tuple[str, int]]:
    """Checkpoints that are being written, or that a killed process left so."""
    files = set()
    for path in (run / "checkpoints").glob(".step-*.tmp"):
        try:
            files.add((path.name, path.stat().st_ino))
        except FileNotFoundError:  # renamed since
            continue
    return files


def is_between(run: Path) -> bool:
    """Whether steps were logged that the newest checkpoint does not hold."""
    return saved_step(run) > 0 and logged_step(run) > saved_step(run) + 1


def after(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def start(processes: Processes, folder: Path, cache: Path, *settings: str) -> Process:
    config = write_config(folder / "run.yaml", cache, *settings)
    return processes.start(["train", "--config", str(config)], folder)


def resume(processes: Processes, folder: Path, *arguments: str) -> Process:
    return processes.start(["train", "--resume", "runs/run", *arguments], folder)


# --- killed ---


def test_killed_again_and_again(
    tmp_path: Path, cache: Path, processes: Processes, uninterrupted: Path
) -> None:
    """SIGKILL at random moments, while a checkpoint is written, and between two checkpoints."""
    chance = random.Random()
    run = tmp_path / "runs/run"
    process = start(processes, tmp_path, cache, *SETTINGS)
    kills = {"writing": 0, "between": 0, "random": 0}
    while True:
        wanted = min(kills, key=lambda kind: kills[kind])
        begun, left = saved_step(run), half_written(run)
        if wanted == "random":
            killed = process.kill_when(after(chance.uniform(0.0, 0.4)))
        elif wanted == "writing":
            killed = process.kill_when(lambda left=left: bool(half_written(run) - left))
        else:
            killed = process.kill_when(
                lambda begun=begun: saved_step(run) > begun and is_between(run)
            )
        if not killed:
            assert process.wait() == 0, process.errors()
            break
        hits = {
            "random": True,
            "writing": bool(half_written(run) - left),
            "between": is_between(run),
        }
        kills[wanted] += hits[wanted]
        if not (run / "config.yaml").exists():
            process = start(processes, tmp_path, cache, *SETTINGS)
            continue
        process = resume(processes, tmp_path)
        if sum(kills.values()) >= 9:
            assert process.wait() == 0, process.errors()
            break
    assert kills["writing"] >= 1, kills
    assert kills["between"] >= 1, kills
    assert kills["random"] >= 1, kills
    check_same_end(run, uninterrupted)
    assert (run / "results/training.json").exists()


def test_the_installed_command_killed_at_random(
    tmp_path: Path, cache: Path, uninterrupted: Path
) -> None:
    config = write_config(tmp_path / "run.yaml", cache, *SETTINGS)
    run = tmp_path / "runs/run"
    command = [TINYLM, "train", "--config", config]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        while saved_step(run) == 0 and process.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.3))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    command = [TINYLM, "train", "--resume", "runs/run"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "runs/run\n"
    assert "best validation perplexity" in done.stderr
    check_same_end(run, uninterrupted)


def test_killed_before_the_first_checkpoint(
    tmp_path: Path, cache: Path, processes: Processes, uninterrupted: Path
) -> None:
    run = tmp_path / "runs/run"
    settings = (*SETTINGS, "training.checkpoint_interval=0")
    assert start(processes, tmp_path, cache, *settings).kill_when(lambda: logged_step(run) > 1)
    assert saved_step(run) == 0
    process = resume(processes, tmp_path, "-o", "training.checkpoint_interval=7")
    assert process.wait() == 0, process.errors()
    check_same_end(run, uninterrupted)


def test_killed_after_the_end_of_training(
    tmp_path: Path, cache: Path, processes: Processes, uninterrupted: Path
) -> None:
    """The last checkpoint is whole, and the result was not written any more."""
    shutil.copytree(uninterrupted, tmp_path / "runs/run", symlinks=True)
    (tmp_path / "runs/run/results/training.json").unlink()
    process = resume(processes, tmp_path)
    assert process.wait() == 0, process.errors()
    check_same_end(tmp_path / "runs/run", uninterrupted)


# --- asked to stop ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_say_how_to_go_on(
    tmp_path: Path, cache: Path, processes: Processes, uninterrupted: Path, number: signal.Signals
) -> None:
    run = tmp_path / "runs/run"
    settings = (*SETTINGS, "training.checkpoint_interval=0")
    process = start(processes, tmp_path, cache, *settings)
    while logged_step(run) < 5:
        assert not process.is_over(), process.errors()
    status = process.kill(number)
    step = saved_step(run)
    assert status == 128 + number
    assert process.errors().endswith(
        f"tinylm: stopped by {number.name} after step {step}, saved; "
        "go on: tinylm train --resume runs/run\n"
    )
    assert 5 <= step < LAST
    assert not (run / "results/training.json").exists()
    assert (run / "checkpoints/last").readlink() == Path(f"step-{step}")
    process = resume(processes, tmp_path, "-o", "training.checkpoint_interval=7")
    assert process.wait() == 0, process.errors()
    check_same_end(run, uninterrupted)


def test_a_signal_in_the_last_step_loses_nothing(tmp_path: Path, cache: Path) -> None:
    contexts = [tiny_run(tmp_path / name, cache) for name in ("steady", "stopped")]
    run_experiment("training", contexts[0])
    with pytest.raises(StoppedBySignalError):
        run_experiment("training", Context(contexts[1].folder, contexts[1].config, Raising(12)))
    run_experiment("training", contexts[1])
    check_same_end(contexts[1].folder, contexts[0].folder, last=12)


class Raising(SilentConsole):
    """Raises SIGTERM in this process when a step is done."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def training(self):  # type: ignore[no-untyped-def]
        manager = super().training()

        def on_step(step: int, loss: float, tokens_per_second: float) -> None:
            if step == self.step:
                signal.raise_signal(signal.SIGTERM)

        manager.enter_result.on_step = on_step
        return manager


def test_handlers_are_put_back(tmp_path: Path, cache: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run_experiment("training", tiny_run(tmp_path / "a", cache, "training.max_steps=2"))
    with pytest.raises(StoppedBySignalError):
        context = tiny_run(tmp_path / "b", cache)
        run_experiment("training", Context(context.folder, context.config, Raising(3)))
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


# --- stopped early ---


def test_an_early_stop_that_died_before_its_result_is_still_a_stop(
    tmp_path: Path, cache: Path
) -> None:
    settings = (
        "training.early_stop_patience=2",
        "training.validation_interval=1",
        "training.learning_rate=5.0",  # gets worse at once
        "training.max_steps=50",
    )
    context = tiny_run(tmp_path / "run", cache, *settings)
    result = run_experiment("training", context)
    assert result["stopped_early"]
    assert result["steps"] < 50
    lines = metrics_without_clock(context.folder)
    (context.results / "training.json").unlink()
    again = run_experiment("training", context)
    assert (again["stopped_early"], again["steps"]) == (True, result["steps"])
    assert metrics_without_clock(context.folder) == lines


# --- damaged checkpoints ---


def stopped_run(tmp_path: Path, cache: Path, *settings: str) -> Context:
    """A run of 12 steps that stopped after step 10, with checkpoints 8, 9 and 10."""
    settings = ("training.checkpoint_interval=1", "training.keep_checkpoints=3", *settings)
    context = tiny_run(tmp_path / "run", cache, *settings)
    with pytest.raises(StoppedBySignalError):
        run_experiment("training", Context(context.folder, context.config, Raising(10)))
    assert step_names(context.folder / "checkpoints") == ["step-8", "step-9", "step-10"]
    return open_run(context.folder, SilentConsole())


def damage_file(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(tmp_path: Path, cache: Path) -> None:
    settings = ("training.checkpoint_interval=1", "training.keep_checkpoints=3")
    steady = tiny_run(tmp_path / "steady", cache, *settings)
    run_experiment("training", steady)
    context = stopped_run(tmp_path, cache)
    checkpoints = context.folder / "checkpoints"
    damage_file(checkpoints / "step-10/model.safetensors")
    (checkpoints / "step-9/training.json").unlink()
    run_experiment("training", context)
    assert isinstance(context.console, SilentConsole)
    assert context.console.warnings == [
        f"checkpoint {checkpoints / 'step-10'} is damaged "
        "(model.safetensors has changed since it was written) and is not used",
        f"checkpoint {checkpoints / 'step-9'} is damaged (training.json is missing) "
        "and is not used",
    ]
    for name in ("step-9.damaged", "step-10.damaged"):
        shutil.rmtree(checkpoints / name)
    check_same_end(context.folder, steady.folder, last=12)


def test_links_lead_to_the_checkpoint_gone_on_from(tmp_path: Path, cache: Path) -> None:
    context = stopped_run(tmp_path, cache)
    checkpoints = context.folder / "checkpoints"
    damage_file(checkpoints / "step-10/config.json")
    with pytest.raises(StoppedBySignalError):
        # Nothing is saved between: the next steps are those that were damaged.
        config = open_run(context.folder, SilentConsole(), ["training.checkpoint_interval=0"])
        seen = Looking(checkpoints / "last")
        run_experiment("training", Context(context.folder, config.config, seen))
    assert seen.target == "step-9"


class Looking(Raising):
    """Reads a link after the first step of a resumed run, then asks to stop."""

    def __init__(self, link: Path) -> None:
        super().__init__(step=-1)
        self.link = link
        self.target = ""

    def training(self):  # type: ignore[no-untyped-def]
        manager = super().training()

        def on_step(step: int, loss: float, tokens_per_second: float) -> None:
            self.target = str(self.link.readlink())
            signal.raise_signal(signal.SIGTERM)

        manager.enter_result.on_step = on_step
        return manager


def test_no_whole_checkpoint_means_from_the_beginning_and_says_so(
    tmp_path: Path, cache: Path
) -> None:
    context = stopped_run(tmp_path, cache)
    for path in (context.folder / "checkpoints").glob("step-*"):
        damage_file(path / "manifest.json")
    result = run_experiment("training", context)
    assert isinstance(context.console, SilentConsole)
    assert len(context.console.warnings) == 4
    assert context.console.warnings[-1] == (
        "no checkpoint is whole: training starts from the beginning"
    )
    assert result["steps"] == 12
    assert [line["step"] for line in metrics_without_clock(context.folder)] == [10, 12, 12]


# --- what does not fit ---


def test_another_corpus_is_refused(tmp_path: Path, cache: Path) -> None:
    texts = [f"the {name} cat sat on the mat and ran ." for name in ("red", "blue", "sad", "old")]
    folder = tmp_path / "text"
    folder.mkdir()

    def write(order: list[str]) -> None:
        for split in ("train", "valid"):
            (folder / f"{split}.txt").write_text(
                "".join(f"{text}\n<|endoftext|>\n" for text in order * 40), "utf-8"
            )

    write(texts)
    settings = ("data.corpus=files", f"data.path={folder}", "data.train_stories=null")
    context = stopped_run(tmp_path, cache, *settings, "data.validation_stories=null")
    before = load_checkpoint(context.folder).tokenizer.fingerprint()
    write(texts[::-1])  # the same words, so the same tokenizer
    with pytest.raises(DataError, match=r"the run was trained on corpus \w+, the data now is \w+"):
        run_experiment("training", open_run(context.folder, SilentConsole()))
    write(["another cat", *texts])
    with pytest.raises(DataError, match=rf"was trained with tokenizer {before}, the data now"):
        run_experiment("training", open_run(context.folder, SilentConsole()))
    write(texts)
    assert run_experiment("training", open_run(context.folder, SilentConsole()))["steps"] == 12


def test_another_kind_of_optimizer_is_refused_and_another_form_is_not(
    tmp_path: Path, cache: Path
) -> None:
    context = stopped_run(tmp_path, cache)
    with pytest.raises(ConfigError, match=r"'sgd': the run was trained with 'adam', whose state"):
        run_experiment(
            "training", open_run(context.folder, SilentConsole(), ["training.optimizer=sgd"])
        )
    other = open_run(context.folder, SilentConsole(), ["training.optimizer=torch-adam"])
    assert run_experiment("training", other)["steps"] == 12


def test_settings_given_at_a_resume_stay_with_the_run(
    tmp_path: Path, cache: Path, processes: Processes
) -> None:
    context = stopped_run(tmp_path, cache)
    arguments = ["train", "--resume", str(context.folder), "-o", "training.max_steps=15"]
    status, errors = processes.run(arguments, tmp_path)
    assert status == 0, errors
    assert open_run(context.folder, SilentConsole()).config.training.max_steps == 15
    status, errors = processes.run(
        ["train", "--resume", str(context.folder), "-o", "model.num_layers=2"], tmp_path
    )
    assert (status, errors) == (
        1,
        "tinylm: -o model.num_layers=2: model is fixed once a run exists; train a new one\n",
    )


@pytest.mark.parametrize(
    "setting", ["learning_rate=0.5", "batch_size=2", "weight_decay=0.3", "schedule=cosine"]
)
def test_settings_without_a_step_left_are_refused_and_not_written_down(
    tmp_path: Path, cache: Path, processes: Processes, setting: str
) -> None:
    config = write_config(tmp_path / "run.yaml", cache)
    assert processes.run(["train", "--config", str(config)], tmp_path)[0] == 0
    before = (tmp_path / "runs/run/config.yaml").read_text()
    status, errors = processes.run(
        ["train", "--resume", "runs/run", "-o", f"training.{setting}"], tmp_path
    )
    assert status == 1
    assert errors.count("\n") == 1 or "is done again" in errors
    assert "steps are taken with" in errors
    assert (tmp_path / "runs/run/config.yaml").read_text() == before
    assert processes.run(["train", "--resume", "runs/run"], tmp_path)[0] == 0


def test_a_run_is_not_overwritten_and_a_stranger_not_resumed(
    tmp_path: Path, cache: Path, processes: Processes
) -> None:
    config = write_config(tmp_path / "run.yaml", cache)
    assert processes.run(["train", "--config", str(config)], tmp_path)[0] == 0
    assert processes.run(["train", "--config", str(config)], tmp_path) == (
        1,
        "tinylm: runs/run holds a run already: choose --name, or go on: tinylm train --resume "
        "runs/run\n",
    )
    status, errors = processes.run(["train", "--resume", "runs/other"], tmp_path)
    assert (status, errors) == (
        1,
        "tinylm: runs/other does not exist; `tinylm train` makes a run\n",
    )
    status, errors = processes.run(["train", "--resume", "runs/run", "--preset", "quick"], tmp_path)
    assert status == 1
    assert errors.startswith("tinylm: --resume goes on with the run's own configuration")


# --- what a state holds ---


def test_a_state_holds_everything_and_nothing_is_pickled(uninterrupted: Path) -> None:
    path = newest(uninterrupted / "checkpoints")
    assert path is not None
    state = load_training_state(path)
    assert state.step == LAST
    names = set(state.tensors)
    for weight in load_checkpoint(path).weights:
        for part in ("step", "exp_avg", "exp_avg_sq"):
            assert f"optimizer/{weight}/{part}" in names
    assert state.tensors["rng/cpu"].dtype == torch.uint8
    assert all(
        tensor.item() == LAST for name, tensor in state.tensors.items() if name.endswith("/step")
    )
    files = sorted(file.suffix for file in path.iterdir())
    assert files == [".json"] * 4 + [".safetensors"] * 2
