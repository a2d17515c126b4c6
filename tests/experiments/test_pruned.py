"""Pruning a run: what is written of it, gradual pruning, training afterwards, rewinding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_run
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
from tinylm.errors import CompressionError, ConfigError, TrainingError
from tinylm.experiments.checks import removed_parts
from tinylm.experiments.compressing import (
    calibration_windows,
    read_compression,
    write_compressed,
)
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.pruned import Pruning, prune_run
from tinylm.experiments.verification.measure import open_subject
from tinylm.experiments.verification.measure import run as verify
from tinylm.language_model import LanguageModel
from tinylm.model.masks import hold, masks_of
from tinylm.registry import PRUNERS
from tinylm.training.snapshots import snapshots_of

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
    made = prune_run(context, load(context), asked(method, steps=3))
    write_compressed(tmp_path / "out", context, made.lm, made.record)
    assert verify(open_run(tmp_path / "out", SilentConsole()))["failed"] == []


def test_training_what_is_left_helps_and_masks_hold(context: Context) -> None:
    made = prune_run(context, load(context), asked(share=0.8, steps=20))
    assert made.losses.after < made.losses.pruned
    masks = masks_of(made.lm.model)
    at_once = prune_run(context, load(context), asked(share=0.8)).lm.model
    for path, mask in masks_of(at_once).items():
        assert torch.equal(masks[path], mask)
        weight = made.lm.model.get_parameter(f"{path}.weight")
        assert not weight[~mask].count_nonzero()
        assert not torch.equal(weight, at_once.get_parameter(f"{path}.weight"))
    again = prune_run(context, load(context), asked(share=0.8, steps=20))
    assert again.losses == made.losses
    assert not made.lm.model.training
    assert type(made.lm.model) is type(load(context).model)  # no quick form is left


def test_the_share_rises_along_the_cubic_curve(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[float] = []
    original = masking.Masking.kept.__func__  # type: ignore[attr-defined]

    def watched(cls: Any, model: Any, modules: Any, share: float, *rest: Any) -> Any:
        kept = original(cls, model, modules, share, *rest)
        total = sum(mask.numel() for mask in kept.values())
        held.append(sum(int((~mask).sum()) for mask in kept.values()) / total)
        return kept

    monkeypatch.setattr(masking.Masking, "kept", classmethod(watched))
    made = prune_run(context, load(context), asked(share=0.75, steps=30, gradual=True))
    expected = [0.75 * (1 - (1 - step / 20) ** 3) for step in range(1, 21)]
    assert held == pytest.approx(expected, abs=2e-3)
    masks = masks_of(made.lm.model)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int((~mask).sum()) for mask in masks.values()) == pytest.approx(0.75 * total, abs=8)
    assert made.losses.after <= made.losses.pruned
    assert not any(
        made.lm.model.get_parameter(f"{path}.weight")[~mask].count_nonzero()
        for path, mask in masks.items()
    )


def test_few_steps_reach_the_share_too(context: Context) -> None:
    made = prune_run(context, load(context), asked("wanda", 0.5, steps=1, gradual=True))
    for mask in masks_of(made.lm.model).values():
        assert ((~mask).sum(1) == round(mask.shape[1] / 2)).all()


def test_rewinding_starts_from_the_snapshot_with_the_masks_of_the_end(context: Context) -> None:
    steps = [int(path.name[5:]) for path in snapshots_of(context.folder)]
    assert steps[0] == 0
    step = steps[2]
    ends = prune_run(context, load(context), asked()).lm.model
    made = prune_run(context, load(context), asked(steps=10, rewind=step))
    assert all(
        torch.equal(mask, masks_of(ends)[path]) for path, mask in masks_of(made.lm.model).items()
    )
    # The same by hand: the snapshot's own weights, masked, before anything is trained.
    earlier = LanguageModel.load(context.folder / f"snapshots/step-{step}")
    hold(earlier.model, masks_of(ends))
    untrained = prune_run(
        context, earlier, Pruning("magnitude", 0.5001, MagnitudeConfig(targets=("embedding",)))
    )
    assert untrained.losses.before == pytest.approx(made.losses.pruned, rel=1e-6)
    assert made.losses.after < made.losses.pruned
    assert made.record.details["training"]["rewind"] == step


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


def test_a_rate_that_is_too_high_is_told(context: Context) -> None:
    with pytest.raises(TrainingError, match=r"after pruning: loss .* lower --learning-rate"):
        prune_run(context, load(context), asked(steps=30, learning_rate=1e30))


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

    monkeypatch.setattr("tinylm.experiments.pruned.calibration_windows", watched)
    for settings in (WandaConfig(windows=3), WandaConfig(windows=3, calibration_seed=1)):
        prune_run(context, load(context), Pruning("wanda", 0.5, settings))
    prune_run(context, load(context), asked("magnitude"))
    prune_run(context, load(context), Pruning("heads", 0.5, HeadsConfig(importance="random")))
    assert [tuple(ids.shape) for ids in seen] == [(3, 16)] * 2
    assert not torch.equal(*seen)


def test_all_methods_are_tried() -> None:
    assert SETTINGS.keys() == set(PRUNERS)
