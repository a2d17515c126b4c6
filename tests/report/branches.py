"""Which ways a condition went: every conditional jump of given files, seen from the byte code.

Line coverage cannot tell whether ``a if x else b`` was ever ``b``, which is how sentences are
chosen. So the interpreter is watched operation by operation in the files named, and no other.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any


class Branches:
    """Watches conditions while it is entered, and knows afterwards which ways none of them went."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Watch the functions of these files."""
        self.files = {str(path.resolve()) for path in files}
        self.moves: dict[CodeType, set[tuple[int, int]]] = {}

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
        frame.f_trace_opcodes = True
        moves = self.moves.setdefault(frame.f_code, set())
        last = -1

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "opcode":
                moves.add((last, frame.f_lasti))
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
            moves = self.moves.get(function, set())
            for jump, onward in pairwise(dis.get_instructions(function)):
                if "JUMP" not in jump.opname or "_IF_" not in jump.opname:
                    continue
                jumped = (jump.offset, jump.argval) in moves
                passed = (jump.offset, onward.offset) in moves
                if not (jumped and passed):
                    number = (jump.positions and jump.positions.lineno) or function.co_firstlineno
                    went = "one way only" if jumped or passed else "not reached"
                    yield f"{path.name}:{number} ({went}): {lines[number - 1].strip()}"


def _functions(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _functions(constant)
