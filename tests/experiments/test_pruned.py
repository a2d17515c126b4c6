"""Pruning a run: what is written of it, gradual pruning, training afterwards, rewinding."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import metrics_without_clock, step_names, tiny_run
from tinylm.compression import masking
from tinylm.config.pruning import (
    HeadsConfig,
    LayersConfig,
    MagnitudeConfig,
    NeuronsConfig,
    RandomConfig,
    TaylorConfig,
    WandaConfig,
)
from tinylm.config.quantization import RoundingConfig
from tinylm.errors import CompressionError, ConfigError, TrainingError
from tinylm.experiments.checks import removed_parts
from tinylm.experiments.compressing import calibration_windows, write_compressed
from tinylm.experiments.context import (
    Context,
    SilentConsole,
    SilentListener,
    open_run,
    run_experiment,
)
from tinylm.experiments.pruned import Pruning, prune_into, prune_run
from tinylm.experiments.quantizing import quantize_run
from tinylm.experiments.records import Compressed, read_compression
from tinylm.experiments.retraining import retraining, run_rate
from tinylm.experiments.training.measure import StoppedBySignalError
from tinylm.experiments.verification.measure import open_subject
from tinylm.experiments.verification.measure import run as verify
from tinylm.language_model import LanguageModel
from tinylm.model.masks import hold, masks_of
from tinylm.reading import signed
from tinylm.registry import PRUNERS
from tinylm.training.events import Listener
from tinylm.training.snapshots import snapshots_of
from tinylm.training.tracking import read_metrics

SETTINGS: dict[str, Any] = {
    "magnitude": MagnitudeConfig(),
    "random": RandomConfig(),
    "wanda": WandaConfig(windows=8),
    "taylor": TaylorConfig(windows=8),
    "heads": HeadsConfig(windows=8),
    "neurons": NeuronsConfig(windows=8),
    "layers": LayersConfig(windows=8),
}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A run of two layers and four heads, with snapshots of its training."""
    folder = tmp_path_factory.mktemp("pruned")
    made = tiny_run(
        folder / "run",
        folder / "cache",
        *("model.num_layers=2", "model.num_heads=4", "model.head_dim=5"),
        *(
            "training.max_steps=40",
            "training.learning_rate=3e-3",
            "training.snapshots=4",
        ),
    )
    run_experiment("training", made)
    return open_run(folder / "run", SilentConsole())


class Interrupting(SilentConsole):
    """Sends SIGINT in the fifth step, as Ctrl-C does."""

    @contextmanager
    def training(self) -> Iterator[Listener]:
        listener = SilentListener()

        def on_step(step: int, loss: float, tokens_per_second: float) -> None:
            if step == 5:
                signal.raise_signal(signal.SIGINT)

        listener.on_step = on_step  # type: ignore[method-assign]
        yield listener


def load(context: Context) -> LanguageModel:
    return LanguageModel.load(context.folder)


def asked(method: str = "magnitude", share: float | None = 0.5, **more: Any) -> Pruning:
    return Pruning(method, share, SETTINGS[method], **more)


@pytest.mark.parametrize("method", SETTINGS)
def test_every_method_makes_a_run_that_passes_its_checks(
    method: str, context: Context, tmp_path: Path
) -> None:
    made = prune_run(context, load(context), asked(method))
    written = write_compressed(tmp_path / "out", context, made.lm, made.record)
    assert made.losses.after == made.losses.pruned != made.losses.before > 0
    assert made.retraining is None and "retraining" not in written
    assert written["details"]["losses"] == vars(made.losses)
    calibration = written["calibration"]
    assert (calibration is None) == (method in ("magnitude", "random"))
    if calibration is not None:
        assert (calibration["windows"], calibration["context_length"]) == (8, 16)
    out = open_run(tmp_path / "out", SilentConsole())
    assert out.config.model == made.lm.model.config
    smaller = made.lm.model.config != context.config.model
    assert smaller == (written["after"]["weights"] < written["before"]["weights"])
    assert smaller == (written["after"]["bytes"] < written["before"]["bytes"])
    masks = masks_of(load(out).model)
    gone = sum(int((~mask).sum()) for mask in masks.values())
    assert bool(gone) != smaller
    if gone:
        zeros = [weights["weights"] - weights["nonzero"]
                 for weights in (written["after"], written["before"])]  # fmt: skip
        assert zeros[0] - zeros[1] == gone
    subject = open_subject(out, tmp_path)
    known = removed_parts.run(subject)
    assert known.passed
    assert ("the run that it was made of" in known.compared) == smaller


