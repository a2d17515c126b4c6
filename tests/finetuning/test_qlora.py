"""QLoRA: what is quantized, what is not, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tinylm.config.finetuning import LoraConfig, QLoraConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import activate, attach, detach, trained_parameters
from tinylm.finetuning.sites import plain_modules
from tinylm.model.decoder import DecoderLM
from tinylm.numbers.nf4 import NormalFloat
from tinylm.numbers.quantized import QuantizedLinear, QuantizedWeight

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (2, 6), generator=torch.Generator().manual_seed(0))
TARGETS = ("attention.output", "feed_forward.expand")


def test_it_is_lora_over_the_dequantized_weights(small_model: Models) -> None:
    base, reference = small_model().double(), small_model().double()
    for path, module in reference.named_modules():
        if path.endswith(TARGETS):
            quantized = QuantizedWeight(module.weight, NormalFloat())
            module.weight.data = quantized()
    torch.manual_seed(1)
    model = attach(base, "qlora", QLoraConfig(rank=3, alpha=6, targets=TARGETS))
    torch.manual_seed(1)
    other = attach(reference, "lora", LoraConfig(rank=3, alpha=6, targets=TARGETS))
    ours, theirs = (trained_parameters(adapted, "default") for adapted in (model, other))
    assert ours.keys() == theirs.keys()
    torch.manual_seed(2)
    for key, parameter in ours.items():
        assert torch.equal(parameter, theirs[key])
        with torch.no_grad():
            theirs[key].copy_(parameter.normal_())
    wanted, output = other(IDS), model(IDS)
    torch.testing.assert_close(output, wanted)
    output.square().sum().backward()
    wanted.square().sum().backward()
    for key, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, theirs[key].grad)


def test_only_the_targets_are_quantized_and_bytes_are_those_of_4_bits(small_model: Models) -> None:
    base = small_model()
    sizes = {path: m.weight.numel() for path, m in base.named_modules() if path.endswith(TARGETS)}
    before = sum(p.numel() * p.element_size() for p in base.parameters())
    model = attach(base, "qlora", QLoraConfig(rank=2, targets=TARGETS))
    quantized = {path: m for path, m in plain_modules(model) if isinstance(m, QuantizedLinear)}
    assert quantized.keys() == sizes.keys()
    for path, module in quantized.items():
        count = sizes[path]
        blocks = -(-count // 64)
        wanted = -(-count // 2) + blocks + 4 * -(-blocks // 256) + 4
        assert module.quantized.num_bytes == wanted
    held = detach(model, "default")
    after = sum(t.numel() * t.element_size() for t in held.state_dict().values())
    saved = sum(4 * sizes[path] - m.quantized.num_bytes for path, m in quantized.items())
    positions = sum(
        b.numel() * b.element_size() for b in base.buffers() if b.dtype == torch.float32
    )
    assert after <= before - saved + positions


def test_an_earlier_adapter_stays_on_the_quantized_map(small_model: Models) -> None:
    model = attach(small_model(), "lora", LoraConfig(rank=2, targets=TARGETS), "first")
    start = model(IDS)
    model = attach(model, "qlora", QLoraConfig(rank=2, targets=TARGETS), "second")
    activate(model, ["first"])
    output = model(IDS)
    assert not torch.equal(output, start)
    torch.testing.assert_close(output, start, rtol=0, atol=2)
    with torch.no_grad():
        for parameter in trained_parameters(model, "first").values():
            parameter.normal_()
    assert not torch.allclose(model(IDS), output)


def test_another_form_of_quantization_of_the_same_map_is_refused(small_model: Models) -> None:
    settings = QLoraConfig(rank=2, targets=TARGETS)
    model = attach(small_model(), "qlora", settings, "a")
    for other in (replace(settings, block_size=32), replace(settings, double_quantization=False)):
        with pytest.raises(AdapterError, match="is quantized already, with block_size = 64"):
            attach(model, "qlora", other, "b")
    attach(model, "qlora", replace(settings, rank=3), "b")


def test_a_tied_matrix_is_refused(small_model: Models) -> None:
    base = small_model(tie_embeddings=True)
    with pytest.raises(AdapterError, match="are one tensor, which cannot be quantized"):
        attach(base, "qlora", QLoraConfig(rank=2, targets=("unembedding",)))
    assert not any(isinstance(module, QuantizedLinear) for module in base.modules())
    assert base.unembedding.weight is base.embedding.weight
