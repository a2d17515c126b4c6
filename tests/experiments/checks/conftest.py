"""The run that differs from the tiny one, trained once a session."""

import pytest

from tests.experiments.checks.subjects import other_run
from tinylm.experiments.context import Context


@pytest.fixture(scope="session")
def other_context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return other_run(tmp_path_factory.mktemp("checks"))
