"""Losses of preferences, and their gradients, beside TRL's trainers on the same weights.

A trainer is not built, which would need files and a process group: its method that computes the
loss is called on an instance that has what the method reads. Texts are put into batches by TRL's
own collators.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trl.experimental.cpo import CPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.alignment.log_probabilities import NEVER
from tinylm.data.preferences import Preferences, Ranking
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ALIGNMENTS
from tinylm.tasks.alignment.base import Aim
from tinylm.tasks.alignment.kto import mismatched
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID

CONTEXT = 12


class AsTransformers(nn.Module):
    """A model of ours, called and answering as TRL expects it of transformers'."""

    is_gradient_checkpointing = False

    def __init__(self, model: DecoderLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SimpleNamespace:
        logits = self.model.unembed(self.model.residual(input_ids, real=attention_mask.bool()))
        # What no response can hold has no probability here; TRL knows no such tokens, and one of
        # its trainers multiplies what it masks by 0, which no infinite number survives.
        return SimpleNamespace(logits=logits.index_fill(-1, torch.tensor(NEVER), -1e9))


class OneProcess:
    """The part of an accelerator that gathers what a metric is made of."""

    device = torch.device("cpu")

    def gather(self, value: Tensor) -> Tensor:
        return value

    gather_for_metrics = gather


def trainer(kind: type, model: DecoderLM, start: DecoderLM | None, **settings: Any) -> Any:
    made = object.__new__(kind)
    vars(made).update(
        model=AsTransformers(model),
        ref_model=None if start is None else AsTransformers(start),
        accelerator=OneProcess(),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _total_train_tokens=0,
        **settings,
    )
    return made


def rankings() -> tuple[Ranking, ...]:
    """Pairs of responses of different lengths to prompts of different lengths, some cut off."""
    generator = np.random.default_rng(0)

    def words(low: int, high: int) -> tuple[int, ...]:
        return tuple(generator.integers(4, 20, generator.integers(low, high)).tolist())

    return tuple(
        Ranking(
            (SOS_ID, i + 4, *words(0, 3)),
            ((*words(1, 7), EOS_ID), words(1, 7) + (EOS_ID,) * (i % 3 > 0)),
            (i % 2, 1 - i % 2),
        )
        for i in range(5)
    )


RANKINGS = rankings()


def models() -> tuple[DecoderLM, DecoderLM]:
    """A policy and its start, in float64."""
    return (
        tiny_model(seed=5, context_length=CONTEXT, num_layers=2).double(),
        tiny_model(seed=3, context_length=CONTEXT, num_layers=2).double(),
    )


def ours(name: str, model: DecoderLM, start: DecoderLM, **own: Any) -> tuple[Any, Any]:
    """Return the task, after it computed the loss of all examples, and the mean loss."""
    method = ALIGNMENTS.load(name)
    aim = Aim(
        start=start,
        settings=method.Settings(**own),
        tokenizer=tiny_tokenizer(),
        prompts=[[SOS_ID, 4]],
        held_out=[[SOS_ID, 4]],
        most=4,
        reward=None,
        preferences=Preferences(RANKINGS, RANKINGS, "made"),
        source="made",
        seed=0,
        batch_size=3,
    )
    task = method(aim)
    loss, count = task.loss(model, task.batch(np.arange(len(task))))
    return task, loss / count


def pairs() -> list[dict[str, list[int]]]:
    """Return the preferences as TRL's collators take them."""
    return [
        {
            "prompt_ids": list(ranking.prompt),
            "chosen_ids": list(ranking.responses[better]),
            "rejected_ids": list(ranking.responses[worse]),
        }
        for ranking in RANKINGS
        for better, worse in ranking.pairs()
    ]


def same(model: DecoderLM, loss: Tensor, theirs: Tensor) -> None:
    """Hold that two losses and their gradients of all weights are equal."""
    assert loss.dtype == theirs.dtype == torch.float64
    torch.testing.assert_close(loss, theirs, rtol=1e-9, atol=1e-12)
    names, weights = zip(*model.named_parameters(), strict=True)
    gradients = [torch.autograd.grad(each, weights, allow_unused=True) for each in (loss, theirs)]
    for name, a, b in zip(names, *gradients, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-10, msg=name)
    assert sum(float(g.abs().sum()) for g in gradients[0] if g is not None) > 1e-3


@pytest.mark.parametrize(
    ("name", "own", "theirs"),
    [
        ("dpo", {"beta": 0.3}, {"loss_types": ["sigmoid"], "beta": 0.3}),
        (
            "dpo",
            {"label_smoothing": 0.2, "smoothing": "robust"},
            {"loss_types": ["robust"], "beta": 0.1, "label_smoothing": 0.2},
        ),
        ("ipo", {"beta": 0.4}, {"loss_types": ["ipo"], "beta": 0.4}),
    ],
)
def test_dpo_and_ipo(name: str, own: dict[str, Any], theirs: dict[str, Any]) -> None:
    model, start = models()
    fixed = {
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "use_weighting": False,
        "loss_weights": [1.0],
        "label_smoothing": 0.0,
    }
    other = trainer(DPOTrainer, model, start, **fixed | theirs)
    batch = DataCollatorForPreference(pad_token_id=PAD_ID)(pairs())
    expected = other._compute_loss(other.model, batch, return_outputs=False)
    task, loss = ours(name, model, start, **own)
    same(model, loss, expected)
    measures, metrics = task.measures(), other._metrics["train"]
    assert measures["accuracy"] == pytest.approx(metrics["rewards/accuracies"][0])
    assert measures["log p chosen"] == pytest.approx(metrics["logps/chosen"][0])
    if name == "dpo":  # IPO's rewards are made of means here, as its loss is, and of sums there
        assert measures["margin"] == pytest.approx(metrics["rewards/margins"][0])
        assert measures["chosen"] == pytest.approx(metrics["rewards/chosen"][0])
        assert measures["rejected"] == pytest.approx(metrics["rewards/rejected"][0])


def cpo(model: DecoderLM, **settings: Any) -> Any:
    """Return the loss of the preferences by TRL's trainer of losses without a start."""
    fixed = {
        "is_encoder_decoder": False,
        "pad_token_id": PAD_ID,
        "cpo_alpha": 0.0,
        "alpha": 0.0,
        "label_smoothing": 0.0,
    }
    other = trainer(CPOTrainer, model, None, **fixed | settings)
    collated = DataCollatorForPreference(pad_token_id=PAD_ID)(pairs())
    labels = collated["input_ids"].masked_fill(collated["completion_mask"] == 0, -100)
    batch = {}
    for name, part in (("chosen", 0), ("rejected", 1)):
        for key, value in (
            ("input_ids", collated["input_ids"]),
            ("attention_mask", collated["attention_mask"]),
            ("labels", labels),
        ):
            batch[f"{name}_{key}"] = value.chunk(2)[part]
    loss, _ = other.get_batch_loss_metrics(other.model, batch)
    return loss


def test_simpo() -> None:
    model, start = models()
    expected = cpo(model, loss_type="simpo", beta=2.5, simpo_gamma=0.7)
    _, loss = ours("simpo", model, start, beta=2.5, gamma=0.7)
    same(model, loss, expected)


def test_dpo_with_label_smoothing() -> None:
    # TRL's DPO has no conservative loss any more; that of CPO is the same, with a uniform start.
    model, start = models()
    with torch.no_grad():
        for weight in start.unembedding.parameters():
            weight.zero_()
    equal_lengths = tuple(
        Ranking(r.prompt, tuple(response[:1] for response in r.responses), r.ranks)
        for r in RANKINGS
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(globals(), "RANKINGS", equal_lengths)
        expected = cpo(model, loss_type="sigmoid", beta=0.3, label_smoothing=0.2)
        _, loss = ours("dpo", model, start, beta=0.3, label_smoothing=0.2)
    same(model, loss, expected)


@pytest.mark.parametrize(("good", "bad", "clamped"), [(1.0, 1.0, True), (1.5, 0.5, False)])
def test_kto(good: float, bad: float, clamped: bool) -> None:
    model, start = models() if clamped else reversed(models())
    task, loss = ours("kto", model, start, beta=0.3, desirable_weight=good, undesirable_weight=bad)
    examples = [
        {
            "prompt_ids": list(example.text[0]),
            "completion_ids": list(example.text[1]),
            "KL_completion_ids": list(other[1]),
            "label": example.desirable,
        }
        for example, other in zip(
            task.examples, mismatched(task.examples, CONTEXT + 1), strict=True
        )
    ]
    other = trainer(
        *(KTOTrainer, model, start),
        beta=0.3,
        loss_type="kto",
        calculate_KL=True,
        use_liger_kernel=False,
        desirable_weight=good,
        undesirable_weight=bad,
    )
    batch = DataCollatorForUnpairedPreference(pad_token_id=PAD_ID)(examples)
    expected = other._compute_loss(other.model, batch, return_outputs=False)
    same(model, loss, expected)
    measures, metrics = task.measures(), other._metrics["train"]
    assert measures["baseline"] == pytest.approx(metrics["kl"][0])
    assert (measures["baseline"] == 0) == clamped
    assert measures["margin"] == pytest.approx(metrics["rewards/margins"][0])
    assert measures["log p chosen"] == pytest.approx(metrics["logps/chosen"][0])
