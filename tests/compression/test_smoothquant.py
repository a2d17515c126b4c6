"""SmoothQuant: nothing changes before rounding, and inputs get easier to round."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinylm.compression.calibration import linear_maps
from tinylm.compression.norms import divide_norm, norms_before
from tinylm.compression.smoothquant import smoothing_scale
from tinylm.model.decoder import DecoderLM


def test_worked_numbers() -> None:
    """The example of Xiao et al. 2023, figure 5."""
    x = torch.tensor([[1.0, -16, 2, 6], [-2, 8, -1, -9]])
    weight = torch.tensor([[2.0, 1, -2], [1, -1, -1], [2, -1, -2], [-1, -1, 1]]).T
    scale = smoothing_scale(x.abs().amax(0), weight)
    assert scale.tolist() == pytest.approx([1.0, 4.0, 1.0, 3.0])
    assert (x / scale).tolist() == [[1, -4, 2, 2], [-2, 2, -1, -3]]
    assert (weight * scale).T.tolist() == [[2, 1, -2], [4, -4, -4], [2, -1, -2], [-3, -3, 3]]


@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]), st.integers(0, 2))
def test_products_are_as_before_and_the_difficulty_moves(
    seed: int, strength: float, dead: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(30, 9, generator=generator, dtype=torch.float64)
    x *= torch.randn(9, generator=generator).mul(2).exp()
    weight = torch.randn(5, 9, generator=generator, dtype=torch.float64)
    x[:, :dead] = 0
    weight[:, 8] = 0
    scale = smoothing_scale(x.abs().amax(0), weight, strength)
    torch.testing.assert_close((x / scale) @ (weight * scale).T, x @ weight.T)
    assert (scale[:dead] == 1).all() and scale[8] == 1
    smooth, scaled = (x / scale).abs().amax(0), (weight * scale).abs().amax(0)
    used = slice(dead, 8)
    # max|x / s| = (max|x| max|W|)^(1-a), and max|W s| is that with a for 1 - a.
    both = (x.abs().amax(0) * weight.abs().amax(0))[used]
    torch.testing.assert_close(smooth[used], both ** (1 - strength), rtol=1e-5, atol=0)
    torch.testing.assert_close(scaled[used], both**strength, rtol=1e-5, atol=0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_a_pre_norm_model_with_divided_norms_gives_the_same_logits(
    small_model: Callable[..., DecoderLM], bias: bool, tied: bool
) -> None:
    model = small_model(norm_placement="pre", bias=bias, tie_embeddings=tied).double()
    ids = torch.randint(4, 23, (3, 8))
    with torch.no_grad():
        before = model(ids)
        norms, maps = norms_before(model), linear_maps(model)
        expected = [
            f"layers.{i}.{name}"
            for i in range(2)
            for name in ("attention.query_key_value", "feed_forward.expand")
        ]
        assert list(norms) == expected + ([] if tied else ["unembedding"])
        for path, norm in norms.items():
            scale = torch.rand(12).mul(6).sub(3).exp()
            divide_norm(norm, scale)
            maps[path].weight.mul_(scale)
        torch.testing.assert_close(model(ids), before, rtol=1e-12, atol=1e-12)


def test_a_post_norm_model_has_no_norm_that_one_map_alone_reads(
    small_model: Callable[..., DecoderLM],
) -> None:
    assert norms_before(small_model()) == {}
    assert norms_before(torch.nn.Linear(2, 2)) == {}
