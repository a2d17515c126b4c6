"""Prompt tuning beside PEFT's on GPT-2 with the same weights, and through the cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from torch import nn

from tests.model.helpers import ENCODINGS, build_random, random_ids
from tests.reference.test_gpt2 import build_both
from tinylm.config.finetuning import PromptConfig
from tinylm.errors import AdapterError, GenerationError
from tinylm.finetuning.adapters import activate, attach, detach, trained_parameters
from tinylm.finetuning.storage import load_adapter, save_adapter
from tinylm.generation.stepper import Stepper
from tinylm.model.decoder import DecoderLM

Models = Callable[..., DecoderLM]
SIZES = {"hidden_size": 24, "num_heads": 4, "num_layers": 3}
LENGTH = 3


def test_outputs_and_gradients_are_those_of_peft() -> None:
    ours, theirs = build_both(SIZES)
    settings = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=LENGTH)
    reference = get_peft_model(theirs, settings).double().eval()
    model = attach(ours, "prompt", PromptConfig(length=LENGTH))
    (ours_values,) = trained_parameters(model, "default").values()
    theirs_values = reference.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        ours_values.copy_(theirs_values.normal_())
    ids = random_ids(model, 2, 6)
    output = model(ids)
    wanted = reference(input_ids=ids).logits[:, LENGTH:]
    assert output.shape == wanted.shape
    torch.testing.assert_close(output, wanted)
    toward = torch.randn_like(output)
    output.backward(toward)
    wanted.backward(toward)
    torch.testing.assert_close(ours_values.grad, theirs_values.grad)


def test_peft_reads_ours_and_we_read_theirs(tmp_path: Path) -> None:
    ours, theirs = build_both(SIZES)
    ids = random_ids(ours, 2, 6)
    model = attach(ours, "prompt", PromptConfig(length=LENGTH, start="random"))
    wanted = model(ids)
    save_adapter(model, "default", tmp_path / "ours")
    reference = PeftModel.from_pretrained(theirs, str(tmp_path / "ours")).double().eval()
    torch.testing.assert_close(reference(input_ids=ids).logits[:, LENGTH:], wanted)
    reference.save_pretrained(str(tmp_path / "theirs"))
    fresh, _ = build_both(SIZES)
    loaded = load_adapter(fresh, tmp_path / "theirs")
    torch.testing.assert_close(loaded(ids), wanted)


def test_virtual_tokens_of_real_words_are_those_words(small_model: Models) -> None:
    base = small_model(context_length=16).double()
    ids = random_ids(base, 2, 6)
    words = torch.tensor([7, 20, 7])
    wanted = base(torch.cat([words.expand(2, -1), ids], 1))[:, 3:]
    model = attach(base, "prompt", PromptConfig(length=3, ids=(7, 20)))
    torch.testing.assert_close(model(ids), wanted)
    left = detach(model, "default")
    assert left is base
    model = attach(base, "prompt", PromptConfig(length=3))
    start = torch.tensor([4, 5, 6]).expand(2, -1)
    torch.testing.assert_close(model(ids), base(torch.cat([start, ids], 1))[:, 3:])


def test_a_random_start_is_as_large_as_the_embeddings(small_model: Models) -> None:
    model = attach(
        small_model(hidden_size=48, context_length=64),
        "prompt",
        PromptConfig(length=60, start="random"),
    )
    (values,) = trained_parameters(model, "default").values()
    assert float(values.detach().std()) == pytest.approx(
        float(model.embedding.weight.detach().std()), rel=0.1
    )


@pytest.mark.parametrize("positions", ENCODINGS)
def test_it_is_read_once_and_stays_in_the_cache(positions: str) -> None:
    model = build_random(positions=positions, context_length=16)
    model = attach(model, "prompt", PromptConfig(length=4)).eval()
    assert model.config.context_length == 12
    ids = random_ids(model, 3, 9)
    prompts = [ids[0, :5].tolist(), ids[1, :2].tolist(), ids[2, :7].tolist()]
    cached, plain = (Stepper(model, prompts, pad=0, use_cache=use) for use in (True, False))
    for step in range(12):  # beyond the context, where windows slide
        logits, wanted = cached.logits(), plain.logits()
        torch.testing.assert_close(logits, wanted)
        for stepper in (cached, plain):
            stepper.append(wanted.argmax(-1))
            if step % 3 == 1:
                stepper.keep([2, 0, 2])


def test_positions_given_are_those_of_the_text(small_model: Models) -> None:
    model = attach(small_model(context_length=16).double(), "prompt", PromptConfig(length=4))
    ids = random_ids(model, 2, 5)
    torch.testing.assert_close(model(ids, positions=torch.arange(5)[None]), model(ids))
    with pytest.raises(GenerationError, match="do not fit"):
        model(random_ids(model, 1, 13))


def test_two_prompts_stand_one_after_the_other(small_model: Models) -> None:
    base = small_model(context_length=16).double()
    ids = random_ids(base, 2, 6)
    wanted = base(torch.cat([torch.tensor([9, 8, 15]).expand(2, -1), ids], 1))[:, 3:]
    model = attach(base, "prompt", PromptConfig(length=2, ids=(9, 8)), "a")
    model = attach(model, "prompt", PromptConfig(length=1, ids=(15,)), "b")
    activate(model, ["a", "b"])
    assert (model.virtual_tokens, model.config.context_length) == (3, 13)
    torch.testing.assert_close(model(ids), wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (PromptConfig(length=16), "set a length of 1 to 15"),
        (PromptConfig(ids=(4, 23)), "23 is not in the vocabulary of 23 tokens"),
    ],
)
def test_what_cannot_be_is_refused(
    small_model: Models, settings: PromptConfig, message: str
) -> None:
    base = small_model(context_length=16)
    with pytest.raises(AdapterError, match=message) as raised:
        attach(base, "prompt", settings)
    assert "\n" not in str(raised.value)
    assert base.config.context_length == 16
    with pytest.raises(AdapterError, match="needs a model with token embeddings"):
        attach(nn.Linear(2, 2), "prompt", PromptConfig())
