from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.processes import Processes


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokenizer and token files of the tiny runs, made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Starts ``tinylm`` as processes."""
    started = Processes()
    yield started
    started.close()
