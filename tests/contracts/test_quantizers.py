"""What every quantization method of the registry must hold."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.test_methods import SETTINGS as METHOD_SETTINGS
from tests.training.tiny import tiny_tokenizer
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.quantizing import quantize
from tinylm.config import field_help, from_overrides, to_dict
from tinylm.config.finetuning import ClassificationConfig, LoraConfig
from tinylm.errors import AdapterError, CompressionError, ConfigError
from tinylm.fast import for_decoding, install
from tinylm.finetuning.adapters import attach, fold, merge, unmerge
from tinylm.finetuning.classification import Classifier
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.quantized import QuantizedEmbedding, QuantizedLinear, QuantizedWeight
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import METHODS, QUANTIZERS
from tinylm.report.references import REFERENCES

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (5, 9), generator=torch.Generator().manual_seed(3))
INPUTS = ("float", "dynamic", "static")


def settings_of(name: str, **changed: Any) -> Any:
    return QUANTIZERS.load(name).Settings(**changed)


def quantized(name: str, model: GenerativeModel, **changed: Any) -> GenerativeModel:
    quantize(model, QUANTIZERS.load(name), settings_of(name, **changed), IDS)
    return model


def maps_of(model: torch.nn.Module) -> dict[str, QuantizedLinear]:
    return {p: m for p, m in model.named_modules() if isinstance(m, QuantizedLinear)}


@torch.no_grad()
def logits_of(model: GenerativeModel, ids: Tensor = IDS) -> Tensor:
    logits: Tensor = model(ids)
    return logits


@pytest.mark.parametrize("name", QUANTIZERS)
def test_it_says_what_it_is(name: str) -> None:
    method = QUANTIZERS.load(name)
    fields = to_dict(method.Settings())
    assert {"bits", "activations"} <= fields.keys()
    assert set(re.findall(r"\{(\w+)\}", method.explanation)) <= fields.keys()
    assert set(re.findall(r"\[\[(\w+)\]\]", method.explanation)) <= REFERENCES.keys()
    assert dict(field_help(method.Settings)).keys() == fields.keys()
    assert all(dict(field_help(method.Settings)).values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.Settings().bits = 3


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_quantized_model_is_a_model(
    name: str, tied: bool, small_model: Models, tmp_path: Path
) -> None:
    """It computes with the weights that it keeps, is read again, and decoded with the cache."""
    base = small_model(tie_embeddings=tied)
    model = quantized(name, copy.deepcopy(base), activations="float")
    assert not torch.equal(logits_of(model), logits_of(base))
    plain = copy.deepcopy(base)
    kept = dict(model.named_modules())
    with torch.no_grad():
        for path, module in plain.named_modules():
            if isinstance(kept[path], (QuantizedLinear,)) or path == "embedding":
                module.weight.copy_(kept[path].weight)
    torch.testing.assert_close(logits_of(model), logits_of(plain))
    assert model.parameter_counts() == base.parameter_counts()
    assert model.parameter_counts()["total"] == parameter_counts(base.config)["total"]
    weights = [m for m in model.modules() if isinstance(m, QuantizedWeight)]
    assert len(weights) == 2 * 4 + (1 if tied else 2)
    for each in weights:
        assert each.num_bytes == each.form.num_bytes(each.shape)

    path = save_checkpoint(tmp_path, model, tiny_tokenizer(), TrainingState(0))
    loaded = load_checkpoint(tmp_path / "last").build_language_model()
    assert torch.equal(logits_of(loaded), logits_of(model))
    assert list(loaded.changes) == list(model.changes)
    if tied:
        assert loaded.embedding.quantized is loaded.unembedding.quantized
    stored = sum(
        tensor.numel() * tensor.element_size() for tensor in load_checkpoint(path).weights.values()
    )
    others = sum(p.numel() * p.element_size() for p in model.parameters())
    scales = [m.input_scale for m in maps_of(model).values() if m.input_scale is not None]
    others += sum(scale.numel() * scale.element_size() for scale in scales)
    assert stored == others + sum(each.num_bytes for each in weights)

    prompts = IDS[:2, :4].tolist()
    stepper = Stepper(for_decoding(loaded), prompts, 0)
    stepper.append(IDS[:2, 4])
    torch.testing.assert_close(
        stepper.logits(), logits_of(model, IDS[:2, :5])[:, -1], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_the_embedding_has_bits_of_its_own(name: str, tied: bool, small_model: Models) -> None:
    """All else is what it would be without."""
    method = QUANTIZERS.load(name)
    if "embedding_bits" not in to_dict(method.Settings()):
        pytest.skip("its format has one width")
    few, many, own = (
        quantized(name, small_model(tie_embeddings=tied), activations="float", **given)
        for given in ({"bits": 3}, {"bits": 8}, {"bits": 3, "embedding_bits": 8})
    )
    for path, module in own.named_modules():
        if isinstance(module, (QuantizedLinear, QuantizedEmbedding)):
            embedding = module.quantized is own.embedding.quantized
            other = (many if embedding else few).get_submodule(path)
            assert torch.equal(module.quantized(), other.quantized())
    assert own.embedding.quantized.form.bits == 8
    with pytest.raises(CompressionError, match="embedding_bits = 8: the embedding is none of"):
        quantized(name, small_model(), targets=("expand",), embedding_bits=8)


@pytest.mark.parametrize("activations", INPUTS)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_inputs_are_rounded_as_asked(
    name: str, activations: str, small_model: Models, tmp_path: Path
) -> None:
    model = quantized(name, small_model(), activations=activations)
    wanted = None if activations == "float" else activations
    assert {module.rounding for module in maps_of(model).values()} == {wanted}
    save_checkpoint(tmp_path, model, tiny_tokenizer(), TrainingState(0))
    loaded = load_checkpoint(tmp_path / "last").build_language_model()
    assert torch.equal(logits_of(loaded), logits_of(model))
    # The loss is that of these logits, also where the quick form takes the weight itself.
    install(loaded)
    labels = IDS[:, 1:]
    with torch.no_grad():
        residual = loaded.residual(IDS[:, :-1])
        loss = loaded.summed_loss(residual, labels, 0)
        logits = loaded.unembed(residual).flatten(0, 1)
    torch.testing.assert_close(
        loss, torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")
    )


@pytest.mark.parametrize("name", QUANTIZERS)
def test_lora_learns_over_it_and_merges_in_full_precision(name: str, small_model: Models) -> None:
    model = quantized(name, small_model(), activations="float")
    before = {key: each.clone() for key, each in model.state_dict().items()}
    adapted = attach(model, "lora", LoraConfig(rank=2))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    logits = adapted(IDS)
    logits.sum().backward()
    grads = [p.grad for p in adapted.parameters() if p.requires_grad]
    assert all(grad is not None and bool(grad.abs().sum() > 0) for grad in grads)
    merge(adapted)
    torch.testing.assert_close(logits_of(adapted), logits.detach(), rtol=1e-4, atol=1e-4)
    unmerge(adapted)
    for key, each in before.items():
        name_now = next(k for k in adapted.state_dict() if k.replace(".base", "") == key)
        assert torch.equal(adapted.state_dict()[name_now], each)
    folded = fold(adapted)
    torch.testing.assert_close(logits_of(folded), logits.detach(), rtol=1e-4, atol=1e-4)
    assert not {path for path in maps_of(folded) if "layers" in path}
    assert folded.layers[0].attention.output.weight.dtype == torch.float32


@pytest.mark.parametrize("name", QUANTIZERS)
def test_what_cannot_be_is_refused_and_nothing_has_changed(name: str, small_model: Models) -> None:
    model, method = small_model(), QUANTIZERS.load(name)
    before = copy.deepcopy(model.state_dict())

    def refused(message: str, ids: Tensor | None = IDS, **changed: Any) -> None:
        with pytest.raises(CompressionError, match=message) as raised:
            quantize(model, method, settings_of(name, **changed), ids)
        assert "\n" not in str(raised.value)
        assert not model.changes
        assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)

    refused(r"target 'nothing' matches nothing that is quantized; there are: ", targets=["nothing"])
    refused("give texts of two tokens", None, activations="static")
    with torch.no_grad():
        model.layers[0].attention.output.weight[0, 0] = torch.inf
    before = copy.deepcopy(model.state_dict())
    refused(r"layers\.0\.attention\.output\.weight holds numbers that are not finite")
    model = small_model(tie_embeddings=True)
    before = copy.deepcopy(model.state_dict())
    refused(
        r"unembedding\.weight and embedding\.weight are one tensor: name both",
        targets=["unembedding"],
    )
    quantized(name, model)
    with pytest.raises(CompressionError, match=r"is quantized already, as \d-bit"):
        quantize(model, method, settings_of(name), IDS)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_bits_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"bits = 5: expected "):
        from_overrides(QUANTIZERS.load(name).Settings, ["bits=5"])


@pytest.mark.parametrize("method", [m for m in METHODS if m != "qlora"])
def test_every_other_method_adapts_a_quantized_model(method: str, small_model: Models) -> None:
    model = quantized("rtn", small_model(context_length=16))
    settings = METHOD_SETTINGS[method]
    if getattr(settings, "train_embeddings", False):
        with pytest.raises(AdapterError, match=r"give -o train_embeddings=false$"):
            attach(model, method, settings)
        settings = dataclasses.replace(settings, train_embeddings=False)
    adapted = attach(model, method, settings).train()
    adapted(IDS).logsumexp(-1).sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert {name for name, p in adapted.named_parameters() if p.grad is not None} == trained


def test_what_would_train_quantized_weights_is_refused(small_model: Models) -> None:
    model = quantized("rtn", small_model())
    with pytest.raises(AdapterError, match=r"is quantized already, as 4-bit .* adapt it by LoRA"):
        attach(model, "qlora", METHOD_SETTINGS["qlora"])
    with pytest.raises(AdapterError, match="embedding is quantized, and its weights cannot be"):
        Classifier(model, 3, ClassificationConfig(body="full"), start_id=2)
    Classifier(model, 3, ClassificationConfig(body="frozen", bidirectional=True), start_id=2)
