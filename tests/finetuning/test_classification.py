"""The classifier: what each place sees, what is trained, and what is kept on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.model.helpers import ENCODINGS, NORM_PLACEMENTS, build_random, largest_difference
from tinylm.config.finetuning import ClassificationConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.classification import Classifier, trained
from tinylm.finetuning.classification_files import (
    load_classifier,
    read_classifier,
    save_classifier,
)
from tinylm.model.decoder import in_turn, layers_run_by
from tinylm.model.hooks import NO_HOOKS
from tinylm.reading import signed
from tinylm.training.recompute import recomputing

BODIES = ["frozen", "lora", "full"]


def classifier(labels: int = 3, model: dict[str, Any] | None = None, **settings: Any) -> Classifier:
    """Return a float64 classifier in eval mode whose new parameters are far from their start."""
    body = build_random(**(model or {}))
    torch.manual_seed(1)
    classifier = Classifier(body, labels, ClassificationConfig(**settings), start_id=2)
    with torch.no_grad():
        for parameter in trained(classifier).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return classifier.eval()


def padded(*lengths: int, width: int, filler: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(4, 23, (len(lengths), width), generator=generator)
    real = torch.arange(width) < torch.tensor(lengths)[:, None]
    return ids.masked_fill(~real, filler), real


@pytest.mark.parametrize("positions", ENCODINGS)
@pytest.mark.parametrize("placement", NORM_PLACEMENTS)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_on_the_right_changes_nothing(
    positions: str, placement: str, bidirectional: bool
) -> None:
    model = classifier(
        model={"positions": positions, "norm_placement": placement}, bidirectional=bidirectional
    )
    ids, real = padded(3, 7, 12, width=12)
    logits = model(ids, real=real)
    other = model(ids.masked_fill(~real, 9), real=real)
    assert largest_difference(logits, other) < 1e-12
    for row, length in enumerate((3, 7, 12)):
        alone = model(ids[row : row + 1, :length])
        assert largest_difference(logits[row : row + 1], alone) < 1e-12


@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_token_of_the_text_is_read(bidirectional: bool) -> None:
    model = classifier(bidirectional=bidirectional)
    ids, real = padded(8, width=8)
    before = model(ids, real=real)
    for place in range(8):
        changed = ids.clone()
        changed[0, place] = (ids[0, place] + 1) % 23
        assert largest_difference(model(changed, real=real), before) > 1e-6, place


def test_with_the_mask_the_first_place_sees_nothing_and_without_it_everything() -> None:
    body = build_random()
    ids, _ = padded(9, width=9)
    changed = ids.clone()
    changed[0, 8] = (ids[0, 8] + 1) % 23
    for causal in (True, False):
        first, other = (body.residual(text, causal=causal) for text in (ids, changed))
        for place in range(8):
            moved = largest_difference(first[:, place], other[:, place])
            assert (moved > 1e-6) != causal, (place, moved)


def test_without_the_mask_attention_is_softmax_over_all_real_keys() -> None:
    """One layer of one head, computed again from its weights in float64."""
    body = build_random(num_layers=1, num_heads=1, hidden_size=6, head_dim=6)
    ids, real = padded(4, 6, width=6)
    output = body.residual(ids, real=real, causal=False)
    layer = body.layers[0]
    places = torch.arange(6)[None].minimum(real.sum(1, keepdim=True) - 1)
    x = body.positions.add(body.embedding(ids) * body.embedding_scale, places)
    for row, length in enumerate((4, 6)):
        h = x[row, :length]
        query, key, value = layer.attention.query_key_value(h).chunk(3, -1)
        weights = torch.exp(query @ key.T / 6**0.5)
        mixed = (weights / weights.sum(-1, keepdim=True)) @ value
        h = layer.attention_norm(h + layer.attention.output(mixed))
        h = layer.feed_forward_norm(h + layer.feed_forward(h, NO_HOOKS))
        assert largest_difference(output[row, :length], h) < 1e-12


def test_texts_longer_than_an_attention_block_see_all_of_it() -> None:
    body = build_random(context_length=300)
    ids, real = padded(290, 300, width=300)
    logs = [body.residual(ids, real=mask, causal=False)[1] for mask in (real, None)]
    assert largest_difference(*logs) < 1e-12
    changed = ids.clone()
    changed[1, 299] = (ids[1, 299] + 1) % 23
    other = body.residual(changed, real=real, causal=False)
    assert largest_difference(other[1, 0], logs[0][0]) > 1e-9


@pytest.mark.parametrize("bidirectional", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(bidirectional: bool) -> None:
    ids, real = padded(5, 9, width=9)
    gradients = []
    for runner in (in_turn, recomputing(1)):
        model = classifier(bidirectional=bidirectional, body="full")
        with layers_run_by(model.body, runner):
            model.residual(ids, real=real).square().sum().backward()
        gradients.append({name: p.grad for name, p in trained(model).items() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("body", BODIES)
def test_what_is_trained(body: str, tied: bool) -> None:
    model = classifier(
        model={"tie_embeddings": tied}, body=body, bidirectional=True, pooler=True, rank=2
    )
    names = set(trained(model))
    head = {"cls", "head.weight", "head.bias", "pooler.weight", "pooler.bias"}
    assert head <= names
    inside = names - head
    if body == "frozen":
        assert not inside
    elif body == "lora":
        assert len(inside) == 2 * 4 * 2  # A and B of four maps in two layers
        assert all(".parts.default." in name for name in inside)
    else:
        every = {name for name, _ in model.named_parameters()} - head
        left_out = {"body.unembedding.weight", "body.unembedding.bias"}
        assert inside == every - left_out
    ids, real = padded(5, 9, width=9)
    model.residual(ids, real=real).square().sum().backward()
    without = {name for name, p in trained(model).items() if p.grad is None}
    assert without == {"head.weight", "head.bias"}  # residual is what the head reads


@pytest.mark.parametrize("pooler", [False, True])
def test_features_give_what_the_text_gives(pooler: bool) -> None:
    ids, real = padded(5, 9, 2, width=9)
    for body in BODIES:
        for bidirectional in (False, True):
            model = classifier(body=body, bidirectional=bidirectional, pooler=pooler)
            assert model.has_fixed_features == (body == "frozen" and not bidirectional)
            features = model.features(ids, real)
            assert features.shape == (3, 10)
            assert torch.equal(model(features), model(ids, real=real))


def test_the_body_keeps_its_mode_only_where_it_is_frozen() -> None:
    for body in BODIES:
        model = classifier(model={"dropout": 0.5}, body=body).train()
        assert model.dropout.training
        assert model.body.layers[0].training == (body != "frozen")
        model.eval()
        assert not model.body.training


def test_cls_starts_as_the_start_tokens_embedding() -> None:
    body = build_random()
    wanted = body.embedding.weight[2].detach().clone()
    model = Classifier(body, 2, ClassificationConfig(bidirectional=True), start_id=2)
    assert model.cls is not None
    assert torch.equal(model.cls, wanted)
    ids, _ = padded(7, width=7)
    read = model.eval().residual(ids)[:, 0]
    framed = torch.cat([torch.tensor([[2]]), ids], 1)
    whole = model.body.residual(framed, causal=False)
    assert largest_difference(read, whole[:, 0]) < 1e-12


def test_one_label_is_refused() -> None:
    with pytest.raises(AdapterError, match="1 labels: classification needs two or more"):
        Classifier(build_random(), 1, ClassificationConfig(), start_id=2)


# --- on disk ---


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("body", BODIES)
def test_a_saved_classifier_gives_the_same_logits(
    tmp_path: Path, body: str, bidirectional: bool
) -> None:
    model = classifier(body=body, bidirectional=bidirectional, pooler=bidirectional, rank=3)
    ids, real = padded(3, 9, width=9)
    wanted = model(ids, real=real)
    num_bytes = save_classifier(model, ["a", "b", "ü"], 16, 2, tmp_path / "new/one")
    assert num_bytes == (tmp_path / "new/one/classifier.safetensors").stat().st_size
    base = build_random()
    state = torch.get_rng_state()
    again, stored = load_classifier(base, tmp_path / "new/one")
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert torch.equal(again(ids, real=real), wanted)
    assert stored.labels == ("a", "b", "ü")
    assert stored.max_tokens == 16
    assert stored.settings == model.settings
    files = sorted(path.name for path in (tmp_path / "new/one").iterdir())
    assert files == ["classifier.json", "classifier.safetensors"]


def test_another_base_is_refused(tmp_path: Path) -> None:
    save_classifier(classifier(), ["a", "b", "c"], 16, 2, tmp_path)
    with pytest.raises(AdapterError, match=r"was trained on the base .* load it on its own base"):
        load_classifier(build_random(seed=1), tmp_path)


def test_damaged_and_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no classifier: classifier.safetensors is missing"):
        read_classifier(tmp_path)
    save_classifier(classifier(), ["a", "b", "c"], 16, 2, tmp_path)
    about = tmp_path / "classifier.json"
    values = json.loads(about.read_text("utf-8"))

    def refused(told: str, **changes: Any) -> None:
        changed = {key: value for key, value in (values | changes).items() if value is not None}
        del changed["checksum"]
        about.write_text(json.dumps(signed(changed)), "utf-8")
        with pytest.raises(AdapterError, match=told) as error:
            load_classifier(build_random(), tmp_path)
        assert "\n" not in str(error.value)

    refused("has format 'x'", format="x")
    refused("is damaged: classifier.safetensors has changed", sha256="0" * 64)
    refused("labels is missing", labels=None)
    refused("labels = 'ab': expected a list", labels="ab")
    refused("expected at least 2 entries", labels=["a"])
    refused("a label stands there twice", labels=["a", "b", "a"])
    refused("max_tokens = 17, the model has 16 at most", max_tokens=17)
    refused("start_id = 1000, the model has", start_id=1000)
    refused("head.bias has shape", labels=["a", "b"])
    refused("pooler.bias is missing", settings=values["settings"] | {"pooler": True})
    refused("is not of this classifier", settings=values["settings"] | {"body": "frozen"})
    about.write_text(json.dumps(values | {"max_tokens": 15}))
    with pytest.raises(AdapterError, match="has changed since it was written"):
        read_classifier(tmp_path)
    about.write_text("[]")
    with pytest.raises(AdapterError, match="expected keys with values"):
        read_classifier(tmp_path)
    about.write_text("{")
    with pytest.raises(AdapterError, match="not JSON"):
        read_classifier(tmp_path)
