"""What an entry of each registry must carry, and that nothing asks an entry for its name.

Planning, report and command line ask the object; a missing answer would be a ``KeyError`` or an
``AttributeError`` for whoever chose the entry. So it is missed here.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, get_type_hints

import pytest

import tinylm
from tinylm import registry
from tinylm.alignment import rules
from tinylm.compression.pruner import Pruner
from tinylm.compression.quantizer import Quantizer
from tinylm.data.corpora import Corpus
from tinylm.experiments.experiment import Experiment
from tinylm.finetuning.base import Method
from tinylm.generation.strategies import Chooser, Searcher
from tinylm.model.activations import Activation
from tinylm.model.base import GenerativeModel, Model
from tinylm.model.positions import Positions
from tinylm.planning.costs import Costs
from tinylm.registry import Registry
from tinylm.tasks.alignment.base import Alignment
from tinylm.tasks.distillation.base import Distillation
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.optimizers import Rule

TABLES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}
ENTRIES = [(table, name) for table, entries in TABLES.items() for name in entries]
SOURCE = Path(tinylm.__file__).parent


def members(protocol: Any) -> list[str]:
    """Return the names that a protocol, or the class that entries derive from, asks for."""
    own = {name for base in protocol.__mro__ if base not in (object, Protocol) for name in
           (*get_type_hints(base), *vars(base))}  # fmt: skip
    return sorted(name for name in own if not name.startswith("_") and name != "training")


def lacks(protocol: Any) -> Callable[[Any], list[str]]:
    """Return what says which members an entry does not have, or has empty."""

    def missing(entry: Any) -> list[str]:
        names = [name for name in members(protocol) if not hasattr(entry, name)]
        said = [name for name in SAID if name in members(protocol) and name not in names]
        return names + [name for name in said if not getattr(entry, name)]

    return missing


SAID = ("label", "noun", "explanation", "learning_rate", "Settings", "formula", "source", "summary")
"""Members that must not be empty."""


def lacks_of_positions(entry: Any) -> list[str]:
    if not (isinstance(entry, type) and issubclass(entry, Positions)):
        return ["Positions"]
    own = [name for name in ("label", "explanation") if name not in vars(entry)]
    acts = entry.adds() or entry.turns() or entry.biases()
    return own + ([] if acts else ["add, rotate or bias"])


def lacks_of_strategy(entry: Any) -> list[str]:
    return lacks(Searcher if hasattr(entry, "search") else Chooser)(entry)


def lacks_parameters(*names: str) -> Callable[[Any], list[str]]:
    """Return what says which parameters a function does not take."""

    def missing(entry: Any) -> list[str]:
        if not callable(entry):
            return ["a function"]
        taken = inspect.signature(entry).parameters
        return [name for name in names if name not in taken]

    return missing


def lacks_of_model(entry: Any) -> list[str]:
    if not (isinstance(entry, type) and issubclass(entry, Model)):
        return ["Model"]
    asked = ("residual", "unembed", "decoding_state", "activation_shapes", "parameter_counts")
    base = GenerativeModel
    missing = [name for name in asked if getattr(entry, name) is getattr(base, name, None)]
    said = [name for name in ("label", "settings") if not getattr(entry, name, None)]
    return missing + said + lacks(Costs)(getattr(entry, "costs", None))


def lacks_of_task(base: type) -> Callable[[Any], list[str]]:
    """Return what says which of the words of a task's method a class does not have of its own."""

    def missing(entry: Any) -> list[str]:
        if not (isinstance(entry, type) and issubclass(entry, base)):
            return [base.__name__]
        said = ("label", "noun", "explanation", "Settings")
        own = [name for name in said if not vars(entry).get(name)]
        declared = vars(base).get("__annotations__", {})
        return own + [name for name in declared if name not in said and not hasattr(entry, name)]

    return missing


def is_a(kind: type) -> Callable[[Any], list[str]]:
    def missing(entry: Any) -> list[str]:
        return lacks(kind)(entry) if isinstance(entry, kind) else [kind.__name__]

    return missing


