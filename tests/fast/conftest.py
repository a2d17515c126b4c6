"""What all tests of quick forms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tinylm.fast import loops


@pytest.fixture(autouse=True, scope="module")
def no_work_is_too_little() -> Iterator[None]:
    """Let all threads work, however little there is to do for them."""
    with pytest.MonkeyPatch.context() as patch:
        if loops.available():
            patch.setattr("tinylm.fast.loops.launch.WAKING", 0)
        yield
