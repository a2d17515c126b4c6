"""The configuration: every wrong key and value is one line that names it."""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tinylm import config as module
from tinylm.config import (
    PRESETS,
    DataConfig,
    GenerationConfig,
    ModelConfig,
    RunConfig,
    VectorsConfig,
    dump_yaml,
    field_help,
    from_dict,
    from_overrides,
    load_config,
    overrides_between,
    to_dict,
)
from tinylm.config.finetuning import ClassificationConfig, LoraConfig
from tinylm.config.keys import ALSO_CALLED
from tinylm.errors import ConfigError
from tinylm.registry import EXPERIMENTS, METHODS, TOKENIZERS
from tinylm.tokenizers.base import TokenizerSettings

PRESET_FILES = Path(module.__file__).parents[1] / "presets"

METHOD_SETTINGS = [METHODS.load(name).Settings for name in METHODS] + [ClassificationConfig]
KINDS = [
    value
    for value in vars(module).values()
    if isinstance(value, type) and dataclasses.is_dataclass(value)
] + [type(getattr(RunConfig().experiments, field.name))
     for field in dataclasses.fields(RunConfig().experiments)
] + [TOKENIZERS.load(name).Settings for name in TOKENIZERS]  # fmt: skip


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


@pytest.mark.parametrize(
    ("override", "right"),
    [
        ("training.lr=1", "training.learning_rate"),
        ("lr=1", "training.learning_rate"),
        ("training.batch=1", "training.batch_size"),
        ("training.steps=1", "training.max_steps"),
        ("training.n_epochs=1", "training.epochs"),
        ("training.grad_clip=1", "training.gradient_clip"),
        ("training.eval_interval=1", "training.validation_interval"),
        ("training.Learning-Rate=1", "training.learning_rate"),
        ("training.dropout=1", "model.dropout"),
        ("model.lr=1", "training.learning_rate"),
        ("model.layers=1", "model.num_layers"),
        ("model.n_layer=1", "model.num_layers"),
        ("model.heads=1", "model.num_heads"),
        ("model.n_embd=1", "model.hidden_size"),
        ("model.dim=1", "model.hidden_size"),
        ("model.d_ff=1", "model.ffn_size"),
        ("model.block_size=1", "model.context_length"),
        ("model.vocab=1", "model.vocab_size"),
        ("tokenizer.vocabulary=1", "tokenizer.max_size"),
        ("generation.temp=1", "generation.temperature"),
        ("generation.beams=1", "generation.num_beams"),
        ("data.dataset=1", "data.corpus or data.path"),
        ("epochs=1", "vectors.epochs or training.epochs"),
    ],
)
def test_what_others_call_a_key_is_understood(override: str, right: str) -> None:
    key = override.partition("=")[0]
    assert message(override) == f"-o: unknown key {key}; did you mean {right}?"


def test_methods_answer_with_their_own_keys() -> None:
    for key, right in (("r", "rank"), ("lora_alpha", "alpha"), ("target_modules", "targets")):
        with pytest.raises(ConfigError, match=rf"^-o: unknown key {key}; did you mean {right}\?$"):
            from_overrides(LoraConfig, [f"{key}=1"])


def test_every_name_that_is_understood_leads_to_a_key() -> None:
    last = {key.rpartition(".")[2] for kind in (RunConfig, *METHOD_SETTINGS)
            for key, _ in field_help(kind)}  # fmt: skip
    assert set(ALSO_CALLED) <= last


def test_a_key_like_no_other_gets_the_list() -> None:
    sections = "data, tokenizer, vectors, model, training, generation, evaluation, "
    sections += "experiments, report"
    assert message("zzz=1") == f"-o: unknown key zzz; allowed: {sections}"
    names = ("kind", "line_breaks", "max_size", "min_frequency", "more_words", "rule")
    names = (*names, "special_tokens")
    keys = ", ".join(f"tokenizer.{name}" for name in names)
    assert message("tokenizer.zzz=1") == f"-o: unknown key tokenizer.zzz; allowed: {keys}"
    assert message("training.zzz=1") == (
        "-o: unknown key training.zzz; `tinylm config` lists all keys"
    )


