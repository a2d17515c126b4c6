"""What every positional encoding holds; a new one comes under these by its registry line."""

import re

import pytest
import torch
from torch import Tensor

from tests.model.helpers import (
    ENCODINGS,
    NORM_PLACEMENTS,
    build,
    build_random,
    largest_difference,
    random_ids,
)
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import POSITIONS
from tinylm.report.references import REFERENCES

pytestmark = pytest.mark.parametrize("name", ENCODINGS)


def test_it_is_a_documented_encoding_that_the_configuration_takes(name: str) -> None:
    encoding = POSITIONS.load(name)
    assert issubclass(encoding, Positions)
    assert encoding.__doc__
    assert ModelConfig(positions=name).positions == name


def test_it_says_what_the_report_tells_of_it(name: str) -> None:
    encoding = POSITIONS.load(name)
    assert encoding.label == encoding.label.strip() != ""
    explanation = encoding.explanation(ModelConfig(context_length=17, hidden_size=12, num_heads=6))
    assert explanation.text.endswith(":" if explanation.equation else ".")
    assert bool(explanation.equation) == bool(explanation.rest)
    sources = set(re.findall(r"\[\[(\w+)\]\]", explanation.text))
    assert sources
    assert sources <= REFERENCES.keys()


def test_it_overrides_a_point(name: str) -> None:
    encoding = POSITIONS.load(name)
    points = ("add", "rotate", "bias")
    assert any(getattr(encoding, point) is not getattr(Positions, point) for point in points)


@pytest.mark.parametrize(
    ("hidden_size", "num_heads", "head_dim"), [(300, 8, None), (10, 3, 4), (7, 1, None), (6, 2, 3)]
)
def test_its_points_keep_shape_and_format(
    name: str, hidden_size: int, num_heads: int, head_dim: int | None
) -> None:
    config = ModelConfig(
        vocab_size=5,
        context_length=16,
        hidden_size=hidden_size,
        num_heads=num_heads,
        head_dim=head_dim,
        positions=name,
    )
    try:
        encoding = POSITIONS.load(name)(config)
    except ConfigError as error:  # sizes that it cannot take are refused by name
        assert f"model.positions = {name}" in str(error)
        return
    size = config.resolved_head_dim
    for places in (torch.tensor([[3, 0, 15]]), torch.tensor([[3, 0, 15], [1, 2, 3]])):
        embeddings = torch.randn(2, 3, hidden_size)
        vectors = torch.randn(2, num_heads, 3, size)
        assert encoding.add(embeddings, places).shape == embeddings.shape
        assert encoding.add(embeddings, places).dtype == torch.float32
        for dtype in (torch.float32, torch.bfloat16):
            turned = encoding.rotate(vectors.to(dtype), places)
            assert turned.shape == vectors.shape
            assert turned.dtype == dtype
        bias = encoding.bias(places[:, -1:], places)
        assert bias is None or torch.broadcast_shapes(bias.shape, (2, num_heads, 1, 3))


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_the_model_is_causal(name: str, norm_placement: str) -> None:
    model = build_random(positions=name, norm_placement=norm_placement)
    ids = random_ids(model, 1, 16)
    with torch.no_grad():
        before = model(ids)
        for t in range(16):
            changed = ids.clone()
            changed[0, t] = (ids[0, t] + 1) % 23
            after = model(changed)
            assert torch.equal(before[0, :t], after[0, :t])
            assert not torch.equal(before[0, t], after[0, t])