@pytest.mark.parametrize("method", ["magnitude", "heads"])
def test_all_checks_pass_on_a_pruned_run(method: str, context: Context, tmp_path: Path) -> None:
    prune_into(context, tmp_path / "out", asked(method, steps=3))
    assert verify(open_run(tmp_path / "out", SilentConsole()))["failed"] == []


def pruned_into(context: Context, out: Path, wanted: Pruning) -> tuple[LanguageModel, Compressed]:
    written = prune_into(context, out, wanted)
    assert read_compression(out) == written
    return LanguageModel.load(out), written


def test_training_what_is_left_helps_and_masks_hold(context: Context, tmp_path: Path) -> None:
    lm, written = pruned_into(context, tmp_path / "out", asked(share=0.8, steps=20))
    losses = written["details"]["losses"]
    assert losses["after"] < losses["pruned"]
    masks = masks_of(lm.model)
    at_once = prune_run(context, load(context), asked(share=0.8))
    assert (losses["before"], losses["pruned"]) == (at_once.losses.before, at_once.losses.pruned)
    for path, mask in masks_of(at_once.lm.model).items():
        assert torch.equal(masks[path], mask)
        weight = lm.model.get_parameter(f"{path}.weight")
        assert not weight[~mask].count_nonzero()
        assert not torch.equal(weight, at_once.lm.model.get_parameter(f"{path}.weight"))
    # What is written is true of the weights that the run is used with.
    again = prune_run(open_run(tmp_path / "out", SilentConsole()), lm, asked(share=0.9))
    assert again.losses.before == losses["after"]
    assert again.record.before.size == written["after"]
    assert written["retraining"] == {
        "steps": 20,
        "learning_rate": pytest.approx(9e-4),
        "run_rate": 3e-3,
        "rising": None,
        "rewind": None,
    }


def test_the_share_rises_along_the_cubic_curve(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    original = masking.Masking.kept.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, model: Any, modules: Any, share: float, *rest: Any) -> Any:
        kept = original(cls, model, modules, share, *rest)
        total = sum(mask.numel() for mask in kept.values())
        held.append(sum(int((~mask).sum()) for mask in kept.values()) / total)
        return kept

    monkeypatch.setattr(masking.Masking, "kept", classmethod(watched))
    lm, written = pruned_into(
        context, tmp_path / "out", asked(share=0.75, steps=30, gradual=True, learning_rate=3e-3)
    )
    expected = [0.75 * (1 - (1 - step / 20) ** 3) for step in range(1, 21)]
    assert held == pytest.approx(expected, abs=2e-3)
    masks = masks_of(lm.model)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == pytest.approx(0.75 * total, abs=8)
    losses = written["details"]["losses"]
    assert losses["after"] <= losses["pruned"] != losses["before"]
    assert not any(
        lm.model.get_parameter(f"{path}.weight")[~mask].count_nonzero()
        for path, mask in masks.items()
    )


def test_few_steps_reach_the_share_too(context: Context, tmp_path: Path) -> None:
    wanted = asked("wanda", 0.5, steps=1, gradual=True)
    lm, _ = pruned_into(context, tmp_path / "out", wanted)
    for mask in masks_of(lm.model).values():
        assert ((~mask).sum(1) == round(mask.shape[1] / 2)).all()


def test_no_denser_model_is_the_best_one(tmp_path: Path) -> None:
    """While the share rises, what is measured is of models that are not what was asked for."""
    made = tiny_run(
        tmp_path / "run",
        tmp_path / "cache",
        *("training.max_steps=30", "training.learning_rate=3e-3"),
        *("training.validation_interval=2", "training.keep_checkpoints=99"),
    )
    run_experiment("training", made)
    made = open_run(tmp_path / "run", SilentConsole())
    lm, written = pruned_into(
        made, tmp_path / "out", asked(share=0.97, steps=12, gradual=True, learning_rate=1e-6)
    )
    losses = [
        (record["loss"], record["step"])
        for record in read_metrics(tmp_path / "out")
        if record["kind"] == "validation"
    ]
    assert [step for _, step in losses] == [2, 4, 6, 8, 10, 12]
    assert min(losses)[1] < 8
    assert lm.source is not None
    best = min(loss for loss in losses if loss[1] >= 8)
    assert lm.source.resolve().name == f"step-{best[1]}"
    assert written["details"]["losses"]["after"] == pytest.approx(best[0], rel=1e-6)
    (total, held) = (
        sum(each)
        for each in zip(
            *((mask.numel(), int((~mask).sum())) for mask in masks_of(lm.model).values()),
            strict=True,
        )
    )
    assert held == pytest.approx(0.97 * total, abs=8)


