"""Removed heads, neurons and layers: the smaller model is the larger one with them silenced.

Both compute in float64, where the order of sums, which differs, hardly shows. A run that such parts
were removed of, and that was not trained since, is also compared with the run that it was made of,
as long as that is there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.compression.removal import keep_heads, keep_layers, keep_neurons
from tinylm.data.windows import story_rows
from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import (
    dequantized,
    device_of,
    in_float64,
    ragged_stories,
    relative,
    seeded,
    worst,
)
from tinylm.experiments.context import run_of
from tinylm.experiments.records import checkpoint_of, read_compression, still_holds
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import DecoderLM
from tinylm.model.hooks import Hook
from tinylm.registry import POSITIONS, PRUNERS

Parts = Sequence[Sequence[int]]
_ROWS, _LONGEST = 3, 32


def run(subject: Subject) -> Finding | None:
    """Compare logits without some parts with those where hooks silence them.

    None: they are removed of decoders alone.
    """
    lm = subject.lm
    if not isinstance(lm.model, DecoderLM):
        return None
    longest = min(_LONGEST, lm.model.config.context_length)
    ids = story_rows(ragged_stories(subject.validation, _ROWS, longest + 1)).ids
    ids = ids.to(device_of(lm.model))
    with seeded(subject.seed, device_of(lm.model)), torch.no_grad():
        pairs = _own(in_float64(dequantized(lm.model)), ids)
        source = _source(lm)
        if source is not None:
            pairs.append((in_float64(lm.model)(ids), _silenced(*source, ids)))
    known = " and of the run that it was made of" if source is not None else ""
    return Finding(
        compared=f"logits of the model{known} without some heads, neurons and layers, against "
        "those with the same parts silenced by hooks (float64, relative to the largest)",
        cases=sum(removed.numel() for removed, _ in pairs),
        unit="logits",
        difference=worst([relative(removed, silent) for removed, silent in pairs]),
        bound=1e-10,
    )


def _own(model: GenerativeModel, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return logits of the model without some parts, and with these silenced, kind by kind."""
    config = model.config
    layers = range(config.num_layers)
    neurons = _drawn(config.resolved_ffn_size, config.num_layers)
    pairs = [
        (
            keep_neurons(model, _others(config.resolved_ffn_size, neurons))(ids),
            _silenced(model, {"neurons": neurons}, ids),
        )
    ]
    if config.num_heads > 1 and not POSITIONS.load(config.positions).biases():
        heads = _drawn(config.num_heads, config.num_layers)
        smaller = keep_heads(model, _others(config.num_heads, heads))
        pairs.append((smaller(ids), _silenced(model, {"heads": heads}, ids)))
    if config.num_layers > 1:
        gone = [config.num_layers // 2]
        smaller = keep_layers(model, [i for i in layers if i not in gone])
        pairs.append((smaller(ids), _silenced(model, {"layers": [gone]}, ids)))
    return pairs


def _drawn(total: int, layers: int) -> list[list[int]]:
    """Return half of the parts of each layer."""
    return [torch.randperm(total)[: total // 2].tolist() for _ in range(layers)]


def _others(total: int, gone: Parts) -> list[list[int]]:
    return [[i for i in range(total) if i not in set(each)] for each in gone]


def _silenced(model: GenerativeModel, gone: dict[str, Parts], ids: Tensor) -> Tensor:
    """Return logits where parts are silenced: 0 in place of what heads mix and neurons say, and the
    input of a layer in place of its output.
    """
    hooks: dict[str, Hook] = {}
    inputs: dict[str, Tensor] = {}

    def off(parts: Sequence[int], axis: int) -> Hook:
        places = torch.tensor(parts, dtype=torch.long, device=ids.device)
        return lambda name, x: x.index_fill(axis, places, 0.0)

    def keep(name: str, x: Tensor) -> None:
        inputs[name.removesuffix(".input")] = x

    for i, parts in enumerate(gone.get("heads", ())):
        hooks[f"layers.{i}.attention.mixed"] = off(parts, 1)
    for i, parts in enumerate(gone.get("neurons", ())):
        hooks[f"layers.{i}.feed_forward.inner"] = off(parts, 2)
    for i in gone.get("layers", [[]])[0]:
        hooks[f"layers.{i}.input"] = keep
        hooks[f"layers.{i}.residual"] = lambda name, x: inputs[name.removesuffix(".residual")]
    logits: Tensor = model(ids, hooks=model.hooks(hooks))
    return logits


def _source(lm: LanguageModel) -> tuple[GenerativeModel, dict[str, Parts]] | None:
    """Return the model that parts were removed of, and which; None: it is not there, or unknown."""
    folder = None if lm.source is None else run_of(lm.source)
    done = None if folder is None else read_compression(folder)
    if done is None or done["method"] not in PRUNERS or not PRUNERS.load(done["method"]).removes:
        return None
    trained = "retraining" in done or done["details"].get("training", {}).get("steps")
    if trained or not still_holds(done["source"]):  # "training" is of earlier versions
        return None
    source = LanguageModel.load(checkpoint_of(done["source"]), device_of(lm.model)).model
    removed = done["details"]["removed"]
    before, now = source.config, lm.model.config
    kind = "heads" if before.num_heads != now.num_heads else "neurons"
    if before.num_layers != now.num_layers:
        kind, removed = "layers", [removed]
    return in_float64(source), {kind: removed}