def test_a_setting_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    chosen = "tokenizer.kind=bytes"
    expected = "-o: tokenizer.max_size has no effect with tokenizer.kind = bytes: leave it out"
    assert message(chosen, "tokenizer.max_size=9") == expected
    ours, theirs = "tokenizer.max_size", "tokenizer.vocab_size"
    for kind, wrong, right in (("word", theirs, ours), ("bpe", ours, theirs)):
        expected = f"-o: {wrong} has no effect with tokenizer.kind = {kind}: set {right} or leave"
        assert message(f"tokenizer.kind={kind}", f"{wrong}=300") == f"{expected} it out"
    path = tmp_path / "it.yaml"
    path.write_text("tokenizer:\n  kind: bytes\n  rule: 2\n", "utf-8")
    assert message(path=path).startswith(f"{path}, line 3: tokenizer.rule has no effect with")
    keys = "tokenizer.kind, tokenizer.special_tokens"
    assert message(chosen, "tokenizer.zzz=1").endswith(
        f"unknown key tokenizer.zzz; allowed: {keys}"
    )
    # A preset's settings of words go with the words.
    assert load_config(preset="full", overrides=[chosen]).tokenizer.kind == "bytes"
    assert load_config(path, overrides=["tokenizer.kind=word"]).tokenizer.rule == 2


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
        ("model.dropout=no", "model.dropout = 'no': expected a number"),
        ("model.dropout=false", "model.dropout = False: expected a number, not true or false"),
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
        ("model.norm_placement=middle", "expected post or pre"),
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


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.batch_size=012", "'012': a number is written without a zero in front: 12"),
        ("training.seed=010", "'010': a number is written without a zero in front: 10"),
        ("training.seed=-00", "'-00': a number is written without a zero in front: -0"),
        ("data.train_stories=1_000", "'1_000': a number is written without _: 1000"),
        ("training.learning_rate=1_0", "'1_0': a number is written without _: 10"),
        ("training.seed=0x1F", "'0x1F': expected a whole number"),
        ("training.seed=0o17", "'0o17': expected a whole number"),
        ("training.seed=0b11", "'0b11': expected a whole number"),
        ("training.seed=1:30", "'1:30': expected a whole number"),
        ("training.seed=2024-01-01", "'2024-01-01': expected a whole number"),
        ("training.seed=yes", "'yes': expected a whole number"),
        ("training.seed=9223372036854775808", "must be at most 9223372036854775807"),
        ("training.learning_rate=1:30", "'1:30': expected a number"),
        ("training.learning_rate=1,5", "'1,5': expected a number"),
        ("training.seed=[[[[", "'[[[[': expected a whole number"),
        ("training.compile=perhaps", "'perhaps': expected auto, true or false"),
        ("training.tensorboard=7", "7: expected true or false"),
        ("report.author=7", "7: expected text; a number or a word such as null stands in quotes"),
        ("report.author=null", "None: expected text; a number or a word such as null stands in"),
        ("report.author=[a]", "['a']: expected text"),
        ("report.prompts=Once", "'Once': expected a list, such as [Once]"),
        ("report.prompts=3", "3: expected a list, such as [a, b]"),
        ("experiments.beam_search.widths=[]", "expected at least 1 entry"),
        ("model.dropout=-1", "-1: must be at least 0"),
        ("model.dropout=1", "1: must be less than 1"),
        ("training.eps=0", "0: must be greater than 0"),
        ("generation.top_p=2", "2: must be at most 1"),
    ],
)
def test_a_value_that_could_be_misread_or_does_not_belong(override: str, problem: str) -> None:
    text = message(override)
    assert problem in text
    assert override.partition("=")[0] in text


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("report.author=no", "no"),
        ("report.author=on", "on"),
        ("report.author=012", "012"),
        ("report.author=1:30", "1:30"),
        ("report.author=2024-01-01", "2024-01-01"),
        ("report.author='7'", "7"),
        ('report.author="null"', "null"),
    ],
)
def test_text_is_text_as_typed(override: str, value: str) -> None:
    assert load_config(overrides=[override]).report.author == value


def test_deep_and_long_values_are_one_short_line() -> None:
    for override in (
        "training.seed=" + "[" * 200_000,
        "training.seed=" + "9" * 100_000,
        "report.prompts=" + "{" * 1000,
        "training.seed=" + "[" * 20 + "]" * 20,
        "model." + "a." * 100_000 + "b=1",
        "training." + "x" * 100_000 + "=1",
        "training.seed=&a [*a]",
        "training.\x1b[31m=1",
    ):
        text = message(override)
        assert len(text) < 300
        assert text.isprintable()


