import math
from contextlib import suppress

import pytest
import torch
from torch import nn

from tests.model.helpers import (
    ENCODINGS,
    NORM_PLACEMENTS,
    SMALL,
    build,
    build_random,
    largest_difference,
    random_ids,
)
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.model.decoder import DecoderLM, evaluating, record
from tinylm.model.layers import LayerNorm

# Inputs


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("scale_embeddings", [True, False])
def test_embeddings_as_input_equal_ids(positions: str, scale_embeddings: bool) -> None:
    model = build_random(positions=positions, scale_embeddings=scale_embeddings)
    ids = random_ids(model, 2, 6)
    real = torch.tensor([[False, False, True, True, True, True], [True] * 6])
    by_ids = model(ids, real=real)
    by_embeddings = model(embeddings=model.embedding(ids), real=real)
    assert torch.equal(by_ids, by_embeddings)


def test_either_ids_or_embeddings_are_needed() -> None:
    model = build()
    ids = random_ids(model, 1, 3)
    for arguments in ({}, {"ids": ids, "embeddings": model.embedding(ids)}):
        with pytest.raises(GenerationError, match="either ids or embeddings"):
            model(**arguments)


def test_positions_of_one_row_serve_every_row() -> None:
    model = build_random(positions="learned")
    ids = random_ids(model, 3, 4)
    places = torch.tensor([[3, 1, 15, 0]])
    with torch.no_grad():
        assert torch.equal(model(ids, positions=places), model(ids, positions=places.expand(3, 4)))
        assert not torch.equal(model(ids, positions=places), model(ids))


def test_padding_counts_for_nothing_in_the_positions() -> None:
    # Row by row: left padding, padding between tokens, right padding.
    model = build_random(positions="learned", num_layers=1)
    real = torch.tensor([[0, 0, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 0, 0]]).bool()
    ids = random_ids(model, 3, 5)
    with torch.no_grad():
        _, kept = record(model, ["embedding", "layers.0.input"], ids, real)
        added = (kept["layers.0.input"] - kept["embedding"])[real]
        table = model.positions.table.weight[:3]
    assert largest_difference(added, table.repeat(3, 1)) < 1e-12


@pytest.mark.parametrize("seq", [1, 15, 16])
def test_any_length_up_to_the_context_is_read(seq: int) -> None:
    model = build()
    assert model(random_ids(model, 2, seq)).shape == (2, seq, 23)


def test_a_longer_sequence_is_refused_with_advice() -> None:
    model = build()
    with pytest.raises(GenerationError, match=r"17 tokens do not fit .*context_length = 16: cut"):
        model(random_ids(model, 2, 17))


@pytest.mark.parametrize("fails", [False, True])
def test_evaluating_puts_each_part_back_into_its_own_mode(fails: bool) -> None:
    model = build(dropout=0.1).train()
    model.layers[0].eval()  # as one that is frozen
    modes = [module.training for module in model.modules()]
    with suppress(ValueError), evaluating(model):
        assert not any(module.training for module in model.modules())
        if fails:
            raise ValueError
    assert [module.training for module in model.modules()] == modes


def test_unembedding_the_residual_gives_the_logits() -> None:
    model = build_random()
    ids = random_ids(model, 2, 5)
    assert torch.equal(model.unembed(model.residual(ids)), model(ids))
    by_hand = model.residual(ids) @ model.unembedding.weight.T + model.unembedding.bias
    assert largest_difference(by_hand, model(ids)) < 1e-12


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    model = build_random()
    ids = random_ids(model, 4, 7)
    for b in range(4):
        assert largest_difference(model(ids)[b], model(ids[b : b + 1])[0]) < 1e-12


@pytest.mark.parametrize("scale_embeddings", [True, False])
@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_only_the_input_side_of_the_embedding_is_scaled(
    scale_embeddings: bool, tie_embeddings: bool
) -> None:
    model = build_random(scale_embeddings=scale_embeddings, tie_embeddings=tie_embeddings)
    ids = random_ids(model, 2, 5)
    with torch.no_grad():
        logits, kept = record(model, ["embedding", "final"], ids)
        scale = math.sqrt(10) if scale_embeddings else 1
        read = model.embedding.weight[ids] * scale
        weight = model.embedding.weight if tie_embeddings else model.unembedding.weight
        bias = 0 if tie_embeddings else model.unembedding.bias
        assert largest_difference(kept["embedding"], read) < 1e-14
        assert largest_difference(logits, kept["final"] @ weight.T + bias) < 1e-12


