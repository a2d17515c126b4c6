"""Adapters of a run on other text: made, interrupted, refused, loaded."""

from __future__ import annotations

import json
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import COMMANDS
from tinylm.checkpoint import load_checkpoint
from tinylm.config import DataConfig
from tinylm.config.finetuning import BottleneckConfig, LoraConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import TokenWindows
from tinylm.errors import AdapterError, ConfigError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.adapting import FULL, RATES, Adapted, Recipe, adapt, adapted
from tinylm.experiments.context import Context, SilentConsole, SilentListener
from tinylm.experiments.preparation import encoded_split
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.finetuning.adapters import active_adapters, adapters, fingerprint
from tinylm.language_model import LanguageModel
from tinylm.registry import METHODS
from tinylm.training.events import ValidationRecord

STEPS = 8


def settings_of(method: str) -> Any:
    if method == FULL:
        return None
    return METHODS.load(method).Settings(**{"longlora": {"group_size": 8}}.get(method, {}))


def recipe(context: Context, method: str = "lora", steps: int = STEPS, **more: Any) -> Recipe:
    """A recipe for other stories than the run's, with dropout on in the model."""
    training = replace(
        context.config.training,
        learning_rate=0.01,
        max_steps=steps,
        batch_size=4,
        validation_interval=3,
        checkpoint_interval=0,
        validation_windows=6,
    )
    cache = context.config.data.cache_folder
    data = DataConfig(train_stories=30, validation_stories=8, seed=5, cache_folder=cache)
    made = Recipe(method, settings_of(method), training, data, 24)
    return replace(made, **more)


class Stops(SilentConsole):
    """Sends this process a signal after a step, as Ctrl-C does."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def training(self) -> Any:
        after = self.after

        class Listener(SilentListener):
            def on_step(self, step: int, loss: float, tokens_per_second: float) -> None:
                if step == after:
                    os.kill(os.getpid(), signal.SIGINT)

        return nullcontext(Listener())


class Losses(SilentConsole):
    """Remembers the validation losses."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []

    def training(self) -> Any:
        losses = self.losses

        class Listener(SilentListener):
            def on_validation(self, record: ValidationRecord, best: bool) -> None:
                losses.append(record.loss)

        return nullcontext(Listener())


def splits(lm: LanguageModel, recipe: Recipe) -> list[TokenFile]:
    return [
        encoded_split(recipe.data, lm.tokenizer, split, SilentConsole())
        for split in ("train", "validation")
    ]


def make(
    context: Context, recipe: Recipe, folder: Path, console: SilentConsole | None = None
) -> Adapted:
    console = console or SilentConsole()
    lm = LanguageModel.load(context.folder)
    train, validation = splits(lm, recipe)
    return adapt(lm, train, validation, recipe, folder, console, COMMANDS)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("method", [FULL, *METHODS])
def test_interrupted_and_gone_on_with_is_as_never_stopped(
    tiny_context: Context, tmp_path: Path, method: str
) -> None:
    wanted = recipe(tiny_context, method)
    whole = make(tiny_context, wanted, tmp_path / "whole")
    with pytest.raises(StoppedBySignalError, match=r"after step 4.*GO ON") as stopped:
        make(tiny_context, wanted, tmp_path / "parts", Stops(4))
    assert stopped.value.exit_status == 130
    if method != FULL:
        with pytest.raises(AdapterError, match="not finished"):
            adapted(LanguageModel.load(tiny_context.folder), tmp_path / "parts")
    parts = make(tiny_context, wanted, tmp_path / "parts")
    assert (parts.steps, parts.loss_before, parts.loss_after) == (
        STEPS,
        whole.loss_before,
        whole.loss_after,
    )
    first, other = whole.model.state_dict(), parts.model.state_dict()
    assert first.keys() == other.keys()
    assert all(torch.equal(first[name], other[name]) for name in first)
    if method != FULL:
        assert contents(tmp_path / "whole") == contents(tmp_path / "parts")