def wrong_values(kind: type, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = getattr(kind(), field.name)
        if dataclasses.is_dataclass(default):
            yield from wrong_values(type(default), f"{prefix}{field.name}.")
            yield f"{prefix}{field.name}=3"
        else:
            for value in ("{a: 1}", "[[1]]", "[]", "null", "-1", "1.5", "''", "x", "true", "1e99"):
                yield f"{prefix}{field.name}={value}"


@pytest.mark.parametrize("kind", [RunConfig, *METHOD_SETTINGS])
def test_no_setting_answers_in_the_words_of_pydantic(kind: type) -> None:
    count = 0
    for override in wrong_values(kind):
        try:
            from_overrides(kind, [override])
        except ConfigError as error:
            count += 1
            words = str(error).replace(override.partition("=")[0], "")  # a key may be `inputs`
            assert not re.search(r"[Ii]nput|\bvalid\b|should|Value error", words), str(error)
    assert count > 5


# --- where values come from ---


def test_bad_yaml_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    for text, problem in (
        ("model: [1, 2", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\tmodel: 1", "line 1: a tab, which YAML does not allow there"),
        ("- 1\n- 2", "expected `section: {key: value}`"),
        ("just text", "expected `section: {key: value}`"),
        ("model:", "line 1: model: expected a section of `key: value` lines, found None"),
        ("1: 2", "line 1: unknown key 1"),
        (
            "model:\n  num_heads: 1\n  num_heads: 2",
            "line 3: the key model.num_heads stands there twice",
        ),
        ("model: {}\ndata: {}\nmodel: {}", "line 3: the key model stands there twice"),
        (
            "training:\n  batch_size: 012",
            "line 2: training.batch_size = '012': a number",
        ),
        (
            "training.batch_size: 4",
            "line 1: training.batch_size stands in a file as batch_size below `training:`",
        ),
    ):
        file.write_text(text, "utf-8")
        error = message(path=file)
        assert error.startswith(str(file))
        assert problem in error
    file.write_bytes(b"\xff\xfe\x00")
    assert str(file) in message(path=file)


def test_a_missing_file_or_a_folder_is_named(tmp_path: Path) -> None:
    assert message(path=tmp_path / "no.yaml") == (
        f"{tmp_path / 'no.yaml'}: cannot be read (No such file or directory)"
    )
    assert "Is a directory" in message(path=tmp_path)


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "empty.yaml") == RunConfig()


def test_an_unknown_preset_answers_with_the_nearest() -> None:
    assert message(preset="quik") == "unknown preset 'quik'; did you mean quick?"
    assert message(preset="zzz").endswith("allowed: assignment, baseline, full, quick")


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
    setting = getattr(getattr(load_config(overrides=[override]), section), key)
    assert setting == value
    assert type(setting) is type(value)


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
    assert message("model.dropout=2", path=file, preset="quick").startswith("-o: model.dropout")
    file.write_text("model:\n  num_heads: 0")
    assert message(path=file, preset="quick").startswith(f"{file}, line 2: model.num_heads = 0")
    assert load_config(file, "quick", ["model.num_heads=4"]).model.num_heads == 4


# --- presets, YAML, help ---


def test_the_baseline_is_the_assignments_own() -> None:
    config = load_config(preset="baseline")
    model, training = config.model, config.training
    assert (model.context_length, model.num_layers, model.num_heads) == (64, 3, 8)
    assert (model.hidden_size, model.resolved_head_dim, model.resolved_ffn_size) == (300, 38, 1200)
    assert (model.positions, model.norm_placement) == ("sinusoidal", "post")
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 3e-4, 0)
    assert replace(config, training=RunConfig().training) == RunConfig()  # it is the default


def test_the_assignment_is_the_baseline_with_its_own_experiments() -> None:
    baseline, assignment = load_config(preset="baseline"), load_config(preset="assignment")
    own = {"experiments": assignment.experiments, "report": assignment.report}
    assert replace(baseline, **own) == assignment
    assert assignment.training.validations >= 20  # beside the one before the first step
    wanted = {
        *("data", "training", "evaluation", "samples", "hyperparameters", "kv-cache"),
        *("beam-search", "accumulation", "gradient-checkpointing", "finetuning", "attention"),
        "verification",
    }
    assert set(assignment.report.experiments) == wanted


