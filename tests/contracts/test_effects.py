"""A setting that would change nothing is refused, and what is said to change nothing does not."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor

from tests.contracts.test_alignments import trainer
from tests.contracts.test_distillations import SETTINGS
from tests.training.tiny import tiny_model, tiny_tokenizer, tiny_windows
from tinylm.compression.quantizing import quantize
from tinylm.config import from_overrides, method_settings
from tinylm.config.effects import IsNot, has_effect
from tinylm.config.finetuning import ClassificationConfig
from tinylm.config.reward import RewardConfig
from tinylm.errors import ConfigError
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ALIGNMENTS, DISTILLATIONS, METHODS, PRUNERS, QUANTIZERS
from tinylm.tasks.distillation.base import Lesson

Models = Callable[..., DecoderLM]
KINDS: dict[str, Any] = {
    f"{kind}: {name}": methods.load(name).Settings
    for kind, methods in {"prune": PRUNERS, "quantize": QUANTIZERS,
                          "distill": DISTILLATIONS, "finetune": METHODS,
                          "align": ALIGNMENTS}.items()
    for name in methods
} | {"finetune: sequence-classification": ClassificationConfig, "reward": RewardConfig}  # fmt: skip
CASES = [
    (name, setting) for name, kind in KINDS.items() for setting in getattr(kind, "used_with", {})
]
OTHERS: dict[str, Any] = {"pattern": "2:4", "group_size": 4, "ids": (5,), "targets": ("output",)}
"""Values other than the default of settings that are no number, switch or choice."""
IDS = torch.randint(4, 23, (5, 9), generator=torch.Generator().manual_seed(3))


def another(kind: Any, setting: str, than: object) -> Any:
    """Return a value of a setting that is another than one."""
    hint = get_type_hints(kind)[setting]
    if get_origin(hint) is Literal:
        return next(value for value in get_args(hint) if value != than)
    if setting in OTHERS:
        return OTHERS[setting]
    return {float: 0.25, int: 7, bool: not than, type(None): 0.5}[type(than)]


def without(kind: Any, setting: str) -> dict[str, Any]:
    """Return values with which a setting has no effect."""
    values = {}
    for each in kind.used_with[setting]:
        unequal = isinstance(each, IsNot)
        values[each.setting] = each.value if unequal else another(kind, each.setting, each.value)
    return values


def with_effect(kind: Any, setting: str) -> dict[str, Any]:
    """Return values with which it has one: the first of its conditions holds."""
    for each in kind.used_with.get(setting, ())[:1]:
        value = another(kind, each.setting, each.value) if isinstance(each, IsNot) else each.value
        return {each.setting: value} | with_effect(kind, each.setting)
    return {}


def options(values: Mapping[str, Any]) -> list[str]:
    def text(value: Any) -> str:
        return json.dumps(value) if isinstance(value, (str, tuple, type(None))) else str(value)

    return [f"{key}={text(value)}" for key, value in values.items()]


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_it_is_refused_where_it_has_no_effect_and_taken_where_it_has(
    name: str, setting: str
) -> None:
    kind = KINDS[name]
    value = another(kind, setting, getattr(kind(), setting))
    given = {setting: value} | without(kind, setting)
    message = rf"^-o: {setting} has no effect with .*: give .*, or leave it out$"
    with pytest.raises(ConfigError, match=message) as refused:
        from_overrides(kind, options(given))
    # What the message advises does.
    advised = re.findall(r"(\w+)=([\w.-]+)", str(refused.value).partition(": give ")[2])
    if advised:
        from_overrides(kind, options(given | dict(advised)))
    made = from_overrides(kind, options({setting: value} | with_effect(kind, setting)))
    assert getattr(made, setting) == value
    # Not asked for, it stands at its default wherever.
    assert not has_effect(kind(**without(kind, setting)), setting)


@pytest.mark.parametrize("name", KINDS)
def test_conditions_name_settings_and_values_that_there_are(name: str) -> None:
    kind = KINDS[name]
    known = {field.name for field in dataclasses.fields(kind)}
    for setting, conditions in getattr(kind, "used_with", {}).items():
        assert {setting, *(each.setting for each in conditions)} <= known
        for each in conditions:
            from_overrides(
                kind, options({each.setting: each.value} | with_effect(kind, each.setting))
            )


def pairs(methods: Any, left_out: str = "") -> list[tuple[str, str]]:
    return [
        (name, setting)
        for name in methods
        for setting in getattr(methods.load(name).Settings, "used_with", {})
        if setting != left_out
    ]


def both(kind: Any, setting: str, **more: Any) -> tuple[Any, Any]:
    """Return settings with which one has no effect, at its default and at another value."""
    off = without(kind, setting) | more
    other = another(kind, setting, getattr(kind(), setting))
    made = kind(**off), kind(**off | {setting: other})
    assert not has_effect(made[1], setting)
    return made


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(("name", "setting"), pairs(PRUNERS))
def test_a_pruned_model_is_the_same(name: str, setting: str, small_model: Models) -> None:
    method = PRUNERS.load(name)
    made = [
        method.prune(
            small_model(num_layers=2, num_heads=4, head_dim=4),
            0.5,
            settings,
            IDS if getattr(settings, "reads_texts", False) else None,
        ).model.state_dict()
        for settings in both(method.Settings, setting)
    ]
    assert same(*made)


# A size of groups without groups is refused by the number format, too.
@pytest.mark.parametrize(("name", "setting"), pairs(QUANTIZERS, "group_size"))
def test_a_quantized_model_is_the_same(name: str, setting: str, small_model: Models) -> None:
    method, made = QUANTIZERS.load(name), []
    for settings in both(method.Settings, setting):
        model = small_model()
        quantize(model, method, settings, IDS if settings.reads_texts else None)
        made.append(model.state_dict())
    assert same(*made)


@pytest.mark.parametrize(("name", "setting"), pairs(DISTILLATIONS))
def test_the_loss_of_a_student_is_the_same(name: str, setting: str, tmp_path: Path) -> None:
    method, losses, windows = DISTILLATIONS.load(name), [], tiny_windows(tmp_path)
    own = {k: v for k, v in SETTINGS.get(name, {}).items() if k != setting}
    for settings in both(method.Settings, setting, **own):
        student, teacher = tiny_model(), tiny_model(seed=3, num_layers=2, hidden_size=24)
        lesson = Lesson(teacher, settings, student.config, 0)
        task = method(lesson, tiny_tokenizer(), windows, windows, 4)
        batch = task.prepare(student, windows.batch([0, 1, 2]))
        losses.append(task.loss(student, batch)[0])
    assert torch.equal(*losses)


@pytest.mark.parametrize(("name", "setting"), pairs(ALIGNMENTS))
def test_a_policy_is_the_same(name: str, setting: str, tmp_path: Path) -> None:
    kind, made = ALIGNMENTS.load(name).Settings, []
    off = without(kind, setting)
    for value in (getattr(kind(), setting), another(kind, setting, getattr(kind(), setting))):
        aligning = trainer(name, tmp_path / str(value), {**off, setting: value})
        assert not has_effect(aligning.task.settings, setting)
        aligning.run()
        made.append(aligning.model.state_dict())
    assert same(*made)


@pytest.mark.parametrize(
    ("methods", "name", "option", "message"),
    [
        (QUANTIZERS, "gptq", "strength=0.4", "strength is a setting of smoothquant, not of gptq"),
        (PRUNERS, "magnitude", "rounds=2", "rounds is a setting of neurons, not of magnitude: "
         "leave it out, or give --method neurons"),
        (DISTILLATIONS, "word", "num_beams=2", "num_beams is a setting of sequence, both, not"),
        (METHODS, "lora", "frozen=true", "frozen is a setting of dylora, not of lora"),
        (QUANTIZERS, "rtn", "bitts=4", "unknown key bitts; did you mean bits?"),
        (PRUNERS, "heads", "count", "-o 'count': expected key=value"),
    ],
)  # fmt: skip
def test_a_setting_of_another_method_is_refused_by_naming_it(
    methods: Any, name: str, option: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        method_settings(methods, name, [option])