# Shape of the network


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_post_norm_ends_normalised_and_pre_norm_has_a_final_norm(norm_placement: str) -> None:
    model = build(norm_placement=norm_placement, norm_eps=1e-12)
    assert isinstance(model.final_norm, LayerNorm) == (norm_placement == "pre")
    with torch.no_grad():
        x = model.residual(random_ids(model, 2, 5))
    assert float(x.mean(-1).abs().max()) < 1e-12
    assert largest_difference(x.var(-1, correction=0), torch.ones(2, 5).double()) < 1e-9


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_every_norm_uses_the_eps_of_the_configuration(norm_placement: str) -> None:
    model = build(norm_placement=norm_placement, norm_eps=0.25)
    norms = [module for module in model.modules() if isinstance(module, LayerNorm)]
    assert [norm.eps for norm in norms] == [0.25] * (4 + (norm_placement == "pre"))


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_every_parameter_is_used(norm_placement: str) -> None:
    model = build_random(norm_placement=norm_placement)
    model(random_ids(model, 8, 16)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith("query_key_value.bias"):  # the keys' third shifts all scores alike
            used = parameter.grad.abs().flatten(1).sum(1) if parameter.dim() > 1 else parameter.grad
            assert bool(used.any()), name


def test_a_bias_on_keys_changes_nothing() -> None:
    # It adds the same number to all scores of a query: a known symmetry of softmax.
    model = build_random(positions="sinusoidal")
    ids = random_ids(model, 2, 5)
    with torch.no_grad():
        before = model(ids)
        model.layers[0].attention.query_key_value.bias[12:24] += 1
        assert largest_difference(model(ids), before) < 1e-12
        model.layers[0].attention.query_key_value.bias[24:] += 1
        assert largest_difference(model(ids), before) > 1e-3


def test_without_bias_no_part_has_one() -> None:
    model = build(bias=False, norm_placement="pre")
    assert not [name for name, _ in model.named_parameters() if name.endswith("bias")]
    assert model(random_ids(model, 1, 3)).shape == (1, 3, 23)


def test_a_model_without_a_vocabulary_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size is empty"):
        DecoderLM(ModelConfig())


# Initialisation


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_initialisation_is_what_the_module_states(tie_embeddings: bool) -> None:
    torch.manual_seed(0)
    model = DecoderLM(
        ModelConfig(vocab_size=4000, norm_placement="pre", tie_embeddings=tie_embeddings)
    )
    embedding = model.embedding.weight.detach()
    assert float(embedding.std()) == pytest.approx(300**-0.5, rel=0.01)
    assert abs(float(embedding.mean())) < 5 * 300**-0.5 / math.sqrt(embedding.numel())
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(linear) == 4 * 3 + 1
    for module in linear:
        if module.bias is not None:
            assert not module.bias.any()
        if module is model.unembedding and tie_embeddings:
            continue
        fan_out, fan_in = module.weight.shape
        bound = math.sqrt(6 / (fan_in + fan_out))
        assert 0.999 * bound < float(module.weight.detach().abs().max()) <= bound
        assert float(module.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)
        # Uniform, not normal: a quarter of the numbers lies in each quarter of the range.
        shares = torch.histc(module.weight.detach(), 4, -bound, bound) / module.weight.numel()
        assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.01)
    norms = [m for m in model.modules() if isinstance(m, LayerNorm)]
    assert len(norms) == 7
    for norm in norms:
        assert (norm.weight == 1).all()
        assert norm.bias is not None
        assert not norm.bias.any()


def test_scaled_embeddings_have_unit_variance_and_unscaled_ones_are_gpt2s() -> None:
    torch.manual_seed(0)
    model = DecoderLM(ModelConfig(vocab_size=4000))
    scaled = model.embedding.weight.detach() * model.embedding_scale
    assert float(scaled.var()) == pytest.approx(1, rel=0.02)
    plain = DecoderLM(ModelConfig(vocab_size=4000, scale_embeddings=False))
    assert plain.embedding_scale == 1
    assert float(plain.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.01)


