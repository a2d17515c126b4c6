"""Runs that others published, predicted: how far to believe the plan.

One constant is fitted, ``cards.TRAINING_SHARE``, so that the run of 145.6 billion parameters in
table 1 of Narayanan et al. 2021 comes out as measured; no other number is chosen to suit a run. All
the rest is predicted from sizes, layouts and data sheets. One choice of the model was made in
sight of these runs: blockwise attention is timed as if it computed masked pairs too, since its
kernels reach a lower rate than products do (Dao 2023, FlashAttention-2, section 4.1).

Where a paper does not state a layout, the run says what is assumed. Runs whose prediction is more
than 20 % off stand here as well, with what is known of the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tinylm.planning.cluster.cards import MACHINES, Machine
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.plan import ClusterPlan, Costs
from tinylm.planning.cluster.shapes import Shape

BOUND = 0.2
"""Within which a prediction counts as right."""
FITTED = "145.6B"
"""The run to which the constant is fitted."""


@dataclass(frozen=True)
class Published:
    """A run with what was measured of it."""

    source: str
    """Work and table."""
    name: str
    plan: ClusterPlan
    quantity: str
    """What was measured: a property of the plan (see ``predicted``)."""
    measured: float
    note: str = ""
    """What is assumed, or known of the reason of an error."""

    @property
    def predicted(self) -> float:
        """What the plan says of the same quantity."""
        plan = self.plan
        return {
            "TFLOP/s, recomputed too": plan.hardware_rate / 1e12,
            "TFLOP/s": plan.model_rate / 1e12,
            "seconds a step": plan.time.total,
            "days": plan.training_seconds / 86_400,
            "tokens/s a card": plan.tokens_per_second / plan.layout.gpus,
        }[self.quantity]

    @property
    def error(self) -> float:
        """Predicted speed by measured speed, less 1."""
        ratio = self.predicted / self.measured
        return (1 / ratio if self.quantity in ("seconds a step", "days") else ratio) - 1

    @property
    def within(self) -> bool:
        """Whether the prediction is right."""
        return abs(self.error) <= BOUND


MEGATRON: dict[str, Any] = {"recompute": "full", "sequence": False, "flash": False, "overlap": 0.0}
"""Megatron-LM of 2021: whole layers computed again, scores kept, gradients summed at the end."""
A100 = MACHINES["a100"]
_ZERO_NOTE = (
    "gathers ran at 13 to 16 GB/s a card, one network card's rate; planned: all of a node's"
)
_NO_REASON = "reason not known; wide models on the same cards come out right"
_SMALL_NOTE = "narrow: starting an operation takes time too, which is not counted"


def _gpt(layers: int, hidden: int, heads: int) -> Shape:
    """Return a model of Megatron-LM's papers: contexts of 2,048 tokens, 51,200 types."""
    return Shape.gpt(layers, hidden, heads, 2048, 51_200)


GPT3, MT_NLG = _gpt(96, 12_288, 96), _gpt(105, 20_480, 128)