def test_rewinding_starts_from_the_snapshot_with_the_masks_of_the_end(
    context: Context, tmp_path: Path
) -> None:
    steps = [int(path.name[5:]) for path in snapshots_of(context.folder)]
    assert steps[0] == 0
    step = steps[2]
    ends = prune_run(context, load(context), asked()).lm.model
    lm, written = pruned_into(context, tmp_path / "out", asked(steps=10, rewind=step))
    losses = written["details"]["losses"]
    assert all(torch.equal(mask, masks_of(ends)[path]) for path, mask in masks_of(lm.model).items())
    # The same by hand: the snapshot's own weights, masked, before anything is trained.
    earlier = LanguageModel.load(context.folder / f"snapshots/step-{step}")
    hold(earlier.model, masks_of(ends))
    start = LanguageModel.load(tmp_path / "out/start/step-0").model
    for name, weight in earlier.model.state_dict().items():
        assert torch.equal(start.state_dict()[name], weight)
    untrained = prune_run(
        context, earlier, Pruning("magnitude", 0.5001, MagnitudeConfig(targets=("embedding",)))
    )
    assert untrained.losses.before == pytest.approx(losses["pruned"], rel=1e-6)
    assert losses["after"] < losses["pruned"]
    assert written["retraining"]["rewind"] == step


@pytest.mark.parametrize(
    ("wanted", "more"),
    [
        (("magnitude",), {}),
        (("neurons",), {}),
        (("taylor",), {"gradual": True}),
        (("magnitude",), {"rewind": True}),
    ],
    ids=["masked", "removed", "gradual", "rewound"],
)
def test_it_goes_on_bit_for_bit(
    wanted: tuple[str], more: dict[str, Any], context: Context, tmp_path: Path
) -> None:
    """From before the last rise, from after it, and from the start."""
    if more.get("rewind"):
        more = {"rewind": int(snapshots_of(context.folder)[1].name[5:])}
    often = replace(
        context.config.training, checkpoint_interval=3, keep_checkpoints=9, validation_interval=4
    )
    frequent = replace(context, config=replace(context.config, training=often))
    whole = tmp_path / "whole"
    _, written = pruned_into(frequent, whole, asked(*wanted, share=0.6, steps=12, **more))
    names = step_names(whole / "checkpoints")
    first = [] if more.get("gradual") else ["step-0"]
    assert names == [*first, *(f"step-{step}" for step in (3, 4, 6, 8, 9, 12))]
    assert {path.name for path in whole.iterdir()} == {
        *("config.yaml", "checkpoints", "metrics.jsonl", "results", "start", "compression.json")
    }
    for kept in (6, 9, 0, -1):
        killed = Path(shutil.copytree(whole, tmp_path / f"killed{kept}", symlinks=True))
        shutil.rmtree(killed / "results")
        unfinished = {**written, "details": {**written["details"], "losses": {
            **written["details"]["losses"], "after": None,
            **({"pruned": None} if more.get("gradual") else {})}}}  # fmt: skip
        (killed / "compression.json").write_text(json.dumps(signed(unfinished)))
        for name in names:
            if int(name[5:]) > kept:
                shutil.rmtree(killed / "checkpoints" / name)
        for link in ("best", "last"):
            (killed / "checkpoints" / link).unlink()
        run_experiment("training", open_run(killed, SilentConsole()))
        for name in names:
            for file in ("model.safetensors", "training.safetensors", "config.json"):
                left, right = (folder / "checkpoints" / name / file for folder in (whole, killed))
                assert left.read_bytes() == right.read_bytes(), (kept, name, file)
        assert metrics_without_clock(whole) == metrics_without_clock(killed)
        assert read_compression(killed) == written


def test_a_signal_stops_it_and_it_goes_on(context: Context, tmp_path: Path) -> None:
    """More steps than were asked for are taken and written down, too."""
    stop = Interrupting()
    watched = replace(context, console=stop)
    with pytest.raises(StoppedBySignalError, match=r"after step 5, saved; go on: tinylm train --r"):
        prune_into(watched, tmp_path / "out", asked(steps=12))
    written = read_compression(tmp_path / "out")
    assert written is not None
    assert written["details"]["losses"]["after"] is None
    with pytest.raises(ConfigError, match="is not empty: give --out a new folder, or go on: tiny"):
        prune_into(context, tmp_path / "out", asked(steps=12))
    out = open_run(tmp_path / "out", SilentConsole(), ["training.max_steps=14"])
    assert run_experiment("training", out)["steps"] == 14
    written = read_compression(tmp_path / "out")
    assert written is not None
    assert written["retraining"]["steps"] == 14
    assert written["details"]["losses"]["after"] < written["details"]["losses"]["pruned"]


