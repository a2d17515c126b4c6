"""Removed parts: a smaller model that computes what the larger one does with them silenced."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.utils.prune as torch_prune
from torch import Tensor

from tests.training.tiny import tiny_tokenizer
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.importance import gate_importance, mean_loss
from tinylm.compression.parts import in_rounds
from tinylm.compression.removal import keep_heads, keep_layers, keep_neurons
from tinylm.config import ModelConfig
from tinylm.errors import CompressionError
from tinylm.fast import for_decoding
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import hold, masks_of
from tinylm.model.reading import Reading
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedLinear
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import PRUNERS

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (6, 9), generator=torch.Generator().manual_seed(3))
REMOVING = [name for name in PRUNERS if PRUNERS.load(name).removes]
KINDS: list[dict[str, Any]] = [
    {},
    {"norm_placement": "pre", "positions": "rotary", "head_dim": 6},
    {"bias": False, "tie_embeddings": True, "activation": "gelu", "positions": "learned"},
]
FOUR = {"num_heads": 4, "head_dim": 4, "num_layers": 3}


def silenced(
    model: GenerativeModel,
    heads: Sequence[Sequence[int]] = (),
    neurons: Sequence[Sequence[int]] = (),
    layers: Sequence[int] = (),
    ids: Tensor = IDS,
) -> Tensor:
    """Return logits where hooks set parts to 0, or hand on a layer's input."""
    inputs: dict[str, Tensor] = {}

    def off(parts: Sequence[int], axis: int) -> Any:
        def hook(name: str, x: Tensor) -> Tensor:
            return x.index_fill(axis, torch.tensor(parts, dtype=torch.long), 0.0)

        return hook

    def keep(name: str, x: Tensor) -> None:
        inputs[name.removesuffix(".input")] = x

    def skip(name: str, x: Tensor) -> Tensor:
        return inputs[name.removesuffix(".residual")]

    hooks: dict[str, Any] = {}
    hooks |= {f"layers.{i}.attention.mixed": off(each, 1) for i, each in enumerate(heads)}
    hooks |= {f"layers.{i}.feed_forward.inner": off(each, 2) for i, each in enumerate(neurons)}
    for i in layers:
        hooks |= {f"layers.{i}.input": keep, f"layers.{i}.residual": skip}
    with torch.no_grad():
        logits: Tensor = model(ids, hooks=model.hooks(hooks))
    return logits


def others(total: int, gone: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[i for i in range(total) if i not in each] for each in gone]


@torch.no_grad()
def logits_of(model: GenerativeModel, ids: Tensor = IDS) -> Tensor:
    logits: Tensor = model(ids)
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_removed_heads_and_neurons_are_silenced_ones(
    kind: dict[str, Any], small_model: Models
) -> None:
    model = small_model(**FOUR | kind).double()
    before = copy.deepcopy(model.state_dict())
    heads = [[2, 0], [3, 1], [0, 1]]
    smaller = keep_heads(model, others(4, heads))
    assert smaller.config == replace(model.config, num_heads=2)
    torch.testing.assert_close(
        logits_of(smaller), silenced(model, heads=heads), rtol=1e-12, atol=1e-12
    )
    neurons = [[0, 5, 19], [1, 2, 3], [7, 8, 9]]
    both = keep_neurons(smaller, others(20, neurons))
    assert both.config == replace(model.config, num_heads=2, ffn_size=17)
    torch.testing.assert_close(
        logits_of(both), silenced(model, heads, neurons), rtol=1e-12, atol=1e-12
    )
    for each in (smaller, both):
        counted = sum(p.numel() for p in each.parameters())
        assert counted == parameter_counts(each.config)["total"]
        assert not each.training
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


@pytest.mark.parametrize("kind", KINDS)
def test_removed_layers_are_handed_over_bit_for_bit(
    kind: dict[str, Any], small_model: Models
) -> None:
    model = small_model(**FOUR | kind)
    for gone in ([1], [0], [0, 2]):
        smaller = keep_layers(model, [i for i in range(3) if i not in gone])
        assert torch.equal(logits_of(smaller), silenced(model, layers=gone))


