"""The masked language model: what is hidden, prefixes read one by one, decoding, quick forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tinylm.compression.importance import gate_importance
from tinylm.config import GenerationConfig, ModelConfig
from tinylm.config.finetuning import PrefixConfig, PromptConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.fast import install, remove
from tinylm.finetuning.adapters import attach
from tinylm.generation.engine import SpecialIds, generate
from tinylm.generation.scoring import token_log_probabilities
from tinylm.interpretability.trace import Recorder, trace
from tinylm.model import masked
from tinylm.model.base import build, refuse_without_attention
from tinylm.model.masked import MaskedLM
from tinylm.registry import POSITIONS

CONFIG = ModelConfig(
    kind="masked",
    vocab_size=31,
    hidden_size=12,
    num_heads=2,
    head_dim=4,
    num_layers=2,
    context_length=10,
    dropout=0.0,
)
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)


def built(**changes: Any) -> MaskedLM:
    torch.manual_seed(0)
    model = build(replace(CONFIG, **changes)).double().eval()
    assert isinstance(model, MaskedLM)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0.5 if parameter.dim() < 2 else 0.0, 0.3)
    return model


def by_hand(model: MaskedLM, tokens: list[int | None]) -> Tensor:
    """Return the stream of a row, (seq, hidden), in which None is a hidden token."""
    rows = [model.mask if t is None else model.embedding.weight[t] for t in tokens]
    return model.residual(embeddings=torch.stack(rows)[None], causal=False)[0]


@pytest.mark.parametrize("encoding", POSITIONS)
def test_each_place_is_read_with_its_prefix_and_the_vector_alone(encoding: str) -> None:
    model = built(positions=encoding)
    text = [4, 9, 7, 7, 20, 5, 6, 8, 11, 3]  # as long as the context
    x = model.residual(torch.tensor([text]))[0]
    for place in range(len(text)):
        expected = by_hand(model, [*text[: place + 1], None])[-1]
        torch.testing.assert_close(x[place], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("encoding", POSITIONS)
def test_hidden_tokens_are_read_from_both_sides(encoding: str) -> None:
    model = built(positions=encoding)
    text, hidden = [4, 9, 7, 7, 20, 5, 6, 8, 11, 3], [2, 3, 8]
    shown = torch.tensor([[place in hidden for place in range(len(text))]])
    x = model.residual(torch.tensor([text]), hidden=shown)[0]
    row: list[int | None] = [None if i in hidden else token for i, token in enumerate(text)]
    torch.testing.assert_close(x, by_hand(model, [*row, None])[1:], rtol=0, atol=1e-12)
    # What a hidden token is has no effect on anything.
    other = torch.tensor([[5 if place in hidden else t for place, t in enumerate(text)]])
    assert torch.equal(model.residual(other, hidden=shown)[0], x)


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([1, 9, 4096]),
)
def test_padding_and_how_many_are_read_at_once_change_nothing(
    lengths: list[int], left: bool, at_once: int
) -> None:
    model = built()
    texts = [torch.randint(4, 31, (length,)).tolist() for length in lengths]
    longest = max(lengths)
    ids, real, hidden = (torch.zeros(len(texts), longest, dtype=torch.long) for _ in range(3))
    for row, text in enumerate(texts):
        place = slice(longest - len(text), None) if left else slice(len(text))
        ids[row, place] = torch.tensor(text)
        real[row, place] = 1
        hidden[row, place] = (torch.arange(len(text)) % 3 == 1).long()
    before = masked._PLACES_AT_ONCE
    masked._PLACES_AT_ONCE = at_once
    try:
        whole = model.residual(ids, real=real.bool())
        sides = model.residual(ids, real=real.bool(), hidden=hidden.bool())
    finally:
        masked._PLACES_AT_ONCE = before
    for row, text in enumerate(texts):
        own, alone = real[row].bool(), torch.tensor([text])
        torch.testing.assert_close(whole[row][own], model.residual(alone)[0], rtol=0, atol=1e-12)
        shown = hidden[row][own].bool()[None]
        expected = model.residual(alone, hidden=shown)[0]
        torch.testing.assert_close(sides[row][own], expected, rtol=0, atol=1e-12)
        assert not whole[row][~own].any()


def reads(model: MaskedLM, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that the shapes of what goes through the layers are added to."""
    shapes: list[tuple[int, ...]] = []
    run = MaskedLM.run_layers

    def counted(self: MaskedLM, x: Tensor, reading: Any) -> Tensor:
        shapes.append(tuple(x.shape[:2]))
        return run(self, x, reading)

    monkeypatch.setattr(MaskedLM, "run_layers", counted)
    return shapes


def test_prefixes_are_read_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(context_length=40)
    shapes = reads(model, monkeypatch)
    monkeypatch.setattr(masked, "_PLACES_AT_ONCE", 60)
    model.residual(torch.randint(4, 31, (3, 40)))
    assert sum(rows for rows, _ in shapes) == 3 * 40
    assert all(rows == 1 or rows * places <= 60 for rows, places in shapes)
    # Little of it is padding.
    assert sum(rows * places for rows, places in shapes) < 2 * 3 * sum(range(2, 42))