def test_a_new_model_guesses_about_uniformly() -> None:
    torch.manual_seed(0)
    model = DecoderLM(ModelConfig(vocab_size=4000)).eval()
    ids = random_ids(model, 4, 64)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    assert abs(float(loss) - math.log(4000)) < 1


def test_the_seed_decides_the_weights() -> None:
    first, again, other = build(1).state_dict(), build(1).state_dict(), build(2).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


# Tied embeddings


def test_tied_weights_are_one_tensor() -> None:
    model = build_random(tie_embeddings=True)
    assert model.unembedding.weight is model.embedding.weight
    assert model.unembedding.weight.data_ptr() == model.embedding.weight.data_ptr()
    assert model.unembedding.bias is None
    with torch.no_grad():
        before = model(random_ids(model, 1, 4))
        model.embedding.weight[3] += 1
        assert model.unembedding.weight is model.embedding.weight
        assert not torch.equal(model(random_ids(model, 1, 4))[..., 3], before[..., 3])
    untied = build()
    assert untied.unembedding.weight.data_ptr() != untied.embedding.weight.data_ptr()


def test_the_gradient_of_a_tied_weight_is_the_sum_of_both_sides() -> None:
    tied = build_random(tie_embeddings=True)
    untied = build_random(tie_embeddings=False)
    with torch.no_grad():
        for name, parameter in untied.named_parameters():
            if name == "unembedding.bias":
                parameter.zero_()
            else:
                parameter.copy_(tied.get_parameter(name))
    ids = random_ids(tied, 2, 6)
    for model in (tied, untied):
        model(ids).square().sum().backward()
    both = untied.embedding.weight.grad + untied.unembedding.weight.grad
    assert largest_difference(tied.embedding.weight.grad, both) < 1e-10


# Parameter counts


def test_parameter_counts_of_the_baseline_by_hand() -> None:
    config = ModelConfig(
        vocab_size=10_000, hidden_size=300, num_layers=3, num_heads=8, ffn_size=1200
    )
    assert DecoderLM(config).parameter_counts() == {
        "embedding": 3_000_000,
        "positions": 0,
        "attention": 3 * (300 * 912 + 912 + 304 * 300 + 300),
        "feed-forward": 3 * (300 * 1200 + 1200 + 1200 * 300 + 300),
        "norms": 3 * 2 * 2 * 300,
        "unembedding": 3_000_000 + 10_000,
        "total": 9_276_136,
    }


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_parameter_counts_are_the_parameters(
    positions: str, norm_placement: str, tie_embeddings: bool, bias: bool
) -> None:
    model = build(
        positions=positions,
        norm_placement=norm_placement,
        tie_embeddings=tie_embeddings,
        bias=bias,
    )
    counts = model.parameter_counts()
    total = counts.pop("total")
    assert total == sum(counts.values()) == sum(p.numel() for p in model.parameters())
    vocab, hidden, layers, width, ffn = 23, 10, 2, 3 * 4, 14
    norms = 2 * layers + (norm_placement == "pre")
    separate = vocab * hidden + vocab * bias
    assert counts["embedding"] == vocab * hidden
    assert counts["attention"] == layers * (4 * hidden * width + (3 * width + hidden) * bias)
    assert counts["feed-forward"] == layers * (2 * hidden * ffn + (ffn + hidden) * bias)
    assert counts["norms"] == norms * hidden * (1 + bias)
    assert counts["unembedding"] == (0 if tie_embeddings else separate)


# Devices and formats


def test_a_state_dict_holds_the_parameters_and_nothing_else() -> None:
    model = build(norm_placement="pre")
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


def test_float32_is_the_default_and_close_to_float64() -> None:
    model = build()
    single = DecoderLM(ModelConfig(**SMALL)).eval()
    assert {p.dtype for p in single.parameters()} == {torch.float32}
    single.load_state_dict(model.state_dict())
    ids = random_ids(model, 2, 16)
    with torch.no_grad():
        assert largest_difference(single(ids).double(), model(ids)) < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_float32_on_cuda_is_close_to_float64_on_the_cpu() -> None:
    model = build_random()
    ids = random_ids(model, 2, 16)
    with torch.no_grad():
        expected = model(ids)
        on_device = model.float().cuda()(ids.cuda()).cpu().double()
    assert largest_difference(on_device, expected) < 1e-2
