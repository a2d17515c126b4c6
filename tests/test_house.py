"""The rules of the house, read from the syntax trees: who imports whom, what is never imported."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "tinylm"

# Each room and the rooms that it may import besides itself; `base` is layer 0.
BASE = {"base"}
ALLOWED: dict[str, set[str]] = {
    "base": set(),
    "planning": BASE,
    "tokenizers": BASE,
    "model": BASE | {"planning"},
    "numbers": BASE,
    "fast": BASE | {"model", "numbers"},
    "data": BASE | {"tokenizers"},
    "checkpoint": BASE | {"planning", "model", "tokenizers"},
    "generation": BASE | {"planning", "fast", "model"},
    "training": BASE | {"fast", "planning", "data", "model", "checkpoint", "tokenizers"},
    "evaluation": BASE | {"planning", "data", "generation", "model", "tokenizers"},
    "interpretability": BASE | {"model"},
    "finetuning": BASE | {"planning", "model", "numbers"},
    "compression": BASE | {"model", "numbers"},
    "language_model": BASE
    | {"checkpoint", "finetuning", "generation", "interpretability", "model", "tokenizers"},
    "alignment": BASE | {"data", "evaluation", "generation", "model", "planning", "tokenizers"},
    "tasks": BASE
    | {"training", "data", "model", "tokenizers", "evaluation", "finetuning"}
    | {"alignment", "compression", "generation"},
    "experiments": BASE
    | {
        "tasks",
        *("fast", "numbers"),
        *("planning", "tokenizers", "model", "data", "checkpoint", "generation", "training"),
        *("evaluation", "interpretability", "finetuning", "language_model", "report"),
        *("alignment", "compression"),
    },
    "report": BASE,
    "handin": BASE | {"checkpoint", "experiments", "report"},
    "cli": BASE
    | {
        *("planning", "tokenizers", "model", "data", "checkpoint", "generation", "training"),
        *("alignment", "evaluation", "interpretability", "finetuning", "language_model"),
        *("experiments", "report", "handin", "cli"),
    },
}
BASE_MODULES = {
    *("config", "registry", "errors", "atomic", "fingerprints", "folders", "locks"),
    *("measurement", "names", "native", "perplexity", "printable", "reading", "value_types", ""),
}
FORBIDDEN_MODULES = {
    *("transformers", "peft", "trl", "transformer_lens", "bitsandbytes", "pickle", "dill"),
    *("torch.utils.checkpoint", "joblib", "cloudpickle"),
}
FORBIDDEN_NAMES = {
    *("Transformer", "TransformerEncoder", "TransformerDecoder", "TransformerEncoderLayer"),
    *("TransformerDecoderLayer", "MultiheadAttention", "LayerNorm", "layer_norm", "RMSNorm"),
    *("multi_head_attention_forward", "native_layer_norm"),
}
NO_TORCH = {
    *("config", "registry.py", "errors.py", "atomic.py", "fingerprints.py", "folders.py"),
    *("locks.py", "measurement.py", "names.py", "native.py", "printable.py", "reading"),
}

FILES = sorted(SOURCE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """Return the room of a module path below tinylm."""
    first = parts[0].removesuffix(".py") if parts else ""
    first = "cli" if first == "__main__" else first
    return "base" if first in BASE_MODULES or first == "__init__" else first


def imports(tree: ast.AST) -> list[str]:
    """Return every module imported, also inside functions and under TYPE_CHECKING."""
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            modules.append(node.module or "")
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return modules


def breaches(path: Path, tree: ast.AST) -> list[str]:
    """Return what a file imports against the rules."""
    own = room(path.relative_to(SOURCE).parts)
    bad = []
    for name in imports(tree):
        if name == "tinylm" or name.startswith("tinylm."):
            parts = tuple(name.split(".")[1:])
            target = room(parts)
            if target not in ALLOWED:
                continue  # a name of the package itself, such as tinylm.__version__
            if target != own and target not in ALLOWED[own]:
                bad.append(f"{path.relative_to(SOURCE)} ({own}) imports {name} ({target})")
        if any(
            name == bad_name or name.startswith(f"{bad_name}.") for bad_name in FORBIDDEN_MODULES
        ):
            bad.append(f"{path.relative_to(SOURCE)} imports {name}")
    return bad


def test_every_room_is_known() -> None:
    rooms = {room(path.relative_to(SOURCE).parts) for path in FILES}
    assert rooms <= set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_down_only(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    assert breaches(path, tree) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_subject_is_written_from_scratch(path: Path) -> None:
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value).partition(".")[0] in {"nn", "F", "torch", "functional"}
    }
    assert not used & FORBIDDEN_NAMES


def test_configuration_needs_no_torch() -> None:
    for path in FILES:
        parts = path.relative_to(SOURCE).parts
        if parts[0] in NO_TORCH or parts[0] == "planning":
            tree = ast.parse(path.read_text("utf-8"))
            assert not [name for name in imports(tree) if name.split(".")[0] == "torch"], path


def test_only_the_command_line_prints_and_exits() -> None:
    for path in FILES:
        if path.relative_to(SOURCE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"print", "exit", "input"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("sys", "exit"), ("sys", "argv")}, path


def test_commands_write_through_what_keeps_control_characters_back() -> None:
    for path in FILES:
        parts = path.relative_to(SOURCE).parts
        if parts[0] != "cli" or parts[-1] in ("output.py", "console.py"):
            continue
        tree = ast.parse(path.read_text("utf-8"))
        assert not [name for name in imports(tree) if name.startswith("rich.console")], path
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"echo", "secho", "stdout", "stderr"} or (
                    node.attr == "stdout" and parts[-1] == "__init__.py"  # to close a broken pipe
                ), path


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("model/attention.py", "from tinylm.training.loop import Trainer"),
        ("model/layers.py", "def f():\n    from tinylm.fast import loops"),
        ("tokenizers/word.py", "import tinylm.model.decoder"),
        ("generation/engine.py", "def f():\n    from tinylm.tokenizers import base"),
        ("config/settings.py", "from tinylm.data import windows"),
        ("experiments/data.py", "from tinylm.cli import app"),
        ("model/decoder.py", "import transformers"),
        ("model/decoder.py", "from torch.utils.checkpoint import checkpoint"),
    ],
)
def test_a_breach_is_seen(place: str, text: str) -> None:
    assert breaches(SOURCE / place, ast.parse(text))


def test_no_file_is_too_long_to_read() -> None:
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in FILES
        if (lines := len(path.read_text("utf-8").splitlines())) > 480
    }
    assert not long


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_name_means_anything(path: Path) -> None:
    """What a result, a gradient or a module is called says that it is one."""
    tree = ast.parse(path.read_text("utf-8"))
    stored = {
        node.id for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    } | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # fmt: skip
    assert not stored & {"found", "one", "ones", "told", "thing", "things"}