def narayanan() -> Iterator[Published]:
    """Yield tables 1 and 2 of Narayanan et al. 2021, SC21.

    Micro-batches and parts are those of ``examples/sc21/run_table_1.sh`` of NVIDIA/Megatron-LM.
    """
    rows = [
        # name, layers, hidden, heads, tensor, pipeline, GPUs, batch, micro, parts, measured
        ("1.7B", 24, 2304, 24, 1, 1, 32, 512, 16, 1, 137),
        ("3.6B", 30, 3072, 32, 2, 1, 64, 512, 16, 1, 138),
        ("7.5B", 36, 4096, 32, 4, 1, 128, 512, 16, 1, 142),
        ("18.4B", 40, 6144, 48, 8, 1, 256, 1024, 8, 1, 135),
        ("39.1B", 48, 8192, 64, 8, 2, 512, 1536, 4, 1, 138),
        ("76.1B", 60, 10240, 80, 8, 4, 1024, 1792, 2, 3, 140),
        (FITTED, 80, 12288, 96, 8, 8, 1536, 2304, 2, 2, 148),
        ("310.1B", 96, 16384, 128, 8, 16, 1920, 2160, 1, 2, 155),
        ("529.6B", 105, 20480, 128, 8, 35, 2520, 2520, 1, 3, 163),
        ("1008B", 128, 25600, 160, 8, 64, 3072, 3072, 1, 1, 163),
    ]
    for name, layers, hidden, heads, t, p, gpus, batch, micro, parts, measured in rows:
        layout = Layout(
            gpus, gpus // (t * p), t, p, micro_batch=micro, batch=batch, interleave=parts,
            **{**MEGATRON, "overlap": float(p == 1)},  # torch's DDP up to 18.4B
        )  # fmt: skip
        plan = ClusterPlan(_gpt(layers, hidden, heads), layout, A100)
        note = "fitted" if name == FITTED else ""
        quantity = "TFLOP/s, recomputed too"
        yield Published("Narayanan 2021, table 1", name, plan, quantity, measured, note)
    for shape, name, stages, gpus, batch, measured in [
        (GPT3, "174.6B", 12, 384, 1536, 153),
        (GPT3, "174.6B", 12, 768, 1536, 149),
        (GPT3, "174.6B", 12, 1536, 1536, 141),
        (MT_NLG, "529.6B", 35, 560, 2240, 171),
        (MT_NLG, "529.6B", 35, 1120, 2240, 167),
        (MT_NLG, "529.6B", 35, 2240, 2240, 159),
    ]:
        layout = Layout(gpus, gpus // (8 * stages), 8, stages, batch=batch, **MEGATRON)
        yield Published(
            "Narayanan 2021, table 2", f"{name}, {gpus} cards", ClusterPlan(shape, layout, A100),
            "TFLOP/s, recomputed too", measured,
        )  # fmt: skip
    for gpus, micro, measured in [(384, 4, 144), (768, 2, 88), (1536, 1, 44)]:
        sharded = {**MEGATRON, "overlap": 1.0}
        layout = Layout(gpus, gpus, stage=3, micro_batch=micro, batch=1536, **sharded)
        yield Published(
            "Narayanan 2021, table 2", f"174.6B, {gpus} cards, ZeRO-3",
            ClusterPlan(GPT3, layout, A100), "TFLOP/s, recomputed too", measured,
            _ZERO_NOTE,
        )  # fmt: skip


def days() -> Iterator[Published]:
    """Yield the days of training of section 5.1 of Narayanan et al. 2021, estimates from rates."""
    gpt3 = Layout(1024, 8, 8, 16, batch=1536, **MEGATRON)
    trillion = Layout(3072, 6, 8, 64, batch=3072, **MEGATRON)
    for name, shape, layout, tokens, estimate, note in (
        (
            "GPT-3, 300e9 tokens, 1024 cards",
            GPT3,
            gpt3,
            300e9,
            34,
            "estimated there from a measured rate; layout not stated",
        ),
        (
            "1008B, 450e9 tokens, 3072 cards",
            _gpt(128, 25_600, 160),
            trillion,
            450e9,
            84,
            "estimated there from a measured rate",
        ),
    ):
        plan = ClusterPlan(shape, layout, A100, Costs(tokens=tokens))
        yield Published("Narayanan 2021, section 5.1", name, plan, "days", estimate, note)


def korthikanti() -> Iterator[Published]:
    """Yield table 5 of Korthikanti et al. 2022, sizes by table 3."""
    for shape, name, stages, parts, batch, micro, whole, selective in [
        (_gpt(48, 6144, 64), "22B", 1, 1, 4, 4, 1.42, 1.10),
        (GPT3, "175B", 8, 3, 64, 1, 18.13, 13.75),
        (MT_NLG, "530B", 35, 3, 280, 1, 49.05, 37.83),
        (_gpt(128, 25_600, 160), "1T", 64, 1, 512, 1, 94.42, 71.49),
    ]:
        base = Layout(8 * stages, 1, 8, stages, micro_batch=micro, batch=batch, interleave=parts,
                      **MEGATRON)  # fmt: skip
        for way, layout, measured in (
            ("whole", base, whole),
            ("selective", replace(base, recompute="selective", sequence=True), selective),
        ):
            plan = ClusterPlan(shape, layout, A100)
            yield Published(
                "Korthikanti 2022, table 5", f"{name}, {way}", plan, "seconds a step", measured
            )


def others() -> Iterator[Published]:
    """Yield MT-NLG, BLOOM, LLaMA and Llama 3."""
    for gpus, measured in ((2240, 60.1), (2800, 50.2), (3360, 44.4)):
        layout = Layout(gpus, gpus // 280, 8, 35, batch=1920, **MEGATRON)
        yield Published(
            "Smith 2022, section 2.4", f"530B, {gpus} cards", ClusterPlan(MT_NLG, layout, A100),
            "seconds a step", measured, "slower than table 2 of Narayanan 2021, where it is alike",
        )  # fmt: skip
    bloom = replace(Shape.gpt(70, 14_336, 112, 2048, 250_880), places=0, dropout=False)
    links = replace(A100.links, between=6.25e9)  # four links of 100 Gbit/s a node
    layout = Layout(384, 8, 4, 12, stage=1, micro_batch=2, batch=2048, **MEGATRON)
    yield Published(
        "BigScience 2022", "BLOOM 176B", ClusterPlan(bloom, layout, Machine(A100.card, links)),
        "TFLOP/s, recomputed too", 150,
    )  # fmt: skip
    llama = Shape(
        80, 8192, 64, 2048, 32_000, 64, 128, 22_016, gated=True, tied=False, bias=False, norms=1
    )
    for name, layout in (
        ("tensor 8", Layout(2048, 256, 8, stage=1, batch=2048, overlap=1.0)),
        ("fully sharded", Layout(2048, 2048, stage=3, batch=2048, recompute="full")),
    ):
        yield Published(
            "Touvron 2023, section 2.4", f"LLaMA 65B, {name}", ClusterPlan(llama, layout, A100),
            "tokens/s a card", 380, "layout not stated",
        )  # fmt: skip
    big = Shape(
        126, 16_384, 128, 8192, 128_256, 8, 128, 53_248, gated=True, tied=False, bias=False, norms=1
    )
    for gpus, copies, context, places, measured in (
        (8192, 64, 1, 8192, 430),
        (16_384, 128, 1, 8192, 400),
        (16_384, 8, 16, 131_072, 380),
    ):
        batch = 2**24 // (8192 if context == 1 else 131_072)
        layout = Layout(gpus, copies, 8, 16, context, stage=2, batch=batch, interleave=8)
        yield Published(
            "Llama 3 2024, table 4", f"405B, {gpus} cards, {places} places",
            ClusterPlan(replace(big, context=places), layout, MACHINES["h100"]),
            "TFLOP/s", measured,
        )  # fmt: skip


_MPT = {"70b": (80, 8192, 64), "30b": (48, 7168, 56), "13b": (40, 5120, 40), "7b": (32, 4096, 32),
        "3b": (32, 2560, 20), "1b": (24, 2048, 16), "760m": (24, 1536, 12),
        "350m": (24, 1024, 16), "125m": (12, 768, 12)}  # fmt: skip


def mosaic() -> Iterator[Published]:
    """Yield MosaicML's table, of each model and card the row with most cards above a node.

    ``scripts/train/benchmarking/README.md`` of mosaicml/llm-foundry, contexts of 2,048 tokens.
    """
    notes = {("a100-40", "350m"): _SMALL_NOTE, ("a100-40", "125m"): _SMALL_NOTE}
    notes |= {("h100", name): _NO_REASON for name in ("13b", "3b", "1b", "760m")}
    for card, name, gpus, micro, batch, again, measured in [
        ("a100", "70b", 64, 8, 2048, True, 410),
        ("a100-40", "70b", 128, 4, 512, True, 376),
        ("a100-40", "30b", 128, 6, 768, True, 865),
        ("a100-40", "13b", 128, 16, 2048, True, 1972),
        ("a100-40", "7b", 128, 18, 2304, True, 3623),
        ("a100-40", "3b", 128, 6, 768, False, 9538),
        ("a100-40", "1b", 128, 10, 1280, False, 18_647),
        ("a100-40", "760m", 128, 12, 1536, False, 28_940),
        ("a100-40", "350m", 128, 18, 2304, False, 51_934),
        ("a100-40", "125m", 128, 26, 3328, False, 123_936),
        ("h100", "70b", 64, 8, 2048, True, 1039),
        ("h100", "30b", 32, 14, 1344, True, 2308),
        ("h100", "13b", 64, 2, 128, False, 4800),
        ("h100", "3b", 64, 6, 1152, False, 22_525),
        ("h100", "1b", 64, 20, 1280, False, 44_402),
        ("h100", "760m", 32, 24, 768, False, 67_971),
    ]:
        shape = replace(Shape.gpt(*_MPT[name], 2048, 50_368), dropout=False, bias=False, norms=1)
        recompute: Any = "full" if again else "none"
        layout = Layout(gpus, gpus, stage=3, micro_batch=micro, batch=batch, recompute=recompute)
        yield Published(
            "MosaicML 2023", f"MPT {name}, {gpus} {MACHINES[card].card.name}",
            ClusterPlan(shape, layout, MACHINES[card]), "tokens/s a card", measured,
            notes.get((card, name), ""),
        )  # fmt: skip


def published() -> list[Published]:
    """Return all of them."""
    return [*narayanan(), *days(), *korthikanti(), *others(), *mosaic()]
