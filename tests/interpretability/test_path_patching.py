"""Path patching beside a float64 brute force, and on planted heads."""

from __future__ import annotations

import pytest
import torch

from tests.interpretability.by_hand import Part, by_hand
from tests.interpretability.planted import INDUCTION, PREVIOUS, planted_model, repeated_text
from tests.interpretability.test_patching import DIRECTIONS, random_runs
from tests.model.helpers import NORM_PLACEMENTS
from tinylm.errors import ConfigError
from tinylm.interpretability.pair_runs import Direction, TokenPair, effect, run_pair
from tinylm.interpretability.patching import Site
from tinylm.interpretability.path_patching import path_patching

HEADS = [(layer, head) for layer in range(2) for head in range(3)]
SENDERS: dict[Part, Site] = {
    ("embedding",): Site("embedding"),
    **{("head", i, h): Site(f"layers.{i}.attention.mixed", head=h) for i, h in HEADS},
    **{("ff", i): Site(f"layers.{i}.feed_forward.output") for i in range(2)},
}
RECEIVERS: dict[Part, Site] = {
    **{(part, i, h): Site(f"layers.{i}.attention.{part}", head=h)
       for part in ("query", "key", "value") for i, h in HEADS},
    **{("ff", i): Site(f"layers.{i}.feed_forward.inner") for i in range(2)},
    ("logits",): Site("logits"),
}  # fmt: skip


@pytest.mark.parametrize("norm_placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_path_is_that_of_a_model_with_all_else_frozen(
    direction: Direction, norm_placement: str
) -> None:
    runs = random_runs(norm_placement=norm_placement)
    model, (base, source) = runs.model, runs.base_and_source(direction)
    ours = path_patching(runs, direction, list(SENDERS.values()), list(RECEIVERS.values()))
    own, other = (by_hand(model, run.ids[0]) for run in (base, source))
    assert float((own.logits - base.logits[0]).abs().max()) < 1e-12
    for row, sender in enumerate(SENDERS):
        frozen = by_hand(model, base.ids[0], writes={**own.wrote, sender: other.wrote[sender]})
        for column, receiver in enumerate(RECEIVERS):
            if receiver == ("logits",):
                logits = frozen.logits
            else:
                reads = {receiver: frozen.streams[receiver]}
                logits = by_hand(model, base.ids[0], reads=reads).logits
            expected = float(runs.normalised(logits[-1]))
            assert float(ours[row, column]) == pytest.approx(expected, abs=1e-10), (
                sender,
                receiver,
            )
    start = 0.0 if direction == "denoising" else 1.0
    # Paths that lead backward are exactly nothing.
    backward = [
        (row, column)
        for row, sender in enumerate(SENDERS)
        for column, receiver in enumerate(RECEIVERS)
        if sender != ("embedding",)
        and receiver != ("logits",)
        and (sender[1], sender[0] == "ff") >= (receiver[1], receiver[0] == "ff")
    ]
    assert len(backward) > 50
    assert all(float(ours[place]) == start for place in backward)
    assert int(((ours - start).abs() > 1e-3).sum()) > 40


def test_one_position_may_send() -> None:
    runs = random_runs()
    senders = [Site("layers.0.attention.mixed", position, 1) for position in (None, 1, 2, 3, 4, 5)]
    values = path_patching(runs, "noising", senders, [Site("logits")])[:, 0]
    assert float(values[0]) == pytest.approx(float(values[5]), abs=1e-12)  # the last one is read
    assert values[1:5].tolist() == pytest.approx([1.0] * 4, abs=1e-12)
    assert abs(float(values[5]) - 1) > 1e-3


def test_the_planted_path_is_the_one_that_matters() -> None:
    """The previous-token head tells the induction head's key what stood before, nobody else."""
    ids = repeated_text(5)[:7]
    corrupted = [*ids]
    corrupted[1] = next(i for i in range(3, 20) if i not in ids)
    runs = run_pair(planted_model(), TokenPair(tuple(ids), tuple(corrupted), ids[2], corrupted[1]))
    layer, head = PREVIOUS
    senders = [Site("layers.0.attention.mixed", head=h) for h in range(3)]
    receivers = [
        Site(f"layers.1.attention.{part}", head=h)
        for part in ("query", "key", "value")
        for h in range(3)
    ]
    values = path_patching(runs, "denoising", senders, [*receivers, Site("logits")])
    moved = effect(values, "denoising")
    key_of_induction = 3 + INDUCTION[1]
    assert float(moved[head, key_of_induction]) > 0.9
    moved[head, key_of_induction] = 0
    assert float(moved.abs().max()) < 0.1
    assert layer == 0


@pytest.mark.parametrize(
    ("sender", "receiver", "message"),
    [
        (Site("layers.0.input"), Site("logits"), r"'layers.0.input' is no sender of a path; those"),
        (
            Site("embedding"),
            Site("layers.1.middle"),
            r"is no receiver of a path; .*N\.attention\.k",
        ),
        (Site("logits"), Site("logits"), "'logits' is no sender"),
        (Site("embedding"), Site("layers.3.attention.key"), "no activation is named"),
    ],
)
def test_what_neither_sends_nor_receives_is_refused(
    sender: Site, receiver: Site, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        path_patching(random_runs(), "denoising", [sender], [receiver])


def test_a_path_leaves_nothing_behind() -> None:
    runs = random_runs()
    before = {name: tensor.clone() for name, tensor in runs.model.state_dict().items()}
    mixed = runs.clean["layers.0.attention.mixed"].clone()
    path_patching(runs, "noising", [Site("embedding")], list(RECEIVERS.values()))
    after = runs.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert torch.equal(mixed, runs.clean["layers.0.attention.mixed"])