def test_the_order_of_tokens_matters(name: str) -> None:
    # One layer: without positions the last token sees the others as a bag.
    model = build_random(positions=name, num_layers=1)
    ids = torch.tensor([[1, 2, 3, 4, 5], [2, 1, 3, 4, 5]])
    with torch.no_grad():
        first, second = model(ids)[:, -1]
    assert largest_difference(first, second) > 1e-6


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("chunk", [1, 3, 16])
def test_cached_equals_uncached(name: str, norm_placement: str, chunk: int) -> None:
    model = build_random(positions=name, norm_placement=norm_placement)
    ids = random_ids(model, 2, 16)
    cache = KVCache(model.config, 2, dtype=torch.float64)
    with torch.no_grad():
        whole = model(ids)
        parts = [model(part, cache=cache) for part in ids.split(chunk, dim=1)]
    assert largest_difference(torch.cat(parts, 1), whole) < 1e-12


def test_explicit_positions_equal_the_running_count(name: str) -> None:
    model = build_random(positions=name)
    ids = random_ids(model, 2, 5)
    real = torch.tensor([[False, False, True, True, True], [True] * 5])
    places = torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]])
    with torch.no_grad():
        assert torch.equal(model(ids, positions=torch.arange(5)[None]), model(ids))
        explicit = model(ids, real=real, positions=places)
        assert torch.equal(explicit[real], model(ids, real=real)[real])


def test_left_padding_changes_nothing(name: str) -> None:
    model = build_random(positions=name)
    ids = random_ids(model, 1, 7)
    real = torch.tensor([[False] * 3 + [True] * 4])
    with torch.no_grad():
        assert largest_difference(model(ids, real=real)[:, 3:], model(ids[:, 3:])) < 1e-12


def test_positions_beyond_the_context_are_refused(name: str) -> None:
    model = build_random(positions=name)
    with pytest.raises(GenerationError, match=r"17 tokens .* model\.context_length = 16"):
        model(random_ids(model, 1, 17))
    with pytest.raises(GenerationError, match=r"position 16 .* model\.context_length = 16"):
        model(random_ids(model, 1, 2), positions=torch.tensor([[15, 16]]))


def test_saved_weights_bring_back_the_logits(name: str) -> None:
    model, other = build_random(1, positions=name), build(2, positions=name)
    ids = random_ids(model, 2, 16)
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(ids), other(ids))


def test_the_seed_alone_decides_the_weights(name: str) -> None:
    first, again, other = (build(seed, positions=name).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_parameters_get_gradients_and_are_counted(name: str) -> None:
    model = build_random(positions=name)
    model(random_ids(model, 2, 16)).square().sum().backward()
    own = list(model.positions.parameters())
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in own)
    assert model.parameter_counts()["positions"] == sum(parameter.numel() for parameter in own)


def test_float32_is_close_to_float64(name: str) -> None:
    model = build(positions=name)
    single = DecoderLM(model.config).eval()
    single.load_state_dict(model.state_dict())
    ids = random_ids(model, 2, 16)
    with torch.no_grad():
        assert largest_difference(single(ids).double(), model(ids)) < 1e-4


def test_what_it_says_of_itself_is_what_it_costs(name: str) -> None:
    config = ModelConfig(
        vocab_size=30, context_length=12, hidden_size=16, num_heads=2, positions=name
    )
    encoding = POSITIONS.load(name)
    built = encoding(config)
    assert encoding.num_parameters(config) == sum(p.numel() for p in built.parameters())
    tables = sum(buffer.numel() * buffer.element_size() for buffer in built.buffers())
    assert encoding.table_bytes(config) >= tables
    assert parameter_counts(config) == DecoderLM(config).parameter_counts()
    # Queries and keys of two windows, of which planning counts the arrays themselves.
    vectors = torch.randn(2, 2, 7, 8, requires_grad=True)
    kept: dict[int, int] = {}

    def see(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    places = torch.arange(7)[None]
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        turned = [built.rotate(vectors * scale, places) for scale in (1, 2)]
    assert all(each.shape == vectors.shape for each in turned)
    assert sum(kept.values()) == encoding.kept_bytes_in_layer(config, 7)
    kept.clear()
    with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
        built.add(torch.randn(2, 7, 16), places)
    assert sum(kept.values()) == encoding.kept_bytes(config, 7)
