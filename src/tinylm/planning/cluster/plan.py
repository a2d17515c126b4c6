"""A run on a cluster, on paper: what its step takes, holds and sends, and what the run costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from tinylm.errors import ConfigError
from tinylm.planning.cluster.cards import Machine
from tinylm.planning.cluster.layout import Layout, check
from tinylm.planning.cluster.memory import CardBytes, card_bytes
from tinylm.planning.cluster.reliability import CARD_HOURS, NODE_STORAGE, Reliability
from tinylm.planning.cluster.shapes import Shape
from tinylm.planning.cluster.step import Step, StepTime, Traffic

LEAST_USEFUL = 1e-3
"""Share of the time that must go into training."""
LIMITS = {
    "products": "the rate of matrix products",
    "memory": "the bandwidth of the card's memory, for what is no product",
    "tensor": "collectives of the cards that share a tensor",
    "context": "collectives of the cards that share a text's places",
    "expert": "sending tokens to experts and back",
    "pipeline": "sending between stages",
    "bubble": "waiting for the pipeline to fill and run empty",
    "data": "traffic of gradients and parameters that no computation hides",
    "update": "the optimizer's reading and writing of its states",
}
"""What each part of a step's time is bound by, in words."""


@dataclass(frozen=True)
class Costs:
    """What is stated of a run besides its step."""

    tokens: float = 0.0
    """To train on; 0: the run's time and cost are left out."""
    price: float = 0.0
    """Of a card's hour, in any currency."""
    card_hours: float = CARD_HOURS
    """Mean hours between failures of a card."""
    restart: float = 600.0
    """Seconds until work goes on after a failure."""
    storage: float = 0.0
    """Bytes a second that all nodes together write of a checkpoint; 0: ``NODE_STORAGE`` each."""


@dataclass(frozen=True)
class ClusterPlan:
    """A shape, laid out on a machine; all else follows."""

    shape: Shape
    layout: Layout
    machine: Machine
    costs: Costs = Costs()

    def __post_init__(self) -> None:
        """Refuse what cannot be laid out.

        Raises:
            ConfigError: naming what does not divide; or if failures let no run end.
        """
        check(self.layout, self.shape, self.machine.links.per_node)
        reliability = self.reliability
        if reliability.useful < LEAST_USEFUL:
            raise ConfigError(
                f"a card fails every {reliability.between:,.3g} s, a checkpoint takes "
                f"{reliability.checkpoint:,.3g} s and a restart {reliability.restart:,.3g} s: no "
                "run would end; raise --storage or --card-hours, or lower --restart"
            )

    @cached_property
    def step(self) -> Step:
        """The training step."""
        return Step(self.shape, self.layout, self.machine.card, self.machine.links)

    @cached_property
    def time(self) -> StepTime:
        """Seconds of a step, by part."""
        return self.step.time()

    @cached_property
    def traffic(self) -> Traffic:
        """Bytes that a card sends in a step, by kind."""
        return self.step.traffic()

    @cached_property
    def memory(self) -> CardBytes:
        """Bytes that the fullest card holds, by part."""
        return card_bytes(self.shape, self.layout)

    @property
    def fits(self) -> bool:
        """Whether it fits the card's memory."""
        return self.memory.total <= self.machine.card.memory

    @property
    def step_tokens(self) -> int:
        """Tokens of an optimizer step."""
        return self.layout.batch * self.shape.context

    @property
    def tokens_per_second(self) -> float:
        """Of all cards together."""
        return self.step_tokens / self.time.total

    @property
    def model_rate(self) -> float:
        """FLOP a second of a card that the model needs: recomputation is not counted."""
        return self.shape.model_flops * self.tokens_per_second / self.layout.gpus

    @property
    def hardware_rate(self) -> float:
        """FLOP a second of a card, what is computed again counted again."""
        again = {"none": 0, "selective": self.shape.layer_score_flops}.get(
            self.layout.recompute, self.shape.layer_map_flops + self.shape.layer_score_flops
        )
        flops = self.shape.model_flops + self.shape.layers * again
        return flops * self.tokens_per_second / self.layout.gpus

    @property
    def utilisation(self) -> float:
        """Model FLOPs utilisation (Chowdhery et al. 2022, appendix B)."""
        return self.model_rate / self.machine.card.peak

    @cached_property
    def reliability(self) -> Reliability:
        """Failures and checkpoints."""
        nodes = -(-self.layout.gpus // self.machine.links.per_node)
        storage = self.costs.storage or nodes * NODE_STORAGE
        return Reliability(
            self.costs.card_hours * 3600 / self.layout.gpus,
            self.checkpoint_bytes / storage,
            self.costs.restart,
        )

    @property
    def checkpoint_bytes(self) -> float:
        """Of parameters and the optimizer's state."""
        return self.shape.parameters * (self.layout.number_bytes + self.layout.state_bytes)

    @property
    def training_seconds(self) -> float:
        """Of all tokens without a failure."""
        return self.costs.tokens / self.tokens_per_second

    @property
    def wall_seconds(self) -> float:
        """Of all tokens, with checkpoints and expected failures."""
        return self.training_seconds / self.reliability.useful

    @property
    def limits(self) -> list[str]:
        """What limits the layout, in words, the first first."""
        parts = sorted(self.time.parts.items(), key=lambda part: -part[1])
        words = [
            f"{LIMITS[name]} ({seconds / self.time.total:.0%} of the step)"
            for name, seconds in parts[:2]
            if seconds
        ]
        if self.fits:
            return words
        need, there = (size / 2**30 for size in (self.memory.total, self.machine.card.memory))
        return [f"memory: a card would hold {need:,.1f} GiB and has {there:,.1f} GiB", *words]

    def as_result(self) -> dict[str, Any]:
        """Return everything as JSON-ready values: seconds, bytes, FLOP, shares."""
        time, layout, reliability = self.time, self.layout, self.reliability
        result: dict[str, Any] = {
            "shape": {**asdict(self.shape), "parameters": self.shape.parameters},
            "layout": {**asdict(layout), "micro_batches": layout.micro_batches},
            "card": {**asdict(self.machine.card), "attainable": self.machine.card.attainable},
            "links": asdict(self.machine.links),
            "step": {**time.parts, "total": time.total},
            "memory": {**asdict(self.memory), "total": self.memory.total, "fits": self.fits},
            "traffic": self.traffic.parts,
            "tokens_per_step": self.step_tokens,
            "tokens_per_second": self.tokens_per_second,
            "model_flops_per_token": self.shape.model_flops,
            "model_flops_per_second": self.model_rate,
            "hardware_flops_per_second": self.hardware_rate,
            "utilisation": self.utilisation,
            "failures": {
                "seconds_between": reliability.between,
                "checkpoint_bytes": self.checkpoint_bytes,
                "checkpoint_seconds": reliability.checkpoint,
                "interval_seconds": reliability.interval,
                "useful_share": reliability.useful,
            },
            "limits": self.limits,
        }
        if self.costs.tokens:
            hours = self.wall_seconds * layout.gpus / 3600
            result["run"] = {
                "tokens": self.costs.tokens,
                "steps": self.costs.tokens / self.step_tokens,
                "seconds_without_failures": self.training_seconds,
                "seconds": self.wall_seconds,
                "failures": reliability.failures(self.wall_seconds),
                "card_hours": hours,
                "cost": hours * self.costs.price,
            }
        return result