LACKS: dict[str, Callable[[Any], list[str]]] = {
    "TOKENIZERS": lacks(Tokenizer),
    "POSITIONS": lacks_of_positions,
    "ACTIVATIONS": is_a(Activation),
    "METHODS": lacks(Method),
    "STRATEGIES": lacks_of_strategy,
    "EXPERIMENTS": is_a(Experiment),
    "MODELS": lacks_of_model,
    "CORPORA": lacks(Corpus),
    "SCHEDULES": lacks_parameters("step", "total", "warmup", "minimum"),
    "CHANGES": lacks_parameters("model", "settings"),
    "CHECKS": lacks_parameters("subject"),
    "OPTIMIZERS": is_a(Rule),
    "PRUNERS": lacks(Pruner),
    "QUANTIZERS": lacks(Quantizer),
    "DISTILLATIONS": lacks_of_task(Distillation),
    "RULES": lacks(rules.Rule),
    "ALIGNMENTS": lacks_of_task(Alignment),
    "COMMANDS": lambda entry: [] if callable(entry) else ["a function"],
}
"""Registry -> what says what an entry of it lacks."""


def test_every_registry_says_what_its_entries_carry() -> None:
    assert LACKS.keys() == TABLES.keys()


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_an_entry_carries_what_its_kind_must(table: str, name: str) -> None:
    assert LACKS[table](TABLES[table].load(name)) == []


@pytest.mark.parametrize("table", sorted(LACKS.keys() - {"COMMANDS"}))
def test_an_entry_that_carries_nothing_is_missed(table: str) -> None:
    class Nothing:
        """Carries nothing."""

    for entry in (SimpleNamespace(), Nothing):
        assert LACKS[table](entry)


@pytest.mark.parametrize(
    ("table", "name", "member"),
    [
        (table, name, member)
        for table, names in {
            "METHODS": ("label", "noun", "explanation", "learning_rate", "num_trained"),
            "PRUNERS": ("label", "noun", "explanation", "Settings"),
            "QUANTIZERS": ("label", "noun", "explanation", "Settings"),
            "DISTILLATIONS": ("label", "noun", "explanation", "Settings"),
            "RULES": ("label", "noun", "explanation", "Settings"),
            "ALIGNMENTS": ("label", "noun", "explanation", "Settings"),
            "TOKENIZERS": (
                "label",
                "explanation",
                "trained",
                "lossless",
                "whole_words",
                "Settings",
            ),
            "POSITIONS": ("label", "explanation"),
        }.items()
        for name in TABLES[table]
        for member in names
    ],
)
def test_a_member_that_is_left_out_is_missed(
    table: str, name: str, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = TABLES[table].load(name)
    assert member in vars(entry)
    bare = type(entry.__name__, (), dict(vars(entry)))
    if table in ("POSITIONS", "DISTILLATIONS", "ALIGNMENTS"):
        bare = type(entry.__name__, entry.__bases__, dict(vars(entry)))
    delattr(bare, member)
    assert member in LACKS[table](bare)


ASKED = (
    *("TOKENIZERS", "POSITIONS", "ACTIVATIONS", "METHODS", "STRATEGIES", "MODELS"),
    *("PRUNERS", "QUANTIZERS", "DISTILLATIONS", "RULES", "ALIGNMENTS"),
)
"""Registries whose names nothing compares."""
EVERYDAY = {"layers", "random", "short", "words", "animal"}
"""Names of entries that are words for other things in many places, and are not looked for."""
OWN_VALUES = {
    ("finetuning/classification.py", "lora"),  # of the setting ``body``
    ("experiments/beam_search/judgement.py", "greedy"),  # a row that the experiment named so
    ("experiments/finetuning/measure.py", "lora"),  # the method that the others are compared with
}
"""Comparisons with a word that is no name of an entry there, or is what an experiment is about."""
ROOMS = sorted(path for path in SOURCE.iterdir() if any(path.glob("*.py")))


def compared_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and word of every comparison with a word, or membership in words."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Compare):
            for side in (node.left, *node.comparators):
                parts = side.elts if isinstance(side, (ast.Tuple, ast.List, ast.Set)) else [side]
                for part in parts:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield node.lineno, part.value


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_nothing_compares_the_name_of_an_entry(room: Path) -> None:
    names = {name for table in ASKED for name in TABLES[table]} - EVERYDAY
    comparisons = [
        f"{path.relative_to(SOURCE)}:{line}: {word}"
        for path in sorted(room.rglob("*.py"))
        for line, word in compared_names(path)
        if word in names and (str(path.relative_to(SOURCE)), word) not in OWN_VALUES
    ]
    assert comparisons == []
