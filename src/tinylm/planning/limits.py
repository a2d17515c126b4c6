"""What cannot fit into the memory of the machine is refused before it is allocated.

The sums are those of ``planning.memory``, of what is certainly needed at one time; what they leave
out is small beside it. They are compared with all the memory that there is: what other programs
hold at the moment is not known beforehand.
"""

from __future__ import annotations

import functools
import os
import resource
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from tinylm.config import ModelConfig, TrainingConfig
from tinylm.errors import ConfigError
from tinylm.planning.costs import costs_of
from tinylm.planning.memory import kv_bytes, step_peak
from tinylm.planning.parameters import parameter_counts

_FLOAT, _INDEX = 4, 8  # bytes
_LAYER_OBJECTS = 30_000
"""Bytes of a layer's Python objects, measured: what counts where layers are many and narrow."""
_HYPOTHESIS_OBJECTS = 500
"""Bytes of a hypothesis' Python objects and of the candidates to follow it, measured."""
_CGROUPS = Path("/sys/fs/cgroup")


@functools.cache
def machine_memory() -> int:
    """Return the bytes that this process can have at most.

    The memory of the machine, or less where a control group (a container, a batch system) or a
    limit of the process (``ulimit -v``) says so. 0 where the system does not report it.
    """
    limits = [*_control_group_limits()]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    except (ValueError, OSError):
        return min(limits, default=0)
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    return min(limits)


def _control_group_limits(
    process: Path = Path("/proc/self/cgroup"), root: Path = _CGROUPS
) -> list[int]:
    """Return the memory limits of the control groups that this process is in, both versions."""
    if not process.exists():
        return []
    limits = []
    for line in process.read_text("utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        top = top.resolve()
        place = (top / group.lstrip("/")).resolve()
        # Seen from within a container, its own group is the top.
        for folder in dict.fromkeys((place, *place.parents, top)):
            file = folder / name
            if folder.is_relative_to(top) and file.is_file():
                text = file.read_text("utf-8").strip()
                if text.isdigit():  # not "max"
                    limits.append(int(text))
    return limits


def refuse_beyond_memory(
    what: str, parts: Mapping[str, int], change: str, memory: int | None = None
) -> None:
    """Refuse what needs more memory than there is.

    Args:
        what: needs it.
        parts: bytes of each part, all held at one time.
        change: the settings that would make it smaller.
        memory: bytes that there are; empty: ``machine_memory``; 0: not known, so all is allowed.

    Raises:
        ConfigError: with the sum, its largest parts and the memory.
    """
    if memory is None:
        memory = machine_memory()
    total = sum(parts.values())
    if not memory or total <= memory:
        return
    largest = sorted(parts.items(), key=lambda part: -part[1])
    listed = ", ".join(f"{name} {shown_bytes(size)}" for name, size in largest[:3] if size)
    raise ConfigError(
        f"{what} needs {shown_bytes(total)} of memory ({listed}) and there are "
        f"{shown_bytes(memory)}: lower {change}"
    )


def shown_bytes(size: float) -> str:
    """Return a number of bytes for people: ``1.5 GiB``, ``512 bytes``."""
    for unit, factor in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.4g} {unit}"
    return f"{size:,} bytes"


def model_parts(config: ModelConfig) -> dict[str, int]:
    """Return the bytes that a model needs while it is built, by part.

    ``vocab_size`` counts as 5, the fewest types that there can be, where it is empty.
    """
    counts = parameter_counts(with_vocabulary(config))
    return {
        "weights": _FLOAT * counts["total"],
        "positions": costs_of(config).table_bytes(config),
        "layers": config.num_layers * _LAYER_OBJECTS,
    }


def with_vocabulary(config: ModelConfig) -> ModelConfig:
    """Return a model's sizes with the fewest types that there can be where ``vocab_size`` is empty.

    Such sizes cost at least so much, before the text has been looked at.
    """
    return config if config.vocab_size is not None else replace(config, vocab_size=5)


