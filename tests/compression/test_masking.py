"""Pruning by masks: magnitude and random beside torch's, Wanda and Taylor by brute force."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import Tensor, nn

from tinylm.compression.masking import Masking, held_share, targets
from tinylm.compression.taylor import Taylor
from tinylm.compression.wanda import Wanda
from tinylm.config.finetuning import EVERY_PROJECTION
from tinylm.errors import CompressionError
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import masks_of
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedLinear
from tinylm.registry import PRUNERS

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (6, 9), generator=torch.Generator().manual_seed(3))
MASKING = [name for name in PRUNERS if not PRUNERS.load(name).removes]


def prune(name: str, model: DecoderLM, share: float, **settings: Any) -> dict[str, Tensor]:
    method = PRUNERS.load(name)
    assert method.prune(model, share, method.Settings(**settings), IDS).model is model
    return masks_of(model)


def maps(model: nn.Module) -> dict[str, nn.Linear]:
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear) and path != "unembedding"
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.77, 0.95])
def test_magnitude_is_torchs_own(share: float, small_model: Models) -> None:
    """Of each map, and of all maps together."""
    model, expected = small_model(), small_model()
    for module in maps(expected).values():
        torch_prune.l1_unstructured(module, "weight", share)
    masks = prune("magnitude", model, share)
    assert masks.keys() == maps(model).keys()
    for path, module in maps(expected).items():
        assert torch.equal(masks[path], module.weight_mask.bool())
        assert torch.equal(model.get_submodule(path).weight.detach(), module.weight.detach())

    model, expected = small_model(), small_model()
    everything = [(module, "weight") for module in maps(expected).values()]
    torch_prune.global_unstructured(everything, torch_prune.L1Unstructured, amount=share)
    masks = prune("magnitude", model, share, scope="global")
    for path, module in maps(expected).items():
        assert torch.equal(masks[path], module.weight_mask.bool())
    with torch.no_grad():
        assert torch.equal(model(IDS), expected(IDS))


def test_random_pruning_draws_as_many_and_the_same_for_a_seed(small_model: Models) -> None:
    masks = [prune("random", small_model(), 0.3, seed=seed) for seed in (0, 0, 1)]
    for path, module in maps(small_model()).items():
        counted = [int((~each[path]).sum()) for each in masks]
        assert counted == [round(0.3 * module.weight.numel())] * 3
        assert torch.equal(masks[0][path], masks[1][path])
        assert not torch.equal(masks[0][path], masks[2][path])
    # The model is torch's with the same mask.
    model, expected = small_model(), small_model()
    for path, mask in prune("random", model, 0.3).items():
        torch_prune.custom_from_mask(expected.get_submodule(path), "weight", mask)
    with torch.no_grad():
        assert torch.equal(model(IDS), expected(IDS))


def wanda_by_hand(weight: Tensor, inputs: Tensor, share: float) -> list[list[bool]]:
    """Row by row, input by input; ties by their place."""
    kept = []
    norms = [sum(float(x) ** 2 for x in inputs[:, j]) ** 0.5 for j in range(inputs.shape[1])]
    for row in weight.tolist():
        scores = sorted((abs(w) * norms[j], j) for j, w in enumerate(row))
        gone = {j for _, j in scores[: round(share * len(row))]}
        kept.append([j not in gone for j in range(len(row))])
    return kept


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_wanda_by_brute_force(share: float, small_model: Models) -> None:
    model = small_model().double()
    with torch.no_grad():
        for module in maps(model).values():
            module.weight.copy_((module.weight * 4).round() / 4)  # ties
    given: dict[str, list[Tensor]] = {path: [] for path in maps(model)}
    handles = [
        module.register_forward_pre_hook(
            lambda _, args, path=path: given[path].append(args[0].flatten(0, -2))
        )
        for path, module in maps(model).items()
    ]
    with torch.no_grad():
        model(IDS)
    for handle in handles:
        handle.remove()
    weights = {path: module.weight.detach().clone() for path, module in maps(model).items()}
    ties = sum(len(row.unique()) < len(row) for weight in weights.values() for row in weight.abs())
    assert ties > 20
    masks = prune("wanda", model, share)
    for path, mask in masks.items():
        assert mask.tolist() == wanda_by_hand(weights[path], torch.cat(given[path]), share)


def test_taylor_by_finite_differences(small_model: Models) -> None:
    """What the loss of each text does per unit of a weight, times the weight; then the mean."""
    model = small_model().double()
    path = "layers.1.attention.output"
    weight = model.get_submodule(path).weight
    score = Taylor.scores(model, {path: model.get_submodule(path)}, None, IDS)[path]

    @torch.no_grad()
    def losses() -> Tensor:
        """Return the mean loss of each text."""
        logits = model(IDS[:, :-1])
        return nn.functional.cross_entropy(logits.mT, IDS[:, 1:], reduction="none").mean(1)

    expected = torch.zeros_like(weight)
    step = 1e-5
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            before = float(weight.detach()[i, j])
            sides = []
            for side in (before + step, before - step):
                weight.data[i, j] = side
                sides.append(losses())
            weight.data[i, j] = before
            slopes = (sides[0] - sides[1]) / (2 * step)
            expected[i, j] = (before * slopes).abs().mean()
    torch.testing.assert_close(score, expected.detach(), rtol=1e-6, atol=1e-9)


def test_taylor_leaves_frozen_weights_frozen_and_no_gradient(small_model: Models) -> None:
    model = small_model()
    model.get_submodule("layers.0.attention.output").weight.requires_grad_(False)
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    scores = Taylor.scores(model, maps(model), None, IDS)
    assert bool(scores["layers.0.attention.output"].count_nonzero())
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", MASKING)
@pytest.mark.parametrize("settings", [{}, {"scope": "row"}, {"scope": "global"}])
def test_exactly_so_many_weights_go(
    name: str, settings: dict[str, Any], small_model: Models
) -> None:
    model = small_model()
    before = copy.deepcopy(model.state_dict())
    masks = prune(name, model, 0.5, **settings)
    sizes = {path: module.weight.numel() for path, module in maps(model).items()}
    held = {path: int((~mask).sum()) for path, mask in masks.items()}
    assert sum(held.values()) == sum(sizes.values()) // 2  # all sizes are even
    for key, tensor in before.items():  # embeddings, norms, biases
        if key.removesuffix(".weight") not in sizes:
            assert torch.equal(model.state_dict()[key], tensor)


@pytest.mark.parametrize("name", MASKING)
def test_two_of_four(name: str, small_model: Models) -> None:
    model = small_model()
    masks = prune(name, model, 0.5, pattern="2:4")
    for path, mask in masks.items():
        assert (mask.view(-1, 4).sum(1) == 2).all(), path
    with pytest.raises(CompressionError, match=r"share = 0\.4: pattern 2:4 leaves out 0\.5"):
        prune(name, small_model(), 0.4, pattern="2:4")


@pytest.mark.parametrize("name", MASKING)
def test_what_was_pruned_before_goes_first(name: str, small_model: Models) -> None:
    model = small_model()
    first = prune("random", model, 0.4)
    second = prune(name, model, 0.6)
    assert all(not (second[path] & ~mask).any() for path, mask in first.items())
    modules = targets(model, EVERY_PROJECTION, (nn.Linear,))
    assert held_share(model, modules) == pytest.approx(0.6, abs=0.01)
    with pytest.raises(CompressionError, match=r"(59|60)\.\d% of these weights are pruned already"):
        prune(name, model, 0.5)


def test_embeddings_and_norms_go_when_they_are_named(small_model: Models) -> None:
    model = small_model()
    masks = prune("magnitude", model, 0.5, targets=("embedding", "attention_norm"))
    assert masks.keys() == {"embedding", "layers.0.attention_norm", "layers.1.attention_norm"}
    tied = small_model(tie_embeddings=True)
    assert prune("magnitude", tied, 0.5, targets=("embedding", "unembedding")).keys() == {
        "embedding"
    }
    assert int((tied.unembedding.weight == 0).sum()) == 23 * 12 // 2


@pytest.mark.parametrize(
    ("name", "share", "settings", "message"),
    [
        ("magnitude", 0.0, {}, "share = 0: it must be above 0 and at most 1"),
        ("magnitude", 1.5, {}, r"share = 1\.5: it must be above 0"),
        ("magnitude", float("nan"), {}, "share = nan: it must be"),
        ("magnitude", None, {}, "give --share"),
        ("magnitude", 1e-9, {}, r"share = 1e-09: that is none of [\d,]+ weights$"),
        ("magnitude", 0.5, {"targets": ("nothing",)}, r"matches nothing .* layers\.\*\.attention"),
        ("wanda", 0.5, {"targets": ("embedding",)}, "target 'embedding' matches nothing"),
        ("wanda", 0.5, {"pattern": "2:5"}, "groups of 5 do not divide|leaves out"),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, share: Any, settings: dict[str, Any], message: str, small_model: Models
) -> None:
    model = small_model()
    with pytest.raises(CompressionError, match=message):
        prune(name, model, share, **settings)
    assert masks_of(model) == {}


def test_a_quantized_map_is_refused(small_model: Models) -> None:
    model = small_model()
    layer = model.layers[1]
    layer.attention.output = QuantizedLinear(layer.attention.output, NormalFloat())
    with pytest.raises(CompressionError, match=r"layers\.1\.attention\.output is quantized"):
        prune("magnitude", model, 0.5)
    assert masks_of(model) == {}


def test_calibrated_methods_ask_for_texts(small_model: Models) -> None:
    for method in (Wanda, Taylor):
        for ids in (None, IDS[:0], IDS[:, :1]):
            with pytest.raises(CompressionError, match="give texts"):
                method.prune(small_model(), 0.5, method.Settings(), ids)


def test_all_masking_methods_are_tried() -> None:
    assert MASKING == ["magnitude", "random", "wanda", "taylor"]
    assert all(issubclass(PRUNERS.load(name), Masking) for name in MASKING)
