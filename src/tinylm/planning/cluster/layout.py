"""How a training step is laid out over cards: degrees, batches, what is kept and what is sharded.

Ranks are placed as in Megatron-LM: neighbours share a tensor, then a context, then a copy of the
model; stages of the pipeline are furthest apart. So the traffic that no computation hides stays
within a node for as long as it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from tinylm.errors import ConfigError, nearest, shown
from tinylm.planning.cluster.shapes import Shape

LARGEST = 10**15
"""Parameters, cards or texts beyond which nothing is planned."""

Recompute = Literal["none", "selective", "full"]
"""What the backward pass computes again: nothing, the scores of attention, or whole layers."""


@dataclass(frozen=True)
class Layout:
    """Degrees of parallelism, batches and number formats."""

    gpus: int
    data: int = 1
    """Copies of the model, each with its part of the batch."""
    tensor: int = 1
    """Cards that share every matrix of a layer."""
    pipeline: int = 1
    """Stages of layers."""
    context: int = 1
    """Cards that share the places of a text."""
    expert: int = 1
    """Copies that share the experts: each holds some, and tokens are sent to them."""
    stage: int = 0
    """Of ZeRO: 0 nothing is sharded over the copies; 1 the optimizer's state; 2 gradients too; 3
    parameters too."""
    micro_batch: int = 1
    """Texts of a forward pass."""
    batch: int = 1
    """Texts of an optimizer step, all copies together."""
    interleave: int = 1
    """Parts in which every card holds its layers (Narayanan et al. 2021, section 2.2)."""
    recompute: Recompute = "none"
    sequence: bool = True
    """Sequence parallelism: cards that share matrices share norms and dropout by places too."""
    flash: bool = True
    """Attention in blocks that keeps no scores and leaves out masked ones (Dao et al. 2022)."""
    overlap: float = 1.0
    """Share of the traffic of gradients and parameters that runs while something is computed."""
    number_bytes: int = 2
    """Bytes of a number of products and activations."""
    gradient_bytes: int = 2
    """Bytes of a number of gradients as they are kept and sent."""
    state_bytes: int = 12
    """Bytes of the optimizer's state a parameter: Adam's moments and the weights in float32."""

    @property
    def micro_batches(self) -> int:
        """Forward passes of a copy in an optimizer step."""
        return self.batch // (self.data * self.micro_batch)

    @property
    def copies(self) -> int:
        """Cards among which a parameter's gradient is summed: copies, and parts of a text."""
        return self.data * self.context

    def stage_layers(self, shape: Shape) -> int:
        """Return the layers of a stage.

        Where the layers and two more divide, the first and the last stage have a layer less, as the
        embedding and the output projection stand there (Llama 3: 126 layers in 16 stages).
        """
        whole = shape.layers % self.pipeline == 0
        return (shape.layers if whole else shape.layers + 2) // self.pipeline

    def even(self, shape: Shape) -> bool:
        """Whether every stage has as many layers."""
        return shape.layers % self.pipeline == 0


def check(layout: Layout, shape: Shape, per_node: int) -> None:
    """Refuse what cannot be laid out.

    Raises:
        ConfigError: naming what does not divide, and what would.
    """
    _check_numbers(layout)
    for what, number in (
        ("parameters", shape.parameters),
        ("places of a text", shape.context),
        ("--gpus", layout.gpus),
        ("--batch", layout.batch),
    ):
        if number > LARGEST:
            raise ConfigError(f"{what}: {number:.3g} is more than {LARGEST:.0e}, the most planned")
    data, tensor, pipeline = layout.data, layout.tensor, layout.pipeline
    product = data * tensor * pipeline * layout.context
    if product != layout.gpus:
        raise ConfigError(
            f"--data-parallel {data} x --tensor-parallel {tensor} x --pipeline-parallel {pipeline} "
            f"x --context-parallel {layout.context} is {product:,} and not --gpus {layout.gpus:,}"
        )
    if layout.gpus > per_node and layout.gpus % per_node:
        raise ConfigError(f"--gpus {layout.gpus:,} does not fill nodes of {per_node} (--per-node)")
    if (shape.layers + 2) % pipeline:  # see stage_layers
        _divides("layers", shape.layers, "--pipeline-parallel", pipeline)
    _divides("heads", shape.heads, "--tensor-parallel", tensor)
    _divides("columns of the feed-forward part", shape.ffn, "--tensor-parallel", tensor)
    _divides("places of a text", shape.context, "--context-parallel", layout.context)
    _divides("experts", shape.experts, "--expert-parallel", layout.expert)
    _divides("copies", data, "--expert-parallel", layout.expert)
    texts = data * layout.micro_batch
    if layout.batch % texts:
        raise ConfigError(
            f"--batch {layout.batch:,} is not divisible by --data-parallel {data} x --micro-batch "
            f"{layout.micro_batch}: {_multiples_near(layout.batch, texts)} is"
        )
    if layout.interleave > 1:
        _check_interleaving(layout, shape)


def _check_numbers(layout: Layout) -> None:
    names = {
        "gpus": "gpus",
        "data": "data-parallel",
        "tensor": "tensor-parallel",
        "pipeline": "pipeline-parallel",
        "context": "context-parallel",
        "expert": "expert-parallel",
        "micro_batch": "micro-batch",
        "batch": "batch",
        "interleave": "interleave",
    }
    for name, option in names.items():
        if getattr(layout, name) < 1:
            raise ConfigError(f"--{option} is {getattr(layout, name)}: it must be 1 or more")
    if layout.stage not in (0, 1, 2, 3):
        raise ConfigError(f"--zero {layout.stage} is no stage: allowed are 0, 1, 2 and 3")
    if layout.recompute not in get_args(Recompute):
        raise ConfigError(
            f"--recompute {shown(layout.recompute)}{nearest(layout.recompute, get_args(Recompute))}"
        )
    if layout.recompute == "selective" and layout.flash:
        raise ConfigError(
            "--recompute selective computes scores again, and attention in blocks keeps none: "
            "leave it out, or give --keep-scores"
        )
    if not 0 <= layout.overlap <= 1:
        raise ConfigError(f"--overlap {layout.overlap:g} is no share: give 0 to 1")


def _check_interleaving(layout: Layout, shape: Shape) -> None:
    layers = layout.stage_layers(shape)
    if layout.pipeline == 1:
        raise ConfigError(
            f"--interleave {layout.interleave} has no effect with --pipeline-parallel 1: leave it "
            "out"
        )
    _divides("layers of a stage", layers, "--interleave", layout.interleave)
    if layout.micro_batches % layout.pipeline:
        raise ConfigError(
            f"--interleave {layout.interleave} needs micro-batches that --pipeline-parallel "
            f"{layout.pipeline} divides, and there are {layout.micro_batches:,}: change --batch"
        )


def _divides(what: str, number: int, option: str, by: int) -> None:
    if number % by:
        possible = [n for n in range(1, number + 1) if number % n == 0]
        near = sorted(sorted(possible, key=lambda n: abs(n - by))[:2])
        raise ConfigError(
            f"{number:,} {what} are not divisible by {option} {by}: "
            f"{' or '.join(str(n) for n in near)} would do"
        )


def _multiples_near(number: int, divisor: int) -> str:
    below = number // divisor * divisor
    return " or ".join(f"{n:,}" for n in (below, below + divisor) if n)