def by_head(model: DecoderLM, gone: Sequence[int]) -> Tensor:
    """Return the attention of the first layer, each head by products of its own, added in order."""
    attention = model.layers[0].attention
    width, heads = attention.head_dim, attention.num_heads
    reading = Reading(model.positions, torch.arange(IDS.shape[1])[None])
    blocked = torch.ones(IDS.shape[1], IDS.shape[1]).triu(1).bool()
    total = torch.zeros(len(IDS), IDS.shape[1], model.config.hidden_size)
    with torch.no_grad():
        x = model.embedding(IDS) * model.embedding_scale
        weight, bias = attention.query_key_value.weight, attention.query_key_value.bias
        for head in range(heads):
            rows = [
                slice((i * heads + head) * width, (i * heads + head + 1) * width) for i in range(3)
            ]
            query, key, value = (x @ weight[each].T.clone() + bias[each] for each in rows)
            query, key = (
                reading.encoding.rotate(each[:, None], reading.positions)[:, 0]
                for each in (query, key)
            )
            scores = (query @ key.mT / width**0.5).masked_fill(blocked, -torch.inf)
            mixed = scores.softmax(-1) @ value * (head not in gone)
            columns = attention.output.weight[:, head * width : (head + 1) * width]
            total = total + mixed @ columns.T.clone()
        return total + attention.output.bias


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_a_removed_head_is_a_silenced_one_bit_for_bit(positions: str, small_model: Models) -> None:
    """Where each head has products of its own, and a silenced one adds zeros."""
    model = small_model(**FOUR, positions=positions)
    for gone in ([0], [3], [1, 2]):
        smaller = keep_heads(model, others(4, [gone] * 3))
        assert isinstance(smaller, DecoderLM)
        assert torch.equal(by_head(smaller, []), by_head(model, gone))


def test_torchs_structured_pruning_gives_the_same(small_model: Models) -> None:
    """Rows of zeros of a ReLU network, and columns of zeros after the heads."""
    model = small_model(**FOUR)
    expected = copy.deepcopy(model)
    for i in range(3):
        layer = expected.layers[i]
        torch_prune.ln_structured(layer.feed_forward.expand, "weight", 0.5, n=2, dim=0)
        kept = layer.feed_forward.expand.weight_mask[:, 0]
        torch_prune.custom_from_mask(layer.feed_forward.expand, "bias", kept)
        columns = torch.ones_like(layer.attention.output.weight)
        columns[:, 4 * i : 4 * i + 4] = 0  # head i
        torch_prune.custom_from_mask(layer.attention.output, "weight", columns)
    neurons = [
        expected.layers[i].feed_forward.expand.weight_mask[:, 0].nonzero().flatten().tolist()
        for i in range(3)
    ]
    smaller = keep_neurons(keep_heads(model, others(4, [[0], [1], [2]])), neurons)
    assert smaller.config.ffn_size == 10
    torch.testing.assert_close(logits_of(smaller), logits_of(expected), rtol=1e-5, atol=1e-5)


def test_a_smaller_model_is_saved_and_decodes(small_model: Models, tmp_path: Any) -> None:
    model = small_model(**FOUR)
    smaller = keep_neurons(
        keep_heads(keep_layers(model, [0, 2]), [[0, 3], [1, 2]]), [range(0, 20, 2)] * 2
    )
    save_checkpoint(tmp_path, smaller, tiny_tokenizer(), TrainingState(0))
    loaded = load_checkpoint(tmp_path / "last").build_language_model()
    assert torch.equal(logits_of(loaded), logits_of(smaller))
    ids = IDS[:2, :3].tolist()
    stepper = Stepper(for_decoding(loaded), ids, 0)
    for step in range(4):
        full = logits_of(smaller, torch.tensor(ids))[:, -1]
        torch.testing.assert_close(stepper.logits(), full, rtol=1e-4, atol=1e-4)
        for row in ids:
            row.append(5 + step)
        stepper.append(torch.tensor([5 + step] * 2))


def test_masks_go_with_what_is_left(small_model: Models) -> None:
    model = small_model(**FOUR)
    generator = torch.Generator().manual_seed(0)
    hold(
        model,
        {
            path: torch.rand(module.weight.shape, generator=generator) > 0.5
            for path, module in model.named_modules()
            if path.startswith("layers.") and isinstance(module, torch.nn.Linear)
        },
    )
    smaller = keep_layers(keep_heads(model, [[0, 3]] * 3), [0, 2])
    masks, larger = masks_of(smaller), masks_of(model)
    assert len(masks) == 8
    columns = [*range(4), *range(12, 16)]
    assert torch.equal(
        masks["layers.1.attention.output"], larger["layers.2.attention.output"][:, columns]
    )
    rows = [i * 16 + column for i in range(3) for column in columns]
    assert torch.equal(
        masks["layers.0.attention.query_key_value"],
        larger["layers.0.attention.query_key_value"][rows],
    )
    torch.testing.assert_close(
        logits_of(smaller), silenced(model, heads=[[1, 2]] * 3, layers=[1]), rtol=1e-5, atol=1e-5
    )


def test_frozen_parts_and_the_mode_stay(small_model: Models) -> None:
    model = small_model(**FOUR).train()
    model.embedding.weight.requires_grad_(False)
    torch.manual_seed(5)
    smaller = keep_heads(model, [[1]] * 3)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))  # nothing was drawn from the global state
    assert smaller.training
    assert [n for n, p in smaller.named_parameters() if not p.requires_grad] == ["embedding.weight"]


