"""The configuration: every wrong key and value is one line that names it."""

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinylm import config as module
from tinylm.config import (
    PRESETS,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    RunConfig,
    dump_yaml,
    field_help,
    from_dict,
    load_config,
    to_dict,
)
from tinylm.errors import ConfigError

PRESET_FILES = Path(module.__file__).parents[1] / "presets"

KINDS = [
    value
    for value in vars(module).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
]


def message(*overrides: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(overrides=overrides, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


# --- wrong keys ---


@pytest.mark.parametrize(
    ("override", "wrong", "right"),
    [
        ("model.num_head=3", "model.num_head", "model.num_heads"),
        ("model.hiden_size=3", "model.hiden_size", "model.hidden_size"),
        ("training.learnin_rate=1", "training.learnin_rate", "training.learning_rate"),
        ("generation.topk=1", "generation.topk", "generation.top_k"),
        ("modle.num_heads=1", "modle", "model"),
        ("trainning.epochs=1", "trainning", "training"),
        ("num_heads=3", "num_heads", "model.num_heads"),  # the section is forgotten
        ("training.num_heads=3", "training.num_heads", "model.num_heads"),  # … or another one
    ],
)
def test_an_unknown_key_is_named_with_the_nearest(override: str, wrong: str, right: str) -> None:
    text = message(override)
    assert text.startswith(f"-o: unknown key {wrong}; did you mean {right}")


def test_a_key_like_no_other_gets_the_list() -> None:
    sections = "data, tokenizer, vectors, model, training, generation, evaluation, "
    sections += "experiments, report"
    assert message("zzz=1") == f"-o: unknown key zzz; allowed: {sections}"
    keys = "tokenizer.kind, tokenizer.max_size, tokenizer.min_frequency"
    assert message("tokenizer.zzz=1") == f"-o: unknown key tokenizer.zzz; allowed: {keys}"


def test_an_unknown_key_of_a_single_section() -> None:
    with pytest.raises(ConfigError, match=r"^here: unknown key temprature; did you mean temp"):
        from_dict(GenerationConfig, {"temprature": 1}, "here")


# --- wrong values ---


@pytest.mark.parametrize(
    ("override", "named"),
    [
        # wrong types
        ("model.num_heads=many", "model.num_heads = 'many'"),
        ("model.num_heads=2.5", "model.num_heads = 2.5"),
        ("model.num_heads=true", "model.num_heads = True: expected a number"),
        ("model.num_heads=[1]", "model.num_heads = [1]"),
        ("model.num_heads=", "model.num_heads = None"),
        ("model.dropout=no", "model.dropout = False: expected a number"),
        ("training.tensorboard=maybe", "training.tensorboard = 'maybe'"),
        ("training.learning_rate=1e-3x", "training.learning_rate = '1e-3x'"),
        ("report.title=3", "report.title = 3"),
        ("model=3", "model: expected a section"),
        ("model.num_heads.x=3", "model.num_heads = {'x': 3}"),
        # impossible values
        ("model.num_heads=0", "model.num_heads = 0"),
        ("model.num_layers=-1", "model.num_layers = -1"),
        ("model.hidden_size=0", "model.hidden_size = 0"),
        ("model.context_length=0", "model.context_length = 0"),
        ("model.context_length=1", "model.context_length = 1"),
        ("model.dropout=-0.1", "model.dropout = -0.1"),
        ("model.dropout=1", "model.dropout = 1"),
        ("model.norm_eps=0", "model.norm_eps = 0"),
        ("training.learning_rate=0", "training.learning_rate = 0"),
        ("training.learning_rate=.nan", "training.learning_rate = nan"),
        ("training.learning_rate=.inf", "training.learning_rate = inf"),
        ("training.batch_size=0", "training.batch_size = 0"),
        ("training.beta2=1", "training.beta2 = 1"),
        ("tokenizer.max_size=4", "tokenizer.max_size = 4"),
        ("data.validation_fraction=1", "data.validation_fraction = 1"),
        ("generation.top_p=0", "generation.top_p = 0"),
        ("generation.top_p=1.1", "generation.top_p = 1.1"),
        ("generation.min_p=-1", "generation.min_p = -1"),
        ("generation.temperature=-1", "generation.temperature = -1"),
        ("generation.max_new_tokens=0", "generation.max_new_tokens = 0"),
        ("generation.repetition_penalty=0", "generation.repetition_penalty = 0"),
        ("generation.seed=-1", "generation.seed = -1"),
        ("evaluation.num_stories=0", "evaluation.num_stories = 0"),
    ],
)
def test_a_wrong_value_is_named(override: str, named: str) -> None:
    assert message(override).startswith(f"-o: {named}")


@pytest.mark.parametrize(
    ("override", "answer"),
    [
        ("data.corpus=storys", "unknown corpus 'storys'; did you mean stories"),
        ("model.activation=rellu", "unknown activation 'rellu'; did you mean relu"),
        ("generation.strategy=sampler", "'sampler'; did you mean sampling?"),
        ("report.experiments=[data, trainin]", "'trainin'; did you mean training"),
        ("model.norm_placement=middle", "input should be 'post' or 'pre'"),
    ],
)
def test_a_name_answers_with_those_that_are_allowed(override: str, answer: str) -> None:
    assert answer in message(override)


def test_the_first_of_several_problems_is_told() -> None:
    assert message("model.num_heads=0", "training.batch_size=0").count("=") == 1


def test_the_same_checks_hold_when_a_dataclass_is_made_directly() -> None:
    for values in ({"num_heads": 0}, {"dropout": -0.1}, {"nope": 1}, {"num_layers": True}):
        with pytest.raises((ValueError, TypeError)):
            ModelConfig(**values)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().num_heads = 2  # type: ignore[misc]


# --- where values come from ---


def test_bad_yaml_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    for text, problem in (
        ("model: [1, 2", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\tmodel: 1", "not valid YAML"),
        ("- 1\n- 2", "expected `section: {key: value}`"),
        ("just text", "expected `section: {key: value}`"),
        ("model:", "model: expected a section of `key: value` lines, found None"),
        ("1: 2", "unknown key 1"),
    ):
        file.write_text(text, "utf-8")
        found = message(path=file)
        assert found.startswith(str(file))
        assert problem in found
    file.write_bytes(b"\xff\xfe\x00")
    assert str(file) in message(path=file)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    assert message(path=tmp_path / "no.yaml") == (
        f"cannot read configuration {tmp_path / 'no.yaml'}: No such file or directory"
    )
    assert "Is a directory" in message(path=tmp_path)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "empty.yaml") == RunConfig()


def test_an_unknown_preset_answers_with_the_nearest() -> None:
    assert message(preset="quik") == "unknown preset 'quik'; did you mean quick?"
    assert message(preset="zzz").endswith("allowed: baseline, full, quick")


@pytest.mark.parametrize("override", ["foo", "model.num_heads", "=3", " =3", ""])
def test_an_override_needs_key_and_value(override: str) -> None:
    assert message(override) == f"-o {override!r}: expected section.key=value"


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("training.learning_rate=1e-3", "training", "learning_rate", 1e-3),  # a string in YAML 1.1
        ("training.learning_rate=1E-3", "training", "learning_rate", 1e-3),
        ("training.learning_rate=0.5e-3", "training", "learning_rate", 5e-4),
        ("training.learning_rate=1", "training", "learning_rate", 1.0),
        ("training.eps=1e-12", "training", "eps", 1e-12),
        ("data.train_stories=null", "data", "train_stories", None),
        ("data.train_stories=", "data", "train_stories", None),
        ("model.num_heads = 4", "model", "num_heads", 4),
        ("training.tensorboard=false", "training", "tensorboard", False),
        ("report.title=a=b: c", "report", "title", "a=b: c"),
        ("report.prompts=[one, 'two, three']", "report", "prompts", ("one", "two, three")),
    ],
)
def test_overrides_are_read_as_they_are_meant(
    override: str, section: str, key: str, value: object
) -> None:
    found = getattr(getattr(load_config(overrides=[override]), section), key)
    assert found == value
    assert type(found) is type(value)


