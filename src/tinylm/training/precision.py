"""Where and in which number format training runs.

bf16 keeps weights, optimizer and the residual stream in float32 and does matrix products in
bfloat16 (torch's autocast): about twice the speed on a processor with AMX or AVX512-BF16, far
slower on one without, so ``auto`` takes it only where the instructions are.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from tinylm.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """Return the device that ``cpu``, ``cuda``, ``cuda:N`` or ``auto`` means here.

    Raises:
        ConfigError: if the name is wrong or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"training.device = {name!r}: allowed: auto, cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"training.device = {name!r}: allowed: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device = {name!r}: torch sees {torch.cuda.device_count()} GPUs; "
            "use cpu or auto"
        )
    return device


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return fp32 or bf16; ``auto`` is bf16 where matrix products in it are native."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (Linux; False elsewhere)."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return False
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return bool({"amx_bf16", "avx512_bf16"} & set(flags.split()))


def check_compiler(device: torch.device) -> None:
    """Refuse training.compile on a CPU without the C++ compiler that torch.compile calls.

    Raises:
        ConfigError: naming the compilers that were looked for.
    """
    wanted = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++", "c++"]
    if device.type == "cpu" and not any(shutil.which(name) for name in wanted):
        raise ConfigError(
            f"training.compile = true needs a C++ compiler on a CPU, and {' or '.join(wanted)} is "
            "not on the PATH: install one or set training.compile=false"
        )


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which forward passes run."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
