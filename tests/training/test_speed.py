import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_model, tiny_trainer
from tinylm.config import TrainingConfig
from tinylm.errors import ConfigError
from tinylm.training import precision, speed
from tinylm.training.speed import Speed, resolve_speed

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LONG = 1e18


@pytest.fixture
def with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cpu_flags", lambda: {"amx_bf16", "avx512_bf16"})
    monkeypatch.setattr(speed, "has_compiler", lambda device: True)


def test_plain_is_the_code_as_written() -> None:
    settings = TrainingConfig(speed="plain", optimizer="adamw", precision="fp32")
    assert resolve_speed(settings, CPU, LONG) == Speed("fp32", False, "adamw", False, False)


@pytest.mark.parametrize(
    ("ours", "fused"), [("adam", "torch-adam"), ("adamw", "torch-adamw"), ("sgd", "torch-sgd")]
)
def test_auto_takes_the_fused_optimizer(ours: str, fused: str) -> None:
    assert resolve_speed(TrainingConfig(optimizer=ours), CPU).optimizer == fused
    assert resolve_speed(TrainingConfig(optimizer=fused), CPU).optimizer == fused


def test_each_choice_can_be_turned_off() -> None:
    assert resolve_speed(TrainingConfig(), CPU).keep_freed_memory
    assert not resolve_speed(TrainingConfig(keep_freed_memory=False), CPU).keep_freed_memory
    assert resolve_speed(TrainingConfig(precision="bf16"), CPU).precision == "bf16"
    assert resolve_speed(TrainingConfig(precision="fp32"), CPU).precision == "fp32"


@pytest.mark.usefixtures("with_amx")
def test_compiling_waits_for_a_run_that_earns_it_back() -> None:
    settings = TrainingConfig()
    assert resolve_speed(settings, CPU, 1e15).compile
    assert not resolve_speed(settings, CPU, 1e13).compile
    assert not resolve_speed(settings, CPU, None).compile
    assert not resolve_speed(TrainingConfig(compile=False), CPU, LONG).compile
    assert not resolve_speed(TrainingConfig(speed="plain"), CPU, LONG).compile
    assert not resolve_speed(TrainingConfig(gradient_checkpointing=1), CPU, LONG).compile
    assert resolve_speed(TrainingConfig(compile=True), CPU, None).compile
    assert resolve_speed(TrainingConfig(compile=True, speed="plain"), CPU, None).compile


def test_compiling_needs_matrix_instructions_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cpu_flags", lambda: {"avx512_bf16"})
    assert not resolve_speed(TrainingConfig(), CPU, LONG).compile


@pytest.mark.usefixtures("with_amx")
def test_a_longer_run_is_compiled_on_a_gpu() -> None:
    settings = TrainingConfig(precision="bf16")
    assert resolve_speed(settings, CUDA, 1e17).compile
    assert not resolve_speed(settings, CUDA, 1e15).compile
    assert resolve_speed(settings, CUDA, 1e17).quick


def test_compiling_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "cpu_flags", lambda: {"amx_bf16"})
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not resolve_speed(TrainingConfig(), CPU, LONG).compile
    with pytest.raises(ConfigError, match=r"training\.compile = true needs a C\+\+ compiler"):
        resolve_speed(TrainingConfig(compile=True), CPU)
    monkeypatch.setenv("CXX", "/usr/bin/env")
    assert resolve_speed(TrainingConfig(), CPU, LONG).compile


def test_processor_flags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu avx512_bf16 sse\nflags : other\n")
    monkeypatch.setattr(precision, "Path", lambda _: info)
    assert precision.cpu_flags() == {"flags", ":", "fpu", "avx512_bf16", "sse"}
    info.unlink()
    assert precision.cpu_flags() == set()


def test_auto_trains_as_plain_does_to_rounding(tmp_path: Path) -> None:
    def trained(kind: str) -> dict[str, torch.Tensor]:
        # Not Adam: it makes whole steps of what is but rounding, as the gradient of keys' bias is.
        settings: dict[str, Any] = {"speed": kind, "max_steps": 8, "precision": "fp32"}
        settings |= {"optimizer": "sgd", "learning_rate": 0.1}
        trainer = tiny_trainer(tmp_path / kind, tiny_model(dropout=0.2), **settings)
        trainer.run()
        return trainer.model.state_dict()

    plain = trained("plain")
    for name, weight in trained("auto").items():
        torch.testing.assert_close(weight, plain[name], rtol=1e-4, atol=2e-6)


def test_the_trainer_counts_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def resolve(config: TrainingConfig, device: torch.device, flops: float | None) -> Speed:
        seen.append(flops)
        return dataclasses.replace(resolve_speed(config, device, flops), compile=False)

    monkeypatch.setattr("tinylm.training.step.resolve_speed", resolve)
    tiny_trainer(tmp_path / "a", max_steps=3)
    tiny_trainer(tmp_path / "b", max_steps=6)
    assert seen[0] and seen[1] == 2 * seen[0]
