"""Tensors of a checkpoint that several processes write at once, each a part, and any number reads.

``torch.distributed.checkpoint`` plans who writes what: a tensor that all hold is written by one of
them, so that each writes about as much; of one that is divided, each writes its own part. Files
are safetensors, with the place of each part in their headers, so that nothing is pickled and any
number of processes, or one, can put them together again.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tinylm.errors import CheckpointError
from tinylm.reading import read_tensor_headers

FOLDER = "shards"
"""In the folder of a checkpoint."""
MODEL, TRAINING = "model/", "training/"
"""Before the names of the model's tensors, and of those of its training's state."""


def write_shards(
    folder: Path, tensors: Mapping[str, Tensor], group: dist.ProcessGroup, at_once: bool
) -> Callable[[], bool]:
    """Write tensors by all processes of a group, each of which must call this.

    Args:
        folder: the same for all; it must be there.
        tensors: by name; whole ones must be equal where several processes have them.
        group: its own, on which nothing else is sent meanwhile.
        at_once: return when all is written; otherwise copy the tensors and write while the caller
            goes on.

    Returns:
        Whether the writing has ended: called on the first process, it is once all have written.

    Raises:
        CheckpointError: from here or from what is returned, if it cannot be written.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import async_save, save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    state: dict[str, Any] = dict(tensors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch's own parts say to each other
        if at_once:
            _telling(folder, lambda: save(state, storage_writer=writer, process_group=group))
            return lambda: True
        future = async_save(state, storage_writer=writer, process_group=group)
    assert isinstance(future, Future)

    def ended() -> bool:
        if not future.done():
            return False
        _telling(folder, future.result)
        return True

    return ended


def _telling(folder: Path, write: Callable[[], object]) -> None:
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        write()
    except CheckpointException as error:
        rank, (problem, _) = next(iter(error.failures.items()))
        raise CheckpointError(f"rank {rank} cannot write to {folder}: {problem}") from error


def read_shards(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Return the whole tensors whose names begin with a prefix, without it.

    Raises:
        CheckpointError: if a file's header does not fit it, or parts are missing.
    """
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    for path in sorted(folder.glob("*.safetensors")):
        read_tensor_headers(path, CheckpointError)
    reader = HuggingFaceStorageReader(str(folder))
    state: dict[str, Any] = {}
    for name, about in reader.read_metadata().state_dict_metadata.items():
        if name.startswith(prefix) and isinstance(about, TensorStorageMetadata):
            state[name] = torch.zeros(about.size, dtype=about.properties.dtype)
            parts = sum(chunk.sizes.numel() for chunk in about.chunks)
            if parts != about.size.numel():
                raise CheckpointError(
                    f"{folder}: {name.removeprefix(prefix)} has {parts:,} of its "
                    f"{about.size.numel():,} numbers: a file is missing"
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(state, storage_reader=reader, no_dist=True)
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
