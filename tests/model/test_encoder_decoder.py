"""The encoder–decoder's two stacks and caches: rows cut at places of their own, sources shared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given as given_
from hypothesis import strategies as st
from torch import Tensor

from tinylm.config import GenerationConfig, ModelConfig
from tinylm.data.windows import pad_rows
from tinylm.errors import GenerationError
from tinylm.fast import for_decoding, install, remove
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.base import build
from tinylm.model.decoder import record
from tinylm.model.encoder_decoder import EncoderDecoderLM
from tinylm.registry import POSITIONS

SIZES: dict[str, Any] = {
    "vocab_size": 23,
    "context_length": 16,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_size": 12,
    "dropout": 0.0,
}
SPECIAL = SpecialIds(pad=0, sos=2, eos=3, unk=1)


def model_of(**changes: Any) -> EncoderDecoderLM:
    torch.manual_seed(0)
    model = build(ModelConfig(kind="encoder-decoder", **{**SIZES, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    assert isinstance(model, EncoderDecoderLM)
    return model


def ids_of(*shape: int) -> Tensor:
    return torch.randint(4, 23, shape, generator=torch.Generator().manual_seed(0))


def test_every_source_token_sees_every_other_and_no_written_one_its_future() -> None:
    model = model_of().double()
    ids, given = ids_of(1, 10), torch.tensor([4])
    x = model.residual(ids, given=given)
    assert not x[0, :3].any()  # places before the last token of the source
    for place in range(10):
        other = ids.clone()
        other[0, place] = 4 + (ids[0, place] - 3) % 19
        moved = (model.residual(other, given=given) - x)[0].abs().amax(-1) > 1e-9
        first = 3 if place < 4 else place
        assert moved.tolist() == [first <= at for at in range(10)], place


@pytest.mark.parametrize("positions", POSITIONS)
@given_(data=st.data())
def test_rows_cut_anywhere_are_what_each_is_alone_and_step_by_step(
    positions: str, data: st.DataObject
) -> None:
    model = model_of(positions=positions).double()
    lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
    given = [data.draw(st.integers(1, length)) for length in lengths]
    left = data.draw(st.booleans())
    texts = [ids_of(12)[:length].tolist() for length in lengths]
    ids, real = pad_rows(texts, left=left)
    x = model.residual(ids, real=real, given=torch.tensor(given))
    state = model.decoding_state(len(texts))
    first = model.residual(ids, real=real, given=torch.tensor(given), cache=state)
    torch.testing.assert_close(first, x, rtol=0, atol=1e-12)
    following = ids_of(len(texts), 3)
    after = torch.cat([model.residual(following[:, [i]], cache=state) for i in range(3)], 1)
    for row, text in enumerate(texts):
        whole = torch.tensor([[*text, *following[row].tolist()]])
        alone = model.residual(whole, given=torch.tensor([given[row]]))[0]
        both = torch.cat([x[row][real[row]], after[row]])
        torch.testing.assert_close(both, alone, rtol=0, atol=1e-11)


def test_positions_are_those_of_the_row_and_the_decoder_counts_from_its_own() -> None:
    model = model_of(positions="sinusoidal").double()
    ids, given = ids_of(2, 9), torch.tensor([3, 5])
    x = model.residual(ids, given=given)
    places = torch.arange(9)[None]
    torch.testing.assert_close(model.residual(ids, given=given, positions=places), x)
    state = model.decoding_state(2)
    model.residual(ids[:, :6], given=given, cache=state)
    step = model.residual(ids[:, 6:], positions=places[:, 6:], cache=state)
    torch.testing.assert_close(step, x[:, 6:])


def test_embeddings_may_stand_in_the_place_of_ids() -> None:
    model = model_of()
    ids, given = ids_of(2, 9), torch.tensor([3, 5])
    made = model(embeddings=model.embedding(ids), given=given)
    torch.testing.assert_close(made, model(ids, given=given))


def test_beams_of_a_source_share_its_keys_and_nothing_is_copied() -> None:
    model = model_of().double()
    prompts = ids_of(2, 5)
    state = model.decoding_state(2, max_batch_size=6)
    with torch.no_grad():
        model.residual(prompts, given=torch.tensor([5, 3]), cache=state)
        before = [state.source.held(layer)[0].data_ptr() for layer in range(2)]
        size = state.source.num_bytes
        rows, texts = [0, 1, 0, 0, 1], prompts.tolist()
        state.reorder(torch.tensor(rows), shared=5)
        texts = [list(texts[row]) for row in rows]
        given = [[5, 3][row] for row in rows]
        assert [state.source.held(layer)[0].data_ptr() for layer in range(2)] == before
        assert state.source.num_bytes == size
        for step, keep in enumerate(([4, 0, 2, 2, 1], [1, 2, 3], [0])):
            new = [4 + step + i for i in range(len(texts))]
            x = model.residual(torch.tensor(new)[:, None], cache=state)
            texts = [[*text, token] for text, token in zip(texts, new, strict=True)]
            for row, text in enumerate(texts):
                alone = model.residual(torch.tensor([text]), given=torch.tensor([given[row]]))
                torch.testing.assert_close(x[row, -1], alone[0, -1], rtol=0, atol=1e-11)
            state.reorder(torch.tensor(keep))
            texts, given = [list(texts[row]) for row in keep], [given[row] for row in keep]
    # Only one source is left, and with it half of the bytes.
    assert state.source.num_bytes == size // 2
    assert (state.batch_size, state.length) == (1, 8)


def test_hooks_see_each_texts_own_keys_in_a_step() -> None:
    model = model_of()
    state = model.decoding_state(1)
    ids = ids_of(1, 4)
    with torch.no_grad():
        model.residual(ids, given=torch.tensor([4]), cache=state)
        state.reorder(torch.tensor([0, 0, 0]))
        seen: dict[str, Tensor] = {}
        hooks = model.hooks({"*cross_attention.*": lambda name, x: seen.update({name: x})})
        new = torch.tensor([[5], [6], [7]])
        x = model.residual(new, cache=state, hooks=hooks)
    assert seen["layers.1.cross_attention.pattern"].shape == (3, 2, 1, 4)
    for row in range(3):
        text = torch.cat([ids, new[[row]]], 1)
        _, kept = record(model, "*", text, given=torch.tensor([4]))
        torch.testing.assert_close(x[row], kept["final"][0, -1:])
        pattern = kept["layers.1.cross_attention.pattern"][0, :, -1:]
        torch.testing.assert_close(seen["layers.1.cross_attention.pattern"][row], pattern)


@pytest.mark.parametrize("strategy", ["greedy", "sampling", "beam"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("numbers", ["packed", "packed-bf16"])
def test_the_quick_model_writes_what_the_plain_one_does(
    strategy: str, positions: str, numbers: str
) -> None:
    model = model_of(positions=positions, num_layers=1)
    settings = GenerationConfig(strategy=strategy, max_new_tokens=14, num_beams=3)
    prompts = [[2, 9, 4, 13], [5], ids_of(16).tolist()]
    plain = generate(model, prompts, replace(settings, linear="plain"), SPECIAL)
    quick = generate(model, prompts, replace(settings, linear=numbers), SPECIAL)
    bound = 1e-4 if numbers == "packed" else 0.5
    for ours, reference in zip(quick, plain, strict=True):
        if numbers == "packed":
            assert ours.ids == reference.ids
        if ours.ids == reference.ids:
            assert ours.log_probability == pytest.approx(reference.log_probability, abs=bound)
    assert any(a.ids == b.ids for a, b in zip(quick, plain, strict=True))


@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("ragged", [False, True])
def test_the_quick_model_trains_as_the_plain_one(
    norm_placement: str, dropout: float, ragged: bool
) -> None:
    model = model_of(norm_placement=norm_placement, dropout=dropout, context_length=60).train()
    ids, real, given = ids_of(4, 60), None, torch.full((4,), 30)
    if ragged:
        real = torch.ones(4, 60, dtype=torch.bool)
        real[1, 50:], real[2, :9] = False, False
        given = torch.tensor([3, 20, 35, 60])
    made = []
    for form in (remove, install):
        form(model)
        model.zero_grad()
        torch.manual_seed(3)
        x = model.residual(ids, real=real, given=given)
        loss = model.summed_loss(x, ids.roll(-1, 1), 4)
        loss.backward()
        made.append([loss.detach(), x.detach(), *(p.grad for p in model.parameters())])
    for quick, plain in zip(made[1], made[0], strict=True):
        assert quick is not None
        assert plain is not None
        scale = float(plain.abs().max())
        torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-5 * scale)


def test_what_cannot_be_is_refused_in_a_line() -> None:
    model = model_of()
    with pytest.raises(GenerationError, match="writes from left to right"):
        model(ids_of(1, 4), causal=False)
    with pytest.raises(GenerationError, match=r"17 tokens do not fit into model\.context_length"):
        model(ids_of(1, 17))
    with pytest.raises(GenerationError, match=r"position 16 does not fit into model\.context"):
        model(ids_of(1, 2), positions=torch.tensor([[0, 16]]))
    state = model.decoding_state(2)
    model(ids_of(2, 10), given=torch.tensor([4, 4]), cache=state)
    with pytest.raises(GenerationError, match="caches are for texts of 16 tokens and 17 are"):
        model(ids_of(2, 7), positions=torch.arange(9, 16)[None], cache=state)
    with pytest.raises(GenerationError, match=r"cannot take texts \[2\] of caches of 2 texts"):
        state.reorder(torch.tensor([2]))


def test_a_prefix_stands_in_both_stacks_and_in_the_state() -> None:
    from tinylm.config.finetuning import PrefixConfig
    from tinylm.finetuning.adapters import attach

    model = model_of().double()
    ids, given = ids_of(2, 8), torch.tensor([3, 5])
    before = model(ids, given=given)
    attach(model, "prefix", PrefixConfig(length=2))
    apart = model(ids, given=given)
    assert (apart - before).abs().max() > 1e-3
    state = model.decoding_state(2)
    model(ids[:, :5], given=given, cache=state)
    steps = [model(ids[:, [i]], cache=state) for i in range(5, 8)]
    torch.testing.assert_close(torch.cat(steps, 1), apart[:, 5:])
    quick = for_decoding(model.float())
    state = quick.decoding_state(2)
    with torch.no_grad():
        quick.residual(ids[:, :5], given=given, cache=state)
        steps = [quick(ids[:, [i]], cache=state) for i in range(5, 8)]
    torch.testing.assert_close(torch.cat(steps, 1).double(), apart[:, 5:], rtol=1e-4, atol=1e-4)
