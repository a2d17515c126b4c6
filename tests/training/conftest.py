from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.processes import Processes


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer and token files of the tiny runs, made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Starts ``tinylm`` as processes."""
    started = Processes()
    yield started
    started.close()
