"""Ablation by zeros, means and other texts, beside models whose weights say the same."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.model.helpers import build_random
from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.ablation import Means, Zeros, resampled
from tinylm.interpretability.patching import Site, patched
from tinylm.interpretability.trace import trace

IDS = [2, 5, 9, 4, 7, 9]
TEXTS = [[2, 6, 8, 4, 7, 3], [2, 11, 12]]
HEAD_DIM = 4


@torch.no_grad()
def test_a_head_by_zeros_or_its_mean_is_a_model_with_that_built_in() -> None:
    model = build_random()
    base, texts = trace(model, [IDS]), trace(model, TEXTS)
    for layer in range(2):
        name = f"layers.{layer}.attention.mixed"
        for head in range(3):
            mixed = texts[name][:, head]
            mean = torch.cat([mixed[0], mixed[1, :3]]).mean(0)  # padding is no token
            for source, instead in ((Zeros(base), 0 * mean), (Means(base, texts), mean)):
                ours = patched(base, source, [[Site(name, head=head)]])[0]
                changed = copy.deepcopy(model)
                output = changed.layers[layer].attention.output
                columns = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
                output.bias += output.weight[:, columns] @ instead
                output.weight[:, columns] = 0
                expected = changed(torch.tensor([IDS]))[0, -1]
                assert float((ours - expected).abs().max()) < 1e-12
                assert float((ours - base.logits[0, -1]).abs().max()) > 1e-3


def test_means_of_the_stream_and_of_a_position() -> None:
    model = build_random()
    base, texts = trace(model, [IDS]), trace(model, TEXTS)
    name = "layers.1.input"
    source = Means(base, texts)[name]
    mean = torch.cat([texts[name][0], texts[name][1, :3]]).mean(0)
    assert source.shape == base[name].shape
    assert float((source - mean).abs().max()) < 1e-12
    rows = [[Site(name, position)] for position in range(6)]
    assert len({float(row[0]) for row in patched(base, Means(base, texts), rows)}) == 6


def test_another_text_s_activations_make_its_logits() -> None:
    model = build_random()
    base, texts = trace(model, [IDS]), trace(model, TEXTS)
    other = resampled(base, texts, 0)
    ours = patched(base, other, [[Site("layers.1.input")]])[0]
    assert float((ours - texts.logits[0, -1]).abs().max()) < 1e-12


def test_what_cannot_be_ablated_so_is_refused() -> None:
    model = build_random()
    base, texts = trace(model, [IDS]), trace(model, TEXTS)
    with pytest.raises(GenerationError, match="text 1 has 3 tokens and the run that is ablated 6"):
        resampled(base, texts, 1)
    with pytest.raises(ConfigError, match=r"layers.0.attention.pattern has no mean over texts"):
        patched(base, Means(base, texts), [[Site("layers.0.attention.pattern", head=0)]])
