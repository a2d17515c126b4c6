"""Activation patching beside TransformerLens's on the same weights, and its own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformer_lens import patching as theirs

from tests.interpretability.hooked import build_both
from tests.interpretability.planted import INDUCTION, PREVIOUS, VOCAB, planted_model, repeated_text
from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random
from tinylm.errors import ConfigError, GenerationError
from tinylm.interpretability.pair_runs import (
    Direction,
    PairRuns,
    TokenPair,
    effect,
    right_answers,
    run_pair,
)
from tinylm.interpretability.patching import Site, patched, sweep
from tinylm.interpretability.trace import Trace
from tinylm.model.decoder import DecoderLM

CLEAN, CORRUPTED = (2, 5, 9, 4, 7, 9), (2, 5, 11, 4, 7, 9)
PAIR = TokenPair(CLEAN, CORRUPTED, answer=3, wrong=8)
"""For what is refused."""
DIRECTIONS: list[Direction] = ["denoising", "noising"]


def pair_for(model: DecoderLM) -> TokenPair:
    """The two tokens whose logits the exchanged token moves furthest up and down."""
    logits = model(torch.tensor([CLEAN, CORRUPTED]))[:, -1]
    moved = logits[0] - logits[1]
    return TokenPair(CLEAN, CORRUPTED, int(moved.argmax()), int(moved.argmin()))


def random_runs(**changes: Any) -> PairRuns:
    model = build_random(**changes)
    return run_pair(model, pair_for(model))


# TransformerLens: a function, our activation, and whether a head and a position are patched alone.
THEIRS: list[tuple[Callable[..., Tensor], str, bool, bool]] = [
    (theirs.get_act_patch_resid_pre, "input", False, True),
    (theirs.get_act_patch_resid_mid, "middle", False, True),
    (theirs.get_act_patch_attn_out, "attention.output", False, True),
    (theirs.get_act_patch_mlp_out, "feed_forward.output", False, True),
    (theirs.get_act_patch_attn_head_out_by_pos, "attention.mixed", True, True),
    (theirs.get_act_patch_attn_head_q_by_pos, "attention.query", True, True),
    (theirs.get_act_patch_attn_head_k_by_pos, "attention.key", True, True),
    (theirs.get_act_patch_attn_head_v_by_pos, "attention.value", True, True),
    (theirs.get_act_patch_attn_head_pattern_by_pos, "attention.pattern", True, True),
    (theirs.get_act_patch_attn_head_out_all_pos, "attention.mixed", True, False),
    (theirs.get_act_patch_attn_head_q_all_pos, "attention.query", True, False),
    (theirs.get_act_patch_attn_head_k_all_pos, "attention.key", True, False),
    (theirs.get_act_patch_attn_head_v_all_pos, "attention.value", True, False),
    (theirs.get_act_patch_attn_head_pattern_all_pos, "attention.pattern", True, False),
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("function", "name", "by_head", "by_position"), THEIRS)
def test_every_patch_is_transformer_lens_s(
    function: Callable[..., Tensor],
    name: str,
    by_head: bool,
    by_position: bool,
    direction: Direction,
) -> None:
    model, twin = build_both()
    runs = run_pair(model, pair_for(model))
    base, source = runs.base_and_source(direction)
    _, cache = twin.run_with_cache(source.ids)

    def metric(logits: Tensor) -> Tensor:
        return runs.normalised(logits[0, -1])

    # Their result is made in float32: what comes out of the metric is kept beside it.
    kept: list[float] = []
    shape = function(twin, base.ids, cache, lambda logits: kept_of(metric(logits), kept)).shape
    reference = torch.tensor(kept, dtype=torch.float64).view(shape)

    ours = sweep(runs, direction, [f"layers.*.{name}"], by_position=by_position)
    stacked = torch.stack(list(ours.values()))  # (layers, heads, positions)
    if by_head and by_position and name != "attention.pattern":
        stacked = stacked.transpose(1, 2)  # theirs is (layers, positions, heads) of all others
    assert reference.shape == stacked.shape
    assert float((reference - stacked).abs().max()) < 1e-9
    assert float((stacked - stacked.mean()).abs().max()) > 1e-3


def kept_of(value: Tensor, kept: list[float]) -> Tensor:
    kept.append(float(value.detach()))
    return value


def straight(base: Trace, source: Trace, site: Site) -> Tensor:
    """The whole model run anew with a hook, as a reference for any model."""

    def put(_: str, x: Tensor) -> Tensor:
        x = x.clone()
        heads = slice(None) if site.head is None else slice(site.head, site.head + 1)
        places = slice(None) if site.position is None else slice(site.position, site.position + 1)
        index = (slice(None), heads, places) if x.dim() == 4 else (slice(None), places)
        x[index] = source[site.activation][index]
        return x

    model = base.model
    logits: Tensor = model(base.ids, hooks=model.hooks({site.activation: put}))
    return logits[0, -1].detach()


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
def test_every_activation_of_every_model_is_patched_as_by_a_hook(
    norm_placement: str, positions: str
) -> None:
    runs = random_runs(norm_placement=norm_placement, positions=positions)
    base, source = runs.base_and_source("noising")
    shapes = runs.model.activation_shapes(1, 6)
    sites = [
        Site(name, position, head)
        for name, shape in shapes.items()
        for position in (None, 1, 2, 4, 5)
        for head in ([None, 1] if len(shape) == 4 else [None])
    ]
    ours = patched(base, source, [[site] for site in sites])
    expected = torch.stack([straight(base, source, site) for site in sites])
    assert float((ours - expected).abs().max()) < 1e-12
    changed = (ours != base.logits[0, -1]).any(-1)
    assert 40 < int(changed.sum()) < len(sites)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_sites_patched_together_are_hooks_set_together(data: st.DataObject) -> None:
    runs = random_runs(norm_placement="pre")
    base, source = runs.clean, runs.corrupted
    names = list(runs.model.activation_shapes(1, 6))
    rows = data.draw(
        st.lists(
            st.lists(st.builds(Site, st.sampled_from(names), st.none() | st.integers(0, 5)),
                     max_size=3),
            min_size=1, max_size=4,
        )
    )  # fmt: skip
    ours = patched(base, source, rows)
    for row, sites in enumerate(rows):
        hooks: dict[str, Any] = {}
        for name in {site.activation for site in sites}:
            places = [site.position for site in sites if site.activation == name]

            def put(name: str, x: Tensor, places: list[int | None] = places) -> Tensor:
                x = x.clone()
                for place in places:
                    here = slice(None) if place is None else place
                    x[..., here, :] = source[name][..., here, :]
                return x

            hooks[name] = put
        expected = runs.model(base.ids, hooks=runs.model.hooks(hooks))[0, -1]
        assert float((ours[row] - expected).abs().max().detach()) < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_is_there_already_changes_nothing_bit_for_bit(
    direction: Direction, dtype: torch.dtype
) -> None:
    model = build_random().to(dtype)
    runs = run_pair(model, pair_for(model))
    base, _ = runs.base_and_source(direction)
    names = runs.model.activation_shapes(1, 6)
    into_itself = patched(base, base, [[Site(name)] for name in names])
    assert torch.equal(into_itself, base.logits[0, -1].expand_as(into_itself))
    # Before the first changed token both runs are the same, and a patch there is none.
    assert runs.first_changed == 2
    unpatched = 0.0 if direction == "denoising" else 1.0
    for name, values in sweep(runs, direction).items():
        assert bool((values[..., :2] == unpatched).all()), name
        assert bool((values[..., 2:] != unpatched).any()), name


def test_a_patch_of_what_is_there_runs_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = random_runs()
    monkeypatch.setattr(type(runs.model.layers[0]), "forward", None)
    rows = [[Site(name, position)] for name in runs.clean for position in (0, 1)]
    assert torch.equal(
        patched(runs.clean, runs.corrupted, rows),
        runs.clean.logits[0, -1].expand(len(rows), -1),
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_whole_stream_or_the_logits_make_one_run_the_other(direction: Direction) -> None:
    runs = random_runs()
    names = ["embedding", "layers.1.input", "layers.1.residual", "final", "logits"]
    values = sweep(runs, direction, names, by_position=False)
    for name in names:
        assert values[name].shape == ()
        assert float(effect(values[name], direction)) == pytest.approx(1, abs=1e-12)
    assert float(runs.normalised(runs.clean.logits[0, -1])) == 1
    assert float(runs.normalised(runs.corrupted.logits[0, -1])) == 0


def test_sources_may_differ_from_row_to_row() -> None:
    runs = random_runs()
    name = "layers.0.attention.mixed"
    by_row = {name: torch.cat([runs.corrupted[name], 0 * runs.corrupted[name]])}
    rows = [[Site(name, head=1)]] * 2
    ours = patched(runs.clean, by_row, rows)
    for row in (slice(0, 1), slice(1, 2)):
        alone = patched(runs.clean, {name: by_row[name][row]}, rows[row])
        assert float((ours[row] - alone).abs().max()) < 1e-12
    assert float((ours[0] - ours[1]).abs().max()) > 1e-3


def planted_pair(length: int = 5) -> TokenPair:
    """``A B C … A``: what followed A the first time, B, follows; in the corrupted prompt, X."""
    ids = repeated_text(length)[: length + 2]
    other = next(i for i in range(3, VOCAB) if i not in ids)
    corrupted = [*ids]
    corrupted[2] = other
    return TokenPair(tuple(ids), tuple(corrupted), answer=ids[2], wrong=other)


def test_planted_heads_are_the_ones_that_patching_shows() -> None:
    runs = run_pair(planted_model(), planted_pair())
    layer, head = INDUCTION
    for direction in DIRECTIONS:
        values = sweep(runs, direction, ["layers.*.attention.mixed"])
        effects = torch.stack([effect(each, direction) for each in values.values()])
        last = effects[layer, head, -1]
        assert float(last) > 0.9
        effects[layer, head, -1] = 0
        assert float(effects.abs().max()) < 0.1  # the answer itself is read from its own token
        # The token that is copied reaches the head as its value, at the answer's own place.
        values = sweep(runs, direction, [f"layers.{layer}.attention.value"])
        moved = effect(values[f"layers.{layer}.attention.value"], direction)
        assert moved.argmax() == head * runs.length + 2
    # The other token of the pair: what stands before is changed, so that A is found no more.
    ids = repeated_text(5)[:7]
    corrupted = [*ids]
    corrupted[1] = next(i for i in range(3, VOCAB) if i not in ids)
    pair = TokenPair(tuple(ids), tuple(corrupted), ids[2], corrupted[1])
    runs = run_pair(planted_model(), pair)
    moved = torch.stack(list(sweep(runs, "denoising", ["layers.*.attention.mixed"]).values()))
    assert float(moved[(*PREVIOUS, 2)]) > 0.9  # at the place behind the changed token
    assert float(moved[(*INDUCTION, 6)]) > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corrupted": (2, 5)}, "the clean prompt has 6 tokens and the corrupted one 2"),
        ({"corrupted": CLEAN}, "the two prompts are the same"),
        ({"wrong": 3}, "the right and the wrong answer are the same token"),
        ({"wrong": 23}, "token id 23 is outside the vocabulary of 23"),
        ({"clean": (2,) * 17, "corrupted": (3,) * 17}, "17 tokens does not fit"),
    ],
)
def test_pairs_that_cannot_be_compared_are_refused(changes: Any, message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        run_pair(build_random(), replace(PAIR, **changes))


def test_a_pair_that_the_model_does_not_tell_apart_is_refused() -> None:
    model = build_random()
    with torch.no_grad():
        for parameter in (model.unembedding.weight, model.unembedding.bias):
            parameter[8] = parameter[3]
    with pytest.raises(ConfigError, match=r"0\.0000 after the clean prompt and 0\.0000 after the "):
        run_pair(model, PAIR)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site("layers.0.attention.mixt"), r"no activation is named .*did you mean layers\.0\.atte"),
        (Site("layers.0.input", 6), "there is no position 6: the text has 6, from 0"),
        (Site("layers.0.attention.mixed", 1, 3), "there is no head 3: a layer has 3, from 0"),
        (Site("layers.0.input", 1, 0), r"layers\.0\.input has no heads: patch it without one"),
    ],
)
def test_sites_that_are_not_there_are_refused(site: Site, message: str) -> None:
    runs = random_runs()
    with pytest.raises(ConfigError, match=message):
        patched(runs.clean, runs.corrupted, [[site]])
    with pytest.raises(ConfigError, match=r"no activation is named 'layers\.9"):
        sweep(runs, "noising", ["layers.9.*"])


def test_a_model_in_training_mode_is_patched_in_eval_mode() -> None:
    model: DecoderLM = build_random(dropout=0.5)
    pair = pair_for(model.eval())
    model.train()
    runs = [run_pair(model, pair) for _ in range(2)]
    first, second = (sweep(each, "denoising", ["layers.0.*"]) for each in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert model.training


def test_a_blind_model_answers_one_prompt_of_every_pair_right() -> None:
    clean, corrupted = torch.tensor([2.0, 1, -1, -1, 0]), torch.tensor([-2.0, 1, -1, 1, 0])
    assert right_answers(clean, corrupted) == [1, 0.5, 0.5, 0, 0]