def refuse_model(config: ModelConfig) -> None:
    """Refuse a model that cannot be built.

    Raises:
        ConfigError: with the sum and the memory.
    """
    change = "model.hidden_size, model.num_layers, model.context_length or tokenizer.max_size"
    refuse_beyond_memory("the model", model_parts(config), change)


def refuse_step(
    config: ModelConfig,
    training: TrainingConfig,
    trained: int | None = None,
    memory: int | None = None,
    change: str = "",
    beside: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Refuse a training step that cannot be taken.

    Args:
        config: the model.
        training: batch size, optimizer, accumulation and checkpointing; ``precision`` as resolved.
        trained: numbers that are trained, if not all.
        memory: of the device; empty: the machine's.
        change: the settings that would make it smaller; empty: those of training and the model.
        beside: bytes of what is held besides, by what it is called.

    Raises:
        ConfigError: with the sum and the memory.
    """
    config = with_vocabulary(config)
    peak = step_peak(config, training)
    share = 1.0 if trained is None else trained / parameter_counts(config)["total"]
    parts = {
        "weights": peak.weights,
        "optimizer": int(peak.moments * share),
        "gradients": int(peak.gradients * share),
        "activations": peak.activations,
        "temporary": peak.temporary,
        **beside,
    }
    windows = f"{training.batch_size:,} windows of {config.context_length:,} tokens"
    change = change or (
        "training.batch_size or model.context_length, or set training.gradient_checkpointing"
        if parts["activations"] + parts["temporary"] > sum(parts.values()) // 2
        else "model.hidden_size or model.num_layers"
    )
    refuse_beyond_memory(f"a training step with {windows}", parts, change, memory)


def refuse_generation(
    config: ModelConfig, rows: int, prompt: int, change: str, ranked: int = 0
) -> None:
    """Refuse to continue more texts at once than fit.

    Args:
        config: the model.
        rows: texts at once, or beams of all of them.
        prompt: tokens of the longest prompt that are read at once.
        change: the settings that would make it smaller.
        ranked: tokens of each beam that are ranked among those of the others.

    Raises:
        ConfigError: with the sum and the memory.
    """
    parts = {
        "weights": model_parts(config)["weights"],
        "decoding state": kv_bytes(config, rows, config.context_length),
        # Logits, their log-probabilities, and what was filtered of them.
        "logits": 3 * rows * config.resolved_vocab_size * _FLOAT,
        "prompts": rows * prompt * (_INDEX + 2 * config.hidden_size * _FLOAT),
        # Ids and log-probabilities, and the sums of all.
        "ranked tokens": rows * ranked * (_INDEX + 2 * _FLOAT),
        "hypotheses": rows * _HYPOTHESIS_OBJECTS if ranked else 0,
    }
    refuse_beyond_memory(f"generating {rows:,} texts at once", parts, change)


def forward_bytes(config: ModelConfig, rows: int, seq: int) -> int:
    """Return the bytes of a model that reads texts without gradients, and of its residual stream.

    Args:
        config: the model.
        rows: texts at once.
        seq: tokens of each.
    """
    inner = config.hidden_size + costs_of(config).inner_size(config)
    return model_parts(config)["weights"] + rows * seq * inner * _FLOAT


def refuse_forward(config: ModelConfig, rows: int, seq: int, change: str) -> None:
    """Refuse to read more texts at once than fit, without gradients and with all logits.

    Args:
        config: the model.
        rows: texts at once.
        seq: tokens of each.
        change: the settings that would make it smaller.

    Raises:
        ConfigError: with the sum and the memory.
    """
    tokens = rows * seq
    parts = {
        "weights": model_parts(config)["weights"],
        "logits": 2 * tokens * config.resolved_vocab_size * _FLOAT,
        "activations": tokens * (config.hidden_size + costs_of(config).inner_size(config)) * _FLOAT,
    }
    refuse_beyond_memory(f"reading {rows:,} texts of {seq:,} tokens at once", parts, change)