def test_fewer_steps_than_the_share_rises_are_refused(context: Context, tmp_path: Path) -> None:
    with pytest.raises(StoppedBySignalError):
        prune_into(
            replace(context, console=Interrupting()),
            tmp_path / "out",
            asked(steps=12, gradual=True),
        )
    out = open_run(tmp_path / "out", SilentConsole(), ["training.max_steps=7"])
    with pytest.raises(ConfigError, match=r"^7 steps: the share that is pruned rises over .* 8; "):
        run_experiment("training", out)


def test_the_rate_is_a_share_of_the_rate_that_the_weights_were_made_with(
    context: Context, tmp_path: Path
) -> None:
    """Pruned again and again, the rate does not become less and less."""
    assert retraining(context, 200).learning_rate == pytest.approx(9e-4)
    assert retraining(context, 200, 0.5).learning_rate == 0.5
    assert retraining(context, 200).warmup_steps == 20
    prune_into(context, tmp_path / "first", asked(share=0.3, steps=2))
    first = open_run(tmp_path / "first", SilentConsole())
    assert first.config.training.learning_rate == pytest.approx(9e-4)
    assert run_rate(first) == 3e-3
    prune_into(first, tmp_path / "second", asked(share=0.5))
    second = open_run(tmp_path / "second", SilentConsole())
    assert run_rate(second) == 3e-3
    assert retraining(second, 200).learning_rate == pytest.approx(9e-4)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"gradual": True}, "--gradual is about training: give --retrain-steps"),
        ({"rewind": 3}, "--rewind is about training: give --retrain-steps"),
        ({"learning_rate": 0.1}, "--learning-rate is about training: give --retrain-steps"),
        ({"steps": 3, "rewind": 0}, r"no snapshot of that step after the first; there are: 1, "),
        ({"steps": 3, "rewind": 7}, r"--rewind 7: there is no snapshot"),
        ({"steps": 3, "rewind": 1, "gradual": True}, "leave out --gradual"),
        ({"steps": 3, "learning_rate": 0.0}, "learning_rate = 0.0: must be greater than 0"),
        ({"method": "heads", "steps": 3, "gradual": True}, "--gradual is about masks, and heads"),
        ({"method": "layers", "steps": 3, "rewind": 1}, "--rewind is about masks, and layers"),
        ({"share": None}, "give --share"),
        ({"share": None, "steps": 3, "gradual": True}, "give --share"),
        ({"share": 0.0}, "share = 0: it must be above 0"),
        ({"settings": MagnitudeConfig(pattern="2:4"), "steps": 3, "gradual": True}, "one share"),
        (
            {"method": "wanda", "settings": WandaConfig(windows=10**6)},
            "calibration windows = 1",
        ),
    ],
)
def test_what_contradicts_itself_is_refused(
    more: dict[str, Any], message: str, context: Context
) -> None:
    method = more.get("method", "magnitude")
    wanted = replace(asked(method), **more)
    with pytest.raises((ConfigError, CompressionError), match=message):
        prune_run(context, load(context), wanted)


def test_a_run_without_snapshots_says_how_to_keep_some(tiny_context: Context) -> None:
    with pytest.raises(ConfigError, match=r"has no snapshots .* -o training\.snapshots=12$"):
        prune_run(tiny_context, load(tiny_context), asked(steps=2, rewind=1))


def test_a_rate_that_is_too_high_is_told(context: Context, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"loss nan.* go on with a lower rate: tinylm train"):
        prune_into(context, tmp_path / "out", asked(steps=30, learning_rate=1e30))


def test_a_loss_that_is_not_finite_is_told(context: Context) -> None:
    """Nothing is written then: a record of it could not be read again."""
    lm = load(context)
    with torch.no_grad():
        lm.model.get_parameter("layers.0.feed_forward.expand.weight")[0] = 3e38
    with pytest.raises(TrainingError, match=r"validation loss of the run is (nan|inf): its model"):
        prune_run(context, lm, asked())


