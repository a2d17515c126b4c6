"""What every alignment method of the registry must hold."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import Recorder, state_without_clock, tiny_model, tiny_tokenizer
from tinylm.alignment.samples import Sample
from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.config import TrainingConfig, field_help, to_dict
from tinylm.data.preferences import Preferences, Ranking
from tinylm.model.weights import load_weights
from tinylm.registry import ALIGNMENTS
from tinylm.report.references import REFERENCES
from tinylm.tasks.alignment.base import Aim, Alignment
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.training.loop import Trainer

STEPS, BETWEEN = 9, 4
SETTINGS: dict[str, dict[str, Any]] = {"ipo": {"beta": 0.1}}
"""Where the default asks for so little that the steps of a test go past it."""
WANTED = 7
"""A word that is liked."""


class Wanted:
    """Likes one word."""

    label = "one word"

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [sample.ids.count(WANTED) / 4 for sample in samples]


def rankings(count: int, seed: int) -> tuple[Ranking, ...]:
    """Rankings by the number of that word, of two or three responses."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    while len(made) < count:
        prompt = (SOS_ID, *torch.randint(4, 12, (2,), generator=generator).tolist())
        responses = [
            (*torch.randint(4, 12, (3 + i,), generator=generator).tolist(), EOS_ID)
            for i in range(2 + len(made) % 2)
        ]
        liked = [-response.count(WANTED) for response in responses]
        if len(set(liked)) > 1:
            ranks = tuple(sorted(set(liked)).index(each) for each in liked)
            made.append(Ranking(prompt, tuple(responses), ranks))
    return tuple(made)


def trainer(name: str, folder: Path, own: dict[str, Any] | None = None, **changed: Any) -> Trainer:
    """A training of a tiny model by a method, whose start has dropout."""
    method: type[Alignment[Any]] = ALIGNMENTS.load(name)
    of_preferences = method.learns_from == "preferences"
    phase = {} if of_preferences else {"prompts": 4, "samples": 2}
    chosen = {
        "held_out_prompts": 4,
        "least_variety": 0.0,
        **phase,
        **SETTINGS.get(name, {}),
        **(own or {}),
    }
    settings = method.Settings(**chosen)
    prompts = [[SOS_ID, 4 + i, 5] for i in range(6)]
    aim = Aim(
        start=tiny_model(dropout=0.3, context_length=12),
        settings=settings,
        tokenizer=tiny_tokenizer(),
        prompts=prompts,
        held_out=prompts[:4],
        most=5,
        reward=Wanted(),
        preferences=Preferences(rankings(8, 0), rankings(3, 1), "made") if of_preferences else None,
        source="made",
        seed=0,
        batch_size=3,
    )
    wanted: dict[str, Any] = {
        "device": "cpu",
        "threads": 1,
        "batch_size": 4,
        "max_steps": STEPS,
        "accumulation_steps": 2,
        "checkpoint_interval": 1,
        "keep_checkpoints": 99,
        "validations": 1,
        "learning_rate": 1e-2,
    }
    config = method.suited(TrainingConfig(**{**wanted, **changed}), settings)
    policy = tiny_model(context_length=12)
    checkpoints = folder / "checkpoints"
    return Trainer(policy, method(aim), config, checkpoints, Recorder(), begins_trained=True)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_it_says_what_it_is(name: str) -> None:
    method = ALIGNMENTS.load(name)
    fields = to_dict(method.Settings())
    assert set(re.findall(r"\[\[(\w+)\]\]", method.explanation)) <= REFERENCES.keys()
    assert "[[" in method.explanation
    assert dict(field_help(method.Settings)).keys() == fields.keys()
    assert all(dict(field_help(method.Settings)).values())
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.Settings().beta = 3


