"""Which ways a condition went: every conditional jump of given files, seen from the byte code.

Line coverage cannot tell whether ``a if x else b`` was ever ``b``, which is how sentences are
chosen. So the interpreter is watched operation by operation in the files named, and no other.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

Move = tuple[int, int]
"""From one operation to the next, as their places in the byte code."""


class Branches:
    """Watches conditions while it is entered, and knows afterwards which ways none of them went."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Watch the functions of these files."""
        self.files = {str(path.resolve()) for path in files}
        self.left: dict[CodeType, set[Move]] = {}
        """Function -> moves between its operations that a condition allows and nobody made."""

    def __enter__(self) -> Branches:
        """Start."""
        self.before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        """Stop."""
        sys.settrace(self.before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        left = self.left.get(frame.f_code)
        if left is None:
            left = self.left[frame.f_code] = {
                move for _, *moves in _conditions(frame.f_code) for move in moves
            }
        if not left:  # a function that went every way is watched no more, which saves most of it
            return None
        frame.f_trace_opcodes = True
        last = -1

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "opcode":
                left.discard((last, frame.f_lasti))
                last = frame.f_lasti
            return step

        return step

    def missing(self) -> list[str]:
        """Return each condition that never went one of its ways: where it stands, and its line."""
        return [line for path in sorted(self.files) for line in self._missing(Path(path))]

    def _missing(self, path: Path) -> Iterator[str]:
        source = path.read_text("utf-8")
        lines = source.splitlines()
        for function in _functions(compile(source, str(path), "exec", dont_inherit=True)):
            left = self.left.get(function)
            for number, jumped, passed in _conditions(function):
                not_gone = 2 if left is None else (jumped in left) + (passed in left)
                if not_gone:
                    went = "one way only" if not_gone == 1 else "not reached"
                    yield f"{path.name}:{number} ({went}): {lines[number - 1].strip()}"


def _conditions(function: CodeType) -> Iterator[tuple[int, Move, Move]]:
    """Yield of each condition its line, and the moves of the jump and of going on."""
    instructions = list(dis.get_instructions(function))
    for before, jump, onward in zip(instructions, instructions[1:], instructions[2:], strict=False):
        if "JUMP" not in jump.opname or "_IF_" not in jump.opname:
            continue
        if before.opname == "CHECK_EXC_MATCH":  # whether an exception is caught
            continue
        line = (jump.positions and jump.positions.lineno) or function.co_firstlineno
        yield line, (jump.offset, jump.argval), (jump.offset, onward.offset)


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)
