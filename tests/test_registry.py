"""Every entry of every registry can be imported; a wrong name answers with the nearest."""

import ast
from pathlib import Path

import pytest

from tinylm import registry
from tinylm.errors import ConfigError, nearest
from tinylm.experiments.experiment import Experiment
from tinylm.registry import Registry
from tinylm.training.optimizers import Rule

TABLES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
ENTRIES = [(table, name) for table, entries in TABLES.items() for name in entries]


def test_the_tables_are_known() -> None:
    assert set(TABLES) >= {
        "ACTIVATIONS",
        "COMMANDS",
        "CORPORA",
        "EXPERIMENTS",
        "OPTIMIZERS",
        "POSITIONS",
        "SCHEDULES",
        "STRATEGIES",
        "TOKENIZERS",
    }


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_entry_imports(table: str, name: str) -> None:
    entry = TABLES[table].load(name)
    assert callable(entry) or isinstance(entry, (Experiment, Rule))


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_every_entry_is_documented(table: str, name: str) -> None:
    entry = TABLES[table].load(name)
    assert entry.__doc__
    module = TABLES[table][name].partition(":")[0]
    assert module.startswith("tinylm.")


@pytest.mark.parametrize("table", TABLES)
def test_a_wrong_name_answers_with_the_nearest(table: str) -> None:
    entries = TABLES[table]
    for name in entries:
        wrong = f"{name}x"
        with pytest.raises(ConfigError) as error:
            entries.load(wrong)
        message = str(error.value)
        assert message.startswith(f"unknown {entries.kind} {wrong!r}; did you mean ")
        assert name in message
        assert "\n" not in message
    with pytest.raises(ConfigError) as error:
        entries["qqqqqqqq"]
    assert str(error.value).endswith(f"; allowed: {', '.join(sorted(entries))}")


@pytest.mark.parametrize("table", TABLES)
def test_it_is_a_mapping(table: str) -> None:
    entries = TABLES[table]
    assert len(list(entries)) == len(entries) > 0
    assert all(name in entries for name in entries)
    assert "/some/folder" not in entries  # asking is no error
    assert entries.get("/some/folder") is None if "get" in vars(Registry) else True


def test_nearest_proposes_the_close_and_lists_the_far() -> None:
    assert nearest("samplng", ["greedy", "sampling"]) == "; did you mean sampling?"
    assert nearest("beam", ["greedy", "sampling"]) == "; allowed: greedy, sampling"


@pytest.mark.parametrize("name", ["x" * 10_000, "a\nb", "\x1b[31m", "9" * 5000])
def test_any_name_is_told_on_one_short_line(name: str) -> None:
    for entries in TABLES.values():
        with pytest.raises(ConfigError) as error:
            entries.load(name)
        message = str(error.value)
        assert message.isprintable()
        assert len(message) < 200 + len(nearest("", entries))
        assert message.startswith(f"unknown {entries.kind} {name[:1]!r}"[:-1])
    close = nearest(name, [name + "z", name + "y"])
    assert close.isprintable()
    assert len(close) < 200


def test_importing_the_registry_imports_no_entry() -> None:
    source = Path(registry.__file__).read_text("utf-8")
    imported = {
        node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)
    }
    assert imported == {"__future__", "collections.abc", "typing", "tinylm.errors"}
