"""Where training runs and in which number format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.tiny import Recorder, tiny_model, tiny_run, tiny_trainer
from tinylm.errors import ConfigError
from tinylm.training import precision
from tinylm.training.precision import (
    autocast,
    resolve_device,
    resolve_precision,
)

CPU = torch.device("cpu")


def test_bf16_multiplies_in_bf16_and_keeps_weights_and_state_in_fp32(tmp_path: Path) -> None:
    losses = {}
    for name in ("fp32", "bf16"):
        seen: list[torch.dtype] = []
        model = tiny_model()
        model.layers[0].attention.output.register_forward_hook(
            lambda _m, _i, out, s=seen: s.append(out.dtype)
        )
        recorder = Recorder()
        trainer = tiny_trainer(tmp_path / name, model, listener=recorder, precision=name)
        trainer.run()
        assert set(seen) == {torch.bfloat16 if name == "bf16" else torch.float32}
        assert all(p.dtype == torch.float32 for p in model.parameters())
        assert all(
            t.dtype == torch.float32 for n, t in trainer.state().tensors.items() if "rng" not in n
        )
        losses[name] = [loss for _, loss in recorder.steps]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.03)


def test_the_loss_is_computed_in_fp32_from_bf16_logits(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, precision="bf16")
    batch = trainer.task.batch(np.arange(2))
    assert trainer.training_step.loss(batch)[0].dtype == torch.float32


@pytest.mark.parametrize(("native", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_bf16_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, native: bool, expected: str
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: native)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("fp32", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation  # emulated only

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", torch.device("cuda")) == "fp32"


def test_auto_is_settled_in_the_runs_configuration(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    context = tiny_run(tmp_path / "run", cache, "training.precision=auto", "training.device=cpu")
    assert context.config.training.precision == "bf16"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu sse avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx512f avx512_fp16", False),
        ("", False),
    ],
)
def test_processor_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, expected: bool
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags\t\t: {flags}\nbugs : none\n")
    monkeypatch.setattr(precision, "Path", lambda _: info)
    assert precision.cpu_has_bf16() is expected
    info.unlink()
    assert precision.cpu_has_bf16() is False


def test_autocast_is_off_for_fp32() -> None:
    matrix = torch.ones(2, 2)
    with autocast("fp32", CPU):
        assert (matrix @ matrix).dtype == torch.float32
    with autocast("bf16", CPU):
        assert (matrix @ matrix).dtype == torch.bfloat16


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert resolve_device("auto") == CPU
    assert resolve_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r"'cuda:1': torch sees 0 GPUs; use cpu or auto"):
        resolve_device("cuda:1")
    for wrong in ("gpu", "meta", "cpu0"):
        with pytest.raises(ConfigError, match=r"allowed: auto, cpu, cuda, cuda:N"):
            resolve_device(wrong)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["adam", "torch-adam"])
def test_a_gpu_run_saves_and_goes_on(tmp_path: Path, optimizer: str) -> None:
    settings: dict[str, Any] = {"device": "cuda", "optimizer": optimizer, "max_steps": 6}
    steady = tiny_trainer(tmp_path / "a", tiny_model(dropout=0.1), **settings)
    steady.run()
    first = tiny_trainer(tmp_path / "b", tiny_model(dropout=0.1), **settings)
    for _ in range(3):
        first._take_step()
    state = first.state()  # before the next model is made, which seeds the generators
    resumed = tiny_trainer(tmp_path / "c", tiny_model(1, dropout=0.1), **settings)
    resumed.model.load_state_dict(first.model.state_dict())
    resumed.restore(state)
    resumed.run()
    for name, weight in resumed.model.state_dict().items():
        torch.testing.assert_close(weight, steady.model.state_dict()[name])
