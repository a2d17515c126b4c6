"""The loop: what it steps over, when it validates, saves, logs and stops."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.training.tiny import (
    Recorder,
    metrics_without_clock,
    step_names,
    tiny_model,
    tiny_run,
    tiny_trainer,
    tiny_windows,
)
from tinylm.checkpoint import find_checkpoint, load_checkpoint
from tinylm.data.windows import Batch, TokenWindows
from tinylm.errors import CheckpointError
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.context import run_experiment
from tinylm.experiments.preparation import prepare_data, start_model
from tinylm.model.base import LayerRunner
from tinylm.model.decoder import DecoderLM
from tinylm.model.reading import Reading


def watched(windows: TokenWindows) -> list[list[int]]:
    """Return a list that fills with the indices of every batch asked for."""
    asked: list[list[int]] = []
    plain = windows.batch

    def batch(indices: Any) -> Batch:
        asked.append([int(i) for i in indices])
        return plain(indices)

    windows.batch = batch  # type: ignore[method-assign]
    return asked


class Losses:
    """A validation that answers from a list, and looks at the model's mode."""

    def __init__(self, *losses: float) -> None:
        self.losses = list(losses)
        self.modes: list[bool] = []

    def __call__(self, model: DecoderLM) -> float:
        self.modes.append(model.training)
        return self.losses.pop(0)


