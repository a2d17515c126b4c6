"""The planted model does what it was made for, by the two heads that were planted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.interpretability.planted import INDUCTION, PREVIOUS, SOS, planted_model, repeated_text
from tinylm.model.decoder import DecoderLM, record

LENGTH = 8


def probabilities(model: DecoderLM) -> Tensor:
    """Return that of the right token at each place of the second half that has a target."""
    ids = torch.tensor([repeated_text(LENGTH, seed) for seed in range(4)])
    with torch.no_grad():
        predicted: Tensor = model(ids).softmax(-1)[:, LENGTH + 1 : -1]
    return predicted.gather(2, ids[:, LENGTH + 2 :, None])


def test_it_goes_on_as_the_text_went_on_before() -> None:
    assert float(probabilities(planted_model()).min()) > 0.99


@pytest.mark.parametrize("without", ["previous", "induction"])
def test_it_takes_both_heads(without: str) -> None:
    assert float(probabilities(planted_model(**{without: False})).max()) < 0.2


def test_the_planted_heads_attend_as_they_were_made_to_and_the_others_evenly() -> None:
    model, ids = planted_model(), torch.tensor([repeated_text(LENGTH)])
    _, kept = record(model, ["layers.*.attention.pattern"], ids)
    patterns = torch.cat([kept[f"layers.{i}.attention.pattern"] for i in range(2)])
    seq = ids.shape[1]
    previous = patterns[PREVIOUS].diagonal(-1)
    assert float(previous.min()) > 0.999
    induction = patterns[INDUCTION]
    assert float(induction.diagonal(1 - LENGTH)[2:].min()) > 0.999
    # Where a query's token is new, the head rests on <sos>.
    assert ids[0, 0] == SOS
    assert float(induction[1 : LENGTH + 1, 0].min()) > 0.999
    even = torch.ones(seq, seq, dtype=torch.float64).tril()
    even = even / even.sum(1, keepdim=True)
    for layer in range(2):
        for head in range(3):
            if (layer, head) not in (PREVIOUS, INDUCTION):
                assert float((patterns[layer, head] - even).abs().max()) < 0.05