@pytest.mark.usefixtures("keep_threads")
@pytest.mark.parametrize("name", ALIGNMENTS)
def test_it_goes_on_bit_for_bit_from_every_step(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole = trainer(name, tmp_path / "whole")
    whole.task.start.train()  # whatever mode it is in: the start never drops anything
    assert whole.run().step == STEPS
    end = tmp_path / f"whole/checkpoints/step-{STEPS}"
    for step in (0, 1, 2, 3, BETWEEN, STEPS - 1):
        resumed = trainer(name, tmp_path / f"from-{step}")
        torch.manual_seed(99)  # whatever the process did before
        path = tmp_path / f"whole/checkpoints/step-{step}"
        if not path.exists():
            continue
        begun = resumed.checkpoints / "step-0"  # it may be the best one
        shutil.copytree(tmp_path / "whole/checkpoints/step-0", begun)
        load_weights(resumed.model, load_checkpoint(path).weights, path)
        resumed.restore(load_training_state(path))
        assert resumed.run().step == STEPS
        again = resumed.checkpoints / f"step-{STEPS}"
        for file in ("model.safetensors", "training.safetensors", "config.json"):
            assert (end / file).read_bytes() == (again / file).read_bytes(), (step, file)
        assert state_without_clock(end) == state_without_clock(again)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_it_is_told_how_many_tokens_to_generate(name: str) -> None:
    method: type[Alignment[Any]] = ALIGNMENTS.load(name)
    settings, training = method.Settings(), TrainingConfig(batch_size=4, max_steps=10**6)
    drawn = []
    for tokens in (10**5, 10**6):
        made, of_training = method.with_budget(settings, training, tokens, 100.0)
        assert of_training.max_steps is not None
        passes = of_training.max_steps * of_training.batch_size
        if method.learns_from == "rewards":
            drawn.append(passes / made.passes * 100)
        else:
            drawn.append(made.ranked_prompts * made.responses * 100)
            assert made.ranked_prompts <= passes <= 3 * made.ranked_prompts * made.responses + 4
    assert drawn == pytest.approx([10**5, 10**6], rel=0.3)


@pytest.mark.parametrize("name", ALIGNMENTS)
def test_it_learns_what_it_is_given(name: str, tmp_path: Path) -> None:
    made = trainer(name, tmp_path, max_steps=60, checkpoint_interval=0, accumulation_steps=1)
    made.run()
    listener = made.listener
    assert isinstance(listener, Recorder)
    (first, _), *_, (last, _) = listener.validations
    assert first.step == 0
    assert last.perplexity is None
    assert {"reward", "KL", "length", "variety"} <= last.measures.keys()
    if made.task.learns_from == "rewards":
        assert last.measures["reward"] > first.measures["reward"] + 0.1
    else:  # of texts that the model did not write: these alone become likelier
        losses = [loss for _, loss in listener.steps]
        assert sum(losses[-8:]) < 0.9 * sum(losses[:8])


@pytest.mark.parametrize("name", ALIGNMENTS)
@pytest.mark.parametrize(
    ("limit", "words"), [({"kl_limit": 1e-9}, "kl_limit"), ({"least_variety": 1.0}, "collapsed")]
)
def test_it_stops_where_a_limit_is_passed_and_keeps_what_was_best_before(
    name: str, limit: dict[str, float], words: str, tmp_path: Path
) -> None:
    made = trainer(name, tmp_path, limit, max_steps=40, learning_rate=0.05, validation_interval=5)
    outcome = made.run()
    assert words in outcome.reason
    assert outcome.step < 40
    assert load_checkpoint(tmp_path / "checkpoints/best").path.name != f"step-{outcome.step}"
    # A training that goes on after it ends at once, and for the same reason.
    again = trainer(name, tmp_path, limit, max_steps=40, learning_rate=0.05, validation_interval=5)
    path = tmp_path / f"checkpoints/step-{outcome.step}"
    load_weights(again.model, load_checkpoint(path).weights, path)
    again.restore(load_training_state(path))
    assert again.run().reason == outcome.reason
    assert again.step == outcome.step