@pytest.mark.parametrize("method", METHODS)
def test_what_is_written_is_what_was_trained(
    tiny_context: Context, tmp_path: Path, method: str
) -> None:
    before = contents(tiny_context.folder / "checkpoints")
    wanted = recipe(tiny_context, method)
    made = make(tiny_context, wanted, tmp_path / "made")
    assert contents(tiny_context.folder / "checkpoints") == before
    assert made.loss_after != made.loss_before
    assert made.num_bytes == (tmp_path / "made/adapter_model.safetensors").stat().st_size
    assert not (tmp_path / "made/checkpoints").exists()
    lm = adapted(LanguageModel.load(tiny_context.folder), tmp_path / "made")
    ids = torch.arange(4, 16)[None]
    with torch.no_grad():
        assert torch.equal(lm.model(ids), made.model.eval()(ids))
    assert fingerprint(lm.model) == fingerprint(LanguageModel.load(tiny_context.folder).model)


def test_the_best_weights_are_kept(tiny_context: Context, tmp_path: Path) -> None:
    """A rate that breaks the model makes the last weights worse than those kept."""
    wanted = recipe(tiny_context)
    wild = replace(
        wanted.training,
        learning_rate=3.0,
        warmup_steps=STEPS,
        gradient_clip=0.0,
        validation_interval=1,
    )
    console = Losses()
    made = make(tiny_context, replace(wanted, training=wild), tmp_path / "made", console)
    assert made.loss_after == min(console.losses) < console.losses[-1]
    lm = adapted(LanguageModel.load(tiny_context.folder), tmp_path / "made")
    held_out = encoded_split(wanted.data, lm.tokenizer, "validation", console)
    windows = TokenWindows(held_out, 24)
    loss = split_loss(lm.model, windows, 4, windows.fixed_subset(6)).mean
    assert loss == pytest.approx(made.loss_after, abs=1e-6)


def test_another_recipe_is_refused_and_changes_nothing(
    tiny_context: Context, tmp_path: Path
) -> None:
    wanted = recipe(tiny_context)
    with pytest.raises(StoppedBySignalError):
        make(tiny_context, wanted, tmp_path / "one", Stops(2))
    before = contents(tmp_path / "one")
    others = {
        "method": recipe(tiny_context, "bottleneck"),
        r"settings.rank \(8, now 2\)": replace(wanted, settings=LoraConfig(rank=2)),
        "training.seed": replace(wanted, training=replace(wanted.training, seed=7)),
        "data.seed": replace(wanted, data=replace(wanted.data, seed=8)),
        "context_length": replace(wanted, context_length=48),
    }
    for part, other in others.items():
        with pytest.raises(ConfigError, match=f"another {part}.*: choose another --name"):
            make(tiny_context, other, tmp_path / "one")
        assert contents(tmp_path / "one") == before
    made = make(tiny_context, wanted, tmp_path / "one")
    assert made.steps == STEPS
    before = contents(tmp_path / "one")
    with pytest.raises(ConfigError, match="finished: choose another --name"):
        make(tiny_context, wanted, tmp_path / "one")
    assert contents(tmp_path / "one") == before


