"""The line that a process ends with, where it is one of several.

A process that torchrun's agent has started leaves the line in the file that the agent names; the
first one shows it as well, unless `tinylm` itself started the agent and shows one line for all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
LAUNCHED = "TINYLM_LAUNCHED"
"""Set where the line that a process ends with is shown by whoever started it."""


def is_first(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is the first of those started together, or the only one."""
    return environment.get("RANK", "0") == "0"


def leave_line(message: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Write the line that this process ends with where torchrun's agent looks for it.

    Returns:
        Whether it is shown there, so that this process must not show it.
    """
    if ERROR_FILE not in environment:
        return False
    content = {"message": {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}}
    Path(environment[ERROR_FILE]).write_text(json.dumps(content), "utf-8")
    return LAUNCHED in environment or not is_first(environment)