@pytest.mark.parametrize("cached", [True, False])
def test_a_step_reads_the_text_and_one_place_more_once(
    cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built()
    shapes = reads(model, monkeypatch)
    config = GenerationConfig(strategy="greedy", max_new_tokens=4, linear="plain")
    (text,) = generate(model, [[2, 9, 4]], config, SPECIAL, use_cache=cached)
    assert shapes == [(1, 4 + step) for step in range(len(text.ids) + text.finished)]
    values = token_log_probabilities(model, [[2, 9, 4, *text.ids, *[3] * text.finished]])[0]
    assert text.log_probability == pytest.approx(sum(values[2:]), abs=1e-9)


def test_the_last_place_alone_is_the_last_of_all() -> None:
    model = built()
    ids = torch.randint(4, 31, (2, 6))
    real = torch.tensor([[True] * 6, [False, False, True, True, True, True]])
    hidden = torch.arange(6) % 3 == 1
    for named in ({}, {"real": real}, {"hidden": hidden.expand(2, -1)}, {"causal": False}):
        whole = model.residual(ids, **named)[:, -1]
        torch.testing.assert_close(model.last_residual(ids, **named), whole, rtol=0, atol=1e-12)


@settings(max_examples=15)
@given(st.data())
def test_a_state_goes_on_as_texts_come_and_go(data: st.DataObject) -> None:
    model = built()
    rows = [[4, 5], [6, 7]]
    state = model.decoding_state(2)
    x = model.residual(torch.tensor(rows), cache=state)
    for _ in range(3):
        kept = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=3))
        state.reorder(torch.tensor(kept))
        new = data.draw(st.lists(st.integers(4, 30), min_size=len(kept), max_size=len(kept)))
        rows = [[*rows[i], token] for i, token in zip(kept, new, strict=True)]
        x = model.residual(torch.tensor(new)[:, None], cache=state)
        expected = model.residual(torch.tensor(rows))[:, [-1]]
        torch.testing.assert_close(x, expected, rtol=0, atol=1e-12)
    assert state.num_bytes == 8 * len(rows) * len(rows[0])
    with pytest.raises(GenerationError, match="cannot take texts"):
        state.reorder(torch.tensor([7]))
    with pytest.raises(GenerationError, match="for texts of 10 tokens and 12"):
        model.residual(torch.full((len(rows), 7), 5), cache=state)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("places", ["hidden", "prefixes"])
def test_the_quick_model_gives_the_loss_and_gradients_of_the_plain_one(
    padded: bool, norm_placement: str, places: str
) -> None:
    model = built(norm_placement=norm_placement, context_length=70).float().train()
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 31, (2, 70), generator=generator)
    named: dict[str, Tensor] = {}
    if places == "hidden":
        named["hidden"] = torch.rand(2, 70, generator=generator) < 0.2
    if padded:
        named["real"] = torch.arange(70) < torch.tensor([[70], [33]])
    labels = ids.roll(-1, 1).masked_fill(torch.rand(2, 70, generator=generator) < 0.7, -100)
    if padded:
        labels = labels.masked_fill(~named["real"], -100)
    found = []
    for on in (False, True):
        (install if on else remove)(model)
        model.zero_grad()
        loss = model.summed_loss(model.residual(ids, **named), labels, -100)
        loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    remove(model)
    assert len(found[0]) == len(found[1]) == 1 + len(list(model.parameters()))
    for plain, quick in zip(*found, strict=True):
        scale = float(plain.abs().max())
        torch.testing.assert_close(quick, plain, rtol=1e-4, atol=1e-5 * max(1.0, scale))


@pytest.mark.parametrize(
    ("method", "config"),
    [("prompt", PromptConfig(length=3)), ("prefix", PrefixConfig(length=3, inner_size=0))],
)
def test_virtual_tokens_are_seen_by_all(method: str, config: Any) -> None:
    model = attach(built(), method, config)
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    whole = model.residual(ids)
    assert not torch.allclose(whole, built().residual(ids))
    longer = model.residual(torch.tensor([[5, 6, 7, 30, 4]]))
    torch.testing.assert_close(whole[:, :3], longer[:, :3], rtol=0, atol=1e-12)
    hidden = torch.tensor([[False, False, True, False, False]])
    shown = model.residual(ids, hidden=hidden)
    other = model.residual(torch.tensor([[5, 6, 30, 8, 9]]), hidden=hidden)
    assert torch.equal(shown, other)
    torch.testing.assert_close(model.last_residual(ids), whole[:, -1], rtol=0, atol=1e-12)
    if method == "prompt":
        state = model.decoding_state(1)
        steps = [model.last_residual(ids[:, :3], cache=state)]
        steps += [model.residual(ids[:, [i]], cache=state)[:, 0] for i in (3, 4)]
        torch.testing.assert_close(torch.stack(steps, 1), whole[:, 2:], rtol=0, atol=1e-12)


def test_what_would_be_wrong_is_refused_in_a_line() -> None:
    model = built()
    ids = torch.tensor([[4, 5, 6]])
    hidden = torch.zeros(1, 3, dtype=torch.bool)
    with pytest.raises(GenerationError, match="from both sides a text is read whole"):
        model.residual(ids, hidden=hidden, cache=model.decoding_state(1))
    with pytest.raises(GenerationError, match="11 tokens do not fit into model"):
        model.residual(torch.full((1, 11), 4))
    with pytest.raises(GenerationError, match="from both sides a text is read whole"):
        model.residual(ids, causal=False, cache=model.decoding_state(1))
    with pytest.raises(GenerationError, match="either ids or embeddings"):
        model.residual()
    with pytest.raises(ConfigError, match=r"model\.kind = masked is built otherwise"):
        refuse_without_attention(model.config, "this")
    many = r"model\.kind = masked reads a text once for each of its tokens"
    with pytest.raises(GenerationError, match=many):
        trace(model, [[4, 5, 6]])
    with pytest.raises(GenerationError, match=many):
        Recorder(model)
    with pytest.raises(GenerationError, match=many):
        gate_importance(model, ids, "attention.mixed")
