"""The classifier against transformers': GPT-2's, which is causal, and BERT's, which is not."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2ForSequenceClassification,
)

from tests.model.helpers import build_random, largest_difference
from tests.reference.test_gpt2 import AS_GPT2, as_ours, gpt2_config, name_pairs
from tinylm.config import TrainingConfig
from tinylm.config.finetuning import ClassificationConfig
from tinylm.data.windows import Batch
from tinylm.finetuning.classification import Classifier, trained
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.step import TrainingStep

SIZES = [
    {"hidden_size": 24, "num_heads": 4, "num_layers": 3},
    {"hidden_size": 35, "num_heads": 5, "num_layers": 2},
]
LABELS = 3
WIDTH = 11
LENGTHS = (4, 11, 7)


def texts() -> tuple[Tensor, Tensor, Tensor]:
    """Return ids padded with 0, what is real, and labels."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(4, 23, (len(LENGTHS), WIDTH), generator=generator)
    real = torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]
    return ids.masked_fill(~real, 0), real, torch.tensor([2, 0, 1])


def randomise_head(model: Classifier) -> None:
    with torch.no_grad():
        for module in (model.pooler, model.head):
            if module is not None:
                module.weight.normal_(std=0.5)
                module.bias.normal_(std=0.5)


def our_gradients(model: Classifier, ids: Tensor, real: Tensor, labels: Tensor) -> float:
    """Leave the gradients of one training step in ``.grad`` and return the mean loss.

    The examples come in two micro-batches of two and one: every example must weigh the same.
    """
    step = TrainingStep(model, next_token_loss, TrainingConfig(gradient_clip=0, device="cpu"))
    halves = [Batch(ids[k], labels[k, None], real[k]) for k in (slice(0, 2), slice(2, 3))]
    gradients = step.backward(halves)
    assert gradients.num_targets == len(ids)
    return gradients.loss / gradients.num_targets


def check(pairs: dict[str, tuple[nn.Parameter, Tensor | None]], model: Classifier) -> None:
    assert set(pairs) == set(trained(model))
    for name, (mine, other) in pairs.items():
        assert mine.grad is not None
        assert other is not None
        assert float(other.abs().max()) > 1e-9, f"{name}: nothing to compare"
        assert largest_difference(mine.grad, other) < 1e-10, name


@pytest.mark.parametrize("sizes", SIZES)
def test_causal_logits_and_every_gradient_equal_gpt2s(sizes: dict[str, Any]) -> None:
    body = build_random(
        **sizes,
        **AS_GPT2,
    )
    ours = Classifier(body, LABELS, ClassificationConfig(body="full", dropout=0), 2)
    randomise_head(ours)
    with torch.no_grad():
        ours.head.bias.zero_()  # theirs has none
    theirs = GPT2ForSequenceClassification(
        gpt2_config(
            sizes,
            layer_norm_epsilon=body.config.norm_eps,
            pad_token_id=0,
            num_labels=LABELS,
        )
    )
    theirs = theirs.double().eval()
    parameters = dict(theirs.named_parameters())
    names = {f"body.{a}": b for a, b in name_pairs(sizes["num_layers"]).items()}
    names["head.weight"] = "score.weight"
    assert set(names.values()) == set(parameters)
    with torch.no_grad():
        for our_name, their_name in names.items():
            as_ours(their_name, parameters[their_name]).copy_(ours.get_parameter(our_name))

    ids, real, labels = texts()
    other = theirs(input_ids=ids, attention_mask=real.long(), labels=labels)
    assert largest_difference(ours.eval()(ids, real=real), other.logits) < 1e-10
    loss = our_gradients(ours, ids, real, labels)
    assert loss == pytest.approx(float(other.loss.detach()), abs=1e-12)
    other.loss.backward()
    ours.head.bias.requires_grad_(False)
    check(
        {
            a: (ours.get_parameter(a), as_ours(b, cast(Tensor, parameters[b].grad)))
            for a, b in names.items()
        },
        ours,
    )