def test_numbers_in_a_file_are_read_as_they_are_meant(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("training: {learning_rate: 1e-3, weight_decay: 1e-1}\nmodel: {dropout: 0}\n")
    config = load_config(file)
    assert config.training.learning_rate == 1e-3
    assert config.training.weight_decay == 0.1
    assert config.model.dropout == 0.0


def test_the_order_is_preset_file_overrides(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("model: {num_heads: 5, num_layers: 6}")
    config = load_config(file, "quick", ["model.num_layers=7", "model.num_layers=9"])
    quick = load_config(preset="quick").model
    assert (config.model.num_heads, config.model.num_layers) == (5, 9)
    assert config.model.hidden_size == quick.hidden_size == 128
    assert "preset quick + " in message("model.dropout=2", path=file, preset="quick")


# --- presets, YAML, help ---


def test_the_baseline_is_the_assignments_own() -> None:
    config = load_config(preset="baseline")
    model, training = config.model, config.training
    assert (model.context_length, model.num_layers, model.num_heads) == (64, 3, 8)
    assert (model.hidden_size, model.resolved_head_dim, model.resolved_ffn_size) == (300, 38, 1200)
    assert (model.positions, model.norm_placement) == ("sinusoidal", "post")
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 3e-4, 0)
    assert replace(config, training=RunConfig().training) == RunConfig()  # it is the default


@pytest.mark.parametrize("preset", PRESETS)
def test_yaml_goes_out_and_in_unchanged(preset: str, tmp_path: Path) -> None:
    config = load_config(preset=preset)
    file = tmp_path / "config.yaml"
    file.write_text(dump_yaml(config), "utf-8")
    assert load_config(file) == config
    assert from_dict(RunConfig, to_dict(config), "dict") == config
    # Written keys are the preset's own and none is a word for a default that has changed since.
    written = yaml.safe_load((PRESET_FILES / f"{preset}.yaml").read_text())

    def check(part: Any, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                check(getattr(part, key), value)
            else:
                kept = getattr(part, key)
                assert (list(kept) if isinstance(value, list) else kept) == value

    check(config, written)


def test_every_preset_ships() -> None:
    shipped = {path.stem for path in PRESET_FILES.glob("*.yaml")}
    assert shipped == set(PRESETS)


def all_fields(kind: type, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = getattr(kind(), field.name)
        if dataclasses.is_dataclass(default):
            yield from all_fields(type(default), f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_every_field_has_help() -> None:
    helped = dict(field_help())
    assert list(helped) == list(all_fields(RunConfig))
    for key, text in helped.items():
        assert len(text) > 10, key
        assert text.endswith("."), key
        assert "\n" not in text
    for field in dataclasses.fields(RunConfig):
        assert RunConfig.__pydantic_fields__[field.name].description


def test_every_kind_is_documented_and_frozen() -> None:
    assert len(KINDS) == 18
    for kind in KINDS:
        assert kind.__doc__
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(kind(), dataclasses.fields(kind)[0].name, None)


def test_help_names_every_entry_it_lists() -> None:
    """Names written in help texts are names that exist."""
    helped = dict(field_help())
    for key in ("data.corpus", "training.optimizer"):
        section, name = key.split(".")
        for choice in helped[key].replace(",", " ").replace("(", " ").split():
            if "-" in choice and choice.isascii() and choice.startswith("torch"):
                load_config(overrides=[f"{section}.{name}={choice}"])


def test_a_vocabulary_that_is_not_known_yet_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"model\.vocab_size is empty: set it to"):
        _ = ModelConfig().resolved_vocab_size
    assert ModelConfig(vocab_size=7).resolved_vocab_size == 7


def test_to_dict_is_plain() -> None:
    values = to_dict(RunConfig())
    assert yaml.safe_load(yaml.safe_dump(values)) == values
    assert values["report"]["experiments"] == list(RunConfig().report.experiments)
    assert to_dict(DataConfig())["corpus"] == "stories"
