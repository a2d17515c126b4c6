"""Path patching: what one part tells another directly, everything between them held as it was.

A patch of a head changes all that comes after it. To see what it tells one receiver, the run is
computed once with the sender's output replaced and every other part's output frozen, so that the
change reaches the receiver through the residual stream alone; then the run is computed again with
the receiver as it was in that frozen run, and all after it free (Wang et al. 2023,
"Interpretability in the Wild", section 3.1; Goldowsky-Dill et al. 2023, "Localizing Model Behavior
with Path Patching"). Norms are computed anew, not frozen: they belong to the path.

Senders are what a head mixes (``attention.mixed``), a layer's ``attention.output`` or
``feed_forward.output``, and the ``embedding``. Receivers are a head's ``attention.query``,
``attention.key`` or ``attention.value``, the ``feed_forward.inner`` of a layer, which is all that
it makes of its input, and the ``logits``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tinylm.errors import ConfigError, shown
from tinylm.interpretability.pair_runs import Direction, PairRuns
from tinylm.interpretability.patching import Site, patched, refuse, replacing
from tinylm.interpretability.trace import Trace
from tinylm.model.decoder import evaluating

_SENDERS = ("attention.mixed", "attention.output", "feed_forward.output")
_RECEIVERS = ("attention.query", "attention.key", "attention.value", "feed_forward.inner")


@torch.no_grad()
def path_patching(
    runs: PairRuns, direction: Direction, senders: Sequence[Site], receivers: Sequence[Site]
) -> Tensor:
    """Patch the direct path from each sender to each receiver, one at a time.

    Args:
        runs: of the pair.
        direction: whose activations the senders get in whose run.
        senders: parts that write to the residual stream.
        receivers: parts that read it.

    Returns:
        Normalised logit differences, (senders, receivers), in float64. A path that does not exist,
        because its receiver comes first, gives exactly the value of the run that is patched.

    Raises:
        ConfigError: for a site that the model has not, or that does not write or read the stream.
    """
    base, source = runs.base_and_source(direction)
    refuse(base, [senders, receivers])
    layers = base.num_layers
    sent = [_order(site, ("embedding", *_SENDERS), layers, "sender") for site in senders]
    read = [_order(site, ("logits", *_RECEIVERS), layers, "receiver") for site in receivers]
    names = sorted({site.activation for site in receivers})
    reached = _reached(base, source, senders, names, runs.first_changed)
    values = torch.empty(len(senders), len(receivers), dtype=torch.float64)
    for column, receiver in enumerate(receivers):
        rows = [[receiver] if before < read[column] else [] for before in sent]
        values[:, column] = runs.normalised(patched(base, reached, rows)).cpu()
    return values


def _reached(
    base: Trace, source: Trace, senders: Sequence[Site], names: Sequence[str], first: int
) -> dict[str, Tensor]:
    """Return activations as each sender alone changes them, (senders, …), all others frozen."""
    model = base.model
    kept: dict[str, Tensor] = {}
    parts = [f"layers.{i}.{part}" for i in range(base.num_layers) for part in _SENDERS]
    sites = [(row, row, site) for row, site in enumerate(senders)]
    sending = replacing(source, base.ids.shape[1], sites)

    def hold(name: str, x: Tensor) -> Tensor:
        # The output of a layer's attention is what its heads make of it where one of them sends.
        mixed = name.removesuffix("output") + "mixed"
        free = torch.tensor([site.activation == mixed for site in senders], device=x.device)
        x = torch.where(free.view(-1, *[1] * (x.dim() - 1)), x, base[name])
        return sending[name](name, x) if name in sending else x

    def keep(name: str, x: Tensor) -> None:
        kept[name] = x.clone()
        kept[name][..., :first, :] = base[name][..., :first, :]  # the same but for rounding

    hooks = {**sending, **dict.fromkeys(parts, hold), **dict.fromkeys(names, keep)}
    with evaluating(model):
        model(base.ids.expand(len(senders), -1), hooks=model.hooks(hooks))
    return kept


def _order(site: Site, allowed: Sequence[str], layers: int, what: str) -> int:
    """Return where a part comes in a run, refusing what is no such part."""
    name = site.activation
    if name == "embedding" and name in allowed:
        return -1
    if name == "logits" and name in allowed:
        return 2 * layers
    part = name.split(".", 2)[-1]
    if part not in allowed:
        raise ConfigError(
            f"{shown(name)} is no {what} of a path; those are: "
            + ", ".join(
                each if each in ("embedding", "logits") else f"layers.N.{each}" for each in allowed
            )
        )
    return 2 * int(name.split(".")[1]) + part.startswith("feed_forward")