def bert_pairs(num_layers: int) -> dict[str, list[str]]:
    """Return ours -> theirs; theirs of queries, keys and values stand apart."""
    pairs = {
        "body.positions.table.weight": ["bert.embeddings.position_embeddings.weight"],
        "head.weight": ["classifier.weight"],
        "head.bias": ["classifier.bias"],
        "pooler.weight": ["bert.pooler.dense.weight"],
        "pooler.bias": ["bert.pooler.dense.bias"],
    }
    in_layer = {
        "attention.query_key_value": [f"attention.self.{n}" for n in ("query", "key", "value")],
        "attention.output": ["attention.output.dense"],
        "attention_norm": ["attention.output.LayerNorm"],
        "feed_forward.expand": ["intermediate.dense"],
        "feed_forward.contract": ["output.dense"],
        "feed_forward_norm": ["output.LayerNorm"],
    }
    for i in range(num_layers):
        for ours, theirs in in_layer.items():
            for kind in ("weight", "bias"):
                pairs[f"body.layers.{i}.{ours}.{kind}"] = [
                    f"bert.encoder.layer.{i}.{name}.{kind}" for name in theirs
                ]
    return pairs


@pytest.mark.parametrize("sizes", SIZES)
def test_bidirectional_logits_and_every_gradient_equal_berts(sizes: dict[str, Any]) -> None:
    body = build_random(
        **sizes,
        head_dim=None,
        ffn_size=None,
        positions="learned",
        norm_placement="post",
        activation="gelu",
        scale_embeddings=False,
    )
    settings = ClassificationConfig(body="full", bidirectional=True, pooler=True, dropout=0)
    ours = Classifier(body, LABELS, settings, 2)
    randomise_head(ours)
    theirs = BertForSequenceClassification(
        BertConfig(
            vocab_size=24,  # the last one is [CLS]
            max_position_embeddings=16,
            hidden_size=sizes["hidden_size"],
            num_hidden_layers=sizes["num_layers"],
            num_attention_heads=sizes["num_heads"],
            intermediate_size=4 * sizes["hidden_size"],
            hidden_act="gelu",
            layer_norm_eps=body.config.norm_eps,
            hidden_dropout_prob=0,
            attention_probs_dropout_prob=0,
            pad_token_id=0,
            num_labels=LABELS,
            attn_implementation="eager",
        )
    )
    theirs.bert.embeddings.LayerNorm = nn.Identity()  # of BERT alone
    theirs = theirs.double().eval()
    pairs = bert_pairs(sizes["num_layers"])
    parameters = dict(theirs.named_parameters())
    words = parameters["bert.embeddings.word_embeddings.weight"]
    assert ours.cls is not None
    with torch.no_grad():
        parameters["bert.embeddings.token_type_embeddings.weight"].zero_()
        words[:23] = body.embedding.weight
        words[23] = ours.cls.normal_()
        for our_name, their_names in pairs.items():
            parts = ours.get_parameter(our_name).chunk(len(their_names))
            for part, their_name in zip(parts, their_names, strict=True):
                parameters[their_name].copy_(part)

    ids, real, labels = texts()
    other = theirs(
        input_ids=torch.cat([torch.full((len(ids), 1), 23), ids], 1),
        attention_mask=nn.functional.pad(real, (1, 0), value=True).long(),
        labels=labels,
    )
    assert largest_difference(ours.eval()(ids, real=real), other.logits) < 1e-10
    loss = our_gradients(ours, ids, real, labels)
    assert loss == pytest.approx(float(other.loss.detach()), abs=1e-12)
    other.loss.backward()
    assert words.grad is not None
    by_name: dict[str, tuple[nn.Parameter, Tensor | None]] = {
        "cls": (ours.cls, words.grad[23]),
        "body.embedding.weight": (body.embedding.weight, words.grad[:23]),
    }
    for our_name, their_names in pairs.items():
        gradients = [cast(Tensor, parameters[name].grad) for name in their_names]
        by_name[our_name] = (ours.get_parameter(our_name), torch.cat(gradients))
    check(by_name, ours)
