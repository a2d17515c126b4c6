"""The example of docs/zero.md prints what stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parents[3] / "docs/zero.md"


def test_the_example_prints_what_stands_under_it(tmp_path: Path) -> None:
    text = DOCUMENT.read_text("utf-8")
    ((code, printed),) = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.DOTALL)
    (tmp_path / "ranks.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "ranks.py"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed
