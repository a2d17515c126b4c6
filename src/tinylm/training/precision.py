"""Where and in which number format training runs.

bf16 keeps weights, optimizer and the residual stream in float32 and does matrix products in
bfloat16 (torch's autocast): about twice the speed on a processor with AMX or AVX512-BF16, far
slower on one without, so ``auto`` takes it only where the processor has the instructions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from tinylm.errors import ConfigError, shown
from tinylm.value_types import Precision


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
        raise ConfigError(
            f"training.device = {shown(name)}: allowed: auto, cpu, cuda, cuda:N"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"training.device = {shown(name)}: allowed: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device = {shown(name)}: torch sees {torch.cuda.device_count()} GPUs; "
            "use cpu or auto"
        )
    return device


def resolve_precision(precision: Literal["auto"] | Precision, device: torch.device) -> Precision:
    """Return fp32 or bf16; ``auto`` is bf16 where matrix products in it are native."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 matrices in hardware (Linux; False elsewhere)."""
    return bool({"amx_bf16", "avx512_bf16"} & cpu_flags())


def cpu_flags() -> set[str]:
    """Return the names of the processor's instruction sets (Linux; none elsewhere)."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return set()
    flags = next((line for line in info.read_text().splitlines() if line.startswith("flags")), "")
    return set(flags.split())


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which forward passes run."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