def test_it_learns_the_text_by_heart(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(tmp_path, listener=recorder, max_steps=150, log_interval=150)
    uniform = math.log(trainer.model.config.resolved_vocab_size)
    outcome = trainer.run()
    losses = [loss for _, loss in recorder.steps]
    assert losses[0] > 0.7 * uniform
    assert losses[-1] < 0.3 * uniform
    assert (outcome.step, outcome.reason) == (150, "finished")
    assert recorder.start == (0, 150)
    assert [step for step, _ in recorder.steps] == list(range(1, 151))


def test_each_window_once_an_epoch_in_another_order(tmp_path: Path) -> None:
    windows = tiny_windows(tmp_path)
    asked = watched(windows)
    trainer = tiny_trainer(
        tmp_path, windows=windows, max_steps=None, epochs=3, batch_size=2, accumulation_steps=2
    )
    assert len(windows) == 9
    assert trainer.total_steps == 9  # batches 2+2, 2+2, 1 an epoch
    outcome = trainer.run()
    assert [len(chosen) for chosen in asked] == [2, 2, 2, 2, 1] * 3
    epochs = [[i for chosen in asked[start : start + 5] for i in chosen] for start in (0, 5, 10)]
    assert all(sorted(epoch) == list(range(9)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert outcome.tokens == 3 * (windows.tokens.header.num_tokens - 1)
    assert trainer.epoch == 3.0


def test_max_steps_overrides_epochs(tmp_path: Path) -> None:
    assert tiny_trainer(tmp_path, epochs=9, max_steps=4).run().step == 4


def test_first_loss_is_that_of_the_batch_before_any_update(tmp_path: Path) -> None:
    recorder = Recorder()
    windows = tiny_windows(tmp_path)
    trainer = tiny_trainer(
        tmp_path, windows=windows, listener=recorder, max_steps=1, batch_size=100
    )
    expected = split_loss(tiny_model(), windows, 3).mean
    trainer.run()
    assert recorder.steps[0][1] == pytest.approx(expected, rel=1e-5)


def test_dropout_in_training_and_none_in_validation(tmp_path: Path) -> None:
    modes: list[bool] = []
    model = tiny_model(dropout=0.5)
    model.layers[0].register_forward_pre_hook(lambda module, _: modes.append(module.training))
    validate = Losses(3.0, 2.0, 1.0)
    trainer = tiny_trainer(tmp_path, model, validate=validate, validation_interval=2)
    trainer.run()
    assert modes == [True] * 6
    assert validate.modes == [False] * 3


# --- when it validates ---


def validated(tmp_path: Path, **settings: Any) -> list[int]:
    recorder = Recorder()
    tiny_trainer(tmp_path, listener=recorder, **settings).run()
    assert len(recorder.checkpoints) == len(recorder.validations)
    return [record.step for record, _ in recorder.validations]


def test_validation_at_steps_and_always_at_the_end(tmp_path: Path) -> None:
    assert validated(tmp_path, validation_interval=2, max_steps=5) == [2, 4, 5]


def test_validation_at_epochs_and_always_at_the_end(tmp_path: Path) -> None:
    # 9 windows by 4: an epoch has three steps.
    assert validated(tmp_path / "a", max_steps=7) == [3, 6, 7]
    assert validated(tmp_path / "b", max_steps=None, epochs=2) == [3, 6]


@pytest.mark.parametrize(
    ("number", "steps", "expected"),
    [(3, 7, [0, 3, 5, 7]), (5, 10, [0, 2, 4, 6, 8, 10]), (20, 4, [0, 1, 2, 3, 4]), (1, 9, [0, 9])],
)
def test_validations_spread_over_the_run_begin_with_the_untrained_model(
    tmp_path: Path, number: int, steps: int, expected: list[int]
) -> None:
    recorder = Recorder()
    tiny_trainer(tmp_path, listener=recorder, validations=number, max_steps=steps).run()
    assert [record.step for record, _ in recorder.validations] == expected
    # Nothing is kept of the untrained model, and it is nobody's best.
    assert recorder.checkpoints == [f"step-{step}" for step in expected[1:]]
    assert not recorder.validations[0][1]


def test_the_untrained_model_counts_neither_as_best_nor_against_patience(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        validate=Losses(1.0, 3.0, 2.5, 2.75, 2.8, 0.5),
        validations=5,
        max_steps=5,
        early_stop_patience=2,
    )
    outcome = trainer.run()
    assert (outcome.step, outcome.reason, outcome.best_loss) == (4, "early-stop", 2.5)
    assert str((tmp_path / "checkpoints/best").readlink()) == "step-2"


def test_an_interval_goes_before_a_number_of_validations(tmp_path: Path) -> None:
    assert validated(tmp_path, validations=5, validation_interval=2, max_steps=5) == [2, 4, 5]


def test_training_loss_is_measured_with_every_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path, validate=Losses(3.0, 2.0), listener=recorder, validations=1, max_steps=2
    )
    measured = Losses(2.5, 0.5)
    monkeypatch.setattr(trainer.task, "training_loss", measured)
    trainer.run()
    records = [record for record, _ in recorder.validations]
    assert [(r.loss, r.training_loss) for r in records] == [(3.0, 2.5), (2.0, 0.5)]
    assert records[1].training_perplexity == pytest.approx(math.exp(0.5))
    assert measured.modes == [False, False]  # without dropout


def test_last_step_saves_and_validates_once(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path, listener=recorder, max_steps=4, validation_interval=3, checkpoint_interval=2
    )
    trainer.run()
    assert recorder.checkpoints == ["step-2", "step-3", "step-4"]
    assert [record.step for record, _ in recorder.validations] == [3, 4]


def test_validation_records_and_best(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path,
        validate=Losses(2.0, 1.5, 1.5, 1.75),
        listener=recorder,
        validation_interval=1,
        max_steps=4,
        keep_checkpoints=1,
    )
    outcome = trainer.run()
    assert [best for _, best in recorder.validations] == [True, True, False, False]
    record = recorder.validations[1][0]
    assert (record.step, record.loss) == (2, 1.5)
    assert record.perplexity == pytest.approx(math.exp(1.5))
    assert outcome.best_loss == 1.5
    checkpoints = tmp_path / "checkpoints"
    assert str((checkpoints / "best").readlink()) == "step-2"
    assert str((checkpoints / "last").readlink()) == "step-4"
    assert step_names(checkpoints) == ["step-2", "step-4"]
    assert find_checkpoint(tmp_path).resolve() == (checkpoints / "step-2").resolve()


def test_early_stop(tmp_path: Path) -> None:
    trainer = tiny_trainer(
        tmp_path,
        validate=Losses(2.0, 2.5, 1.0, 1.0, 1.5),
        validation_interval=2,
        early_stop_patience=2,
        max_steps=100,
    )
    outcome = trainer.run()
    assert (outcome.step, outcome.reason, outcome.best_loss) == (10, "early-stop", 1.0)
    assert str((tmp_path / "checkpoints/best").readlink()) == "step-6"


def test_early_stop_off(tmp_path: Path) -> None:
    losses = Losses(*range(1, 9))
    trainer = tiny_trainer(tmp_path, validate=losses, validation_interval=1, max_steps=8)
    assert trainer.run().reason == "finished"


# --- what it keeps and logs ---


@pytest.mark.parametrize(
    ("keep", "expected"), [(1, ["step-10"]), (3, ["step-8", "step-9", "step-10"])]
)
def test_retention(tmp_path: Path, keep: int, expected: list[str]) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path, listener=recorder, max_steps=10, checkpoint_interval=1, keep_checkpoints=keep
    )
    trainer.run()
    assert recorder.checkpoints == [f"step-{step}" for step in range(1, 11)]
    kept = step_names(tmp_path / "checkpoints")
    assert kept == sorted({"step-3", *expected}, key=lambda name: (len(name), name))  # 3 is best


def test_lines_are_token_weighted_means_since_the_line_before(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path, listener=recorder, max_steps=5, log_interval=3, gradient_clip=0, batch_size=4
    )
    trainer.run()
    assert [record.step for record in recorder.logs] == [3, 5]
    total = trainer.task.windows.tokens.header.num_tokens - 1
    first = recorder.logs[0]  # an epoch: 4, 4 and 1 windows, the padded one in any of them
    assert (first.tokens, first.epoch) == (total, 1.0)
    losses = dict(recorder.steps)
    low, high = min(losses[i] for i in (1, 2, 3)), max(losses[i] for i in (1, 2, 3))
    assert low < first.loss < high
    assert first.loss != pytest.approx(sum(losses[i] for i in (1, 2, 3)) / 3, rel=1e-6)
    second = recorder.logs[1]
    assert second.tokens <= total + 64
    assert min(losses[4], losses[5]) <= second.loss <= max(losses[4], losses[5])
    assert second.perplexity == pytest.approx(math.exp(second.loss))
    assert first.tokens_per_second > 0
    assert second.seconds > first.seconds


def test_learning_rates_logged_are_those_used(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path,
        listener=recorder,
        optimizer="sgd",
        schedule="linear",
        warmup_steps=2,
        learning_rate=0.1,
        max_steps=5,
        log_interval=1,
    )
    rates = []
    step = trainer.optimizer.step
    trainer.optimizer.step = lambda: (  # type: ignore[method-assign]
        rates.append(trainer.optimizer.param_groups[0]["lr"]),
        step(),
    )
    trainer.run()
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05, 0.0])
    assert [record.learning_rate for record in recorder.logs] == rates


