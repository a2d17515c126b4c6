"""An adapter moved into the weights of a run's model for good: a run again, of the merged model.

What is left is as the model was built, wherever the sums are plain weights: it is then written as a
plain model, which can be pruned, quantized and trained as any. Over a quantized base the maps that
no adapter acted on stay quantized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tinylm.config import to_dict
from tinylm.errors import AdapterError, CompressionError
from tinylm.experiments.adapting import adapted
from tinylm.experiments.compressing import Compression, before, write_compressed
from tinylm.experiments.context import Context
from tinylm.experiments.recipes import read_recipe
from tinylm.experiments.records import Compressed
from tinylm.finetuning.adapters import adapter_of, adapters, fold
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.storage import TENSORS
from tinylm.fingerprints import file_sha256
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel, build
from tinylm.model.masks import hold, masks_of
from tinylm.model.outputs import not_finite
from tinylm.model.weights import load_weights, model_weights


def merge_run(
    context: Context, out: Path, base: LanguageModel, adapter: Path, rank: int | None = None
) -> Compressed:
    """Merge an adapter into a run's model and write the run that comes of it.

    Args:
        context: the run of the base.
        out: folder of the new one, in which this process alone writes (``compressing.new_run``).
        base: the run's model, read from a checkpoint; changed.
        adapter: folder of the adapter.
        rank: of a DyLoRA adapter; None: its largest.

    Returns:
        What compression.json holds.

    Raises:
        AdapterError: if there is none, or it is another base's, or cannot be merged.
        CompressionError: if the merged model gives numbers that are not finite.
        CheckpointError: if the run cannot be written.
    """
    of = before(context, base)
    lm = adapted(base, adapter)
    name = adapters(lm.model)[-1]  # the one that was attached last
    if rank is not None:
        set_rank(lm.model, rank, name)
    about = adapter_of(lm.model, name)
    recipe = read_recipe(adapter)
    details: dict[str, Any] = {
        "adapter": str(adapter.resolve()),
        "sha256": file_sha256(adapter / TENSORS),
        "rank": rank,
        "texts": None if recipe is None else recipe["data"],
    }
    try:
        merged = as_built(fold(lm.model))
    except AdapterError as error:
        raise AdapterError(f"{adapter}: {error}") from error
    place = not_finite(merged)
    if place is not None:
        raise CompressionError(
            f"{adapter} merged into {lm.source}: {place} is not finite; train the adapter again"
        )
    record = Compression("merge", about.method, to_dict(about.settings), of, details=details)
    return write_compressed(out, context, LanguageModel(merged, lm.tokenizer, lm.source), record)


def as_built(model: GenerativeModel) -> GenerativeModel:
    """Return a model as its configuration builds it, with its masks, if it is that and no more.

    Args:
        model: whatever was done to it since it was built.

    Returns:
        A plain model with the same tensors; the model itself where parts are of another kind.
    """
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        plain = build(model.config)
    if _parts(plain) != _parts(model):
        return model
    hold(plain, masks_of(model))
    load_weights(plain, model_weights(model), Path("the merged model"))
    return plain.train(model.training)


def _parts(model: GenerativeModel) -> dict[str, Any]:
    """Return path -> kind of every module, and name -> shape and format of every parameter."""
    kinds: dict[str, Any] = {path: type(module) for path, module in model.named_modules()}
    return kinds | {name: (each.shape, each.dtype) for name, each in model.named_parameters()}
