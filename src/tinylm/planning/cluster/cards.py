"""What a card and its links can do: stated figures, each with the place where it is stated.

Peak rates, memory and bandwidths are those of the makers' data sheets. What products and links
reach of them was measured by others, and is stated beside them:

- **Products.** Large matrix products reach 271.2 of 312 TFLOP/s on an A100 and 794.5 of 989 on an
  H100 (S. Bekman, *Machine Learning Engineering*, "Maximum achievable matmul FLOPS", 2025). A
  training step multiplies smaller matrices, one after the other: ``TRAINING_SHARE`` of that is what
  its products reach, the one constant here that is fitted (``published.py`` says to what).
- **Memory.** 0.9 of the data sheet's bandwidth for large arrays, as in the description of the A100
  by Isaev et al. 2023, "Calculon", SC23.
- **Links.** 0.8 of the line rate, the rest being protocol (a maintainer of NCCL on H100's NVLink,
  issue 212 of NVIDIA/nccl-tests; NCCL's own model of the A100 ends at 235 of 300 GB/s). The latency
  of a message is NCCL's own figure for long messages on a ring, 3.4 µs on NVLink and 14 µs on a
  network, and 8.4 µs to begin (NVIDIA/nccl, ``src/graph/tuning.cc``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tinylm.errors import ConfigError, nearest, shown

TRAINING_SHARE = 0.75
"""Of the rate of large products, what the products of a training step reach: fitted."""
GIB = 2**30


@dataclass(frozen=True)
class Card:
    """One accelerator, or one process of a processor."""

    name: str
    peak: float
    """FLOP a second of matrix products in bf16, without sparsity."""
    products: float
    """Share of it that large products reach."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes a second between the card and its memory."""
    training: float = TRAINING_SHARE
    """Share of the rate of large products that those of a training step reach."""
    memory_share: float = 0.9
    """Share of the memory's bandwidth that is reached."""

    @property
    def attainable(self) -> float:
        """Share of the peak that the products of a step reach."""
        return self.products * self.training

    @property
    def rate(self) -> float:
        """FLOP a second that the products of a step reach."""
        return self.peak * self.attainable

    @property
    def memory_rate(self) -> float:
        """Bytes a second that the memory reaches."""
        return self.bandwidth * self.memory_share

    def shared(self, processes: float) -> Card:
        """Return the part of each of so many processes that share it: cores of a machine."""
        share = max(1.0, processes)
        return replace(self, peak=self.peak / share, bandwidth=self.bandwidth / share)


@dataclass(frozen=True)
class Links:
    """How cards are joined: some to a node, nodes by a network."""

    per_node: int
    """Cards of a node."""
    within: float
    """Bytes a second that a card sends to others of its node, one direction, by the data sheet."""
    between: float
    """Bytes a second that a card sends to other nodes, by the data sheet."""
    latency_within: float = 3.4e-6
    """Seconds of a message within a node."""
    latency_between: float = 14e-6
    """Seconds of a message between nodes."""
    start: float = 8.4e-6
    """Seconds before a collective begins."""
    share: float = 0.8
    """Share of both rates that collectives reach."""


@dataclass(frozen=True)
class Machine:
    """A card and its usual links."""

    card: Card
    links: Links


def _machine(
    name: str, tflops: float, products: float, gib: float, gb: float, within: float, between: float
) -> Machine:
    card = Card(name, tflops * 1e12, products, gib * GIB, gb * 1e9)
    return Machine(card, Links(8, within * 1e9, between * 1e9))


_A100, _H100 = 271.2 / 312, 794.5 / 989
MACHINES = {
    # NVIDIA's data sheets of A100, H100 and H200, SXM; nodes are DGX or HGX: NVLink of 600 or 900
    # GB/s counts both directions, and every card has a network card of 200 or 400 Gbit/s.
    "a100-40": _machine("A100 40 GB", 312, _A100, 40, 1555, 300, 25),
    "a100": _machine("A100 80 GB", 312, _A100, 80, 2039, 300, 25),
    "h100": _machine("H100 80 GB", 989, _H100, 80, 3350, 450, 50),
    "h200": _machine("H200 141 GB", 989, _H100, 141e9 / GIB, 4800, 450, 50),
}
"""By the name that ``--card`` takes."""


def machine(name: str) -> Machine:
    """Return the machine of a name.

    Raises:
        ConfigError: if there is none.
    """
    if name not in MACHINES:
        raise ConfigError(
            f"--card {shown(name)} is not known{nearest(name, MACHINES)}; --peak, --memory and "
            "the other figures describe any card on top of one of these"
        )
    return MACHINES[name]
