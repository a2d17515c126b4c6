"""The prefix language model: who sees whom, its cache, and its quick forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.config.finetuning import PrefixConfig, PromptConfig
from tinylm.data.windows import pad_rows
from tinylm.fast import Numbers, for_decoding, install, loops, remove
from tinylm.fast.cache import StepCache
from tinylm.finetuning.adapters import attach
from tinylm.generation.engine import SpecialIds, generate
from tinylm.generation.stepper import Stepper
from tinylm.model.base import GenerativeModel, build
from tinylm.model.prefix_lm import PrefixLM
from tinylm.registry import POSITIONS

CONFIG = ModelConfig(
    kind="prefix-lm",
    vocab_size=41,
    hidden_size=18,
    num_heads=3,
    head_dim=6,
    num_layers=2,
    context_length=24,
    dropout=0.0,
)


def built(**changes: Any) -> GenerativeModel:
    torch.manual_seed(0)
    model = build(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0.0, 0.3)
    return model


def seen_by_hand(real: list[list[bool]], source: list[int]) -> Tensor:
    """Which keys each real query sees, (batch, seq, seq)."""
    seen = torch.zeros(len(real), len(real[0]), len(real[0]), dtype=torch.bool)
    for row, (known, count) in enumerate(zip(real, source, strict=True)):
        tokens = [place for place, is_real in enumerate(known) if is_real]
        for i, query in enumerate(tokens):
            for j, key in enumerate(tokens):
                seen[row, query, key] = j <= i or (i < count and j < count)
    return seen


@given(st.data())
def test_a_source_is_seen_whole_by_its_own_and_the_rest_is_causal(data: st.DataObject) -> None:
    seq, rows = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 3))
    lengths = data.draw(st.lists(st.integers(1, seq), min_size=rows, max_size=rows))
    left = data.draw(st.booleans())
    _, real = pad_rows([[4] * length for length in lengths], left=left, width=seq)
    if left:
        real = torch.stack([torch.arange(seq) >= seq - length for length in lengths])
    source = [data.draw(st.integers(1, length)) for length in lengths]
    model = built()
    assert isinstance(model, PrefixLM)
    padded = None if bool(real.all()) else real
    blocked, ahead = model.sight(seq, padded, torch.tensor(source), True, None, torch.device("cpu"))
    assert blocked is not None
    expected = seen_by_hand(real.tolist(), source)
    for row in range(rows):
        mine = ~blocked[min(row, len(blocked) - 1), 0]
        assert torch.equal(mine[real[row]], expected[row][real[row]])
    assert ahead == "some"


def test_without_a_source_it_is_the_decoder() -> None:
    model = built()
    decoder = build(replace(CONFIG, kind="decoder")).eval()
    decoder.load_state_dict(model.state_dict())
    ids = torch.randint(4, 41, (3, 9))
    assert torch.equal(model(ids), decoder(ids))
    assert torch.equal(model(ids, given=torch.ones(3, dtype=torch.long)), decoder(ids))
    assert not torch.allclose(model(ids, given=torch.full((3,), 4)), decoder(ids))


@pytest.mark.parametrize("encoding", POSITIONS)
@pytest.mark.parametrize("lengths", [(5, 5, 5), (5, 2, 4)])
@pytest.mark.parametrize("quick", [False, True])
def test_a_cache_reads_as_the_whole_text_is_read(
    encoding: str, lengths: tuple[int, ...], quick: bool
) -> None:
    """The prompts are the sources, whole, or but for their last tokens."""
    model = built(positions=encoding)
    used = for_decoding(model) if quick else model
    texts = [torch.randint(4, 41, (length + 6,)).tolist() for length in lengths]
    for less in (0, 1):
        source = torch.tensor([max(1, length - less) for length in lengths])
        ids, real = pad_rows([t[:n] for t, n in zip(texts, lengths, strict=True)], left=True)
        with torch.inference_mode():
            state = used.decoding_state(3)
            x = [used.residual(ids, real=real, given=source, cache=state)[:, -1]]
            for step in range(6):
                new = torch.tensor(
                    [[text[length + step]] for text, length in zip(texts, lengths, strict=True)]
                )
                x.append(used.residual(new, cache=state)[:, -1])
            for row, text in enumerate(texts):
                alone = model.residual(torch.tensor([text]), given=source[[row]])[0]
                own = torch.stack([each[row] for each in x])
                expected = alone[lengths[row] - 1 :]
                torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
@pytest.mark.parametrize("numbers", ["float32", "bfloat16", "int8"])
def test_a_step_is_one_call_as_the_decoders(
    numbers: Numbers, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built()
    decoder = build(replace(CONFIG, kind="decoder")).eval()
    decoder.load_state_dict(model.state_dict())
    prompts = [[2, 7, 9, 4], [2, 5]]
    quick, causal = for_decoding(model, numbers), for_decoding(decoder, numbers)
    state = quick.decoding_state(1)
    assert isinstance(state, StepCache)
    assert state.layers is not None
    assert state.beginning is not None
    monkeypatch.setattr("tinylm.fast.decoder.FastDecoderLM.run_layers", None)  # not in turn
    stepper, plain = Stepper(quick, prompts, 0), Stepper(causal, prompts, 0)
    for step in range(4):
        ours, theirs = stepper.logits(), plain.logits()
        assert not torch.allclose(ours[0], theirs[0], atol=1e-3)  # the prompt is a source
        stepper.append([5 + step, 6])
        plain.append([5 + step, 6])


def after_backward(model: GenerativeModel, ids: Tensor, given_: Tensor) -> list[Tensor]:
    model.zero_grad()
    x = model.residual(ids, given=given_)
    model.summed_loss(x, ids.roll(-1, 1), 0).backward()
    return [x.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


@settings(max_examples=10)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([3, 64, 65, 150]))
def test_loops_in_blocks_give_the_gradients_of_the_plain_model(
    first: int, second: int, seq: int
) -> None:
    model = built(context_length=150, num_layers=1).train()
    ids = torch.randint(4, 41, (2, seq), generator=torch.Generator().manual_seed(3))
    source = torch.tensor([first, second]).clamp(max=seq)
    plain = after_backward(model, ids, source)
    install(model)
    quick = after_backward(model, ids, source)
    remove(model)
    assert len(plain) == len(quick) == 1 + len(list(model.parameters()))
    for ours, reference in zip(quick, plain, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize("strategy", ["greedy", "sampling", "beam"])
@pytest.mark.parametrize("linear", ["packed", "plain"])
def test_texts_go_on_after_a_prompt_read_whole(strategy: str, linear: str) -> None:
    model = built()
    prompts = [[2, 9, 4, 13, 7], [2, 5]]
    config = GenerationConfig(strategy=strategy, max_new_tokens=8, linear=linear)
    special = SpecialIds(pad=0, sos=2, eos=3, unk=1)
    for prompt, text in zip(prompts, generate(model, prompts, config, special), strict=True):
        row = torch.tensor([[*prompt, *text.ids, *[3] * text.finished]])
        with torch.no_grad():
            logs = model(row[:, :-1], given=torch.tensor([len(prompt)])).log_softmax(-1)
        own = logs[0, len(prompt) - 1 :].gather(1, row[0, len(prompt) :, None]).sum()
        assert text.log_probability == pytest.approx(float(own), abs=1e-3)


def test_virtual_tokens_stand_before_the_source() -> None:
    """Of prompt tuning they are part of it; of prefix tuning all see them."""
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    for method, config in (
        ("prompt", PromptConfig(length=3)),
        ("prefix", PrefixConfig(length=3, inner_size=0)),
    ):
        used = attach(built().double(), method, config)
        whole = used.residual(ids, given=torch.tensor([4]))
        state = used.decoding_state(1)
        read = [used.residual(ids[:, :4], given=torch.tensor([4]), cache=state)]
        read += [used.residual(ids[:, [i]], cache=state) for i in (4, 5)]
        torch.testing.assert_close(torch.cat(read, 1), whole, rtol=0, atol=1e-10)
        assert used.last_residual(ids, given=torch.tensor([4])).equal(whole[:, -1])