def test_a_file_of_vectors_is_one_option() -> None:
    def vectors(*overrides: str) -> VectorsConfig:
        return load_config(preset="assignment", overrides=overrides).vectors

    assert vectors().resolved_source == "train"
    assert vectors("vectors.path=a.vec").resolved_source == "file"
    assert vectors("vectors.source=file", "vectors.path=a.vec").resolved_source == "file"
    assert vectors("vectors.source=none").resolved_source == "none"
    for source in ("train", "none"):
        with pytest.raises(ConfigError, match=r"has no effect .*: leave one of them out"):
            _ = vectors(f"vectors.source={source}", "vectors.path=a.vec").resolved_source
    with pytest.raises(ConfigError, match=r"vectors\.source = file needs vectors\.path"):
        _ = vectors("vectors.source=file").resolved_source


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


def test_a_run_made_before_keeps_the_word_rule_that_it_had(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    before = "tokenizer: {kind: word, min_frequency: 2, max_size: 90}\n"
    path.write_text(f"{before}model: {{vocab_size: 80}}\n")
    tokenizer = load_config(path).tokenizer
    assert (tokenizer.rule, tokenizer.line_breaks, tokenizer.max_size) == (1, False, 90)
    # A file that somebody writes for a new run knows no size of the vocabulary.
    for other in (before, f"{before}model: {{vocab_size: null}}\n"):
        path.write_text(other)
        assert load_config(path).tokenizer.rule == 2
    # What a run writes now says which rule it has.
    path.write_text(dump_yaml(load_config(overrides=["model.vocab_size=80"])))
    assert load_config(path).tokenizer == RunConfig().tokenizer


def test_every_preset_ships() -> None:
    shipped = {path.stem for path in PRESET_FILES.glob("*.yaml")}
    assert shipped == set(PRESETS)


def all_fields(kind: type, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(kind):
        default = getattr(kind(), field.name)
        if isinstance(default, TokenizerSettings):  # and those of the other kinds behind them
            kinds = [type(default), *(TOKENIZERS.load(name).Settings for name in TOKENIZERS)]
            yield from dict.fromkeys(
                key for kind in kinds for key in all_fields(kind, f"{prefix}{field.name}.")
            )
        elif dataclasses.is_dataclass(default):
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
    with_settings = [name for name in EXPERIMENTS if EXPERIMENTS.load(name).settings is not None]
    assert len(KINDS) == 9 + len(with_settings) + len(TOKENIZERS)
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


# --- the overrides between two configurations ---


@given(
    author=st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=30),
    prompts=st.lists(st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1)),
    rate=st.floats(1e-9, 1e3),
    windows=st.none() | st.integers(1, 10**6),
    trainable=st.booleans(),
)
def test_overrides_lead_from_one_configuration_to_another(
    author: str, prompts: list[str], rate: float, windows: int | None, trainable: bool
) -> None:
    before = RunConfig()
    wanted = to_dict(before)
    wanted["report"].update(author=author, prompts=prompts)
    wanted["training"]["learning_rate"] = rate
    wanted["experiments"]["accumulation"]["windows"] = windows
    wanted["vectors"]["trainable"] = trainable
    after = from_dict(RunConfig, wanted, "test")
    overrides = overrides_between(before, after)
    assert load_config(overrides=overrides) == after
    assert not any("\n" in override for override in overrides)
    assert overrides_between(after, after) == []


def test_a_run_of_an_older_version_may_hold_settings_that_are_no_more(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "experiments:\n  finetuning:\n    share: 0.4\n    base_steps: 120\n    steps: 7\n", "utf-8"
    )
    assert load_config(path).experiments.finetuning.steps == 7
    problem = f"{path}, line 3: experiments.finetuning.share is a setting that earlier versions had"
    with pytest.raises(ConfigError, match=re.escape(problem)):
        load_config(path, of_run=False)
    with pytest.raises(ConfigError, match=r"-o: experiments\.finetuning\.base_steps is a setting"):
        load_config(overrides=["experiments.finetuning.base_steps=3"])


@pytest.mark.parametrize("text", ["experiments: 3\n", "experiments:\n  finetuning: [share]\n", ""])
def test_older_settings_are_looked_for_in_sections_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, "utf-8")
    if text:
        with pytest.raises(ConfigError, match="expected a section"):
            load_config(path)
    else:
        assert load_config(path) == RunConfig()
