"""What cannot fit is refused with its sum before it is allocated; what fits is left alone."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.model.helpers import build_random
from tinylm.config import GenerationConfig, ModelConfig, TrainingConfig
from tinylm.config.finetuning import BottleneckConfig, PrefixConfig
from tinylm.data.windows import Batch
from tinylm.errors import ConfigError
from tinylm.experiments.lab_mnist.digits import draw_batches, network
from tinylm.finetuning.adapters import attach
from tinylm.finetuning.longlora import extended
from tinylm.generation.engine import SpecialIds, generate
from tinylm.generation.scoring import token_log_probabilities
from tinylm.model.decoder import DecoderLM
from tinylm.planning import limits
from tinylm.planning.limits import (
    machine_memory,
    model_parts,
    refuse_beyond_memory,
    refuse_step,
    shown_bytes,
)
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import POSITIONS
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

SMALL = ModelConfig(vocab_size=50, hidden_size=16, num_heads=2, context_length=8, num_layers=2)
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)


def refused(error: pytest.ExceptionInfo[ConfigError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert " of memory (" in message
    assert ") and there are " in message
    assert "lower " in message
    return message


# --- the sums ---


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_model_s_parts_are_what_is_allocated(positions: str) -> None:
    config = replace(SMALL, positions=positions)
    model = DecoderLM(config)
    parts = model_parts(config)
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    assert parts["weights"] == held == 4 * parameter_counts(config)["total"]
    tables = sum(b.numel() * b.element_size() for b in model.buffers())
    assert parts["positions"] >= tables
    assert (parts["positions"] > 0) == (tables > 0)


def test_sizes_are_written_for_people() -> None:
    assert shown_bytes(512) == "512 bytes"
    assert shown_bytes(1536) == "1.5 KiB"
    assert shown_bytes(3 * 2**30) == "3 GiB"
    assert shown_bytes(10**60) == "9.095e+47 TiB"


def test_the_sum_its_parts_and_the_memory_are_told() -> None:
    parts = {"one": 2**30, "two": 3 * 2**30, "three": 2, "none": 0}
    refuse_beyond_memory("a thing", parts, "its size", 2**33)
    refuse_beyond_memory("a thing", parts, "its size", 0)  # not known
    with pytest.raises(ConfigError) as error:
        refuse_beyond_memory("a thing", parts, "its size", 2**32)
    assert str(error.value) == (
        "a thing needs 4 GiB of memory (two 3 GiB, one 1 GiB, three 2 bytes) and there are 4 GiB: "
        "lower its size"
    )


# --- the machine ---


def test_the_machine_s_memory_is_known() -> None:
    pages = resource.getpagesize() * int(Path("/proc/meminfo").read_text().split()[1])
    assert 0 < machine_memory() <= pages


def test_control_groups_of_both_versions_count(tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    job = root / "user.slice/job"
    job.mkdir(parents=True)
    process = tmp_path / "self"
    process.write_text("0::/user.slice/job\n")
    limits_of = limits._control_group_limits
    assert limits_of(process, root) == []
    (job / "memory.max").write_text("max\n")
    (root / "user.slice/memory.max").write_text("5000\n")
    (tmp_path / "memory.max").write_text("1\n")  # above all groups
    assert limits_of(process, root) == [5000]
    (job / "memory.max").write_text("4000\n")
    assert sorted(limits_of(process, root)) == [4000, 5000]
    process.write_text("0::/../elsewhere\n")
    assert limits_of(process, root) == []
    old = root / "memory/box"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("7000\n")
    process.write_text("9:name=systemd:/\n5:cpu,memory:/box\n4:memory_other:/box\n0::/\n")
    assert limits_of(process, root) == [7000]
    # Within a container the file names the group as the host sees it, and the top is the own one.
    (root / "memory/memory.limit_in_bytes").write_text("6000\n")
    process.write_text("5:memory:/not/visible/here\n")
    assert limits_of(process, root) == [6000]
    assert limits_of(tmp_path / "none", root) == []


# --- where it is asked ---


@pytest.mark.parametrize(
    "sizes",
    [
        {"hidden_size": 1_000_000},
        {"num_layers": 1_000_000},
        {"context_length": 10**10},
        {"vocab_size": 10**10},
        {"ffn_size": 2**60},
        {"head_dim": 2**60},
        {"num_heads": 2**60, "head_dim": 1},
        {"positions": "rotary", "context_length": 10**11},
        {"positions": "learned", "context_length": 10**11},
    ],
)
def test_a_model_that_cannot_be_is_not_built(sizes: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as error:
        DecoderLM(replace(SMALL, **sizes))  # type: ignore[arg-type]
    assert refused(error).startswith("the model needs ")


def test_a_context_that_cannot_be_is_not_extended_to() -> None:
    with pytest.raises(ConfigError) as error:
        extended(build_random(), 10**12)
    refused(error)


@pytest.mark.parametrize(
    ("settings", "change"),
    [
        ({"strategy": "beam", "num_beams": 10**9}, "generation.num_beams or the number of prompts"),
        ({"strategy": "beam", "num_beams": 2**62, "num_return": 2**62}, "generation.num_beams"),
    ],
)
def test_beams_that_cannot_be_are_refused(settings: dict[str, object], change: str) -> None:
    config = GenerationConfig(**settings)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as error:
        generate(DecoderLM(SMALL), [[2, 5]], config, SPECIAL)
    assert refused(error).startswith("generating ")
    assert change in str(error.value)


def test_what_a_search_ranks_is_part_of_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    search = GenerationConfig(strategy="beam", num_beams=1000, max_new_tokens=3)
    model = DecoderLM(SMALL)
    # 2 MB of keys and values, 0.6 of logits, 0.8 of ranked tokens, 0.5 of objects, 0.3 of prompts.
    monkeypatch.setattr(limits, "machine_memory", lambda: 4_500_000)
    assert len(generate(model, [[2, 5]], search, SPECIAL)) == 1
    monkeypatch.setattr(limits, "machine_memory", lambda: 4_000_000)
    with pytest.raises(ConfigError) as error:
        generate(model, [[2, 5]], search, SPECIAL)
    assert "ranked tokens 781.2 KiB" in refused(error)


def test_texts_that_cannot_be_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DecoderLM(SMALL)
    texts = [[2, 5, 6]] * 1000
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=1)
    monkeypatch.setattr(limits, "machine_memory", lambda: 500_000)
    assert len(generate(model, texts[:9], greedy, SPECIAL)) == 9
    with pytest.raises(ConfigError, match="lower the number of prompts or samples"):
        generate(model, texts, greedy, SPECIAL)
    assert len(token_log_probabilities(model, texts, batch_size=9)) == 1000
    with pytest.raises(ConfigError, match=r"reading 1,000 texts of 8 tokens at once needs"):
        token_log_probabilities(model, texts, batch_size=1000)


def test_a_training_step_that_cannot_be_is_refused() -> None:
    training = TrainingConfig(batch_size=10**9)
    with pytest.raises(ConfigError) as error:
        refuse_step(SMALL, training)
    assert refused(error).startswith("a training step with 1,000,000,000 windows of 8 tokens")
    assert "lower training.batch_size" in str(error.value)
    refuse_step(SMALL, TrainingConfig(batch_size=32))
    # What is trained counts: adapters have few moments and gradients.
    large = replace(SMALL, hidden_size=300, vocab_size=10_000)
    size = 4 * parameter_counts(large)["total"]
    with pytest.raises(ConfigError, match=r"lower model\.hidden_size or model\.num_layers"):
        refuse_step(large, TrainingConfig(batch_size=1), memory=3 * size)
    refuse_step(large, TrainingConfig(batch_size=1), trained=1000, memory=3 * size)


def test_a_batch_is_asked_for_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingStep(
        DecoderLM(SMALL), next_token_loss, TrainingConfig(device="cpu", compile=False)
    )
    monkeypatch.setattr(limits, "machine_memory", lambda: 3_000_000)

    def batch(rows: int) -> Batch:
        ids = torch.full((rows, 8), 5)
        return Batch(ids, ids)

    step.backward([batch(4)])
    with pytest.raises(ConfigError, match=r"a training step with 4,000 windows of 8 tokens needs"):
        step.backward([batch(4000)])


def test_parts_of_methods_and_of_the_digits_network_are_refused() -> None:
    for method, settings in (
        ("prefix", PrefixConfig(length=2**60)),
        ("prefix", PrefixConfig(length=2**60, inner_size=0)),
        ("prefix", PrefixConfig(inner_size=2**60)),
        ("bottleneck", BottleneckConfig(size=2**60)),
    ):
        model = DecoderLM(SMALL)
        with pytest.raises(ConfigError) as error:
            attach(model, method, settings)
        refused(error)
    with pytest.raises(ConfigError) as error:
        network(64, 10**6, 0)
    assert "experiments.lab_mnist.hidden_size" in refused(error)
    with pytest.raises(ConfigError) as error:
        draw_batches(torch.zeros(9, dtype=torch.long), 300, 10**12, 0)
    refused(error)