def test_gradients_are_clipped_and_their_norm_before_it_is_logged(tmp_path: Path) -> None:
    """A step of plain SGD at rate 1 is as long as the clipped gradient."""
    recorder = Recorder()
    trainer = tiny_trainer(
        tmp_path,
        listener=recorder,
        optimizer="sgd",
        beta1=0.0,
        learning_rate=1.0,
        gradient_clip=0.01,
        max_steps=1,
    )
    before = torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])
    trainer.run()
    after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)
    assert recorder.logs[0].gradient_norm > 0.05


def test_compile_wraps_the_forward_pass_and_saves_the_plain_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compiled(run_layers: LayerRunner) -> LayerRunner:
        def forward(layers: Iterable[nn.Module], x: Tensor, reading: Reading) -> Tensor:
            calls.append(1)
            return run_layers(layers, x, reading)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    trainer = tiny_trainer(tmp_path, compile=True, max_steps=3)
    trainer.run()
    assert len(calls) == 3
    plain = tiny_trainer(tmp_path / "plain", max_steps=3)
    plain.run()
    kept = load_checkpoint(tmp_path).weights
    assert all(torch.equal(kept[n], w) for n, w in plain.model.state_dict().items())


# --- whole runs ---


def weights(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run / "checkpoints/last").weights


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(
    tmp_path: Path, cache: Path
) -> None:
    runs = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        torch.manual_seed(len(name) + seed)  # what came before must not matter
        context = tiny_run(tmp_path / name, cache, f"training.seed={seed}")
        run_experiment("training", context)
        runs.append(context.folder)
    first, second, other = map(weights, runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(torch.equal(first[n], other[n]) for n in first if first[n].std() > 1e-3)
    assert metrics_without_clock(runs[0]) == metrics_without_clock(runs[1])
    assert metrics_without_clock(runs[0]) != metrics_without_clock(runs[2])


def test_validation_loss_is_that_of_the_checkpoint(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(
        tmp_path / "run", cache, "training.validation_windows=null", "training.max_steps=8"
    )
    result = run_experiment("training", context)
    data = prepare_data(context.config, context.console)
    model = load_checkpoint(context.folder).build_model()
    windows = TokenWindows(data.validation, 16)
    assert result["best"]["loss"] == pytest.approx(split_loss(model, windows, 7).mean, rel=1e-6)
    assert result["best"]["perplexity"] == pytest.approx(math.exp(result["best"]["loss"]))


def test_training_loss_is_that_of_as_many_training_windows(tmp_path: Path, cache: Path) -> None:
    settings = ("training.validations=2", "training.validation_windows=5", "training.max_steps=8")
    context = tiny_run(tmp_path / "run", cache, *settings, "model.dropout=0.5")
    result = run_experiment("training", context)
    assert [record["step"] for record in result["validations"]] == [0, 4, 8]
    data = prepare_data(context.config, context.console)
    windows = TokenWindows(data.train, 16)
    sample = windows.fixed_subset(5)
    for record in result["validations"]:
        if record["step"] == 0:
            model = start_model(context.config, data, context.console)
        else:
            checkpoint = context.folder / f"checkpoints/step-{record['step']}"
            model = load_checkpoint(checkpoint).build_model()
        expected = split_loss(model, windows, 3, sample).mean
        assert record["training_loss"] == pytest.approx(expected, rel=1e-6)
    assert result["best"]["step"] in (4, 8)
    whole = TokenWindows(data.validation, 16)
    assert (result["validation_windows"], result["validation_split_windows"]) == (5, len(whole))


def test_frozen_vectors_stay_and_everything_else_moves(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(tmp_path / "run", cache, "vectors.trainable=false")
    run_experiment("training", context)
    data = prepare_data(context.config, context.console)
    start = start_model(context.config, data, context.console).state_dict()
    for name, weight in weights(context.folder).items():
        assert torch.equal(weight, start[name]) is (name == "embedding.weight"), name


def test_a_finished_run_is_not_trained_again(tmp_path: Path, cache: Path) -> None:
    context = tiny_run(tmp_path / "run", cache)
    first = run_experiment("training", context)
    stamp = (context.folder / "metrics.jsonl").stat().st_mtime_ns
    assert run_experiment("training", context) == first
    assert (context.folder / "metrics.jsonl").stat().st_mtime_ns == stamp


def test_a_state_after_steps_that_took_no_time_is_refused(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "a", tiny_model())
    trainer._take_step()
    state = trainer.state()
    state.numbers["seconds"] = 0.0
    other = tiny_trainer(tmp_path / "b", tiny_model())
    with pytest.raises(CheckpointError, match="seconds = 0 after the first step"):
        other.restore(state)