# --- importance ---


def loss_with(
    model: GenerativeModel, text: Tensor, name: str, axis: int, part: int, gate: float
) -> float:
    def scale(_: str, x: Tensor) -> Tensor:
        factor = torch.ones(x.shape[axis], dtype=x.dtype)
        factor[part] = gate
        return x * factor.view([-1 if i == axis else 1 for i in range(x.dim())])

    with torch.no_grad():
        logits = model(text[None, :-1], hooks=model.hooks({name: scale}))
    return float(torch.nn.functional.cross_entropy(logits[0], text[1:]))


@pytest.mark.parametrize(
    ("kind", "axis", "parts"), [("attention.mixed", 1, 4), ("feed_forward.inner", 2, 6)]
)
def test_importance_is_the_mean_of_each_texts_own(
    kind: str, axis: int, parts: int, small_model: Models
) -> None:
    """By finite differences of a gate: the absolute value of each text, then the mean."""
    model = small_model(**FOUR, ffn_size=6).double()
    values = gate_importance(model, IDS, kind)
    step, differs = 1e-5, []
    for layer, value in enumerate(values):
        assert value.shape == (parts,)
        for part in range(parts):
            name = f"layers.{layer}.{kind}"
            slopes = [
                (
                    loss_with(model, text, name, axis, part, 1 + step)
                    - loss_with(model, text, name, axis, part, 1 - step)
                )
                / (2 * step)
                for text in IDS
            ]
            expected = sum(abs(slope) for slope in slopes) / len(IDS)
            assert float(value[part]) == pytest.approx(expected, rel=1e-5, abs=1e-9)
            differs.append(expected > 1.1 * abs(sum(slopes) / len(IDS)))
    assert any(differs)  # from the absolute value of the mean


def test_heads_go_one_by_one_and_are_measured_anew(small_model: Models) -> None:
    """As by hooks alone: the least important goes, and the others are measured without it."""
    model = small_model(**FOUR, sharpness=8.0).double()
    method = PRUNERS.load("heads")
    pruned = method.prune(model, 0.75, method.Settings(), IDS)
    gone: list[list[int]] = [[], [], []]
    for _ in range(3):
        slopes: list[Tensor] = []
        kept: dict[str, Tensor] = {}

        def hook(name: str, x: Tensor, kept: dict[str, Tensor] = kept) -> Tensor:
            layer = int(name.split(".")[1])
            x = x.index_fill(1, torch.tensor(gone[layer], dtype=torch.long), 0.0)
            kept[name] = x
            return x

        names = [f"layers.{i}.attention.mixed" for i in range(3)]
        for text in IDS:
            logits = model(text[None, :-1], hooks=model.hooks(dict.fromkeys(names, hook)))
            loss = torch.nn.functional.cross_entropy(logits[0], text[1:])
            own = [kept[name] for name in names]
            derived = torch.autograd.grad(loss, own)
            rows = [(a * g).sum((0, 2, 3)) for a, g in zip(own, derived, strict=True)]
            slopes.append(torch.stack(rows).abs())
        values = torch.stack(slopes).mean(0)
        for layer in range(3):
            left = [i for i in range(4) if i not in gone[layer]]
            gone[layer].append(min(left, key=lambda i: values[layer, i].item()))
    assert pruned.details["removed"] == gone
    torch.testing.assert_close(
        logits_of(pruned.model), silenced(model, heads=gone), rtol=1e-10, atol=1e-10
    )
    for each in pruned.details["importance"]:
        assert torch.tensor(each).norm() == pytest.approx(1)


def test_importance_before_and_after_a_removal_differ(small_model: Models) -> None:
    """Why it is measured anew: of two heads that do the same, the second is needed then."""
    model = small_model(**FOUR, sharpness=8.0).double()
    first = gate_importance(model, IDS, "attention.mixed")
    later = gate_importance(keep_heads(model, [[1, 2, 3]] * 3), IDS, "attention.mixed")
    assert not torch.allclose(first[1][1:], later[1], rtol=1e-2)


