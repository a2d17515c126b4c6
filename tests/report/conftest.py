"""A finished run's folder, made once for all tests of the report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report import fixtures
from tinylm.report.build import build_report


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fixtures.write_run(folder, fixtures.results())
    build_report(folder)
    return folder
