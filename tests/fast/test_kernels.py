"""What every compiled loop must hold."""

from __future__ import annotations

import ast
import gc
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylm.fast import loops


@pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux")
def test_a_kernel_is_found_again_by_other_processes() -> None:
    """numba's cache goes by what a closure holds, and a compiled function is another each time."""
    from numba.core.dispatcher import Dispatcher

    from tinylm.fast.loops.launch import Kernel

    for module in pkgutil.iter_modules(loops.__path__):
        importlib.import_module(f"{loops.__name__}.{module.name}")
    kernels = [each for each in gc.get_objects() if isinstance(each, Kernel)]
    assert len(kernels) > 20
    for kernel in kernels:
        entry = kernel._compiled._pyfunc
        held = [cell.cell_contents for cell in entry.__closure__ or ()]
        assert not any(isinstance(each, Dispatcher) for each in held), entry.__qualname__


_WHOLE_NUMBERS = {("matrices.py", "total")}
"""Sums that are the same in any order."""


def _sums_beside_writes(tree: ast.AST) -> Iterator[tuple[str, set[str]]]:
    """Yield the sums of innermost loops that also write, with the arrays that these loops touch."""
    for loop in ast.walk(tree):
        if not isinstance(loop, ast.For):
            continue
        inside = [node for part in loop.body for node in ast.walk(part)]
        if any(isinstance(node, ast.For | ast.While) for node in inside):
            continue
        sums = [
            node.target.id
            for node in inside
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        ]
        stored = any(
            isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store) for node in inside
        ) or any(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "store"
            for node in inside
        )
        arrays = {
            node.value.id
            for node in inside
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name)
        }
        if stored:
            yield from ((name, arrays) for name in sums)


def test_no_loop_sums_one_array_and_writes_to_another() -> None:
    # The compiler would choose the order of the sum by where the arrays stand in memory.
    def suspects(text: str) -> list[tuple[str, set[str]]]:
        return [each for each in _sums_beside_writes(ast.parse(text)) if len(each[1]) > 1]

    assert suspects("for j in r:\n    y[j] = x[j]\n    total += y[j]")
    assert suspects("for j in r:\n    store(y, j, x[j])\n    total += y[j]")
    assert not suspects("for j in r:\n    y[j] = exp(y[j])\n    total += y[j]")
    assert not suspects("for j in r:\n    total += x[j] * y[j]")
    for path in sorted(Path(loops.__file__).parent.glob("*.py")):
        for name, arrays in suspects(path.read_text("utf-8")):
            assert (path.name, name) in _WHOLE_NUMBERS, (path.name, name, arrays)