def test_layers_go_by_the_loss_without_them(small_model: Models) -> None:
    model = small_model(**FOUR | {"num_layers": 4}, sharpness=6.0).double()
    method = PRUNERS.load("layers")
    pruned = method.prune(model, 0.5, method.Settings(), IDS)
    gone: list[int] = []
    for round_losses in pruned.details["losses"]:
        left = [i for i in range(4) if i not in gone]
        losses = []
        for i in left:
            logits = silenced(model, layers=[*gone, i], ids=IDS[:, :-1])
            losses.append(
                float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), IDS[:, 1:].flatten()))
            )
        torch.testing.assert_close(torch.tensor(round_losses), torch.tensor(losses))
        gone.append(left[losses.index(min(losses))])
    assert pruned.details["removed"] == gone
    assert pruned.model.config.num_layers == 2
    kept = [i for i in range(4) if i not in gone]
    assert torch.equal(logits_of(pruned.model), logits_of(keep_layers(model, kept)))
    assert mean_loss(pruned.model, IDS) == pytest.approx(min(pruned.details["losses"][-1]))


@pytest.mark.parametrize("name", REMOVING)
def test_as_many_go_as_is_said(name: str, small_model: Models) -> None:
    model = small_model(**FOUR)
    method = PRUNERS.load(name)
    size = {"heads": "num_heads", "neurons": "ffn_size", "layers": "num_layers"}[name]
    total = getattr(model.config, size)
    for settings in ({"count": 2}, {"count": 2, "importance": "random", "seed": 3}):
        pruned = method.prune(model, None, method.Settings(**settings), IDS)
        assert pruned.model.config == replace(model.config, **{size: total - 2})
    other = method.prune(model, None, method.Settings(count=2, importance="random", seed=4), None)
    assert other.model.config == pruned.model.config
    assert other.details["removed"] != pruned.details["removed"]
    shared = method.prune(model, 0.5, method.Settings(), IDS)
    assert getattr(shared.model.config, size) == total - round(total / 2)


def test_rounds_share_what_goes() -> None:
    assert in_rounds(10, 4) == [2, 3, 2, 3]
    assert in_rounds(2, 4) == [1, 1]
    assert in_rounds(5, 1) == [5]


@pytest.mark.parametrize("name", REMOVING)
@pytest.mark.parametrize(
    ("share", "count", "message"),
    [
        (0.0, None, "share = 0: it must be above 0 and at most 1"),
        (1.2, None, r"share = 1\.2: it must be above 0 and at most 1"),
        (1.0, None, r"share = 1: that is (\d+) of \1 \w+; at least one goes"),
        (1e-3, None, r"share = 0\.001: that is 0 of \d+ \w+;"),
        (None, 100, r"count = 100: that is 100 of \d+ \w+; .* one stays: 1 to \d+$"),
        (None, None, "say how many .* give --share, or -o count, not both"),
        (0.5, 1, "say how many .* give --share, or -o count, not both"),
    ],
)
def test_more_parts_than_there_are_are_refused(
    name: str, share: float | None, count: int | None, message: str, small_model: Models
) -> None:
    method = PRUNERS.load(name)
    with pytest.raises(CompressionError, match=message):
        method.prune(small_model(), share, method.Settings(count=count), IDS)


@pytest.mark.parametrize("name", REMOVING)
def test_models_that_cannot_be_built_smaller_are_refused(name: str, small_model: Models) -> None:
    method = PRUNERS.load(name)
    quantized = small_model(**FOUR)
    quantized.layers[1].attention.output = QuantizedLinear(
        quantized.layers[1].attention.output, NormalFloat()
    )
    with pytest.raises(CompressionError, match="quantized already"):
        method.prune(quantized, 0.5, method.Settings(), IDS)
    extended = small_model(**FOUR)
    extended.write_changes([{"change": "extend", "context_length": 20}])
    with pytest.raises(CompressionError, match=r"was changed since it was built \(extend\)"):
        method.prune(extended, 0.5, method.Settings(), IDS)


def test_heads_with_biases_of_their_own_stay(small_model: Models) -> None:
    model = small_model(**FOUR, positions="alibi")
    method = PRUNERS.load("heads")
    with pytest.raises(CompressionError, match=r"positions = alibi .* neurons and layers can"):
        method.prune(model, 0.5, method.Settings(), IDS)
    others_can = PRUNERS.load("neurons")
    assert others_can.prune(model, 0.5, others_can.Settings(), IDS).model.config.ffn_size == 10


@pytest.mark.parametrize(
    "kept", [[[0], [0, 1], [0]], [[]] * 3, [[0, 0]] * 3, [[1, 0]] * 3, [[4]] * 3]
)
def test_parts_that_cannot_be_kept_are_refused(kept: list[list[int]], small_model: Models) -> None:
    with pytest.raises(CompressionError, match="heads: "):
        keep_heads(small_model(**FOUR), kept)


def test_the_only_head_stays() -> None:
    model = DecoderLM(ModelConfig(vocab_size=9, num_layers=1, num_heads=1, hidden_size=4))
    method = PRUNERS.load("heads")
    with pytest.raises(CompressionError, match=r"one stays: none can"):
        method.prune(model, 0.6, method.Settings(), IDS)
