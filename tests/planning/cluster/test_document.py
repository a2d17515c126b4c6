"""``docs/scaling.md``: every command prints what stands below it; every section has one."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from tests.theory.printed import is_printed, sections, shown
from tinylm.cli import app
from tinylm.planning.cluster.cards import Links, machine
from tinylm.planning.cluster.collectives import Group
from tinylm.planning.cluster.layout import Layout
from tinylm.planning.cluster.shapes import Shape
from tinylm.planning.cluster.step import Step

SCALING = Path(__file__).parents[3] / "docs/scaling.md"
SHOWN = shown(SCALING)


@pytest.mark.parametrize("place", range(len(SHOWN)), ids=lambda i: f"{i}: {SHOWN[i].section}")
def test_it_prints_what_stands_below(place: int) -> None:
    block = SHOWN[place]
    program, *arguments = shlex.split(block.code)
    assert program == "tinylm"
    assert arguments[:2] == ["plan", "cluster"]
    assert block.output
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    assert is_printed(result.stdout, block.output), result.stdout


def test_every_section_ends_in_a_command_and_what_it_prints() -> None:
    for section, text in sections(SCALING).items():
        assert any(block.section == section for block in SHOWN), section
        if section != "How far to believe it":
            assert text.rstrip().endswith("```"), section


def told(pattern: str) -> float:
    """Return the number that the document has in this place."""
    ((number,),) = [m.groups() for m in re.finditer(pattern, SCALING.read_text("utf-8"))]
    return float(number.replace(",", ""))


H100 = machine("h100")
FREE = Links(8, 1e9, 1e9, latency_within=0, latency_between=0, start=0, share=1)
"""A gigabyte a second and nothing else."""


def needed(shape: Shape, layout: Layout, part: str) -> float:
    """Return the GB/s with which a part of a step takes a tenth of the time of its products."""
    time = Step(shape, layout, H100.card, FREE).time()
    return 10 * time.parts[part] / time.products


def test_the_rates_that_links_need() -> None:
    """The formulas of the table leave out scores and the output: short texts, one type."""
    wide = replace(Shape.gpt(8, 8192, 64, 64, 1), places=0)
    tensor = needed(wide, Layout(8, tensor=8, micro_batch=64, batch=64), "tensor")
    assert tensor == pytest.approx(told(r"\| ([\d,]+) GB/s at t = 8"), rel=0.02)
    # Nearly all of a model experts; 56 of 64 parts leave the node, the others beside them.
    experts = replace(
        wide, hidden=128, heads=1, key_heads=1, ffn=14_336, gated=True, experts=64, active=8
    )
    layout = Layout(64, data=64, expert=64, micro_batch=512, batch=64 * 512)
    rate = needed(experts, layout, "expert") * 64 / 56
    assert rate == pytest.approx(told(r"\| ([\d,]+) GB/s at f"), rel=0.02)
    deep = replace(wide, layers=96, hidden=12_288, heads=96, head_dim=128, key_heads=96, ffn=49_152)
    layout = Layout(128, tensor=8, pipeline=16, micro_batch=64, batch=64 * 64)
    assert needed(deep, layout, "pipeline") == pytest.approx(
        told(r"\| ([\d.]+) GB/s at p"), rel=0.02
    )
    # 100,000 tokens a step and card, of which all traffic is seen.
    layout = Layout(512, data=512, micro_batch=1562, batch=512 * 1562, overlap=0.0)
    rate = needed(wide, layout, "data")
    assert rate == pytest.approx(told(r"\| ([\d.]+) GB/s at T"), rel=0.03)


def test_the_slowest_of_many() -> None:
    """The mean of the largest of n normal numbers, by the density of the largest."""
    for cards, pattern in ((8, r"([\d.]+) σ of 8"), (64, r"([\d.]+) σ of 64"),
                           (1024, r"([\d.]+) σ of 1,024")):  # fmt: skip
        x = np.linspace(-8, 8, 200_001)
        density = cards * stats.norm.pdf(x) * stats.norm.cdf(x) ** (cards - 1)
        mean = float(np.trapezoid(x * density, x))
        assert mean == pytest.approx(told(pattern), abs=0.05)
        assert mean < np.sqrt(2 * np.log(cards))


def test_gathers_that_hide() -> None:
    """Tokens of a forward pass that takes as long as the gather of its parameters, 2 P bytes."""
    links = H100.links
    for group, pattern in (
        (Group(links, 8), r"within a node +360 GB/s +([\d,]+) tokens"),
        (Group(links, 64), r"at work +320 GB/s +([\d,]+)"),
        (Group(links, 64, stride=8), r"one network card +40 GB/s +([\d,]+)"),
    ):
        assert H100.card.rate / group.rate == pytest.approx(told(pattern), rel=0.005)