def test_a_newer_version_goes_on_with_what_an_older_one_began(
    tiny_context: Context, tmp_path: Path
) -> None:
    """Settings that the older one did not know are those of its folder if they have the default."""
    wanted = recipe(tiny_context)
    whole = make(tiny_context, wanted, tmp_path / "whole")
    with pytest.raises(StoppedBySignalError):
        make(tiny_context, wanted, tmp_path / "parts", Stops(4))
    file = tmp_path / "parts/finetuning.json"
    about = json.loads(file.read_text())
    del about["checksum"]  # which it did not write either
    for part, key in (("training", "speed"), ("settings", "bias"), ("data", "text_field")):
        del about[part][key]
    file.write_text(json.dumps(about))
    other = replace(wanted, settings=replace(wanted.settings, bias="all"))
    with pytest.raises(ConfigError, match=r"another settings.bias \(none, now all\)"):
        make(tiny_context, other, tmp_path / "parts")
    parts = make(tiny_context, wanted, tmp_path / "parts")
    assert parts.loss_after == whole.loss_after
    first, second = (tmp_path / name / "adapter_model.safetensors" for name in ("whole", "parts"))
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_of_something_else_is_left_alone(tiny_context: Context, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something else already"):
        make(tiny_context, recipe(tiny_context), tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_settings_that_cannot_be_leave_no_folder(tiny_context: Context, tmp_path: Path) -> None:
    # Training multiplies by the output layer's weight itself.
    output = ("attention.output", "unembedding")
    cases = (
        ("lora", LoraConfig(rank=99), "rank 99"),
        ("lora", LoraConfig(targets=("no",)), "'no'"),
        ("lora", LoraConfig(targets=output, dropout=0.1), "set dropout=0"),
        ("bottleneck", BottleneckConfig(targets=("unembedding",)), "past the bottleneck"),
    )
    for method, settings, told in cases:
        wanted = replace(recipe(tiny_context), method=method, settings=settings)
        with pytest.raises(AdapterError, match=told):
            make(tiny_context, wanted, tmp_path / "one")
        assert not (tmp_path / "one").exists()


def test_a_classifier_is_told_from_an_adapter(tiny_context: Context, tmp_path: Path) -> None:
    (tmp_path / "classifier.json").write_text("{}")
    with pytest.raises(AdapterError, match="no adapter but a classifier, used by tinylm"):
        adapted(LanguageModel.load(tiny_context.folder), tmp_path)


def test_an_adapter_of_another_base_is_refused(tiny_context: Context, tmp_path: Path) -> None:
    make(tiny_context, recipe(tiny_context), tmp_path / "one")
    lm = LanguageModel.load(tiny_context.folder)
    with torch.no_grad():
        lm.model.unembedding.weight[0, 0] += 1
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    with pytest.raises(AdapterError, match="was trained on the base"):
        adapted(lm, tmp_path / "one")
    assert adapters(lm.model) == []
    after = lm.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_longer_context_comes_back_with_the_adapter(
    tiny_context: Context, tmp_path: Path
) -> None:
    wanted = recipe(tiny_context, "longlora", context_length=48)
    made = make(tiny_context, wanted, tmp_path / "long")
    assert made.model.config.context_length == 48
    lm = adapted(LanguageModel.load(tiny_context.folder), tmp_path / "long")
    assert lm.model.config.context_length == 48
    assert active_adapters(lm.model) == ["default"]
    ids = torch.arange(4, 44)[None]
    with torch.no_grad():
        assert torch.equal(lm.model(ids), made.model.eval()(ids))


def test_everything_trained_is_a_model_of_its_own(tiny_context: Context, tmp_path: Path) -> None:
    made = make(tiny_context, recipe(tiny_context, FULL), tmp_path / "full")
    assert made.num_bytes == 0
    assert made.trained == sum(p.numel() for p in made.model.parameters())
    loaded = load_checkpoint(tmp_path / "full").build_model()
    state = made.model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    with pytest.raises(AdapterError, match="no adapter but a whole model"):
        adapted(LanguageModel.load(tiny_context.folder), tmp_path / "full")


def test_an_adapter_without_its_description_is_refused(
    tiny_context: Context, tmp_path: Path
) -> None:
    make(tiny_context, recipe(tiny_context), tmp_path / "one")
    (tmp_path / "one/tinylm.json").unlink()
    with pytest.raises(AdapterError, match=r"tinylm\.json is missing.*train it again: GO ON$"):
        adapted(LanguageModel.load(tiny_context.folder), tmp_path / "one")
    make(tiny_context, recipe(tiny_context), tmp_path / "one")
    adapted(LanguageModel.load(tiny_context.folder), tmp_path / "one")


def test_every_method_has_a_rate() -> None:
    assert set(RATES) == {FULL, *METHODS}


def test_the_recipe_is_written_down(tiny_context: Context, tmp_path: Path) -> None:
    wanted = recipe(tiny_context)
    made = make(tiny_context, wanted, tmp_path / "one")
    about = json.loads((tmp_path / "one/finetuning.json").read_text())
    assert about.pop("checksum")
    assert about.pop("loss_before") == made.loss_before
    lm = LanguageModel.load(tiny_context.folder)
    assert about.pop("base") == fingerprint(lm.model)
    assert about.pop("texts") == [split.header.corpus for split in splits(lm, wanted)]
    assert about.pop("command") == COMMANDS.go_on
    assert about == json.loads(json.dumps(wanted.as_dict()))
