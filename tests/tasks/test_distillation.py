"""Distillation: what is counted, what it is divided by, and who gets a gradient."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from tests.training.tiny import Recorder, tiny_model, tiny_tokenizer, tiny_windows
from tinylm.config import GenerationConfig, TrainingConfig
from tinylm.config.distillation import (
    BothConfig,
    HiddenConfig,
    OnPolicyConfig,
    ReverseConfig,
    SequenceConfig,
    WordConfig,
)
from tinylm.data.windows import IGNORED, Batch, story_rows
from tinylm.errors import ConfigError, DataError
from tinylm.evaluation.perplexity import split_loss
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.distillation.base import Distillation, Lesson
from tinylm.tasks.distillation.hidden import HiddenStates
from tinylm.tasks.distillation.on_policy import OnPolicy, OwnTexts
from tinylm.tasks.distillation.sequence import Combined, SequenceLevel
from tinylm.tasks.distillation.texts import beginnings, teacher_texts
from tinylm.tasks.distillation.word import ReverseKL, WordLevel
from tinylm.tasks.language_modelling import LanguageModelling, next_token_loss
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID
from tinylm.training.loop import Trainer
from tinylm.training.step import TrainingStep

EXACT = TrainingConfig(device="cpu", speed="plain", precision="fp32", gradient_clip=0.0)


def teacher_model(**settings: Any) -> DecoderLM:
    """Larger than the student, with dropout that must not act, and choices that differ."""
    sizes = {"num_layers": 3, "hidden_size": 24, "dropout": 0.4}
    model = tiny_model(seed=5, **{**sizes, **settings})
    with torch.no_grad():
        model.unembedding.weight.mul_(4)
    return model


def task_of(
    kind: type[Distillation], settings: Any, folder: Path, student: DecoderLM, **teacher: Any
) -> Distillation:
    windows = tiny_windows(folder)
    lesson = Lesson(teacher_model(**teacher).double(), settings, student.config, 0)
    return kind(lesson, tiny_tokenizer(), windows, windows, 4)


def padded() -> Batch:
    """Rows in which padding has the id of ``<eos>``, and two ends that are true targets."""
    ids = torch.tensor(
        [
            [SOS_ID, 5, 6, 7, EOS_ID, EOS_ID, EOS_ID],
            [SOS_ID, 8, EOS_ID, EOS_ID, EOS_ID, EOS_ID, EOS_ID],
            [SOS_ID, 9, 5, 6, 8, 7, 10],
        ]
    )
    lengths = torch.tensor([4, 2, 6])  # inputs that have a label
    real = torch.arange(6) < lengths[:, None]
    return Batch(ids[:, :-1], ids[:, 1:].masked_fill(~real, IGNORED), real)


def by_hand(kind: str, student: Tensor, teacher: Tensor, batch: Batch, settings: Any) -> float:
    """The loss of logits, number by number."""
    total, temperature = 0.0, settings.temperature
    for row, column in (batch.labels != IGNORED).nonzero().tolist():
        own, other = student[row, column].tolist(), teacher[row, column].tolist()
        q, p = ([math.exp(x / temperature) for x in each] for each in (own, other))
        q, p = [x / sum(q) for x in q], [x / sum(p) for x in p]
        forward = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        reverse = sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        apart = {"forward": forward, "reverse": reverse}[kind]
        true = math.log(sum(map(math.exp, own))) - own[int(batch.labels[row, column])]
        total += settings.alpha * temperature**2 * apart + (1 - settings.alpha) * true
    return total


@pytest.mark.parametrize("alpha", [0.3, 1.0])
@pytest.mark.parametrize("kind", ["forward", "reverse"])
def test_padding_is_told_by_the_mask_where_it_is_an_end(
    kind: str, alpha: float, tmp_path: Path
) -> None:
    student, batch = tiny_model(seed=1).double(), padded()
    task: Distillation
    if kind == "forward":
        task = task_of(WordLevel, WordConfig(alpha=alpha, temperature=2.0), tmp_path, student)
    else:
        task = task_of(ReverseKL, ReverseConfig(alpha=alpha, temperature=2.0), tmp_path, student)
    loss, count = task.loss(student, batch)
    assert count == batch.num_targets == 12
    assert {int(i) for i in batch.labels.flatten()} >= {EOS_ID}
    with torch.no_grad():
        logits = [model(batch.ids, real=batch.real) for model in (student, task.teacher)]
    assert loss.item() == pytest.approx(by_hand(kind, *logits, batch, task.settings), rel=1e-11)
    # Whatever stands where padding is, nothing changes, gradients included.
    assert batch.real is not None
    other = replace(batch, ids=batch.ids.masked_fill(~batch.real, 11))
    wanted = list(student.parameters())
    gradients = torch.autograd.grad(loss, wanted)
    again, _ = task.loss(student, other)
    assert again.item() == loss.item()
    for gradient, reference in zip(torch.autograd.grad(again, wanted), gradients, strict=True):
        torch.testing.assert_close(gradient, reference, rtol=0, atol=1e-13)


def test_it_is_the_mean_over_real_targets_and_not_batchmean(tmp_path: Path) -> None:
    student, batch = tiny_model(seed=1).double(), padded()
    task = task_of(WordLevel, WordConfig(alpha=1.0, temperature=3.0), tmp_path, student)
    step = TrainingStep(student, task.loss, EXACT)
    done = step.backward([batch])
    with torch.no_grad():
        log_q, log_p = (
            (model.eval()(batch.ids, real=batch.real) / 3).log_softmax(-1)
            for model in (student, task.teacher)
        )
    counted = batch.labels != IGNORED
    pointwise = 9 * kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)[counted]
    assert done.loss / done.num_targets == pytest.approx(pointwise.mean().item(), rel=1e-12)
    trap = 9 * kl_div(log_q, log_p, reduction="batchmean", log_target=True).item()
    assert done.loss / done.num_targets < 0.5 * trap  # over 3 rows of 6 it is 18 / 12 of them


def test_uneven_micro_batches_are_one_batch(tmp_path: Path) -> None:
    batch = padded()
    results = []
    for parts in ([slice(0, 3)], [slice(0, 2), slice(2, 3)]):
        student = tiny_model(seed=1).double()
        task = task_of(HiddenStates, HiddenConfig(temperature=2.0), tmp_path, student)
        assert isinstance(task, HiddenStates)
        task.projections.double()
        step = TrainingStep(student, task.loss, EXACT, beside=task.beside)
        assert batch.real is not None
        split = [Batch(batch.ids[p], batch.labels[p], batch.real[p]) for p in parts]
        done = step.backward(split)
        gradients = [each.grad for each in step.trained.parameters()]
        assert all(gradient is not None for gradient in gradients)
        results.append((done.loss, done.norm, gradients))
    assert results[0][:2] == pytest.approx(results[1][:2], rel=1e-12)
    for one_batch, two in zip(results[0][2], results[1][2], strict=True):
        torch.testing.assert_close(one_batch, two, rtol=1e-9, atol=1e-13)


def test_gradients_reach_the_student_alone_and_the_teacher_stays(tmp_path: Path) -> None:
    student = tiny_model(seed=1, dropout=0.3)
    task = task_of(WordLevel, WordConfig(alpha=1.0), tmp_path, student)
    task.teacher.float()
    before = copy.deepcopy(task.teacher.state_dict())
    step = TrainingStep(student, task.loss, TrainingConfig(device="cpu", learning_rate=1e-2))
    losses = []
    for _ in range(40):
        losses.append(step.backward([task.batch(np.arange(4))]).loss)
        step.update()
    assert losses[-1] < 0.5 * losses[0]
    assert not task.teacher.training
    for name, weight in task.teacher.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(parameter.grad is None for parameter in task.teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())


def test_hidden_states_are_matched_where_targets_are(tmp_path: Path) -> None:
    student, batch = tiny_model(seed=1, num_layers=2).double(), padded()
    settings = HiddenConfig(alpha=0.0, hidden_weight=0.7)
    task = task_of(HiddenStates, settings, tmp_path, student)
    assert isinstance(task, HiddenStates)
    task.projections.double()
    assert task.wanted_names == ["layers.1.residual", "layers.2.residual"]
    kept: list[dict[str, Tensor]] = []
    for model in (student, task.teacher):
        streams: dict[str, Tensor] = {}
        hooks = model.hooks({"layers.*.residual": lambda name, y, s=streams: s.update({name: y})})
        model.residual(batch.ids, real=batch.real, hooks=hooks)
        kept.append(streams)
    counted = batch.labels != IGNORED
    apart = 0.0
    for i, (own, wanted) in enumerate(zip((0, 1), (1, 2), strict=True)):
        matrix = list(task.projections.parameters())[i]
        made = kept[0][f"layers.{own}.residual"][counted] @ matrix.T
        target = kept[1][f"layers.{wanted}.residual"][counted]
        apart += ((made - target) ** 2).sum().item() / 24 / 2
    plain, _ = next_token_loss(student, batch)
    loss, _ = task.loss(student, batch)
    assert loss.item() == pytest.approx(plain.item() + 0.7 * apart, rel=1e-12)
    loss.backward()
    trained_too = [*student.parameters(), *task.projections.parameters()]
    assert all(each.grad is not None for each in trained_too)


@pytest.mark.parametrize(
    ("name", "value"), [("gradient_checkpointing", 2), ("compile", True)]
)  # fmt: skip
def test_what_keeps_no_hidden_states_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"training.{name} = {str(value).lower()}: matching"):
        HiddenStates.suited(TrainingConfig(**{name: value}))
    assert HiddenStates.suited(TrainingConfig()).compile is False
    assert WordLevel.suited(TrainingConfig(**{name: value})) == TrainingConfig(**{name: value})


def trained(task: LanguageModelling, folder: Path) -> tuple[dict[str, Tensor], list[Any]]:
    config = TrainingConfig(
        device="cpu", batch_size=4, max_steps=6, learning_rate=1e-2, accumulation_steps=2
    )
    model, listener = tiny_model(dropout=0.2), Recorder()
    Trainer(model, task, config, folder / "checkpoints", listener).run()
    return model.state_dict(), listener.steps


@pytest.mark.usefixtures("keep_threads")
def test_without_a_share_of_the_teacher_it_is_plain_training_bit_for_bit(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    windows = tiny_windows(tmp_path)
    plain = LanguageModelling(tiny_tokenizer(), windows, windows, 4)
    weights, steps = trained(plain, tmp_path / "plain")
    for kind, settings in (
        (WordLevel, WordConfig(alpha=0.0, temperature=3.0)),
        (ReverseKL, ReverseConfig(alpha=0.0)),
        (SequenceLevel, SequenceConfig()),
        (HiddenStates, HiddenConfig(alpha=0.0, hidden_weight=0.0)),
        (OnPolicy, OnPolicyConfig(alpha=0.0, own_share=0.0, prompt_tokens=2)),
    ):
        task = task_of(kind, settings, tmp_path, tiny_model())
        task.teacher.float()
        own, own_steps = trained(task, tmp_path / kind.__name__)
        if kind is HiddenStates:  # hooks turn copies in bfloat16 off, and nothing else
            assert dict(own_steps) == pytest.approx(dict(steps))
            continue
        assert own_steps == steps
        assert all(torch.equal(own[name], weight) for name, weight in weights.items())
    mixed, _ = trained(
        task_of(WordLevel, WordConfig(alpha=0.5), tmp_path, tiny_model()), tmp_path / "m"
    )
    assert not torch.equal(mixed["embedding.weight"], weights["embedding.weight"])


def test_validation_is_that_of_any_model(tmp_path: Path) -> None:
    student = tiny_model(seed=1)
    task = task_of(WordLevel, WordConfig(), tmp_path, student)
    assert task.validate(student) == split_loss(student, task.validation, 4).mean


# --- the student's own texts ---


def on_policy(folder: Path, **settings: Any) -> tuple[OnPolicy, DecoderLM]:
    student = tiny_model(seed=1).eval()
    chosen = OnPolicyConfig(**{"own_share": 1.0, "prompt_tokens": 2, **settings})
    task = task_of(OnPolicy, chosen, folder, student)
    assert isinstance(task, OnPolicy)
    task.teacher.float()
    return task, student


def test_own_texts_are_what_the_student_says_after_beginnings(tmp_path: Path) -> None:
    task, student = on_policy(tmp_path)
    batch = task.prepare(student, task.batch(np.arange(4)))
    assert isinstance(batch, OwnTexts)
    assert isinstance(batch.to(torch.device("cpu")), OwnTexts)
    random = np.random.default_rng((0, 0))
    random.random()
    stories = [task.windows.tokens.story(int(i)) for i in random.choice(5, 4)]
    prompts = [story[:3].tolist() for story in stories]
    config = GenerationConfig(
        temperature=1.0,
        top_p=1.0,
        allow_unk=True,
        max_new_tokens=6,
        seed=int(random.integers(2**31)),
    )
    texts = generate(student, prompts, config, SpecialIds(0, 2, 3, 1))
    rows = [
        prompt + text.ids + [EOS_ID] * text.finished
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    wanted = story_rows(rows, 3)
    assert torch.equal(batch.ids, wanted.ids)
    assert torch.equal(batch.labels, wanted.labels)
    assert (batch.labels[:, :2] == IGNORED).all()  # of the prompt nothing is predicted
    assert batch.num_targets == sum(len(row) - 3 for row in rows)
    assert batch.ids.shape[1] <= task.windows.context_length


def test_own_texts_weigh_the_teacher_alone(tmp_path: Path) -> None:
    task, student = on_policy(tmp_path, alpha=0.0, beta=0.3, temperature=2.0)
    batch = task.prepare(student, task.batch(np.arange(4)))
    loss, count = task.loss(student, batch)
    assert count == batch.num_targets
    with torch.no_grad():
        p, q = (
            (model(batch.ids, real=batch.real).double() / 2).softmax(-1)[batch.labels != IGNORED]
            for model in (task.teacher, student)
        )
    m = 0.3 * p + 0.7 * q
    apart = 0.3 * (p * (p / m).log()).sum() + 0.7 * (q * (q / m).log()).sum()
    assert loss.item() == pytest.approx(4 * apart.item(), rel=1e-4)
    assert all(
        gradient is not None for gradient in torch.autograd.grad(loss, list(student.parameters()))
    )


def test_so_large_a_share_of_batches_is_own_texts(tmp_path: Path) -> None:
    task, student = on_policy(tmp_path, own_share=0.3)
    given = task.batch(np.arange(1))
    own = [task.prepare(student, given) is not given for _ in range(200)]
    assert task.state() == {"drawn": 200}
    assert abs(sum(own) / 200 - 0.3) < 0.1
    task.restore({"drawn": 0}, {})
    assert [task.prepare(student, given) is not given for _ in range(200)] == own


def test_a_beginning_that_fills_the_context_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prompt_tokens = 8 leaves no room in the student's"):
        on_policy(tmp_path, prompt_tokens=8)


# --- the teacher's texts ---


def test_beginnings_are_distinct_known_and_spread_evenly(tmp_path: Path) -> None:
    tokens = tiny_windows(tmp_path, repeats=3).tokens
    texts = [story.tolist() for story in tokens.stories()]
    for count in (1, 3, 5):
        chosen = beginnings(tokens, SequenceConfig(texts=count, prompt_tokens=2))
        assert len(chosen) == min(count, 5)
        firsts = [next(i for i, text in enumerate(texts) if text[:3] == each) for each in chosen]
        assert firsts == [round(i) for i in np.linspace(0, 4, len(chosen))]
    assert len(beginnings(tokens, SequenceConfig(prompt_tokens=1))) == 2  # "the" and "a"
    assert all(UNK_ID not in each for each in chosen)
    with pytest.raises(DataError, match="no text goes on after 40 known words"):
        beginnings(tokens, SequenceConfig(prompt_tokens=40))


def test_the_teachers_texts_are_what_beam_search_gives(tmp_path: Path) -> None:
    teacher = teacher_model(context_length=32)
    tokens = tiny_windows(tmp_path).tokens
    settings = SequenceConfig(
        prompt_tokens=2, num_beams=3, max_new_tokens=9, texts_at_once=2, length_penalty=0.4
    )
    with torch.no_grad():  # some end within so many tokens, and some do not
        teacher.unembedding.bias[EOS_ID] += 6
    prompts = beginnings(tokens, settings)
    shares: list[float] = []
    made = teacher_texts(teacher, prompts, settings, shares.append)
    assert shares == [0.4, 0.8, 1.0]
    config = GenerationConfig(strategy="beam", num_beams=3, max_new_tokens=9, length_penalty=0.4)
    alone = [generate(teacher, [each], config, SpecialIds(0, 2, 3, 1))[0] for each in prompts]
    ended = [i for i, text in enumerate(alone) if text.finished]
    assert 0 < len(ended) < 5, [text.finished for text in alone]
    assert made.prompts == [prompts[i] for i in ended]
    assert made.rests == [alone[i].ids for i in ended]
    assert made.left_out == 5 - len(ended)
    with torch.no_grad():
        teacher.unembedding.bias[EOS_ID] = -1e4
    with pytest.raises(DataError, match="the teacher ended none of 5 texts within max_new_tokens"):
        teacher_texts(teacher, prompts, settings)


def test_words_in_the_teachers_texts_are_learned_by_its_distribution(tmp_path: Path) -> None:
    student, batch = tiny_model(seed=1).double(), padded()
    word = task_of(WordLevel, WordConfig(alpha=0.4, temperature=2.0), tmp_path, student)
    both = task_of(Combined, BothConfig(alpha=0.4, temperature=2.0), tmp_path, student)
    assert both.from_teacher and not word.from_teacher
    assert both.loss(student, batch)[0].item() == word.loss(student, batch)[0].item()
    assert isinstance(both.beside, nn.Module) is False