def test_pruned_once_more(context: Context, tmp_path: Path) -> None:
    """Masks, then neurons of what is left: the masks go with it."""
    first = prune_run(context, load(context), asked())
    write_compressed(tmp_path / "first", context, first.lm, first.record)
    again = open_run(tmp_path / "first", SilentConsole())
    second = prune_run(again, load(again), asked("neurons"))
    write_compressed(tmp_path / "second", again, second.lm, second.record)
    loaded = load(open_run(tmp_path / "second", SilentConsole())).model
    assert masks_of(loaded)["layers.0.feed_forward.expand"].shape == (32, 16)
    written = read_compression(tmp_path / "second")
    assert written is not None and len(written["earlier"]) == 1
    assert (written["method"], written["earlier"][0]["method"]) == ("neurons", "magnitude")
    with pytest.raises(CompressionError, match=r"50\.0% of these weights are pruned already"):
        prune_run(again, load(again), asked(share=0.4))


def test_texts_are_those_of_the_training_split(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    def watched(*args: Any, **more: Any) -> torch.Tensor:
        seen.append(calibration_windows(*args, **more))
        return seen[-1]

    monkeypatch.setattr("tinylm.experiments.retraining.calibration_windows", watched)
    for settings in (WandaConfig(windows=3), WandaConfig(windows=3, calibration_seed=1)):
        prune_run(context, load(context), Pruning("wanda", 0.5, settings))
    prune_run(context, load(context), asked("magnitude"))
    prune_run(context, load(context), Pruning("heads", 0.5, HeadsConfig(importance="random")))
    assert [tuple(ids.shape) for ids in seen] == [(3, 16)] * 2
    assert not torch.equal(*seen)


def test_all_methods_are_tried() -> None:
    assert SETTINGS.keys() == set(PRUNERS)


def test_training_that_helps_nowhere_leaves_what_pruning_left(
    context: Context, tmp_path: Path
) -> None:
    console = SilentConsole()
    watched = replace(context, console=console)
    lm, written = pruned_into(
        watched, tmp_path / "out", asked(share=0.05, steps=4, learning_rate=0.5)
    )
    assert lm.source is not None and lm.source.resolve().name == "step-0"
    losses = written["details"]["losses"]
    assert losses["after"] == losses["pruned"]
    start = LanguageModel.load(tmp_path / "out/start/step-0").model
    for name, weight in lm.model.state_dict().items():
        assert torch.equal(start.state_dict()[name], weight)
    assert console.warnings == [
        "no validation in 4 steps was better than what pruning left, which is kept: take more "
        "steps, or a lower --learning-rate"
    ]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (asked(share=None), "say how much goes: give --share"),
        (asked(share=1e-9), "that is none of"),
        (Pruning("magnitude", 0.5, MagnitudeConfig(targets=("nothing",))), "matches nothing that"),
        (Pruning("wanda", 0.4, WandaConfig(pattern="2:4")), "pattern 2:4 leaves out 0.5: give"),
        (Pruning("taylor", 0.6, TaylorConfig(pattern="2:5")), "which groups of 5 do not divide"),
        (asked("heads", share=None), "say how many heads go: give --share, or -o count"),
        (Pruning("neurons", None, NeuronsConfig(count=64)), "at least one goes and one stays"),
        (asked("layers", share=0.1), "0 of 2 layers; at least one goes and one stays"),
    ],
)
def test_what_cannot_go_is_refused_before_texts_are_read(
    wanted: Pruning, message: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("texts are read")

    for place in ("pruned.encoded_split", "retraining.calibration_windows"):
        monkeypatch.setattr(f"tinylm.experiments.{place}", read)
    for steps in (0, 3):
        with pytest.raises(CompressionError, match=message):
            prune_into(context, tmp_path / "out", replace(wanted, steps=steps))
    if not PRUNERS.load(wanted.method).removes and not wanted.settings.pattern:
        with pytest.raises(CompressionError, match=message):
            prune_into(context, tmp_path / "out", replace(wanted, steps=3, gradual=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["magnitude", "wanda", "neurons"])
def test_a_quantized_run_is_refused_before_texts_are_read(
    method: str, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantize_run(context, tmp_path / "quantized", "rtn", RoundingConfig(bits=8))
    quantized = open_run(tmp_path / "quantized", SilentConsole())
    monkeypatch.setattr("tinylm.experiments.pruned.encoded_split", None)
    with pytest.raises(CompressionError, match="quantized already: prune the run that it was made"):
        prune_into(quantized, tmp_path / "out", asked(method))
    assert not (tmp_path / "out").exists()
