"""Buckets, counted collectives and bytes of storages, each by itself and in one process."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tinylm.training.zero.buckets import buckets_of
from tinylm.training.zero.collectives import Collectives, Kind, Sent, ring_share, total
from tinylm.training.zero.memory import Meter, bytes_held

KINDS: tuple[Kind, ...] = ("reduce-scatter", "all-gather", "all-reduce")


class Shared(nn.Module):
    """Three layers, of which two share a map, and one that shares a map with what is outside."""

    def __init__(self) -> None:
        super().__init__()
        first, second = nn.Linear(3, 5), nn.Linear(3, 5, bias=False)
        self.layers = nn.ModuleList(
            [
                nn.Sequential(first, nn.Linear(2, 2)),
                nn.Sequential(first, nn.Linear(7, 1)),
                nn.Sequential(second, nn.Linear(4, 3)),
            ]
        )
        self.outside = second


def simulated(kind: Kind, ranks: int, part: int) -> int:
    """Numbers that a rank sends: the operations of a ring, turn by turn."""
    turns = ranks - 1
    return sum(part for _ in range(2 * turns if kind == "all-reduce" else turns))


@given(kind=st.sampled_from(KINDS), ranks=st.integers(1, 32), part=st.integers(1, 99))
def test_a_ring_sends_part_by_part(kind: Kind, ranks: int, part: int) -> None:
    assert ring_share(kind, ranks) * ranks * part == simulated(kind, ranks, part)


def test_what_is_sent_is_counted_by_kind_and_purpose_until_it_is_taken() -> None:
    collectives = Collectives.alone()
    whole, own = torch.arange(6.0), torch.zeros(6)
    collectives.reduce_scatter(own, whole, "gradients")
    collectives.all_reduce(whole.double(), "gradients")
    collectives.all_reduce(whole.double(), "gradients")
    collectives.all_gather(whole, own, "parameters")
    sent = collectives.take()
    calls = {(each.kind, each.purpose): each.calls for each in sent}
    assert calls == {
        ("reduce-scatter", "gradients"): 1,
        ("all-reduce", "gradients"): 2,
        ("all-gather", "parameters"): 1,
    }
    assert total(sent) == (0, 0)  # nobody to send to
    assert torch.equal(own, torch.arange(6.0))
    assert collectives.take() == []


def test_totals_are_of_some_purposes_or_all() -> None:
    sent = [
        Sent("all-reduce", "a", 1, Fraction(3, 2), Fraction(6)),
        Sent("all-gather", "b", 4, Fraction(5), Fraction(10)),
    ]
    assert total(sent, "a") == (Fraction(3, 2), 6)
    assert total(sent) == (Fraction(13, 2), 16)
    assert total(sent, "c") == (0, 0)


def test_a_storage_counts_once_and_with_what_it_has() -> None:
    base = torch.zeros(10)
    other = torch.zeros(4, dtype=torch.bfloat16)
    parts = {"first": [base[:3], base], "second": [base[5:], other]}
    assert bytes_held(parts) == {"first": 40, "second": 8}
    other.untyped_storage().resize_(0)
    assert bytes_held(parts) == {"first": 40, "second": 0}


def test_a_meter_keeps_the_most_of_a_step() -> None:
    meter = Meter()
    for size in (2, 5, 3):
        assert meter.look({"all": [torch.zeros(size)]}) == {"all": 4 * size}
    assert meter.most == {"all": 20}
    meter.begin()
    assert meter.most == {}


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_buckets_have_every_parameter_once_and_equal_parts(ranks: int) -> None:
    model = Shared()
    model.layers[0][1].bias.requires_grad_(False)
    named = dict(model.named_parameters())
    buckets = buckets_of(model, ranks)
    assert sorted(name for bucket in buckets for name in bucket.names) == sorted(named)
    for bucket in buckets:
        assert bucket.size == ranks * bucket.part_size == bucket.numbers + bucket.padding
        assert 0 <= bucket.padding < ranks
        for name, view in zip(bucket.names, bucket.views(bucket.flat), strict=True):
            assert torch.equal(view, named[name])
        assert not bucket.flat[bucket.numbers :].any()
        parts = [bucket.part(bucket.flat, rank) for rank in range(ranks)]
        assert torch.equal(torch.cat(parts), bucket.flat)
        assert all(parameter.requires_grad is bucket.trained for parameter in bucket.parameters)


def test_what_two_layers_share_is_in_neither() -> None:
    model = Shared()
    of_layer = {id(bucket.layer): bucket.names for bucket in buckets_of(model, 2)}
    assert of_layer[id(None)] == ["layers.0.0.weight", "layers.0.0.bias", "layers.2.0.weight"]
    assert of_layer[id(model.layers[1])] == ["layers.1.1.weight", "layers.1.1.bias"]
    assert of_layer[id(model.layers[2])] == ["layers.2.1.weight", "layers.2.1.bias"]


def test_a_model_without_layers_is_one_bucket() -> None:
    (bucket,) = buckets_of(nn.Linear(3, 2), 4)
    assert bucket.layer is None
    assert (bucket.numbers, bucket.padding) == (8, 0)


def test_parameters_become_views_of_their_bucket() -> None:
    model = nn.Linear(3, 2)
    (bucket,) = buckets_of(model, 3)
    bucket.connect()
    bucket.flat.fill_(7)
    assert model.weight.eq(7).all() and model.bias.eq(7).all()
    assert model.weight.untyped_storage().data_ptr() == bucket.flat.data_ptr()
