"""Prefix tuning beside PEFT's on GPT-2 with the same weights, and through the cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, PrefixTuningConfig, TaskType, get_peft_model
from torch import nn

from tests.model.helpers import ENCODINGS, build_random, random_ids
from tests.reference.test_gpt2 import build_both
from tinylm.config.finetuning import BottleneckConfig, LoraConfig, PrefixConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import activate, attach, trained_parameters
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.generation.stepper import Stepper
from tinylm.model.decoder import DecoderLM

Models = Callable[..., DecoderLM]
SIZES = {"hidden_size": 24, "num_heads": 4, "num_layers": 3}
LENGTH = 3


@pytest.mark.parametrize("inner", [0, 11])
def test_outputs_and_gradients_are_those_of_peft(inner: int) -> None:
    ours, theirs = build_both(SIZES)
    settings = PrefixTuningConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        prefix_projection=bool(inner),
        encoder_hidden_size=inner or None,
    )
    reference = get_peft_model(theirs, settings).double().eval()
    model = attach(ours, "prefix", PrefixConfig(length=LENGTH, inner_size=inner))
    values = trained_parameters(model, "default")
    encoder = reference.prompt_encoder["default"]
    start = "layers.0.attention.prefix."
    names = {"numbers": "embedding.weight"}
    if inner:
        for layer in (0, 2):
            for kind in ("weight", "bias"):
                names[f"network.{layer}.{kind}"] = f"transform.{layer}.{kind}"
    assert values.keys() == {start + name for name in names}
    weights = dict(encoder.named_parameters())
    with torch.no_grad():
        for name, other in names.items():
            values[start + name].copy_(weights[other].normal_())
    ids = random_ids(model, 2, 6)
    # PEFT counts the text's positions from the end of the prefix.
    output = model(ids, positions=torch.arange(LENGTH, LENGTH + 6)[None])
    wanted = reference(input_ids=ids).logits
    torch.testing.assert_close(output, wanted)
    toward = torch.randn_like(output)
    output.backward(toward)
    wanted.backward(toward)
    for name, other in names.items():
        torch.testing.assert_close(values[start + name].grad, weights[other].grad)


def test_peft_reads_ours_and_we_read_theirs(tmp_path: Path) -> None:
    ours, theirs = build_both(SIZES)
    ids = random_ids(ours, 2, 6)
    places = torch.arange(LENGTH, LENGTH + 6)[None]
    model = attach(ours, "prefix", PrefixConfig(length=LENGTH, inner_size=0))
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.normal_()
    save_adapter(model, "default", tmp_path / "ours")
    reference = PeftModel.from_pretrained(theirs, str(tmp_path / "ours")).double().eval()
    wanted = model(ids, positions=places)
    # PEFT reads what it stored in float32.
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(reference(input_ids=ids).logits, wanted, **close)

    reference.save_pretrained(str(tmp_path / "theirs"))
    fresh, _ = build_both(SIZES)
    loaded = load_adapter(fresh, tmp_path / "theirs")
    torch.testing.assert_close(loaded(ids, positions=places), wanted, **close)


@pytest.mark.parametrize("positions", ENCODINGS)
def test_it_is_seen_by_every_token_through_the_cache_and_after_beams_change_places(
    positions: str,
) -> None:
    model = build_random(positions=positions, context_length=16)
    model = attach(model, "prefix", PrefixConfig(length=4, inner_size=5)).eval()
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.normal_()
    ids = random_ids(model, 3, 9)
    prompts = [ids[0, :5].tolist(), ids[1, :2].tolist(), ids[2, :7].tolist()]
    cached, plain = (Stepper(model, prompts, pad=0, use_cache=use) for use in (True, False))
    for step in range(11):  # beyond the context, where windows slide
        logits, wanted = cached.logits(), plain.logits()
        torch.testing.assert_close(logits, wanted)
        for stepper in (cached, plain):
            stepper.append(wanted.argmax(-1))
            if step % 3 == 1:
                stepper.keep([2, 0, 2])
    activate(model, [])
    assert not torch.allclose(plain.logits(), wanted)


def test_positions_of_the_text_start_at_zero(small_model: Models) -> None:
    model = attach(small_model().double(), "prefix", PrefixConfig(length=4, inner_size=0))
    ids = random_ids(model, 2, 5)
    assert torch.equal(model(ids), model(ids, positions=torch.arange(5)[None]))
    assert not torch.allclose(model(ids), model(ids, positions=torch.arange(4, 9)[None]))


def test_two_prefixes_stand_one_after_the_other(small_model: Models) -> None:
    base = small_model(num_layers=2).double()
    ids = random_ids(base, 2, 5)
    model = attach(base, "prefix", PrefixConfig(length=2, inner_size=0), "a")
    model = attach(model, "prefix", PrefixConfig(length=3, inner_size=0), "b")
    a, b = (next(iter(trained_parameters(model, name).values())) for name in "ab")
    with torch.no_grad():
        a.normal_()
        b.normal_()
    activate(model, ["a", "b"])
    wanted = model(ids)
    other = attach(
        small_model(num_layers=2).double(), "prefix", PrefixConfig(length=5, inner_size=0)
    )
    other.load_state_dict(
        {key: value for key, value in model.state_dict().items() if ".parts." not in key},
        strict=False,
    )
    (joined,) = trained_parameters(other, "default").values()
    with torch.no_grad():
        joined.copy_(torch.cat([a, b]))
    torch.testing.assert_close(other(ids), wanted)


@pytest.mark.parametrize("method", ["lora", "bottleneck"])
def test_it_is_added_to_a_model_in_training_with_an_adapted_projection(
    small_model: Models, method: str
) -> None:
    kinds = {"lora": LoraConfig(rank=2, dropout=0.5), "bottleneck": BottleneckConfig(size=2)}
    settings = replace(kinds[method], targets=("attention.output",))
    model = attach(small_model().train(), method, settings, "first")
    model = attach(model, "prefix", PrefixConfig(length=2), "second")
    activate(model, ["first", "second"])
    assert torch.isfinite(model(random_ids(model, 2, 5))).all()


def test_a_network_without_attention_is_refused() -> None:
    with pytest.raises(AdapterError, match="needs a model with attention"):
        attach(nn.Sequential(nn.Linear(2, 2)), "prefix", PrefixConfig())
